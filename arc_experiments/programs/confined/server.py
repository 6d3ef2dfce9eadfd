r"""Fork children that run programs: `python -m arc_experiments.programs.confined.server`.

    -> {"prelude": "import numpy as np", "seed": 1, ...}        the options
    <- {"namespaces": true, "filter": true}                     what this machine allows
    -> {"programs": [["def transform(grid): ...", ["[[0]]", "[[1]]"]]], "alone": true}
    <- {"ran": [[[["{\"grid\": [[1]]}"], ["", "timeout", "..."]], 0.002]]}

A program comes with its inputs in JSON. Each has a child alone, or all share one in turn until it ends. Back
come answers and CPU seconds: an answer is the line of the child, or a reason and a message about its end.

The server ends with its standard input.
"""

import gc
import importlib
import json
import os
import signal
import sys
import warnings
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NoReturn

from arc_experiments.programs.confined import kernel
from arc_experiments.programs.confined.child import OUT_OF_MEMORY, Child
from arc_experiments.programs.confined.running import LOADED, Answer, Ended, NotLoaded, Options, Running

Asked = tuple[str, list[str]]  # a source, and inputs in JSON


@dataclass(kw_only=True)
class _SoFar:
    """What became of a program so far."""

    answers: list[Answer] = field(default_factory=list)
    cpu_seconds: float = 0.0


class Server:
    """Forks one child at a time."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._is_first = options.namespaces and kernel.enter_namespaces()
        if not self._is_first:
            kernel.adopt_orphans()
        self._confine = kernel.system_call_filter() if options.filter else None
        self._null = os.open(os.devnull, os.O_RDWR)
        warnings.simplefilter("ignore")
        self._child = Child(options.prelude, options.barc_library, options.seed, options.output_bytes)
        self._freeze()

    def serve(self) -> None:
        """Run what is asked until there is nothing more."""
        self._say({"namespaces": self._is_first, "filter": self._confine is not None})
        for line in sys.stdin.buffer:
            self._say({"ran": self._run(**json.loads(line))})

    def _say(self, answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def _run(self, programs: list[Asked], alone: bool) -> list[tuple[list[Answer], float]]:
        """Return the answers of each program to its inputs, and the CPU seconds that it took."""
        ran = [_SoFar() for _ in programs]
        seconds = self._options.cpu_seconds * sum(1 + len(inputs) for _, inputs in programs)
        waiting = deque(number for number, (_, inputs) in enumerate(programs) if inputs)
        while waiting:
            child, is_alive = self._start(seconds), True
            try:
                while waiting and is_alive:
                    number = waiting[0]
                    is_alive = self._continue(child, programs[number], ran[number])
                    if len(ran[number].answers) == len(programs[number][1]):
                        waiting.popleft()
                        is_alive = is_alive and not alone
            finally:
                child.end()
                if self._confine is None:  # else there are none
                    kernel.kill_descendants(is_first=self._is_first)
        return [(one.answers, one.cpu_seconds) for one in ran]

    def _continue(self, child: Running, program: Asked, ran: _SoFar) -> bool:
        """Have a child answer the inputs that have no answer yet; return whether it can do more."""
        source, inputs = program
        left = len(inputs) - len(ran.answers)
        before = child.used()
        try:
            line = child.load(source)
            if line != LOADED:
                ran.answers += [[line.decode(errors="replace")]] * left
                return True
            for text in inputs[-left:]:
                ran.answers.append([child.ask(text).decode(errors="replace")])
            return True
        except NotLoaded as error:
            ran.answers += self._load(error.module) * left
        except Ended as end:
            left = len(inputs) - len(ran.answers)
            ran.answers += [end.answer] * (left if end.is_final else 1)
        finally:
            ran.cpu_seconds += child.used() - before
        return False

    def _load(self, module: str) -> list[Answer]:
        """Import a module for all programs from now on; return what to answer if it fails."""
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 (an installed package that is broken or incomplete)
            return [["", "import", f"{module} cannot be imported here: {error}"]]
        self._freeze()
        return []

    def _freeze(self) -> None:
        """Keep the garbage collection of children from touching, and so copying, what they share."""
        gc.collect()
        gc.freeze()
        self._address_space = kernel.address_space()

    def _start(self, cpu_seconds: float) -> Running:
        answers, writes = os.pipe()
        reads, questions = os.pipe()
        process = os.fork()
        if not process:
            os.close(answers)
            os.close(questions)
            self._become_child((reads, writes), cpu_seconds)
        os.close(writes)
        os.close(reads)
        return Running(process, (answers, questions), self._options)

    def _become_child(self, files: tuple[int, int], cpu_seconds: float) -> NoReturn:
        status = 1
        try:
            for number in (0, 1, 2):
                os.dup2(self._null, number)
            sys.stdin = sys.stdout = sys.stderr = None  # printing does nothing
            memory_bytes = self._address_space + self._options.memory_bytes
            kernel.limit_resources(memory_bytes=memory_bytes, cpu_seconds=cpu_seconds)
            if self._confine is None or self._confine():
                self._child.run(files)
                status = 0
        except MemoryError:
            status = OUT_OF_MEMORY
        finally:
            os._exit(status)


def main() -> None:
    """Serve whoever started this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ends with its standard input
    # What some modules have done first in a child takes longer than the fork. It is not needed: there are no
    # threads, and children seed the generators.
    os.register_at_fork = lambda **_: None
    Server(Options(**json.loads(sys.stdin.buffer.readline()))).serve()


if __name__ == "__main__":
    main()
