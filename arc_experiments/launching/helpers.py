"""Processes that share the work of this one; one that dies is started again, or its GPU would be idle."""

import logging
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from arc_experiments.launching.commands import start_helpers
from arc_experiments.runs.folder import RunFolder

LOOK_SECONDS = 1.0  # between two looks whether they live
STARTING_SECONDS = 60.0  # who dies sooner may never live longer
MOST_EARLY_DEATHS = 3  # one after the other, after which a helper stays away
STOPPING_SECONDS = 60.0  # for a helper to stop by itself

log = logging.getLogger(__name__)


@dataclass
class _Helper:
    environment: dict[str, str]
    process: "subprocess.Popen[bytes]"
    started: float
    early_deaths: int = 0

    @property
    def has_died(self) -> bool:
        """Whether it has ended before the work was done."""
        return self.process.poll() not in (None, 0)


class Helpers:
    """The helpers of this process, one for each environment, until `stop`."""

    def __init__(self, folder: RunFolder, environments: Sequence[dict[str, str]]) -> None:
        self._folder = folder
        processes = start_helpers(folder, environments)
        now = time.monotonic()
        self._helpers = [_Helper(*each, now) for each in zip(environments, processes, strict=False)]
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """End those that have nothing left to do, and wait for them."""
        self._stopped.set()
        self._watcher.join()
        for helper in self._helpers:
            helper.process.terminate()
        for helper in self._helpers:
            try:
                helper.process.wait(STOPPING_SECONDS)
            except subprocess.TimeoutExpired:
                helper.process.kill()

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            for helper in self._helpers:
                if helper.has_died and helper.early_deaths < MOST_EARLY_DEATHS:
                    self._replace(helper)

    def _replace(self, helper: _Helper) -> None:
        now, code = time.monotonic(), helper.process.returncode
        is_early = now - helper.started < STARTING_SECONDS
        helper.early_deaths = helper.early_deaths + 1 if is_early else 0
        if helper.early_deaths == MOST_EARLY_DEATHS:
            log.warning("helper %d ended with %d, as before: it stays away", helper.process.pid, code)
            return
        log.warning("helper %d ended with %d: another takes its place", helper.process.pid, code)
        [helper.process], helper.started = start_helpers(self._folder, [helper.environment]), now
