"""RE-ARC: generated in the stream, kept in a cache, or read from the published archive."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError
from arc_experiments.sources import Arckit, ReArc
from arc_experiments.sources import re_arc as re_arc_module
from arc_experiments.sources.pools import generated_store as generated_store_module
from arc_experiments.sources.pools import generators as generators_module
from arc_experiments.sources.pools.generated_store import generated_store, task_pairs
from arc_experiments.sources.pools.generators import GeneratedTasks, Recipe, follows_rule
from arc_experiments.sources.pools.pair_store import CELLS, HEADER, INDEX, PairStore
from arc_experiments.sources.pools.pooled import PooledTasks
from arc_experiments.tasks import BadTasks, Pair, Task, TaskSet, TrainingSource
from arc_experiments.tasks.grids import check_grid
from arc_experiments.tasks.rngs import rng_for


def digest(*tasks: Task) -> str:
    return TaskSet(tasks).hash()


def check_pair(pair: Pair) -> None:
    assert pair.output is not None
    assert np.array_equal(check_grid(pair.input), pair.input)
    assert np.array_equal(check_grid(pair.output), pair.output)
    assert not np.array_equal(pair.input, pair.output)


def check_drawn(task: Task) -> None:
    pairs = [*task.train, *task.test]
    assert 3 <= len(task.train) <= 5
    assert len(task.test) == 1
    for pair in pairs:
        check_pair(pair)
    assert len({(pair.input.shape, pair.input.tobytes()) for pair in pairs}) == len(pairs), "no input twice"


# In the stream


@pytest.fixture(scope="module")
def re_arc() -> TrainingSource:
    pytest.importorskip("reasoning_gym", reason="the extra re-arc is not installed")
    return ReArc().read(BadTasks())


def test_re_arc_has_the_arc_1_training_tasks(re_arc: TrainingSource) -> None:
    arc1 = Arckit().read(BadTasks()).fixed
    assert list(re_arc.ids) == [task.id for task in arc1 if task.split == "training"]
    assert len(re_arc.fixed) == 0
    assert list(re_arc.pairs(0)) == []


@pytest.mark.slow
def test_re_arc_tasks_are_valid_and_depend_on_the_rng_alone(re_arc: TrainingSource) -> None:
    global_state = np.random.get_state()[1].tolist()  # type: ignore[index]
    for number in range(0, 400, 13):
        random.seed(number)
        task = re_arc.draw(number, rng_for("test", 1, number))
        check_drawn(task)
        assert task.id == re_arc.ids[number]
        random.seed(-1)
        assert digest(re_arc.draw(number, rng_for("test", 1, number))) == digest(task)
        assert digest(re_arc.draw(number, rng_for("test", 2, number))) != digest(task)
    assert np.random.get_state()[1].tolist() == global_state  # type: ignore[index]


def test_re_arc_does_not_remember_earlier_draws(re_arc: TrainingSource) -> None:
    first = digest(re_arc.draw(5, rng_for("test", 1)))
    re_arc.draw(6, rng_for("test", 2))
    assert digest(re_arc.draw(5, rng_for("test", 1))) == first
    assert digest(ReArc().read(BadTasks()).draw(5, rng_for("test", 1))) == first


@pytest.mark.slow
def test_every_generator_gives_verified_pairs_over_20_seeds(re_arc: TrainingSource) -> None:
    for task_id in re_arc.ids:
        seen: set[bytes] = set()
        for seed in range(20):
            pair = Recipe().next_pair(task_id, rng_for("test", seed, task_id), seen, Counter(), max_tries=100)
            assert pair is not None
            check_pair(pair)
            assert follows_rule(task_id, pair)
        assert len(seen) == 20


def test_the_number_of_demonstrations_can_be_chosen(re_arc: TrainingSource) -> None:
    task = ReArc(num_demonstrations=[7, 7]).read(BadTasks()).draw(0, rng_for("test", 1))
    assert len(task.train) == 7


def test_tasks_can_be_left_out(re_arc: TrainingSource) -> None:
    left_out = [re_arc.ids[0], re_arc.ids[7]]
    source = ReArc(leave_out=left_out).read(BadTasks())
    assert source.ids == tuple(task_id for task_id in re_arc.ids if task_id not in left_out)
    assert source.draw(0, rng_for("test", 1)).id == re_arc.ids[1]
    with pytest.raises(ValueError, match="leave_out names mine, which is not among 400 tasks"):
        ReArc(leave_out=["mine"]).read(BadTasks())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"difficulty": [0.5]}, "difficulty=.* is not"),
        ({"difficulty": [0.6, 0.5]}, "difficulty=.* is not"),
        ({"difficulty": [-0.1, 1]}, "difficulty=.* is not"),
        ({"difficulty": [0, 1.1]}, "difficulty=.* is not"),
        ({"num_demonstrations": [0, 2]}, "num_demonstrations=.* is not"),
        ({"num_demonstrations": [3, 2]}, "num_demonstrations=.* is not"),
        ({"num_demonstrations": [3]}, "num_demonstrations=.* is not"),
        ({"max_side": 31, "cache_pairs": 10}, "max_side=31 is not 1 to 30"),
        ({"seed": 3}, r"seed=3 needs cache_pairs: .* seeds\.stream"),
        ({"cache_pairs": 5}, "cache_pairs=5 is fewer than a visit may show: at least 6"),
        ({"path": "x", "cache_pairs": 10}, "cache_pairs=10 is for generated pairs"),
        ({"path": "x", "difficulty": [0, 0.5]}, "difficulty=.* is for generated pairs"),
        ({"path": "x", "seed": 1}, "seed=1 is for generated pairs"),
        ({"path": "x", "max_tries": 5}, "max_tries=5 is for generated pairs"),
        ({"max_tries": 5}, "max_tries=5 needs cache_pairs"),
        ({"max_tries": 0, "cache_pairs": 10}, "max_tries=0 is not at least 1"),
    ],
)
def test_options_that_are_wrong_or_would_not_be_read_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ReArc(**options)


def test_a_wrong_option_is_told_with_its_key_when_it_is_typed() -> None:
    with pytest.raises(ConfigError, match=r"data\.source: max_side=0 is not 1 to 30"):
        compose_config(["data=re_arc", "data.source.max_side=0"])
    assert compose_config(["data=re_arc", "data.source.cache_pairs=20"]).data.source.cache_pairs == 20


def test_without_reasoning_gym_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    generators_module.generators.cache_clear()
    for name in ["reasoning_gym", *[name for name in sys.modules if name.startswith("reasoning_gym.")]]:
        monkeypatch.setitem(sys.modules, name, None)
    for options in ({}, {"cache_pairs": 10}):
        with pytest.raises(ValueError, match="data=re_arc needs reasoning-gym") as raised:
            ReArc(**options).read(BadTasks())  # type: ignore[arg-type]
        assert "pip install" in str(raised.value)
    extra = str(raised.value).partition("arc_experiments[")[2].partition("]")[0]
    pyproject = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\n{extra} = [" in pyproject, "the extra that is named exists"


# What a generator may give


Made = dict[str, list[list[int]]]


def toy_generator(rng: random.Random, low: float, high: float) -> Made:
    """Pairs with an input of their own."""
    side = rng.randint(2, 12)
    cells = [[rng.randint(0, 9) for _ in range(side)] for _ in range(side)]
    return {"input": cells, "output": [[cells[0][0]]]}


def use_generators(monkeypatch: pytest.MonkeyPatch, **toys: Callable[..., Made]) -> None:
    for module in (generators_module, generated_store_module):
        monkeypatch.setattr(module, "generators", lambda: toys)
    monkeypatch.setattr(re_arc_module, "generators", lambda: toys)
    monkeypatch.setattr(generators_module, "follows_rule", lambda task_id, pair: True)
    monkeypatch.setattr(
        generated_store_module.os, "sched_getaffinity", lambda _: {0}
    )  # toys are not in other processes
    monkeypatch.setattr(generated_store_module, "package_version", lambda: "toy")


BAD: dict[str, Made | None] = {
    "error": None,
    "bad cells": {"input": [[1, -1]], "output": [[2]]},
    "oversize": {"input": [[1, 2]], "output": [[3] * 31]},
    "unchanged": {"input": [[1, 2]], "output": [[1, 2]]},
    "constant": {"input": [[1, 1]], "output": [[2]]},
}


def test_what_is_no_good_is_drawn_again_and_counted_by_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = {"input": [[1, 2]], "output": [[3]]}, {"input": [[1], [1]], "output": [[3, 4]]}
    made = iter([*BAD.values(), {"input": [[1, 2], [3]], "output": [[1]]}, first, first, second])

    def generate(rng: random.Random, low: float, high: float) -> Made:
        pair = next(made)
        if pair is None:
            raise IndexError
        return pair

    use_generators(monkeypatch, toy=generate)
    refused: Counter[str] = Counter()
    seen: set[bytes] = set()
    pairs = [Recipe().next_pair("toy", rng_for("test", 1), seen, refused) for _ in range(2)]
    assert [pair.input.tolist() for pair in pairs if pair] == [[[1, 2]], [[1], [1]]]
    assert refused == {**dict.fromkeys(BAD, 1), "bad cells": 2, "duplicate": 1}


def test_a_pair_that_the_verifier_of_its_task_rejects_is_redrawn_and_counted(re_arc: TrainingSource) -> None:
    """About half of what this generator makes breaks its rule."""
    refused: Counter[str] = Counter()
    seen: set[bytes] = set()
    for number in range(8):
        pair = Recipe().next_pair("484b58aa", rng_for("test", number), seen, refused)
        assert pair is not None
        assert pair.output is not None
        assert follows_rule("484b58aa", pair)
        broken = pair.output.copy()
        broken[0, 0] = (broken[0, 0] + 1) % 10
        assert not follows_rule("484b58aa", Pair(input=pair.input, output=broken))
    assert refused["unverified"] >= 1


def test_a_pair_that_its_verifier_cannot_read_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(cells: object) -> object:
        raise ValueError

    monkeypatch.setattr(generators_module, "verifier", lambda task_id: fails)
    pair = Pair(input=check_grid([[1]]), output=check_grid([[2]]))
    assert not follows_rule("toy", pair)


def test_a_task_says_how_many_pairs_were_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    use_generators(
        monkeypatch,
        toy=lambda *_: toy_generator(*_) if _[0].random() < 0.5 else {"input": [[]], "output": []},
    )
    source = GeneratedTasks(recipe=Recipe(), num_demonstrations=(5, 5), ids=("toy",))
    numbers = [source.draw(0, rng_for("test", n)).refused.total() for n in range(50)]
    assert 3 < np.mean(numbers) < 9, "as many as are kept"


def test_a_generator_without_so_many_pairs_is_told_with_its_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    use_generators(monkeypatch, toy=lambda *_: {"input": [[1, 2]], "output": [[1]]})
    with pytest.raises(
        ValueError, match=r"task toy made only 1 different pair .*10000 duplicate.*leave_out=\[toy\]"
    ):
        GeneratedTasks(recipe=Recipe(), num_demonstrations=(3, 5), ids=("toy",)).draw(0, rng_for("test", 1))


# The cache


def make(
    folder: Path, *, num_pairs: int = 8, seed: int = 0, recipe: Recipe | None = None, processes: int = 1
) -> PairStore:
    return generated_store(
        recipe or Recipe(), num_pairs=num_pairs, seed=seed, cache_dir=str(folder), num_processes=processes
    )


def bytes_of(store: PairStore) -> list[bytes]:
    return [(store.path / name).read_bytes() for name in (HEADER, INDEX, CELLS)]


def inputs_of(store: PairStore) -> list[bytes]:
    return [store.pair(number).input.tobytes() for number in range(len(store))]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    use_generators(monkeypatch, a=toy_generator, b=toy_generator, c=toy_generator)


@pytest.mark.usefixtures("toys")
def test_a_kept_pair_is_a_function_of_seed_task_and_number(tmp_path: Path) -> None:
    of_seed = {seed: inputs_of(make(tmp_path, seed=seed)) for seed in range(4)}
    everything = [cells for inputs in of_seed.values() for cells in inputs]
    assert len(set(everything)) == 4 * 3 * 8, "no pair is another seed's, task's or neighbour's"
    assert inputs_of(make(tmp_path / "elsewhere", seed=3)) == of_seed[3]


@pytest.mark.usefixtures("toys")
def test_a_larger_cache_begins_with_the_smaller_one(tmp_path: Path) -> None:
    small, large = make(tmp_path, num_pairs=6), make(tmp_path, num_pairs=11)
    assert inputs_of(small)[6:12] == inputs_of(large)[11:17]


@pytest.mark.usefixtures("toys")
def test_a_cache_is_kept_by_all_that_it_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [
        make(tmp_path).path,
        make(tmp_path, num_pairs=9).path,
        make(tmp_path, seed=1).path,
        make(tmp_path, recipe=Recipe(difficulty=(0, 0.5))).path,
        make(tmp_path, recipe=Recipe(max_side=10)).path,
    ]
    assert make(tmp_path).path == paths[0]
    monkeypatch.setattr(generated_store_module, "package_version", lambda: "another")
    paths.append(make(tmp_path).path)
    assert len(set(paths)) == 6


def test_the_cache_notes_what_was_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_generators(monkeypatch, few=lambda rng, *_: {"input": [[rng.randint(1, 7), 0]], "output": [[1]]})
    store = make(tmp_path, num_pairs=8)
    assert len(store) == 7, "as many as there are"
    assert store.notes["redrawn"]["duplicate"] >= 100


@pytest.mark.usefixtures("toys")
def test_the_making_is_told_and_a_start_from_the_cache_is_silent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    assert "making RE-ARC pairs: 24 in" in capsys.readouterr().err
    make(tmp_path)
    assert capsys.readouterr() == ("", "")


def test_with_max_side_only_small_pairs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = {"input": [[1, 2] * 6], "output": [[1]]}
    use_generators(monkeypatch, a=toy_generator, b=lambda *_: large)
    bad_tasks = BadTasks()
    options = {"cache_pairs": 10, "cache_dir": str(tmp_path), "max_side": 5}
    source = ReArc(**options).read(bad_tasks)  # type: ignore[arg-type]
    assert isinstance(source, PooledTasks)
    assert source.ids == ("a",)
    assert len(source.store) == 10
    assert source.store.sides.max() <= 5
    assert list(source.pairs(0)) == [], "generated pairs stand in no other set, and are not looked through"
    assert bad_tasks.notes == [
        "1 of 2 tasks has fewer than 4 pairs of at most 5 cells a side and is never drawn: b",
        "1 of 2 tasks has fewer than 10 different pairs; 10 pairs stored in total",
    ]
    bad_tasks = BadTasks()
    assert ReArc(**options, leave_out=["b"]).read(bad_tasks).ids == ("a",)  # type: ignore[arg-type]
    assert len(bad_tasks.notes) == 1


def test_a_generator_is_given_up_after_max_tries_for_a_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = itertools.count()

    def seldom(rng: Any, *difficulty: float) -> dict[str, Any]:
        made = toy_generator(rng, *difficulty)
        return made if next(drawn) % 8 == 7 else {"input": made["input"], "output": made["input"]}

    for max_tries, num_pairs in ((8, 10), (7, 0)):
        use_generators(monkeypatch, a=toy_generator, b=seldom)
        cache = tmp_path / str(max_tries)
        source = ReArc(cache_pairs=10, max_tries=max_tries, cache_dir=str(cache)).read(BadTasks())
        assert isinstance(source, PooledTasks)
        assert len(source.store) == 10 + num_pairs


def test_in_the_stream_tasks_without_small_pairs_are_found_out_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {"input": [[1, 2] * 6], "output": [[1]]}
    few = {"input": [[1, 2]], "output": [[1]]}
    use_generators(monkeypatch, a=toy_generator, b=lambda *_: large, c=lambda *_: few)
    bad_tasks = BadTasks()
    source = ReArc(max_side=5, cache_dir=str(tmp_path)).read(bad_tasks)
    assert source.ids == ("a",)
    for visit in range(50):
        task = source.draw(0, rng_for("test", visit))
        check_drawn(task)
        assert max(max(pair.input.shape) for pair in (*task.train, *task.test)) <= 5
    assert bad_tasks.notes == [
        "2 of 3 tasks have fewer than 6 pairs of at most 5 cells a side and are never drawn: b, c"
    ]


@pytest.mark.slow
def test_at_low_difficulties_every_task_that_is_left_can_be_drawn(tmp_path: Path) -> None:
    bad_tasks = BadTasks()
    source = ReArc(difficulty=[0, 0], cache_dir=str(tmp_path)).read(bad_tasks)
    assert 200 < len(source.ids) < 400
    assert len(bad_tasks.notes) == 1
    for number in range(len(source.ids)):
        check_drawn(source.draw(number, rng_for("test", number)))


@pytest.mark.slow
def test_the_cache_is_the_same_made_by_one_process_and_by_two(
    re_arc: TrainingSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {task_id: generators_module.generators()[task_id] for task_id in re_arc.ids[::20]}
    monkeypatch.setattr(generated_store_module, "generators", lambda: some)
    one, two = (make(tmp_path / str(number), processes=number) for number in (1, 2))
    assert bytes_of(one) == bytes_of(two)
    assert two.ids == tuple(some)
    assert two.pair(8 * 7).input.tobytes() == task_input(two.ids[7])


def task_input(task_id: str) -> bytes:
    (sides, cells), _ = task_pairs(task_id, Recipe(), 1, 0, 1)
    return cells[: int(sides[0, 0]) * int(sides[0, 1])].tobytes()


MAKER = """
import signal, sys
from pathlib import Path
from arc_experiments.sources.pools.generators import Recipe
from arc_experiments.sources.pools.generated_store import generated_store
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts beside itself ignores it
    generated_store(Recipe(), num_pairs=1000, seed=0, cache_dir=sys.argv[1], num_processes=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_with_the_process_that_makes_a_cache_its_helpers_end(
    number: signal.Signals, re_arc: TrainingSource, tmp_path: Path
) -> None:
    script = tmp_path / "maker.py"
    script.write_text(MAKER)
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, str(script), str(tmp_path / "cache")]
    maker = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    helpers: list[str] = []
    end = time.monotonic() + 120  # others may be using this machine
    try:
        while not any((tmp_path / "cache").glob(f"*.unfinished/{CELLS}")) or len(helpers) < 3:
            assert time.monotonic() < end
            helpers = children(maker.pid)
            time.sleep(0.1)
        maker.send_signal(number)
        maker.wait(timeout=30)
    finally:
        maker.kill()
    while any(Path(f"/proc/{helper}").exists() for helper in helpers):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix == ""]


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


# The archive


def toy_pairs(number: int) -> list[Made]:
    rng = random.Random(number)
    return [toy_generator(rng, 0, 1) for _ in range(10)]


TOYS = {f"{number:08x}": toy_pairs(number) for number in range(3)}


def write_folder(folder: Path, tasks: dict[str, Any] = TOYS) -> Path:
    (folder / "tasks").mkdir(parents=True)
    for task_id, pairs in tasks.items():
        text = pairs if isinstance(pairs, str) else json.dumps(pairs)
        (folder / "tasks" / f"{task_id}.json").write_text(text)
    (folder / "metadata.json").write_text(json.dumps({task_id: [] for task_id in tasks}))
    return folder


def write_zip(path: Path, tasks: dict[str, Any] = TOYS) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("re_arc/metadata.json", "{}")
        for task_id, pairs in tasks.items():
            archive.writestr(f"re_arc/tasks/{task_id}.json", json.dumps(pairs))
    return path


def read(path: Path, bad_tasks: BadTasks | None = None, **options: Any) -> TrainingSource:
    cache = path.parent / "cache"
    return ReArc(path=str(path), cache_dir=str(cache), **options).read(bad_tasks or BadTasks())


def shown(pair: Pair) -> Made:
    assert pair.output is not None
    return {"input": pair.input.tolist(), "output": pair.output.tolist()}


FORMS: dict[str, Callable[[Path], Path]] = {
    "a folder": lambda folder: write_folder(folder / "re_arc"),
    "a folder around it": lambda folder: write_folder(folder / "data" / "re_arc").parent,
    "its tasks": lambda folder: write_folder(folder / "re_arc") / "tasks",
    "a zip": lambda folder: write_zip(folder / "re_arc.zip"),
    "a zip of another name": lambda folder: write_zip(folder / "download"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_the_archive_is_read_whole_in_each_form(form: Callable[[Path], Path], tmp_path: Path) -> None:
    source = read(form(tmp_path))
    assert source.ids == tuple(TOYS)
    assert [[shown(pair) for pair in source.pairs(n)] for n in range(3)] == list(TOYS.values())
    task = source.draw(1, rng_for("test", 1))
    assert (task.id, task.split) == ("00000001", "re_arc")
    check_drawn(task)


def test_an_archive_is_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "re_arc")
    first = read(folder)
    stores = set((tmp_path / "cache").glob("*/"))
    assert digest(read(folder).draw(0, rng_for("test", 1))) == digest(first.draw(0, rng_for("test", 1)))
    assert set((tmp_path / "cache").glob("*/")) == stores
    (folder / "tasks" / "00000000.json").write_text(json.dumps(toy_pairs(9)))
    assert [shown(pair) for pair in read(folder).pairs(0)] == toy_pairs(9)


def test_of_an_archive_small_grids_can_be_drawn_alone(tmp_path: Path) -> None:
    source = read(write_folder(tmp_path / "re_arc"), max_side=9, num_demonstrations=[1, 5])
    kept = [shown(pair) for pair in source.pairs(0)]
    assert kept == [pair for pair in TOYS["00000000"] if len(pair["input"]) <= 9]


def test_pairs_that_stand_twice_are_taken_once_and_noted(tmp_path: Path) -> None:
    again = TOYS["00000000"][0]
    bad_tasks = BadTasks()
    source = read(write_zip(tmp_path / "a.zip", {"a": [*TOYS["00000000"], again]}), bad_tasks)
    assert len(list(source.pairs(0))) == 10
    assert bad_tasks.notes == ["1 repeated pairs of a task are dropped"]


# Bad archives


BAD_ITEMS: list[tuple[Any, str]] = [
    ({"input": [[1, 2], [3]], "output": [[1]]}, "input: its rows have different lengths"),
    ({"input": [[1]], "output": [[10]]}, "output: it has the cell 10, not 0 to 9"),
    ({"input": [[1]], "output": []}, "output: it is not a table of rows and columns"),
    ({"input": [[0] * 31], "output": [[1]]}, "input: it is 1x31, over 30 a side"),
    ({"input": [[1]]}, "has no output"),
    ({"output": [[1]]}, "has no input"),
    ([[1]], "has no input"),
    (None, "has no input"),
]


@pytest.mark.parametrize(("item", "reason"), BAD_ITEMS, ids=[reason for _, reason in BAD_ITEMS])
def test_a_bad_pair_is_refused_or_left_out_alone(item: Any, reason: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {**TOYS, "bad": [*toy_pairs(7), item, *toy_pairs(8)]})
    with pytest.raises(ValueError, match="on_bad_task=skip") as raised:
        read(path)
    message = f"{path}/re_arc/tasks/bad.json: task bad, pair 10"
    assert message in str(raised.value)
    assert reason in str(raised.value)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").glob("*[0-9a-f]"))
    for start in ("first", "cached"):
        bad_tasks = BadTasks(skip=True)
        source = read(path, bad_tasks)
        assert len(list(source.pairs(3))) == 20, start
        assert len(bad_tasks.skipped) == 1, start
        assert message in bad_tasks.skipped[0]
    with pytest.raises(ValueError, match="task bad, pair 10"):
        read(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "not JSON in UTF-8"),
        ("", "not JSON in UTF-8"),
        ("[" * 100_000, "not JSON in UTF-8"),
        ("{}", "not a list of pairs"),
        ("[]", "not a list of pairs"),
    ],
)
def test_a_bad_task_file_is_refused_or_left_out(text: str, reason: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "re_arc", {**TOYS, "bad": text})
    with pytest.raises(ValueError, match=rf"tasks/bad\.json: {reason}"):
        read(folder)
    bad_tasks = BadTasks(skip=True)
    assert read(folder, bad_tasks).ids == tuple(TOYS)
    assert len(bad_tasks.skipped) == 1


def test_a_task_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "re_arc")
    (folder / "tasks" / "bad.json").write_bytes('[{"author": "Zoë"}]'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"bad\.json: not JSON in UTF-8"):
        read(folder)


def test_a_folder_without_task_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metadata.json").write_text("{}")
    with pytest.raises(ValueError, match=r"data\.path=.*/empty: it has no tasks/<id>\.json"):
        read(tmp_path / "empty")


def test_two_files_for_one_task_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "both" / "one")
    write_folder(tmp_path / "both" / "two")
    with pytest.raises(
        ValueError, match=r"data\.path=.*/both: task ids must be unique, found twice: 00000000"
    ):
        read(tmp_path / "both")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_torn_zip_is_told_in_one_message(kept: float, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "re_arc.zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match=r"data\.path=.*re_arc\.zip: not a whole zip archive"):
        read(path)


def test_a_member_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "re_arc.zip")
    data = bytearray(path.read_bytes())
    place = data.index(b"tasks/00000001.json") + 60
    data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"tasks/00000001\.json: cannot be read"):
        read(path)


@pytest.mark.parametrize("name", ["../tasks/a.json", "/tasks/a.json", "x/../../a.json", "..\\a.json"])
def test_names_that_lead_out_of_a_zip_are_refused(name: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "re_arc.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, json.dumps(toy_pairs(1)))
    with pytest.raises(ValueError, match="is a path outside the archive"):
        read(path, BadTasks(skip=True))


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "re_arc.zip")
    link = zipfile.ZipInfo("re_arc/tasks/link.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"re_arc/tasks/link\.json is a link"):
        read(path, BadTasks(skip=True))


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arc_experiments.sources.archive.MAX_BYTES", 100_000)
    path = write_zip(tmp_path / "re_arc.zip", {**TOYS, "large": toy_pairs(0) * 100})
    with pytest.raises(ValueError, match=r"large\.json: .* is too large for one file of tasks"):
        read(path)


def test_the_command_reads_an_archive(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "re_arc.zip")
    config = compose_config(["data=re_arc", f"data.path={path}", f"data.source.cache_dir={tmp_path}"])
    assert config.data.source.path == str(path)
    with pytest.raises(ConfigError, match=r"data\.path=.*missing\.zip does not exist"):
        compose_config(["data=re_arc", f"data.path={tmp_path}/missing.zip"])
