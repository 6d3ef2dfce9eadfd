"""Programs in Python run confined: what they may use, what becomes of each, and that none touches another."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from hostile_programs import FRAME, HOSTILE, OS, does, returns

from arc_experiments.programs.sandbox import Outcome, ProgramLimits, Sandbox, processes
from arc_experiments.tasks import Program
from arc_experiments.tasks.grids import Grid

GRIDS = [np.array([[0, 1], [2, 3]], np.uint8), np.array([[0, 5], [5, 5]], np.uint8)]
ROOT = Path(__file__).parents[1]
LIMITS = ProgramLimits(cpu_seconds=0.5, memory_bytes=256 * 2**20)
GOOD = [
    returns("np.rot90(grid)"),
    returns("[sorted(row) for row in grid]"),
    "from common import *\n" + returns("np.full((len(Color.ALL_COLORS), 1), Color.RED)"),
    returns("[[len(list(range(cell))) for cell in row] for row in grid]"),
]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(num_processes=1, limits=LIMITS) as opened:
        yield opened


def run(sandbox: Sandbox, *texts: str, grids: list[Grid] = GRIDS) -> list[tuple[Outcome, ...]]:
    programs = [Program(language="python", text=text) for text in texts]
    return [ran.outcomes for ran in sandbox.run(programs, [grids] * len(texts))]


def shown(outcomes: tuple[Outcome, ...]) -> list[object]:
    return [one.grid.tolist() if one.grid is not None else one.reason for one in outcomes]


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, str]:
    """The hostile programs, with a folder of their own."""
    (tmp_path / "precious").write_text("here")
    return {name: text.replace("{folder}", str(tmp_path)) for name, (text, _) in HOSTILE.items()}


@pytest.mark.slow
def test_hostile_programs_are_labelled_and_touch_neither_the_machine_nor_each_other(
    texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hidden")
    draw = Program(language="draw", text="rect(4,0,0,0,1)")
    good = [*(Program(language="python", text=text) for text in GOOD), draw]
    hostile = [Program(language="python", text=text) for text in texts.values()]
    mixed = [one for number, each in enumerate(hostile) for one in (each, good[number % len(good)])]
    before = descendants()
    with Sandbox(num_processes=2, limits=LIMITS) as sandbox:
        alone = [shown(ran.outcomes) for ran in sandbox.run(good, [GRIDS] * len(good))]
        assert alone[-1] == [[[4, 4], [2, 3]], [[4, 4], [5, 5]]]
        servers = descendants()
        outcomes = [ran.outcomes for ran in sandbox.run(mixed, [GRIDS] * len(mixed))]
        assert descendants() == servers
    assert {name: shown(one)[0] for name, one in zip(texts, outcomes[::2], strict=True)} == {
        name: right for name, (_, right) in HOSTILE.items()
    }
    assert [shown(one) for one in outcomes[1::2]] == [alone[n % len(good)] for n in range(len(texts))]
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert descendants() == before


def descendants() -> set[int]:
    """The processes of programs in Python, and their servers."""
    found = psutil.Process().children(recursive=True)
    return {process.pid for process in found if processes.SERVER in process.cmdline()}


@pytest.mark.slow
def test_a_program_that_waits_is_ended_though_it_uses_no_time(sandbox: Sandbox) -> None:
    waits = "import queue\n" + does("queue.Queue().get()")
    naps = "import queue\n" + does(
        "while True:", "  try: queue.Queue().get(timeout=0.05)", "  except queue.Empty: pass"
    )
    for outcomes in run(sandbox, waits, naps):
        assert shown(outcomes) == ["timeout", "timeout"]
        assert "it waited for 10 s without computing" in outcomes[0].message


DAEMON = does(
    "for _ in range(3):",
    "  if OS['fork']() == 0:",
    "    OS['setsid']()",
    "    if OS['fork']() == 0:",
    "      while True: pass",
    "    OS['_exit'](0)",
    "return [[4]]",
    before=OS,
)


@pytest.mark.parametrize("namespaces", [True, False])
def test_without_a_filter_of_system_calls_no_process_outlives_its_program(
    namespaces: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "LAYERS", {"namespaces": namespaces, "filter": False})
    with Sandbox(num_processes=1, limits=LIMITS) as sandbox:
        run(sandbox, GOOD[0])
        servers = descendants()
        # An ordinary user may not even fork here.
        assert shown(run(sandbox, DAEMON)[0])[0] in ([[4]], "raised")
        assert descendants() == servers
        files = does("return [[len(OS['listdir']('/')) % 10]]", before=OS)
        assert shown(run(sandbox, files)[0]) == ["raised", "raised"]
        assert [shown(one) for one in run(sandbox, GOOD[1])] == [[[[0, 1], [2, 3]], [[0, 5], [5, 5]]]]
    assert "no filter of system calls" in caplog.text
    assert ("no namespaces" in caplog.text) != namespaces


def test_a_server_that_is_killed_is_replaced(sandbox: Sandbox) -> None:
    expected = [shown(one) for one in run(sandbox, *GOOD)]
    for process in psutil.Process().children(recursive=True):
        process.kill()
    assert [shown(one) for one in run(sandbox, *GOOD)] == expected


def test_a_program_that_kills_its_server_has_crashed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LAYERS", {"namespaces": False, "filter": False})
    kills = does("if grid[0][0] == 0: OS['kill'](OS['getppid'](), 9)", "return grid", before=OS)
    with Sandbox(num_processes=1, limits=LIMITS) as unconfined:
        outcomes = run(unconfined, GOOD[0], kills, GOOD[1])
    assert [shown(one) for one in outcomes] == [
        *([shown(one) for one in run(sandbox, GOOD[0])]),
        ["crashed", "crashed"],
        *([shown(one) for one in run(sandbox, GOOD[1])]),
    ]


@pytest.mark.slow
def test_the_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from arc_experiments.programs.sandbox import ProgramLimits, Sandbox\n"
        "from arc_experiments.tasks import Program\n"
        "program = Program(language='python', text='def transform(grid):\\n    while True: pass')\n"
        "with Sandbox(num_processes=1, limits=ProgramLimits(cpu_seconds=1000)) as sandbox:\n"
        "    sandbox.run([program], [[np.zeros((1, 1), np.uint8)]])\n"
    )
    started = psutil.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 60
    # Two servers, each behind the process that waits for it where there are namespaces, and a child.
    while len(family := started.children(recursive=True)) < 3 or family[-1].cpu_times().user < 0.2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started.kill()
    started.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_a_timeout_is_final_and_other_failures_are_not(sandbox: Sandbox) -> None:
    by_cell = {
        "timeout": does("while grid[0][0] == 7: pass", "return grid"),
        "memory": does("if grid[0][0] == 7: x = np.ones(10 ** 10)", "return grid"),
        "crashed": does("if grid[0][0] == 7: OS['_exit'](3)", "return grid", before=OS),
        "raised": does("return [[1 // (grid[0][0] - 7)]]"),
    }
    grids = [np.full((1, 1), cell, np.uint8) for cell in (8, 7, 8)]
    ran = dict(zip(by_cell, run(sandbox, *by_cell.values(), grids=grids), strict=True))
    assert shown(ran["timeout"]) == [[[8]], "timeout", "timeout"]
    assert shown(ran["memory"]) == [[[8]], "memory", [[8]]]
    assert shown(ran["crashed"]) == [[[8]], "crashed", [[8]]]
    assert shown(ran["raised"]) == [[[1]], "raised", [[1]]]


@pytest.mark.slow
def test_limits_are_those_that_were_asked_for() -> None:
    busy = does("for _ in range(3 * 10 ** 6): pass", "return grid")
    large = does("return [[int(np.ones(20 * 2 ** 20, np.uint8)[0])]]")
    long = does("return [[1] * 100 for _ in range(90)]")
    for limits, labels in (
        (ProgramLimits(), [[[0, 1], [2, 3]], [[1]], "too_large"]),
        (ProgramLimits(cpu_seconds=0.02), ["timeout", [[1]], "too_large"]),
        (ProgramLimits(memory_bytes=15 * 2**20), [[[0, 1], [2, 3]], "memory", "too_large"]),
        (ProgramLimits(output_bytes=200), [[[0, 1], [2, 3]], [[1]], "too_large"]),
    ):
        with Sandbox(num_processes=1, limits=limits) as sandbox:
            outcomes = [one[0] for one in run(sandbox, busy, large, long)]
        assert [one.grid.tolist() if one.grid is not None else one.reason for one in outcomes] == labels
        assert ("bytes" in outcomes[2].message) == (limits.output_bytes < 1000)


def test_allowed_modules_can_be_used_to_the_full(sandbox: Sandbox) -> None:
    uses = [
        ("from scipy import ndimage\n", "ndimage.label(np.array(grid) > 0)[0]", [[0, 1], [1, 1]]),
        ("import scipy.ndimage as n\n", "n.binary_fill_holes(np.ones((2, 2)))", [[1, 1], [1, 1]]),
        ("from scipy.spatial.distance import cdist\n", "cdist([[0, 0]], [[0, 2]])", [[2]]),
        ("from numpy.lib.stride_tricks import sliding_window_view as w\n", "w(np.arange(2), 2)", [[0, 1]]),
        ("import collections.abc\n", "[[int(isinstance(grid, collections.abc.Sequence))]]", [[1]]),
        ("from queue import PriorityQueue\n", "[[PriorityQueue().qsize()]]", [[0]]),
        ("from typing import *\nx: List[int] = []\n", "[[len(x)]]", [[0]]),
        ("from __future__ import annotations\n", "[[1]]", [[1]]),
        ("import sys\nsys.setrecursionlimit(5000)\n", "[[sys.getrecursionlimit() // 1000]]", [[5]]),
        ("", "[[int(np.linalg.det(np.eye(3)))]]", [[1]]),
        ("", "[[np.fft.fft([1, 0])[0].real, np.ma.array([1]).sum(), np.median([1, 3])]]", [[1, 1, 2]]),
        ("", "np.pad(np.array([[1]]), 1, mode='constant')[1:]", [[0, 1, 0], [0, 0, 0]]),
        ("import numpy.polynomial as p\n", "[[len(p.Polynomial([1, 2]).coef)]]", [[2]]),
        ("", "np.einsum('ij,jk', np.eye(2), np.eye(2), optimize=True)", [[1, 0], [0, 1]]),
        ("", "[[len(np.array2string(np.eye(1))), len(b'x'.decode('latin1'))]]", [[6, 1]]),
    ]  # fmt: skip
    outcomes = run(sandbox, *(returns(value, before) for before, value, _ in uses))
    assert [shown(one)[0] for one in outcomes] == [right for _, _, right in uses]


def test_arrays_and_numpys_functions_work_from_their_first_use_on(sandbox: Sandbox) -> None:
    values = [
        "a.sum()", "a.mean()", "a.std() > 0", "a.min()", "a.max()", "a.any()", "a.all()", "a.prod()",
        "a.argmax()", "a.clip(0, 1).max()", "np.ptp(a)", "np.bincount(a.ravel()).max()", "np.unique(a).size",
        "len(str(a)) > 0", "np.linalg.norm(a) > 0", "np.fft.fft2(a).real.max() > 0", "np.einsum('ij->', a)",
    ]  # fmt: skip
    texts = [
        f"import numpy as np\n{does('a = np.array(grid)', f'return [[int({value})]]')}" for value in values
    ]
    outcomes = run(sandbox, *texts)
    wrong = {v: one[0].message for v, one in zip(values, outcomes, strict=True) if one[0].grid is None}
    assert not wrong


@pytest.mark.slow
def test_a_busy_machine_gives_the_verdicts_of_an_idle_one(texts: dict[str, str]) -> None:
    # What a program writes in place of its interpreter is seen together with the answer or before it.
    texts = {name: text for name, text in texts.items() if FRAME not in text}
    slow = {name for name, (_, right) in HOSTILE.items() if name in texts and right in ("timeout", "memory")}
    quick = [text for name, text in texts.items() if name not in slow]
    loops = [does(f"for _ in range({n} * 10 ** 4): pass", "return grid") for n in range(40)]
    several = [texts[name] for name in sorted(slow)]
    programs = [*several, *([*GOOD, *quick, *loops] * 20)][:2000]
    assert len(programs) == 2000
    with Sandbox(num_processes=2, limits=LIMITS) as sandbox:
        idle = [shown(one) for one in run(sandbox, *programs)]
        busy_loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
        try:
            busy = [shown(one) for one in run(sandbox, *programs)]
        finally:
            for process in busy_loops:
                process.kill()
                process.wait()
    assert busy == idle
