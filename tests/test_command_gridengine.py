"""A real Grid Engine (tests/gridengine/up.sh) by `launch=command` and a template of the user's."""

import subprocess

import pytest
from real_scheduler import OnARealScheduler, Real, uninterrupted

pytestmark = pytest.mark.gridengine
__all__ = ["uninterrupted"]

TEMPLATE = """#!/bin/bash
#$ -N {{ name }}
#$ -o {{ notes }}.out
#$ -j y
#$ -r y
#$ -V
{% if after %}
#$ -hold_jid {{ after }}
{% endif %}
exec {{ script|quote }}
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    template = tmp_path_factory.mktemp("mine") / "gridengine.sh.j2"
    template.write_text(TEMPLATE)
    return Real(
        launch=(
            "launch=command", f"launch.command.template={template}",
            'launch.command.submit="qsub -terse {{ file }}"',
            'launch.command.cancel="qdel {{ job }}"',
            "launch.command.queue=qstat",
        ),
        remove=("qdel",),
        requeue=lambda job: subprocess.run(["qmod", "-rj", job], check=True),
    )  # fmt: skip


class TestGridEngine(OnARealScheduler):
    pass
