"""Run programs in Python: each in a process of its own, twice.

The second time differs in everything that a program should not depend on: the seeds of hashes and of random
numbers, what is in memory that nobody has written to, and the order of the inputs. A program that answers
otherwise then is nondeterministic. See `arc_experiments.programs.confined` for the processes.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

import arc_experiments
from arc_experiments.programs.languages import Language
from arc_experiments.programs.sandbox.limits import ProgramLimits
from arc_experiments.programs.sandbox.outcome import (
    REASONS,
    Outcome,
    Ran,
    Reason,
    Runner,
    outcome_of,
)
from arc_experiments.tasks.grids import Grid

SERVER = "arc_experiments.programs.confined.server"
# What keeps programs from the machine where it has this (see `confined.kernel`), and what to say where not.
LAYERS = {"namespaces": True, "filter": True}
MISSING = {
    "namespaces": "no namespaces for an ordinary user (unshare)",
    "filter": "no filter of system calls (seccomp)",
}
SEEDS = (1, 2)  # of the first and the second time
EXHAUSTED = ("timeout", "memory")  # what the program has used up, whatever it does otherwise
MOST_TOGETHER = 16  # programs that share a process the second time
END_SECONDS = 2.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_Asked = tuple[str, list[str]]  # a source, and inputs in JSON

log = logging.getLogger(__name__)


@contextmanager
def open_runner(
    language: Language, *, num_processes: int, limits: ProgramLimits, barc_library: Path | None = None
) -> Iterator[Runner]:
    """Yield a runner whose processes end with this context.

    Args:
        barc_library: the file that is the module `common`; None: what the prelude defines.
    """
    options = {
        "prelude": language.prelude,
        "barc_library": None if barc_library is None else barc_library.read_text("utf-8"),
        "cpu_seconds": limits.cpu_seconds,
        "memory_bytes": limits.memory_bytes,
        "output_bytes": limits.output_bytes,
        **LAYERS,
    }
    with ExitStack() as opened:
        pairs = [tuple(_Server(options, seed) for seed in SEEDS) for _ in range(num_processes)]
        servers = list(chain.from_iterable(pairs))
        for server in servers:
            opened.callback(server.close)
        allowed = [server.begin() for server in servers]  # all have been started, and begin at once
        _warn_of_missing(allowed[0])
        yield _Processes(language, pairs)


class _Processes:
    """Pairs of servers that work at the same time; one server of a pair works at a time."""

    def __init__(self, language: Language, pairs: Sequence[tuple["_Server", ...]]) -> None:
        self._language = language
        self._threads = len(pairs)
        self._idle: SimpleQueue[tuple[_Server, ...]] = SimpleQueue()
        for pair in pairs:
            self._idle.put(pair)

    def run(self, texts: Sequence[str], inputs: Sequence[Sequence[Grid]]) -> list[Ran]:
        work = list(zip(texts, inputs, strict=True))
        size = max(1, min(MOST_TOGETHER, len(work) // self._threads))
        batches = [work[start : start + size] for start in range(0, len(work), size)]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(chain.from_iterable(pool.map(self._run, batches)))

    def _run(self, batch: Sequence[tuple[str, Sequence[Grid]]]) -> list[Ran]:
        programs = [
            (self._language.as_function(text), [json.dumps(grid.tolist()) for grid in grids])
            for text, grids in batch
        ]
        pair = self._idle.get()
        try:
            return _run_twice(programs, *pair)
        finally:
            self._idle.put(pair)


def _run_twice(programs: Sequence[_Asked], first: "_Server", second: "_Server") -> list[Ran]:
    """Run each program alone, then all together in one process, then those alone that differ.

    So a program that others disturb is found to differ, and has its second time alone as well.
    """
    ran = first.run(programs, alone=True)
    places = [_to_repeat(one) for one in ran]
    asked = [
        (source, [inputs[place] for place in some])
        for (source, inputs), some in zip(programs, places, strict=True)
    ]
    for number, again in enumerate(second.run(asked, alone=False)):
        outcomes = list(ran[number].outcomes)
        if not all(
            _same(outcomes[p], outcome) for p, outcome in zip(places[number], again.outcomes, strict=True)
        ):
            again = second.run([asked[number]], alone=True)[0]
        for place, outcome in zip(places[number], again.outcomes, strict=True):
            outcomes[place] = _agreed(outcomes[place], outcome)
        ran[number] = Ran(outcomes=tuple(outcomes), cpu_seconds=ran[number].cpu_seconds + again.cpu_seconds)
    return ran


def _to_repeat(ran: Ran) -> list[int]:
    """Return the numbers of the inputs to repeat, the last first."""
    return [
        n for n, one in reversed(list(enumerate(ran.outcomes))) if one.reason not in (*EXHAUSTED, "crashed")
    ]


def _same(first: Outcome, second: Outcome) -> bool:
    if first.grid is not None and second.grid is not None:
        return np.array_equal(first.grid, second.grid)
    return first.reason == second.reason


def _agreed(first: Outcome, second: Outcome) -> Outcome:
    if _same(first, second):
        return first
    if second.reason in EXHAUSTED:
        return second
    answers = [
        "a grid" if one.grid is not None else f"{one.reason} ({one.message})" for one in (first, second)
    ]
    what = "two grids" if answers[0] == answers[1] else " and then ".join(answers)
    return Outcome(reason="nondeterministic", message=f"it gave {what}")


class _Server:
    """A process that forks a child for each program; another one replaces it if it dies."""

    def __init__(self, options: Mapping[str, Any], seed: int) -> None:
        self._seed = seed
        self._options = {**options, "seed": seed}
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        root = Path(arc_experiments.__file__).parents[1]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env={
                "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)]),
                "PYTHONHASHSEED": str(self._seed),
                "MALLOC_PERTURB_": str(85 * self._seed),  # glibc fills new memory with it
                **dict.fromkeys(THREADS, "1"),
            },
            start_new_session=True,  # Ctrl-C is for this process alone
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._options).encode() + b"\n")
        process.stdin.flush()
        return process

    def begin(self) -> dict[str, bool]:
        """Wait until it works; return which of `LAYERS` this machine allows."""
        try:
            allowed: dict[str, bool] = self._read()
        except EOFError as error:
            raise RuntimeError(f"{SERVER} does not start: see what it printed") from error
        return allowed

    def run(self, programs: Sequence[_Asked], *, alone: bool, again: bool = True) -> list[Ran]:
        """Run programs one after the other, each in its own process, or in one as long as it lasts.

        Args:
            again: whether to run them once more if this process dies, which something else may have killed.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"programs": programs, "alone": alone}).encode() + b"\n")
            self._process.stdin.flush()
            ran = self._read()["ran"]
        except (BrokenPipeError, EOFError):
            self.close()
            self._process = self._start()
            self.begin()
            if again:
                return [self.run([program], alone=True, again=False)[0] for program in programs]
            crashed = Outcome(reason="crashed", message="the process that started it ended")
            return [Ran(outcomes=(crashed,) * len(inputs), cpu_seconds=0.0) for _, inputs in programs]
        return [
            Ran(outcomes=tuple(_outcome(*answer) for answer in answers), cpu_seconds=seconds)
            for answers, seconds in ran
        ]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    def close(self) -> None:
        """End the process, and with it what it runs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _outcome(line: str, reason: Reason | None = None, message: str = "") -> Outcome:
    """Read what a child answered, or what became of it."""
    if reason is not None:
        return Outcome(reason=reason, message=message)
    try:
        answer = json.loads(line)
        if "grid" in answer:
            return outcome_of(answer["grid"])
        if answer["reason"] in REASONS:
            return Outcome(reason=answer["reason"], message=str(answer["message"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return Outcome(reason="crashed", message="it wrote what only its interpreter may write")


def _warn_of_missing(allowed: Mapping[str, bool]) -> None:
    missing = [what for layer, what in MISSING.items() if not allowed[layer]]
    if missing:
        log.warning(
            "Programs in Python run without all protection: this machine has %s", " and ".join(missing)
        )
