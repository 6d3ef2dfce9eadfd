"""Start processes that train together: `python -m arc_experiments.launching.torchrun <folder> [<module>]`.

Each is a worker on the same folder (or runs the module named). The elastic agent behind torchrun starts them,
tells them of each other, and stops all when one ends badly. The exit code is that of the first failure.
"""

import logging
import os
import sys
from pathlib import Path

from arc_experiments.composing.recorded_code import find_code
from arc_experiments.config.check import check
from arc_experiments.launching.commands import describe_exit
from arc_experiments.launching.worker import DONE, FAILED, MISTAKE, STOPPED, TAKEN
from arc_experiments.runs import cores_and_gpus
from arc_experiments.runs.folder import RunFolder

NUM_NODES = "ARC_EXPERIMENTS_NUM_NODES"  # nodes of the run; this module is started once on each
RENDEZVOUS = "ARC_EXPERIMENTS_RENDEZVOUS"  # host:port at which they meet
SHUTDOWN_SECONDS = 600  # for which a process asked to stop may finish its step and write a checkpoint


def main(arguments: list[str]) -> int:
    """Run a folder with as many processes as its `hardware` says; returns the exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    folder, module = RunFolder(Path(arguments[0])), [*arguments[1:], "arc_experiments.launching.worker"][0]
    find_code(folder.path)
    hardware = check(folder.read_config()).hardware
    cores_and_gpus.show_gpus(hardware)
    os.environ[cores_and_gpus.STARTER] = str(os.getpid())
    logging.disable(logging.CRITICAL)  # the workers themselves say how they ended
    num_nodes = int(os.environ.get(NUM_NODES, "1"))
    config = LaunchConfig(
        min_nodes=num_nodes,
        max_nodes=num_nodes,
        nproc_per_node=cores_and_gpus.count_processes(hardware) // num_nodes,
        run_id=os.environ.get(RENDEZVOUS, str(os.getpid())),
        rdzv_backend="c10d",
        rdzv_endpoint=os.environ.get(RENDEZVOUS, "localhost:0"),
        max_restarts=0,
        monitor_interval=0.2,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, str(folder.path))
    except SignalException:
        return STOPPED
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode in (FAILED, MISTAKE, TAKEN, STOPPED):
            return int(failure.exitcode)
        message = f"process {rank} of {config.nproc_per_node} {describe_exit(failure.exitcode)}"
        folder.end("failed", message)
        print(f"Failed: {message}. The same command resumes from the last checkpoint.")  # noqa: T201
        return FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
