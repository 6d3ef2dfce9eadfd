"""One job of a cluster: `python -m arc_experiments.launching.slurm_job <run folder>`, which the script for sbatch becomes.

It runs the worker under srun, asks it to pause when the cluster says that the time is nearly up, and cancels the chain's
other jobs once nothing is left for them.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from arc_experiments.launching import links
from arc_experiments.launching.cluster import cancel, jobs_of
from arc_experiments.launching.commands import worker_command, worker_environment
from arc_experiments.launching.torchrun import NUM_NODES, RENDEZVOUS
from arc_experiments.runs import pausing
from arc_experiments.runs.folder import RunFolder

KILL_SECONDS = 300  # a cluster that takes its nodes back kills and requeues the job within this time


def main(arguments: list[str]) -> int:
    """Returns 0 if the run is done or has paused, else 1."""
    folder = RunFolder(Path(arguments[0]))
    goes_on = links.begin(folder)
    if goes_on:
        pausing.forget(folder.path)
        signal.signal(signal.SIGUSR1, lambda number, frame: pausing.ask(folder.path))
        goes_on = links.end(folder, _run(folder))
    if not goes_on and folder.status.get("state") != "running":  # by another, which this one has helped
        _cancel_rest(folder)
    elif folder.status.get("signalled"):
        time.sleep(KILL_SECONDS)  # ended by itself, it would not be requeued
    return 0 if folder.status.get("state") in ("done", "paused") else 1


def _run(folder: RunFolder) -> int:
    """The worker's exit code."""
    nodes = os.environ.get("SLURM_JOB_NUM_NODES", "1")
    environment = worker_environment() | {NUM_NODES: nodes, "PYTHONUNBUFFERED": "1"}
    # Of itself srun gives each task one core.
    cores = os.environ.get("SLURM_CPUS_PER_TASK")
    srun = ["srun", f"--nodes={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    if cores is not None:
        srun.append(f"--cpus-per-task={cores}")
    if nodes != "1":
        environment[RENDEZVOUS] = f"{_first_host()}:{_port()}"
    worker = subprocess.Popen([*srun, *worker_command(folder)], env=environment)

    def pass_on(number: int, frame: FrameType | None) -> None:
        worker.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    return worker.wait()


def _first_host() -> str:
    command = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]


def _port() -> int:
    """One that other jobs on the node are unlikely to have."""
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
