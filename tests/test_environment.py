"""What a worker sets before it computes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import sys
from pathlib import Path
import torch
from small_training import small_run
from arc_experiments.jobs.beginning import begin

run = small_run(Path(sys.argv[1]), "hardware.threads=2")
run.corpus.check_trains()
begin(run)
assert torch.get_num_threads() == 2
many = torch.full((4_000_000,), 1e-39)  # enough for both threads
print(int((many * 0.5).count_nonzero()), int((torch.ones(4) * 1e-37).count_nonzero()))
"""

GO_ON = """
import os
from arc_experiments.runs.cores_and_gpus import NUM_PLACES

def threads(places, *overrides, job="finetune"):
    run = small_run(Path(sys.argv[2]), "inference.limit=0", *overrides)
    run.config.job.name, os.environ[NUM_PLACES] = job, str(places)
    begin(run)
    return torch.get_num_threads()

cores = len(os.sched_getaffinity(0))
assert threads(cores, "hardware.threads=null") == 1, "beside as many others"
assert threads(1, "hardware.threads=null") == 1, "alone, but as it began"
assert threads(1, "hardware.threads=null", job="adapt") == cores, "whose helpers come and go"
assert threads(1, f"hardware.threads={cores + 1}") == cores + 1, "as named"
assert threads(2 * cores, "hardware.threads=null") == 1, "it began on a larger machine"
"""


def test_numbers_too_small_for_the_cpu_to_be_fast_with_are_zero_in_all_threads(
    done: subprocess.CompletedProcess[str],
) -> None:
    assert done.stdout.split()[-2:] == ["0", "4"], done.stderr


def test_a_run_goes_on_with_the_threads_that_it_began_with(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A process of its own, since threads and kernels are set for all that a process does."""
    folder, paths = (
        tmp_path_factory.mktemp("runs"),
        [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")],
    )
    return subprocess.run(
        [sys.executable, "-c", BEGIN + GO_ON, str(folder / "begun"), str(folder / "gone_on")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        timeout=200,
    )
