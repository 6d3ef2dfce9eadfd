"""One job of a SLURM cluster, which slurm.sh becomes.

    python -m arc_experiments.launching.schedulers.slurm.job <run folder>

It runs the worker under srun, asks it to pause when the time limit is near (USR1), and cancels the chain's
other jobs once there is nothing left for them to do.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from arc_experiments.launching.commands import worker_command, worker_environment
from arc_experiments.launching.schedulers.job import run_job, wait_for
from arc_experiments.launching.schedulers.slurm.submitting import cancel, jobs_of
from arc_experiments.launching.torchrun import NUM_NODES, RENDEZVOUS
from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.run_state import DONE, PAUSED

KILL_SECONDS = 300  # within which a cluster that takes its nodes back kills and requeues the job


def main(arguments: list[str]) -> int:
    """Returns 0 if the run is done or has paused, else 1."""
    folder = RunFolder(Path(arguments[0]))
    next_starts = run_job(folder, lambda: _run(folder), lambda: _cancel_rest(folder))
    if next_starts and folder.state.name == PAUSED and folder.status.get("signalled"):
        time.sleep(KILL_SECONDS)  # a job that ends by itself is not requeued
    return 0 if folder.state.name in (DONE, PAUSED) else 1


def _run(folder: RunFolder) -> int:
    """Run the worker under srun and return its exit code."""
    nodes = os.environ.get("SLURM_JOB_NUM_NODES", "1")
    environment = worker_environment() | {NUM_NODES: nodes, "PYTHONUNBUFFERED": "1"}
    srun = ["srun", f"--nodes={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    cores = os.environ.get("SLURM_CPUS_PER_TASK")
    if cores is not None:
        srun.append(f"--cpus-per-task={cores}")  # srun's default is one core per task
    if nodes != "1":
        environment[RENDEZVOUS] = f"{_first_host()}:{_port()}"
    return wait_for(subprocess.Popen([*srun, *worker_command(folder)], env=environment))


def _first_host() -> str:
    command = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]


def _port() -> int:
    """A port that other jobs on the node are unlikely to use."""
    return 20_000 + int(os.environ["SLURM_JOB_ID"]) % 10_000


def _cancel_rest(folder: RunFolder) -> None:
    """Cancel the jobs that were submitted for this run after this one."""
    jobs, own = jobs_of(folder), os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        own = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if own in jobs:
        cancel(jobs[jobs.index(own) + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
