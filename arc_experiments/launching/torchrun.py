"""Starts the processes that train together: `python -m arc_experiments.launching.torchrun <run folder> [<module>]`.

Each is a worker on the same folder (or runs the module named); torch's own elastic agent, which torchrun is made of, starts them, tells
them of each other and stops all when one ends badly. This ends with the exit code of the one that failed first.
"""

import logging
import os
import sys
from pathlib import Path

from arc_experiments.config.check import check
from arc_experiments.launching.worker import DONE, FAILED, MISTAKE, STOPPED, TAKEN
from arc_experiments.runs import machine as places
from arc_experiments.runs.folder import RunFolder

NUM_NODES = "ARC_EXPERIMENTS_NUM_NODES"  # on each of which one of these is started
SHUTDOWN_SECONDS = 600  # that a process told to stop has to end its steps and write a checkpoint
RENDEZVOUS = "ARC_EXPERIMENTS_RENDEZVOUS"  # where they meet, as host:port


def main(arguments: list[str]) -> int:
    """Run the folder named with as many processes as its `hardware` says; returns the exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    folder, module = RunFolder(Path(arguments[0])), [*arguments[1:], "arc_experiments.launching.worker"][0]
    hardware = check(folder.read_config()).hardware
    places.show_gpus(hardware)
    os.environ[places.STARTER] = str(os.getpid())
    logging.disable(logging.CRITICAL)  # the workers say how they ended
    num_nodes = int(os.environ.get(NUM_NODES, "1"))
    config = LaunchConfig(
        min_nodes=num_nodes,
        max_nodes=num_nodes,
        nproc_per_node=places.count_processes(hardware) // num_nodes,
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
        how = (
            f"killed by signal {-failure.exitcode}"
            if failure.exitcode < 0
            else f"exit code {failure.exitcode}"
        )
        message = f"process {rank} of {config.nproc_per_node} ended: {how}"
        folder.end("failed", message)
        print(f"Failed: {message}. The same command goes on from the last checkpoint.")  # noqa: T201
        return FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
