"""Programs of draw and dsl in Monty: their outcomes, limits and neighbours."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from arc_experiments.programs.languages import language
from arc_experiments.programs.sandbox import Outcome, ProgramLimits, Ran, Sandbox
from arc_experiments.tasks import Program
from arc_experiments.tasks.grids import Grid

GRID = np.array([[0, 5, 0], [5, 0, 5], [0, 5, 0], [1, 2, 3]], np.uint8)
FILL = "x1 = ofcolor(I, FIVE)\nO = fill(I, TWO, x1)"
FILLED = np.where(GRID == 5, 2, GRID)
LIMITS = ProgramLimits(cpu_seconds=0.4, memory_bytes=128 * 2**20)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    pytest.importorskip("reasoning_gym", reason="the extra re-arc is not installed")
    with Sandbox(num_processes=1, limits=LIMITS) as opened:
        yield opened


def run(sandbox: Sandbox, *texts: str, grids: tuple[Grid, ...] = (GRID,)) -> list[Ran]:
    """Run programs of dsl."""
    return sandbox.run([Program(language="dsl", text=text) for text in texts], [grids] * len(texts))


def outcome(sandbox: Sandbox, text: str) -> Outcome:
    (ran,) = run(sandbox, text)
    return ran.outcomes[0]


def test_each_program_gives_a_grid_for_each_input(sandbox: Sandbox) -> None:
    other = np.full((2, 9), 5, np.uint8)
    first, second = run(sandbox, FILL, "O = hmirror(I)", grids=(GRID, other))
    assert [given.grid.tolist() for given in first.outcomes if given.grid is not None] == [
        FILLED.tolist(),
        np.full((2, 9), 2).tolist(),
    ]
    assert [given.grid.tolist() for given in second.outcomes if given.grid is not None] == [
        GRID[::-1].tolist(),
        other.tolist(),
    ]
    assert first.outcomes[0].grid is not None
    assert first.outcomes[0].grid.dtype == np.uint8
    assert 0 < first.cpu_seconds < 0.4


def test_languages_mix_and_the_order_is_kept(sandbox: Sandbox) -> None:
    programs = [
        Program(language="draw", text=f"pixel({n % 10},0,0)")
        if n % 3
        else Program(language="dsl", text="O = rot180(I)")
        for n in range(60)
    ]
    ran = sandbox.run(programs, [[GRID]] * 60)
    for number, one in enumerate(ran):
        expected = GRID.copy()
        expected[0, 0] = number % 10
        assert one.outcomes[0].grid is not None
        assert np.array_equal(one.outcomes[0].grid, expected if number % 3 else GRID[::-1, ::-1])
    assert sandbox.run([], []) == []
    assert sandbox.run(programs[:1], [[]])[0].outcomes == ()


HUGE = "x1 = [0] * 10\nfor i in range(40):\n    x1 = x1 + x1\nO = x1"
PROGRAMS = [
    ("O = fill(I, TWO", "syntax", ""),
    ("def f():\n    yield 1\nO = I", "syntax", "yield"),
    ("import numpy\nO = I", "import", "numpy"),
    ("from subprocess import run\nO = I", "import", "subprocess"),
    ("while True: pass", "timeout", "CPU"),
    ("try:\n    while True: pass\nexcept:\n    pass\nO = I", "timeout", "CPU"),
    (
        "while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass",
        "timeout",
        "CPU",
    ),
    ("O = sum(range(10**10))", "timeout", "CPU"),
    (HUGE, "memory", ""),
    (f"try:\n    {HUGE.replace(chr(10), chr(10) + '    ')}\nexcept:\n    O = I", "memory", ""),
    ("O = 'x' * 10**9", "memory", ""),
    ("O = 1 << 10**10", "memory", ""),
    ("O = fill(I, TWO)", "raised", "TypeError"),
    ("O = nothing(I)", "raised", "NameError"),
    ("x1 = 1", "raised", "NameError"),
    ("def f(): return f()\nO = f()", "raised", "RecursionError"),
    ("raise SystemExit(3)", "raised", ""),
    ("raise KeyboardInterrupt", "raised", "KeyboardInterrupt"),
    ("O = open('/etc/passwd').read()", "raised", "PermissionError"),
    ("import os\nO = os.environ", "raised", ""),
    ("import os\nos._exit(1)", "raised", ""),
    ("O = ().__class__.__base__.__subclasses__()", "raised", "AttributeError"),
    ("O = (lambda: 0).__globals__", "raised", "AttributeError"),
    ("O = ONE", "not_a_grid", "int"),
    ("O = ()", "not_a_grid", ""),
    ("O = asindices(I)", "not_a_grid", "frozenset"),
    ("O = ((1, 2), (3,))", "not_a_grid", "different lengths"),
    ("O = ((1, TEN),)", "not_a_grid", "0 to 9"),
    ("O = ((True,),)", "not_a_grid", "bool"),
    ("O = ((10**5000,),)", "not_a_grid", "0 to 9"),
    ("O = fill", "not_a_grid", "function"),
    ("O = canvas(ONE, (31, 2))", "too_large", "31 rows"),
    ("O = canvas(ONE, (2, 31))", "too_large", "31 cells"),
    ("O = list(range(100000))", "too_large", "100000 rows"),
]


@pytest.mark.parametrize(("text", "reason", "message"), PROGRAMS)
def test_a_program_without_a_grid_has_a_reason(
    sandbox: Sandbox, text: str, reason: str, message: str
) -> None:
    given = outcome(sandbox, text)
    assert (given.grid, given.reason) == (None, reason)
    assert message in given.message


@pytest.mark.slow
def test_bad_programs_do_not_touch_their_neighbours(sandbox: Sandbox) -> None:
    texts = [part for text, *_ in PROGRAMS for part in (FILL, text)]
    ran = run(sandbox, *texts, FILL)
    for one in ran[::2]:
        assert one.outcomes[0].grid is not None
        assert np.array_equal(one.outcomes[0].grid, FILLED)
    assert [one.outcomes[0].reason for one in ran[1::2]] == [reason for _, reason, _ in PROGRAMS]


@pytest.mark.parametrize(
    "text",
    [
        "global fill\nfill = 5\nO = I",
        "global ofcolor\nofcolor = lambda grid, value: frozenset()\nO = I",
        "global checked_result\nchecked_result = lambda result: 'raised: altered'\nO = I",
        "global len, type, tuple, int\nlen = type = tuple = int = lambda *x: 7\nO = I",
        "exec('global fill\\nfill = 5')\nO = I",
        "locals()['fill'] = 5\nO = I",
        "global transform, given\ntransform = given = 5\nO = I",
        "fill.x = 5\nO = I",
        "fill = 5\nO = I",
        "import random\nrandom.seed(7)\nO = I",
    ],
)
def test_a_program_that_alters_functions_alters_them_for_itself_alone(sandbox: Sandbox, text: str) -> None:
    before, altered, after = run(sandbox, FILL, text, FILL, grids=(GRID, GRID))
    for one in (*before.outcomes, *after.outcomes):
        assert one.grid is not None
        assert np.array_equal(one.grid, FILLED)
    first, second = altered.outcomes  # nor do its own runs share anything
    assert first.reason == second.reason
    if first.reason is None:
        assert first.grid is not None
        assert np.array_equal(first.grid, GRID)


def test_draw_programs_share_no_canvas(sandbox: Sandbox) -> None:
    texts = ["pixel(3,0,0)", "canvas[0][0] = canvas", "pixel(canvas,0,0)", "start(3)", "pixel(3,0,1)"]
    ran = sandbox.run([Program(language="draw", text=text) for text in texts], [[GRID]] * 5)
    reasons = [one.outcomes[0].reason for one in ran]
    assert reasons == [None, "not_a_grid", "not_a_grid", "raised", None]
    last = ran[-1].outcomes[0].grid
    assert last is not None
    expected = GRID.copy()
    expected[0, 1] = 3
    assert np.array_equal(last, expected)


CHANCE = """
import random, time, datetime
x1 = (random.random(), random.Random().random(), time.time(), time.perf_counter(), time.process_time())
x2 = str((x1, id([]), hash('a'), hash((1, 'b')), {3, 'x', None}, datetime.datetime.now(), repr(fill)))
x3 = [ord(x2[i % len(x2)]) % 10 for i in range(600)]
O = tuple(tuple(x3[i : i + 30]) for i in range(0, 600, 30))
"""


def test_clocks_chance_hashes_and_addresses_are_the_same_in_every_run(sandbox: Sandbox) -> None:
    first = outcome(sandbox, CHANCE)
    assert first.grid is not None, first.message
    run(sandbox, *["O = rot90(I)"] * 5, "import random\nO = I")
    grids = [outcome(sandbox, CHANCE).grid for _ in range(3)]
    with Sandbox(num_processes=1) as other:
        grids.append(outcome(other, CHANCE).grid)
    for grid in grids:
        assert grid is not None
        assert np.array_equal(grid, first.grid)


def test_sleep_takes_no_time_and_prints_go_nowhere(
    sandbox: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    given = outcome(sandbox, "import time\ntime.sleep(1000)\nfor i in range(3000): print('x' * 1000)\nO = I")
    assert given.grid is not None
    assert time.monotonic() - start < 20
    assert capfd.readouterr().out == ""


def test_what_programs_have_used_is_their_own_cpu_time(sandbox: Sandbox) -> None:
    """A machine with four busy neighbours a core changes the wall clock and not the verdict."""
    work = "x1 = 0\nfor i in range(600000): x1 = x1 + i\nO = I"
    alone = run(sandbox, work)[0]
    assert alone.outcomes[0].grid is not None
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(4 * len(os.sched_getaffinity(0)))
    ]
    try:
        start = time.monotonic()
        beside = run(sandbox, work)[0]
        wall = time.monotonic() - start
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert beside.outcomes[0].grid is not None
    assert beside.cpu_seconds < 0.4
    assert wall > beside.cpu_seconds * 1.5


def test_a_process_that_something_kills_is_replaced_and_no_program_suffers(sandbox: Sandbox) -> None:
    assert outcome(sandbox, FILL).grid is not None
    workers = [child for child in psutil.Process().children(recursive=True) if "monty" in child.name()]
    assert workers
    for worker in workers:
        worker.kill()
    assert outcome(sandbox, FILL).grid is not None


def test_no_process_outlives_its_sandbox() -> None:
    before = set(psutil.Process().children(recursive=True))
    with Sandbox(num_processes=2) as sandbox:
        sandbox.run([Program(language="draw", text="pixel(1,0,0)")] * 50, [[GRID]] * 50)
        assert set(psutil.Process().children(recursive=True)) - before
    assert not {
        child for child in set(psutil.Process().children(recursive=True)) - before if child.is_running()
    }


def test_long_programs_stay_programs(sandbox: Sandbox) -> None:
    long = "x1 = increment(ONE)\n" + "".join(f"x{n + 1} = increment(x{n})\n" for n in range(1, 3000))
    given = outcome(sandbox, long + "O = I")
    assert given.grid is not None
    assert outcome(sandbox, "O = " + "rot90(" * 60 + "I" + ")" * 60).grid is not None
    nested = outcome(sandbox, "O = " + "rot90(" * 5000 + "I" + ")" * 5000)
    assert nested.grid is None


def test_the_draw_prelude_is_the_one_of_the_sandbox(sandbox: Sandbox) -> None:
    text = "box(3,0,0,3,2)\nflood(7,1,1)\nline(8,3,0,1,2)\nrect(1,0,5,9,29)"
    ran = sandbox.run([Program(language="draw", text=text)], [[GRID]])
    names: dict = {}
    exec(language("draw").prelude + language("draw").as_function(text), names)
    assert ran[0].outcomes[0].grid is not None
    assert ran[0].outcomes[0].grid.tolist() == names["transform"](GRID.tolist())
