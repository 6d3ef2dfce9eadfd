"""A real SLURM (tests/slurm/up.sh) by `launch=command` and a template of the user's."""

import subprocess
from pathlib import Path

import pytest
from real_scheduler import Real, check_chain, check_requeue, check_single_run, check_sweep, results, typed

pytestmark = pytest.mark.slurm

TEMPLATE = """#!/bin/bash
#SBATCH --job-name={{ name }}
#SBATCH --output={{ notes }}.out
#SBATCH --cpus-per-task={{ cpus or 1 }}
#SBATCH --requeue
{% if after %}
#SBATCH --dependency=afterany:{{ after }}
{% endif %}
exec {{ script|quote }}
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    template = tmp_path_factory.mktemp("mine") / "slurm.sh.j2"
    template.write_text(TEMPLATE)
    return Real(
        launch=(
            "launch=command", f"launch.command.template={template}",
            'launch.command.submit="sbatch --parsable {{ file }}"',
            'launch.command.cancel="scancel {{ job }}"',
            'launch.command.queue="squeue --me --noheader -o \\"%i %T\\""',
        ),
        remove=("scancel",),
        requeue=lambda job: subprocess.run(["scontrol", "requeue", job], check=True),
    )  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("here") / "run"
    done = typed(f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    return results(folder)


def test_a_run_equals_one_here(real: Real, tmp_path: Path, uninterrupted: list[bytes]) -> None:
    check_single_run(real, tmp_path / "run", uninterrupted)


def test_a_chain_with_a_killed_job_equals_one_run_here(
    real: Real, tmp_path: Path, uninterrupted: list[bytes]
) -> None:
    check_chain(real, tmp_path / "run", uninterrupted)


def test_a_requeued_job_resumes(real: Real, tmp_path: Path, uninterrupted: list[bytes]) -> None:
    check_requeue(real, tmp_path / "run", uninterrupted)


def test_a_sweep_keeps_its_limit_and_a_removed_job_is_submitted_again(real: Real, tmp_path: Path) -> None:
    check_sweep(real, tmp_path / "sweep", tmp_path / "here")
