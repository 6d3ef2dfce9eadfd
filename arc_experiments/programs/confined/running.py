"""A child that runs programs, seen from the server: its answers, within its limits, and how it ends."""

import contextlib
import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import NoReturn

from arc_experiments.programs.confined import kernel
from arc_experiments.programs.confined.child import OUT_OF_MEMORY, TOKEN_LENGTH, may_load

# A process that gets less than this share of a core for so long waits for something: even on a machine with
# many more processes than cores the others leave it more.
WAITING_SECONDS, WAITING_SHARE = 10.0, 0.01
LOADED = b"{}"
SLACK_BYTES = 2000  # for what a result's line holds besides the result
STDIN = 0

Answer = list[str]  # [line], or ["", reason, message]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How programs are run.

    Attributes:
        prelude: what is executed before each.
        barc_library: the source of the module `common`; None: what the prelude defines.
        seed: of the generators of random numbers.
        cpu_seconds: for loading a program, and again for each input.
        memory_bytes: beside what the server itself takes.
        namespaces: whether to leave the machine's, if it can be done.
        filter: whether to filter system calls, if it can be done.
    """

    prelude: str
    barc_library: str | None
    seed: int
    cpu_seconds: float
    memory_bytes: int
    output_bytes: int
    namespaces: bool
    filter: bool


class Ended(Exception):
    """Raised when a child answers no more, or must not, with a reason and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.answer: Answer = ["", reason, message]
        self.is_final = reason == "timeout"  # it would take as long on the other inputs


class NotLoaded(Exception):
    """Raised when a program imports an allowed module for the first time."""

    def __init__(self, module: str) -> None:
        super().__init__(module)
        self.module = module


class Running:
    """A child that runs programs.

    Args:
        files: the numbers of the files to read answers from and to write questions to.
    """

    def __init__(self, process: int, files: tuple[int, int], options: Options) -> None:
        self._process, self._options = process, options
        self._answers, self._questions = files
        self._clock = kernel.cpu_clock(process)

    def load(self, source: str) -> bytes:
        """Start a program; return `LOADED`, or the line that says why there is none; raise Ended."""
        try:
            return self.ask(json.dumps(source))
        except Ended as end:
            end.is_final = True
            raise

    def ask(self, text: str) -> bytes:
        """Return the answer to an input, in JSON.

        Raises:
            NotLoaded: it needs a module.
            Ended: the answer is over-long, takes too long, never comes, or is none.
        """
        limit = self.used() + self._options.cpu_seconds
        token = os.urandom(TOKEN_LENGTH // 2).hex().encode()
        with contextlib.suppress(BrokenPipeError):  # reading says how it ended
            os.write(self._questions, token + text.encode() + b"\n")
        line = self._read(limit)
        if not line.startswith(token) or line.find(b"\n") < len(line) - 1:
            raise Ended("crashed", "it wrote what only its interpreter may write")
        answer = line[TOKEN_LENGTH:-1]
        if answer.startswith(b'{"missing": '):
            module = json.loads(answer)["missing"]
            if may_load(module) and module not in sys.modules:
                raise NotLoaded(module)
        return answer

    def _read(self, limit: float) -> bytes:
        """Return the next line, and what is there after it; raise Ended.

        Args:
            limit: of the process's CPU seconds.
        """
        line = b""
        since, then = time.monotonic(), self.used()
        while b"\n" not in line:
            used, now = self.used(), time.monotonic()
            self._check_time(used, limit)
            if now - since >= WAITING_SECONDS:
                if used - then < WAITING_SHARE * (now - since):
                    raise Ended("timeout", f"it waited for {now - since:.0f} s without computing")
                since, then = now, used
            line += self._receive(min(limit - used, WAITING_SECONDS))
            if len(line) > self._options.output_bytes + SLACK_BYTES:
                raise Ended("too_large", f"the result takes over {self._options.output_bytes} bytes")
        self._check_time(self.used(), limit)
        return line

    def _check_time(self, used: float, limit: float) -> None:
        if used >= limit:
            raise Ended("timeout", f"it took over {self._options.cpu_seconds:g} s of CPU time")

    def used(self) -> float:
        """Return its CPU seconds so far."""
        return time.clock_gettime(self._clock)

    def _receive(self, seconds: float) -> bytes:
        """Return what it has written, possibly nothing within these seconds; raise Ended at its end."""
        ready, _, _ = select.select([self._answers, STDIN], [], [], seconds)
        if STDIN in ready:  # whoever asks is gone
            self.end()
            os._exit(0)
        return (os.read(self._answers, 65536) or self._ended()) if ready else b""

    def _ended(self) -> NoReturn:
        info = os.waitid(os.P_PID, self._process, os.WEXITED | os.WNOWAIT)
        assert info is not None
        if info.si_code == os.CLD_EXITED:
            if info.si_status == OUT_OF_MEMORY:
                limit = self._options.memory_bytes / 2**20
                raise Ended("memory", f"it took over {limit:.0f} MiB")
            raise Ended("crashed", f"its process ended with status {info.si_status}")
        raise Ended("crashed", f"its process was ended by {signal.Signals(info.si_status).name}")

    def end(self) -> None:
        """Kill it."""
        os.close(self._answers)
        os.close(self._questions)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
