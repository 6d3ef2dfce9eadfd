"""Run programs that nobody has checked: within limits, apart from the machine and from each other.

with Sandbox(num_processes=2, limits=ProgramLimits(cpu_seconds=1)) as sandbox:
    ran, = sandbox.run([Program(language="draw", text="pixel(3,0,0)")], [[grid]])
    ran.outcomes[0].grid                    # or None, and a reason
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from arc_experiments.programs.languages import Language, language
from arc_experiments.programs.sandbox.limits import ProgramLimits
from arc_experiments.programs.sandbox.outcome import REASONS, Outcome, Ran, Reason, Runner
from arc_experiments.tasks.grids import Grid
from arc_experiments.tasks.task import Program

__all__ = ["REASONS", "Outcome", "ProgramLimits", "Ran", "Reason", "Runner", "Sandbox"]


class Sandbox:
    """Runs programs of all languages, each in the kind of sandbox that its language names.

    Args:
        num_processes: interpreters that work at the same time, for each language; None: one per core.
        barc_library: BARC's `common.py`, for programs in Python that import it.
    """

    def __init__(
        self,
        *,
        num_processes: int | None = None,
        limits: ProgramLimits | None = None,
        barc_library: Path | None = None,
    ) -> None:
        self._num_processes = num_processes or len(os.sched_getaffinity(0))
        self._limits = limits or ProgramLimits()
        self._barc_library = barc_library
        self._runners: dict[str, Runner] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runners.clear()
        self._open.close()

    def run(self, programs: Sequence[Program], inputs: Sequence[Sequence[Grid]]) -> list[Ran]:
        """Run program n on each of the grids `inputs[n]`; return what it gave, in the order of the programs.

        A program's mistakes are outcomes with a reason, never exceptions, and do not touch other programs.
        """
        by_language: dict[str, list[int]] = defaultdict(list)
        for number, program in enumerate(programs):
            by_language[program.language].append(number)
        ran: dict[int, Ran] = {}
        for name, numbers in by_language.items():
            texts, grids = [programs[n].text for n in numbers], [inputs[n] for n in numbers]
            ran |= zip(numbers, self._runner(name).run(texts, grids), strict=True)
        return [ran[number] for number in range(len(programs))]

    def _runner(self, name: str) -> Runner:
        """Return the language's interpreters, started on first use."""
        if name not in self._runners:
            self._runners[name] = self._open.enter_context(self._opened(language(name)))
        return self._runners[name]

    def _opened(self, found: Language) -> AbstractContextManager[Runner]:
        # Imported here, since a run of one language needs nothing of the others.
        if found.runs_in == "monty":
            from arc_experiments.programs.sandbox import monty

            return monty.open_runner(found, num_processes=self._num_processes, limits=self._limits)
        from arc_experiments.programs.sandbox import processes

        return processes.open_runner(
            found,
            num_processes=self._num_processes,
            limits=self._limits,
            barc_library=self._barc_library,
        )
