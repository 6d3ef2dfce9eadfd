"""The SLURM commands that are used, and which jobs a run folder has."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from arc_experiments.runs.folder import RunFolder

JOBS_FILE = "slurm.json"  # {"jobs": ["123", "124"]} in their order; elements of an array as "123_0"
OWN_PREFIXES = ("SLURM_", "SRUN_")


class ClusterError(ValueError):
    """The cluster has refused, or there is none; the message has its words."""


def sbatch(arguments: Sequence[str]) -> str:
    """Submit, and give the job's id.

    Raises:
        ClusterError: with what sbatch said.
    """
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "launch=slurm: there is no sbatch here. Type the command on a login node of the cluster, or "
            "launch.dry_run=true for the scripts alone"
        )
    done = subprocess.run(
        ["sbatch", "--parsable", *arguments], capture_output=True, text=True, env=_clean_environment()
    )
    if done.returncode:
        raise ClusterError(f"launch=slurm: the cluster refused: {done.stderr.strip()}")
    return done.stdout.strip().partition(";")[0]


def queued(jobs: Sequence[str]) -> set[str]:
    """Those of the jobs that wait or run; none where there is no cluster.

    Raises:
        ClusterError: the cluster does not answer, so that nobody knows.
    """
    if not jobs or shutil.which("squeue") is None:
        return set()
    command = ["squeue", "--noheader", "--array", "--format=%i", "--me"]
    shown = subprocess.run(command, capture_output=True, text=True)
    if shown.returncode:
        raise ClusterError(f"launch=slurm: squeue does not tell what is in the queue: {shown.stderr.strip()}")
    return set(jobs) & set(shown.stdout.split())


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs, whether they wait or run."""
    if jobs:
        subprocess.run(["scancel", *jobs], capture_output=True)


def jobs_of(folder: RunFolder) -> list[str]:
    """The jobs that were last submitted for a run."""
    if not (folder / JOBS_FILE).exists():
        return []
    jobs: list[str] = folder.read_json(JOBS_FILE)["jobs"]
    return jobs


def _clean_environment() -> dict[str, str]:
    """Without what a job says of itself to its processes: a job submitted from one would take it as its own."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OWN_PREFIXES) or name == "SLURM_CONF"
    }
