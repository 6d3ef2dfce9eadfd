"""A sweep's jobs, each in a process of its own, several of them in parallel.

A job has a place (0, 1, ...); which cores and GPUs go with it is in `runs/cores_and_gpus.py`.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

from rich.console import Console

from arc_experiments.config.plurals import plural
from arc_experiments.config.schema import Launch
from arc_experiments.launching.chain import run_chain
from arc_experiments.launching.commands import describe_exit, worker_command, worker_environment
from arc_experiments.launching.tables import live_table, show_table
from arc_experiments.launching.worker import MISTAKE, STOPPED, TAKEN
from arc_experiments.runs import pausing
from arc_experiments.runs.folder import LOOK_SECONDS, FolderError, RunFolder
from arc_experiments.runs.locks import SharedLock
from arc_experiments.runs.run_state import DONE, FAILED, LOCK, PAUSED, RUNNING, RunState

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Pool:
    """Runs the jobs of a sweep; whatever ends one of them does not end the others.

    Args:
        retries: how often a job that died or failed is started again; it resumes from its checkpoint.
        fail_fast: the first job that fails for good stops the others, which can be resumed.
        total_jobs: processes in a row that each job may take (`launch.chain`).
    """

    def __init__(
        self,
        *,
        max_parallel: int,
        console: Console,
        retries: int = 0,
        fail_fast: bool = False,
        total_jobs: int = 1,
    ) -> None:
        self.workers, self.is_asked_to_stop = Workers(), False
        self.max_parallel, self.fail_fast, self._retries = max_parallel, fail_fast, retries
        self._console, self._total_jobs = console, total_jobs
        self._signals: list[float] = []  # when this process was asked to stop
        self._final: dict[Path, RunState] = {}  # of jobs that are done, or whose folder cannot be used

    @classmethod
    def of(cls, launch: Launch, console: Console) -> "Pool":
        """The pool that a composition asks for."""
        return cls(
            max_parallel=launch.max_parallel,
            retries=launch.retries,
            fail_fast=launch.fail_fast,
            total_jobs=launch.chain.total_jobs,
            console=console,
        )

    def run(self, folders: Sequence[RunFolder], sweep_folder: Path) -> None:
        """Run the jobs that are not done, until each has ended or the pool is stopped."""
        self._final.clear()
        unfinished = [folder for folder in folders if self.state(folder).name != DONE]
        if not unfinished or self.workers.is_stopped:
            return
        # What a killed launcher has left running keeps its place: no other job may take that meanwhile.
        unfinished.sort(key=lambda folder: self.state(folder).name != RUNNING)
        num_places = min(self.max_parallel, len(unfinished))
        places: SimpleQueue[int] = SimpleQueue()
        for place in range(num_places):
            places.put(place)
        with (
            SharedLock(sweep_folder / LOCK) as launchers,
            pausing.handling(STOPPING, self._note_signal),
            live_table(folders, self.state, self._console) as refresh,
            ThreadPoolExecutor(num_places) as threads,
        ):

            def work(folder: RunFolder) -> bool:
                place = places.get()
                try:
                    while not self._work(folder, place, num_places):
                        if not launchers.is_only_holder():
                            return False
                        # Left behind by a launcher that was killed: it still uses its place.
                        self._wait_for(folder)
                    return True
                finally:
                    places.put(place)

            def wait_and_work(folder: RunFolder) -> bool:
                self._wait_for(folder)
                return work(folder)

            pending = {threads.submit(work, folder): folder for folder in unfinished}
            with self._stopping_on_error():
                while pending:
                    ended, _ = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
                    self._heed_signals()
                    for future in ended:
                        folder = pending.pop(future)
                        if not future.result():  # another sweep runs it: wait for that after all other jobs
                            pending[threads.submit(wait_and_work, folder)] = folder
                    refresh()

    def state(self, folder: RunFolder) -> RunState:
        """What has become of a job. Once seen done it stays done, even if another launcher opens it."""
        state = self._final.get(folder.path) or folder.state
        if state.name == DONE:
            self._final[folder.path] = state
        return state

    def _work(self, folder: RunFolder, place: int, num_places: int) -> bool:
        """Run a job with its retries. False: another process is working on its folder."""
        name = folder.path.name
        for number in range(self._retries + 1):
            if self.workers.is_stopped or self.state(folder).name == DONE or folder.path in self._final:
                return True
            start = time.monotonic()
            if number == 0 and self.state(folder).name != RUNNING:
                self._tell(f"  {name}: started, its output goes to {folder}/output.log")
            try:
                code, may_retry = self._attempt(folder, place, num_places)
            except (OSError, FolderError) as error:
                self._give_up(folder, error)
                code, may_retry = None, False
            if code == TAKEN:
                self._tell(f"  {name}: another process runs it (see its output.log); its end is waited for")
                return False
            state = self.state(folder)
            self._tell(
                f"  {name}: {state.text} after {time.monotonic() - start:.0f} s", is_bad=state.name == FAILED
            )
            if state.name == DONE or not may_retry or self.workers.is_stopped or number == self._retries:
                break
            self._tell(f"  {name}: started again ({number + 1} of {self._retries} retries)", is_bad=True)
        if self.fail_fast and self.state(folder).name == FAILED and not self.workers.is_stopped:
            self._tell(
                f"{name} has failed: the others stop (launch.fail_fast). The same command resumes the sweep.",
                is_bad=True,
            )
            self.workers.stop()
        return True

    def _attempt(self, folder: RunFolder, place: int, num_places: int) -> tuple[int, bool]:
        """Run a job once: its exit code, and whether it may be retried."""

        def run_once() -> int:
            return self.workers.run(folder, place=place, num_places=num_places)

        def run_until_stopped() -> int | None:
            code = run_once()
            return None if self.workers.is_stopped else code

        pausing.forget_earlier(folder.path)
        attempts = folder.status.get("attempt", 0)
        code = run_once() if self._total_jobs == 1 else run_chain(folder, self._total_jobs, run_until_stopped)
        if code == TAKEN:
            return TAKEN, False
        with folder.reclaimed() as is_ours:
            if not is_ours:
                return TAKEN, False
            may_retry = self._record_end(folder, code, attempts)
            self.state(folder)  # while nobody else can open the folder again
            return code, may_retry

    def _record_end(self, folder: RunFolder, code: int, attempts_before: int) -> bool:
        """Record the end of a worker that could not do so itself; returns whether it may be retried."""
        has_begun = folder.status.get("attempt", 0) > attempts_before
        died = has_begun and folder.status["state"] == RUNNING
        if died or not (has_begun or self.workers.is_stopped):
            if self.workers.is_stopped:  # before it could handle signals
                folder.end(PAUSED)
            else:
                folder.end(FAILED, describe_exit(code))
        return died or code not in (MISTAKE, STOPPED)

    def _wait_for(self, folder: RunFolder) -> None:
        """Wait until another process releases a folder, and tell what has become of the job."""
        try:
            while not self.workers.is_stopped:
                with folder.locked() as is_free:
                    if is_free:
                        self._tell(f"  {folder.path.name}: {self.state(folder).text}, run by another process")
                        return
                time.sleep(LOOK_SECONDS)
        except (OSError, FolderError) as error:  # somebody has removed the folder
            self._give_up(folder, error)

    def _give_up(self, folder: RunFolder, error: Exception) -> None:
        self._final[folder.path] = RunState(name=FAILED, error=str(error))

    def _tell(self, line: str, *, is_bad: bool = False) -> None:
        """Print a line; in a terminal only bad news, since the live table shows the rest."""
        if is_bad or not self._console.is_terminal:
            self._console.print(line, markup=False)

    @contextlib.contextmanager
    def _stopping_on_error(self) -> Iterator[None]:
        """Stop the jobs when the pool breaks off: its threads would run all remaining jobs before it ends."""
        try:
            yield
        except BaseException:
            self.workers.stop()
            raise

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(time.monotonic())

    def _heed_signals(self) -> None:
        if self._signals and not self.is_asked_to_stop:
            self.is_asked_to_stop = True
            self.workers.stop()  # before printing: the terminal may be gone
            self._console.print(
                "Stopping: running jobs save their progress (signal again in a few seconds to kill them). "
                "The same command resumes the sweep."
            )
        if self._signals and self._signals[-1] - self._signals[0] > pausing.SAME_SIGNAL:
            self.workers.kill()


class Workers:
    """The worker processes of a pool.

    Each has a process group of its own, so that Ctrl-C in the terminal reaches them once, through `stop`.
    """

    def __init__(self) -> None:
        self.is_stopped = False
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()  # so that nothing starts after a stop

    def run(self, folder: RunFolder, *, place: int, num_places: int) -> int:
        """Run a worker to its end and return its exit code; its output goes to the folder's output.log.

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
        """Ask the running workers to save and stop; start no more."""
        with self._lock:
            self.is_stopped = True
            for process in self._running:
                process.terminate()

    def kill(self) -> None:
        """Kill the running workers with all their processes; they resume from their last checkpoints."""
        with self._lock:
            self.is_stopped = True
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def run_sweep(folders: Sequence[RunFolder], sweep_folder: Path, pool: Pool, console: Console) -> int:
    """Run each unfinished job; write and show the table. Returns the exit code: 1 if any job is not done."""
    finished = sum(folder.state.name == DONE for folder in folders)
    console.print(
        f"{plural(len(folders), 'job')}, {finished} finished already, {pool.max_parallel} at a time: "
        f"{sweep_folder}",
        markup=False,
    )
    pool.run(folders, sweep_folder)
    show_table(folders, sweep_folder, pool.state, console)
    return exit_code(folders, pool)


def exit_code(folders: Sequence[RunFolder], pool: Pool) -> int:
    """130 if the user stopped the pool, else 1 if any job is not done, else 0."""
    if pool.is_asked_to_stop:
        return STOPPED
    return 0 if all(pool.state(folder).name == DONE for folder in folders) else 1
