"""Helpers that die are replaced, unless they die again and again."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arc_experiments.launching import helpers
from arc_experiments.launching.helpers import Helpers
from arc_experiments.runs.folder import RunFolder


def starts(monkeypatch: pytest.MonkeyPatch, code: str) -> list[dict[str, str]]:
    """Let helpers run this code; returns the environments of those that are started."""
    started: list[dict[str, str]] = []

    def start(folder: RunFolder, environments: list[dict[str, str]]) -> list["subprocess.Popen[bytes]"]:
        started.extend(environments)
        return [subprocess.Popen([sys.executable, "-c", code]) for _ in environments]

    monkeypatch.setattr(helpers, "start_helpers", start)
    monkeypatch.setattr(helpers, "LOOK_SECONDS", 0.05)
    return started


def wait_for(happens: Callable[[], bool]) -> None:
    for _ in range(1000):
        if happens():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def test_a_helper_that_is_killed_is_replaced_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = starts(monkeypatch, "import time; time.sleep(60)")
    both = Helpers(RunFolder(tmp_path), [{"GPU": "1"}, {"GPU": "2"}])
    victim = both._helpers[1].process
    victim.kill()
    wait_for(lambda: len(started) == 3)
    assert started[-1] == {"GPU": "2"}
    both.stop()
    assert all(helper.process.poll() is not None for helper in both._helpers)


def test_a_helper_that_dies_again_and_again_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = starts(monkeypatch, "raise SystemExit(3)")
    one = Helpers(RunFolder(tmp_path), [{}])
    wait_for(lambda: one._helpers[0].early_deaths == helpers.MOST_EARLY_DEATHS)
    time.sleep(0.3)
    one.stop()
    assert len(started) == helpers.MOST_EARLY_DEATHS
