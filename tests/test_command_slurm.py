"""A real SLURM (tests/slurm/up.sh) by `launch=command` and a template of the user's."""

import subprocess

import pytest
from real_scheduler import OnARealScheduler, Real, uninterrupted

pytestmark = pytest.mark.slurm
__all__ = ["uninterrupted"]

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


class TestSlurm(OnARealScheduler):
    pass
