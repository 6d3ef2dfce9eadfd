"""Run programs of `draw` and `dsl` in Monty, an interpreter of its own that has no machine around it.

Monty's workers are subprocesses without files, network, environment, clock and randomness, so a program gives
the same whenever it runs. A worker restores a session, in which the prelude is loaded, in a millisecond. A
program that only calls the prelude's functions cannot change the session, which it shares with others of that
kind; any other program has a session of its own for each input.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from queue import SimpleQueue

from pydantic_monty import (
    Monty,
    MontyCrashedError,
    MontyError,
    MontySession,
    MontySyntaxError,
    OSPolicy,
    ResourceLimits,
)

from arc_experiments.programs.languages import Language
from arc_experiments.programs.languages._reading import source_of_prelude
from arc_experiments.programs.sandbox.limits import ProgramLimits
from arc_experiments.programs.sandbox.monty_cpu_time import CpuWatch
from arc_experiments.programs.sandbox.outcome import REASONS, Outcome, Ran, Reason, Runner
from arc_experiments.tasks.grids import Grid, GridError, check_grid

MAX_SHARED = 200  # programs that share a session: each leaves a kilobyte in it
PATIENCE = 60  # a program may take so many times its CPU time, on a busy machine
POLICY = OSPolicy(sleep="zero", random_start={"seed": 0}, datetime=datetime(2000, 1, 1))

# A line of a program that may share a session: a call of names and numbers, whose value may get a name.
_LINE = re.compile(r"(?:(?:x\d+|O) = )?[A-Za-z]\w*\([\w, ]*\)")
_NAME = re.compile(r"[^\W\d]\w*")


@contextmanager
def open_runner(language: Language, *, num_processes: int, limits: ProgramLimits) -> Iterator[Runner]:
    """Yield interpreters of the language, and end their processes afterwards."""
    with Monty(max_processes=num_processes) as pool, CpuWatch() as watch:
        runner = MontyRunner(pool, watch, language, num_processes, limits)
        try:
            yield runner
        finally:
            runner.close()


class MontyRunner:
    """A thread for each process, which holds one session of it."""

    def __init__(
        self, pool: Monty, watch: CpuWatch, language: Language, num_processes: int, limits: ProgramLimits
    ) -> None:
        self._language, self._watch = language, watch
        self._limits = limits
        prelude = f"{language.prelude}\n{source_of_prelude('result')}"
        self._plain_names = _defined(prelude) | {"I", "O"}
        loaded = _loaded(pool, prelude, limits)
        self._slots: SimpleQueue[_Slot] = SimpleQueue()
        self._threads = ThreadPoolExecutor(num_processes, "monty")
        self._all = [_Slot(pool, loaded) for _ in range(num_processes)]
        for slot in self._all:
            self._slots.put(slot)

    def run(self, texts: Sequence[str], inputs: Sequence[Sequence[Grid]]) -> list[Ran]:
        """Run program n on each of the grids `inputs[n]`."""
        return list(self._threads.map(self._run, texts, inputs))

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for slot in self._all:
            slot.close()

    def _run(self, text: str, grids: Sequence[Grid]) -> Ran:
        shared = self._is_plain(text)
        code = f"{self._language.as_function(text)}\nchecked_result(transform(given))"
        slot = self._slots.get()
        try:
            ran = [self._run_surely(slot, code, grid, shared) for grid in grids]
        finally:
            self._slots.put(slot)
        return Ran(outcomes=tuple(one for one, _ in ran), cpu_seconds=sum(seconds for _, seconds in ran))

    def _run_surely(self, slot: "_Slot", code: str, grid: Grid, shared: bool) -> tuple[Outcome, float]:
        """Run a program once more if its worker died, which something else may have killed."""
        outcome, seconds = self._run_once(slot, code, grid, shared)
        return self._run_once(slot, code, grid, shared) if outcome.reason == "crashed" else (outcome, seconds)

    def _run_once(self, slot: "_Slot", code: str, grid: Grid, shared: bool) -> tuple[Outcome, float]:
        session = slot.session(shared)
        pid = session.worker_pid
        assert pid is not None  # as no other thread uses this session
        given = tuple(map(tuple, grid.tolist()))
        with self._watch.timing(pid, self._limits.cpu_seconds) as timing:
            try:
                outcome = _checked(
                    session.feed_run(code, inputs={"given": given}, print_callback=lambda stream, text: None)
                )
            except (MontyError, RecursionError, MemoryError) as error:
                outcome = _failed(error)
        if timing.seconds > self._limits.cpu_seconds:
            outcome = Outcome(reason="timeout", message=f"over {self._limits.cpu_seconds:g} s of CPU time")
        if outcome.reason in ("timeout", "memory", "crashed") or not shared:
            slot.close()
        return outcome, timing.seconds

    def _is_plain(self, text: str) -> bool:
        """Return whether the program consists of calls of the prelude's functions alone."""
        return all(map(_LINE.fullmatch, text.split("\n"))) and all(
            name in self._plain_names or re.fullmatch(r"x\d+", name) for name in set(_NAME.findall(text))
        )


class _Slot:
    """Place for one session of the pool."""

    def __init__(self, pool: Monty, loaded: bytes) -> None:
        self._pool, self._loaded = pool, loaded
        self._session: MontySession | None = None
        self._num_programs = 0

    def session(self, shared: bool) -> MontySession:
        """Return a session with the prelude, which is new if it must not be shared."""
        if self._session is None or not shared or self._num_programs == MAX_SHARED:
            self.close()
            self._session = self._pool.checkout(os_policy=POLICY).__enter__()
            self._session.load_session(self._loaded)
            self._num_programs = 0
        self._num_programs += 1
        return self._session

    def close(self) -> None:
        if self._session is not None:
            with suppress(MontyError):  # of a worker that died
                self._session.__exit__(None, None, None)
            self._session = None


def _loaded(pool: Monty, prelude: str, limits: ProgramLimits) -> bytes:
    """Return a session with the prelude and limits, to be restored at will."""
    own = ResourceLimits(
        max_memory=limits.memory_bytes, max_feed_duration_secs=PATIENCE * max(1.0, limits.cpu_seconds)
    )
    with pool.checkout(limits=own, os_policy=POLICY) as session:
        session.feed_run(prelude)
        return session.dump()


def _defined(prelude: str) -> frozenset[str]:
    """Return the names that the prelude gives to functions and values."""
    found: set[str] = set()
    for node in ast.parse(prelude).body:
        match node:
            case ast.FunctionDef(name) | ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name)):
                found.add(name)
    return frozenset(found)


def _checked(result: object) -> Outcome:
    """Make an outcome of what `checked_result` returned."""
    if isinstance(result, str):
        found, _, message = result.partition(": ")
        return Outcome(reason=next(reason for reason in REASONS if reason == found), message=message)
    try:
        return Outcome(grid=check_grid(result))
    except GridError as error:
        return Outcome(reason="not_a_grid", message=str(error))


def _failed(error: Exception) -> Outcome:
    if isinstance(error, MontyCrashedError):
        return Outcome(reason="crashed", message=str(error))
    inner = error.exception() if isinstance(error, MontyError) else error
    message = f"{type(inner).__name__}: {inner}"
    unsupported = isinstance(inner, NotImplementedError) and "syntax parser" in message
    reason: Reason = "raised"
    if isinstance(error, MontySyntaxError) or unsupported:
        reason = "syntax"
    elif isinstance(inner, ImportError):
        reason = "import"
    elif isinstance(inner, MemoryError):
        reason = "memory"
    elif isinstance(inner, TimeoutError):
        reason = "timeout"
    return Outcome(reason=reason, message=message)
