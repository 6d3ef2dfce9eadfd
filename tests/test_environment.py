"""What a worker sets before it computes."""

import os
import subprocess
import sys
from pathlib import Path

BEGIN = """
import sys
from pathlib import Path
import torch
from small_training import small_run
from arc_experiments.jobs.evaluate import begin

run = small_run(Path(sys.argv[1]), "hardware.threads=2")
run.corpus.check_trains()
begin(run)
assert torch.get_num_threads() == 2
many = torch.full((4_000_000,), 1e-39)  # enough for both threads
print(int((many * 0.5).count_nonzero()), int((torch.ones(4) * 1e-37).count_nonzero()))
"""


def test_numbers_too_small_for_the_cpu_to_be_fast_with_are_zero_in_all_threads(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        timeout=200,
    )
    assert done.stdout.split()[-2:] == ["0", "4"]
