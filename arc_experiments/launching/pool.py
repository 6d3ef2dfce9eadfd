"""A sweep's jobs, each in a process of its own, some of them at a time."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

from rich.console import Console

from arc_experiments.launching.chain import run_chain
from arc_experiments.launching.running import LOOK_SECONDS, Workers, let_go
from arc_experiments.launching.tables import live_table, show_table
from arc_experiments.launching.worker import MISTAKE, STOPPED, TAKEN
from arc_experiments.runs.folder import FolderError, RunFolder
from arc_experiments.runs.pausing import SAME_SIGNAL
from arc_experiments.runs.run_state import DONE, FAILED, PAUSED, RUNNING, RunState, run_state


class Pool:
    """Runs jobs, some at a time; whatever ends one of them does not end the others.

    Args:
        retries: how often a job that died or failed is started again; it goes on from its checkpoint.
        fail_fast: the first job that ends badly for good stops the others, which can be gone on with.
        total_jobs: each runs as a chain of so many processes, one after another.
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
        self.workers, self.is_told_to_stop = Workers(), False
        self.max_parallel, self.fail_fast, self._retries = max_parallel, fail_fast, retries
        self._console, self._total_jobs = console, total_jobs
        self._told: list[float] = []  # when this process was told to stop
        self._troubles: dict[Path, RunState] = {}  # what could not be entered in a job's own folder

    def run(self, folders: Sequence[RunFolder]) -> None:
        """Run those of the jobs that are not done, until each has ended or the pool is stopped."""
        unfinished = [folder for folder in folders if self.state(folder).name != DONE]
        if not unfinished or self.workers.is_stopped:
            return
        num_places = min(self.max_parallel, len(unfinished))
        places: SimpleQueue[int] = SimpleQueue()
        for place in range(num_places):
            places.put(place)

        def work(folder: RunFolder) -> bool:
            place = places.get()

            def once() -> int:
                return self.workers.run(folder, place=place, num_places=num_places)

            def until_stopped() -> int | None:
                code = once()
                return None if self.workers.is_stopped else code

            def chain() -> int:
                return run_chain(folder, self._total_jobs, until_stopped)

            try:
                return self._work(folder, once if self._total_jobs == 1 else chain)
            finally:
                places.put(place)

        with (
            self._listening(),
            live_table(folders, self.state, self._console) as refresh,
            ThreadPoolExecutor(num_places) as threads,
        ):
            pending = {threads.submit(work, folder): folder for folder in unfinished}
            with self._stopping_on_error():
                while pending:
                    ended, _ = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
                    self._heed_signals()
                    for future in ended:
                        folder = pending.pop(future)
                        if not future.result():
                            # Another process has it: its turn comes again after the others.
                            pending[threads.submit(self._wait_for, folder, work)] = folder
                    refresh()

    def state(self, folder: RunFolder) -> RunState:
        """How far a job is; a folder that cannot be written does not tell."""
        return self._troubles.get(folder.path) or run_state(folder.path)

    def _work(self, folder: RunFolder, attempt: Callable[[], int]) -> bool:
        """Run a job with its retries. False: another process works on its folder."""
        name = folder.path.name
        for number in range(self._retries + 1):
            if self.workers.is_stopped or self.state(folder).name == DONE:  # by another process, perhaps
                return True
            start = time.monotonic()
            self._tell(f"  {name}: started, its output goes to {folder}/output.log")
            can_be_tried_again, is_taken = self._attempt(folder, attempt)
            if is_taken:
                self._tell(f"  {name}: another process works on it, and is waited for (see its output.log)")
                return False
            state = self.state(folder)
            self._tell(
                f"  {name}: {state.text} after {time.monotonic() - start:.0f} s", is_bad=state.name == FAILED
            )
            if (
                state.name == DONE
                or not can_be_tried_again
                or self.workers.is_stopped
                or number == self._retries
            ):
                break
            self._tell(f"  {name}: is started again ({number + 1} of {self._retries} retries)", is_bad=True)
        if self.fail_fast and self.state(folder).name == FAILED and not self.workers.is_stopped:
            self._tell(
                f"{name} has failed: the others stop (launch.fail_fast). The same command goes on.",
                is_bad=True,
            )
            self.workers.stop()
        return True

    def _attempt(self, folder: RunFolder, attempt: Callable[[], int]) -> tuple[bool, bool]:
        """Run a job once. Whether it may be tried again, and whether another process has it."""
        try:
            attempts = folder.status.get("attempt", 0)
            code = attempt()
            if code == TAKEN:
                return False, True
            with let_go(folder) as is_ours:
                return is_ours and self._judge(folder, code, attempts), not is_ours
        except (OSError, FolderError) as error:
            self._note_trouble(folder, error)
            return False, False

    def _judge(self, folder: RunFolder, code: int, attempts_before: int) -> bool:
        """Whether a worker that has ended may be tried again; a death is entered."""
        has_begun = folder.status.get("attempt", 0) > attempts_before
        died = has_begun and folder.status["state"] == RUNNING
        if died or not (has_begun or self.workers.is_stopped):
            self._enter_death(folder, code)  # killed, out of memory: it could not say so itself
        return died or code not in (MISTAKE, STOPPED)

    def _enter_death(self, folder: RunFolder, code: int) -> None:
        if self.workers.is_stopped:  # it was told to before it could listen
            folder.end(PAUSED)
        elif code < 0:
            memory = " (out of memory?)" if -code == signal.SIGKILL else ""
            folder.end(FAILED, f"killed by signal {-code}{memory}")
        else:
            folder.end(FAILED, f"ended with exit code {code}")

    def _wait_for(self, folder: RunFolder, work: Callable[[RunFolder], bool]) -> bool:
        """Wait until another process lets a folder go, then do what that has left undone."""
        try:
            while not self.workers.is_stopped:
                with folder.locked() as is_free:
                    if is_free:
                        break
                time.sleep(LOOK_SECONDS)
            is_done = folder.is_done
        except (OSError, FolderError) as error:  # somebody has removed it
            self._note_trouble(folder, error)
            return True
        return is_done or work(folder)

    def _note_trouble(self, folder: RunFolder, error: Exception) -> None:
        self._troubles[folder.path] = RunState(name=FAILED, error=str(error))

    def _tell(self, line: str, *, is_bad: bool = False) -> None:
        """The live table tells what goes well."""
        if is_bad or not self._console.is_terminal:
            self._console.print(line, markup=False)

    @contextmanager
    def _stopping_on_error(self) -> Iterator[None]:
        """Stop the jobs at whatever breaks the pool off: it ends with its threads, which would first run all that is left."""
        try:
            yield
        except BaseException:
            self.workers.stop()
            raise

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Take what would end this process as a wish to stop."""

        def note(number: int, frame: FrameType | None) -> None:
            self._told.append(time.monotonic())

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heed_signals(self) -> None:
        if self._told and not self.is_told_to_stop:
            self.is_told_to_stop = True
            self.workers.stop()  # first: the terminal may be gone
            self._console.print(
                "Stopping: the jobs that run keep their place (once more, in some seconds: they are killed). "
                "The same command goes on from here."
            )
        if self._told and self._told[-1] - self._told[0] > SAME_SIGNAL:
            self.workers.kill()


def run_sweep(folders: Sequence[RunFolder], sweep_folder: Path, pool: Pool, console: Console) -> int:
    """Run each unfinished job; write and show the table. The exit code: 1 if any job is not done."""
    finished = sum(pool.state(folder).name == DONE for folder in folders)
    console.print(
        f"{len(folders)} jobs, {finished} finished already, {pool.max_parallel} at a time: {sweep_folder}",
        markup=False,
    )
    pool.run(folders)
    show_table(folders, sweep_folder, pool.state, console)
    return exit_code(folders, pool)


def exit_code(folders: Sequence[RunFolder], pool: Pool) -> int:
    """130 where the user has stopped it, else 1 if any job is not done."""
    if pool.is_told_to_stop:
        return STOPPED
    return 0 if all(pool.state(folder).name == DONE for folder in folders) else 1
