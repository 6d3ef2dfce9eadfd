"""Processes that run jobs, each to its end, all of which can be told to stop."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

from arc_experiments.launching.commands import worker_command, worker_environment
from arc_experiments.launching.worker import STOPPED
from arc_experiments.runs.folder import RunFolder
from arc_experiments.runs.run_state import RUNNING, run_state

NOTICE_SECONDS = 3.0  # in which the ranks have noticed that what had started them was killed
ORPHAN_SECONDS = 30.0  # that the loaders of a worker that was killed may hold its lock; torch's end after 5
LOOK_SECONDS = 0.5  # how often what waits looks whether it still has to


class Workers:
    """The workers of a pool.

    Each has a process group of its own, so that Ctrl-C in the terminal reaches them once, by way of `stop`.
    """

    def __init__(self) -> None:
        self.is_stopped = False
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()  # nothing is started after a stop

    def run(self, folder: RunFolder, *, place: int = 0, num_places: int = 1) -> int:
        """Run a job's process to its end: its exit code. Its output goes to the folder's output.log.

        Raises:
            OSError: the log cannot be written.
        """
        with (folder / "output.log").open("ab") as output:
            with self._lock:
                if self.is_stopped:
                    return STOPPED
                process = subprocess.Popen(
                    worker_command(folder),
                    env=worker_environment(place=place, num_places=num_places),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)

    def stop(self) -> None:
        """Tell those that run to stop and keep their place; start no more."""
        with self._lock:
            self.is_stopped = True
            for process in self._running:
                process.terminate()

    def kill(self) -> None:
        """End those that run at once; they lose what came after their last checkpoints."""
        with self._lock:
            self.is_stopped = True
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def let_go(folder: RunFolder) -> Iterator[bool]:
    """Hold a folder whose worker has ended, once what that has started lets go of it. False: another works on it."""
    begin = time.monotonic()
    while True:
        waited = time.monotonic() - begin
        with folder.locked() as is_free:
            if is_free or waited > ORPHAN_SECONDS:
                yield True
                return
        if waited > NOTICE_SECONDS and run_state(folder.path).name == RUNNING:
            # Another process has taken it since.
            yield False
            return
        time.sleep(LOOK_SECONDS)
