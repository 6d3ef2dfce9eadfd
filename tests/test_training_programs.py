"""Programs of training tasks: read from files, verified once, and listed with the reason where wrong."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quick_compose import compose
from task_files import read, write
from toy_models import make_base

from arc_experiments.corpus.corpus import Share
from arc_experiments.corpus.programs import wrong_programs
from arc_experiments.jobs.beginning import begin
from arc_experiments.programs.sandbox import Sandbox
from arc_experiments.run import Run
from arc_experiments.sources import Drawings, ReArc
from arc_experiments.tasks import BadTasks, FixedTasks, Program, TrainingSource

FLIP = "def transform(grid):\n    return grid[:, ::-1]  # mirrored"
WRONG = "def transform(grid):\n    return grid[::-1]"
CRASHING = "def transform(grid):\n    return grid[99]"


def task(first: int, **more: Any) -> dict[str, Any]:
    """Grids mirrored from left to right; another colour makes another task."""
    pairs = [
        {"input": [[first, colour], [colour, 0]], "output": [[colour, first], [0, colour]]}
        for colour in (5, 6, 7)
    ]
    return {"train": pairs[:2], "test": pairs[2:], **more}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "arc_experiments" / "programs"


def share_of(source: TrainingSource) -> Share:
    return Share(
        name="mine", source=source, task_ids=source.ids, weight=1.0, augmentation=None, prompt=None
    )  # fmt: skip


def no_sandbox() -> Sandbox:
    pytest.fail("a program was run")


# Files


def test_a_task_file_may_have_a_program_which_is_read_in_its_normal_form(tmp_path: Path) -> None:
    write(tmp_path, "a.json", task(1, program=FLIP))
    write(tmp_path, "b.json", task(2, program="O  = vmirror( I )", language="dsl"))
    write(tmp_path, "c.json", task(3))
    pool = {"train": [*task(4)["train"], *task(4)["test"]], "n_train": 2, "program": FLIP}
    write(tmp_path, "d.json", pool)
    source = read(tmp_path)
    found = {source.ids[n]: source.draw(n, np.random.default_rng(0)).program for n in range(4)}
    flip = found["a"]
    assert flip is not None
    assert flip == found["d"] == Program(language="python", text=flip.text)
    assert "mirrored" not in flip.text, "comments are no part of the normal form"
    assert found["b"] == Program(language="dsl", text="O = vmirror(I)")
    assert found["c"] is None
    assert [source.language(number) for number in range(4)] == ["python", "dsl", None, "python"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"program": "def transform(grid:"}, "task a, program: "),
        ({"program": FLIP, "language": "logo"}, "'logo' is no language of programs"),
        ({"program": 3}, "program and language must be texts"),
        ({"program": "nothing", "language": "draw"}, "task a, program: "),
    ],
)
def test_a_program_that_cannot_be_read_is_told_with_its_task(
    more: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    write(tmp_path, "a.json", task(1, **more))
    with pytest.raises(ValueError, match="on_bad_task=skip") as raised:
        read(tmp_path)
    assert reason in str(raised.value)


# Verification


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine" / "training"
    write(folder, "right.json", task(1, program=FLIP))
    write(folder, "right_too.json", task(2, program="O = vmirror(I)", language="dsl"))
    write(folder, "wrong.json", task(3, program=WRONG))
    write(folder, "crashing.json", task(4, program=CRASHING))
    write(tmp_path / "mine" / "evaluation", "held.json", task(8, program=FLIP))
    write(tmp_path / "mine" / "evaluation", "held_wrong.json", task(9, program=WRONG))
    return tmp_path / "mine"


def test_programs_that_do_not_solve_their_pairs_are_found_once(mine: Path, cache: Path) -> None:
    share = share_of(read(mine / "training"))
    with Sandbox(num_processes=2) as sandbox:
        wrong = wrong_programs(share, lambda: sandbox)
        assert wrong.keys() == {"wrong", "crashing"}
        assert wrong["wrong"] == "pair 0 (from 0): it gives 2 wrong cells"
        assert wrong["crashing"].startswith("pair 0 (from 0): raised: ")
        assert wrong_programs(share, no_sandbox) == wrong, "the second time, the cache says it"
        (file,) = cache.glob("*.json")
        assert json.loads(file.read_text()) == wrong
        changed = share_of(FixedTasks(share.source.fixed.select(["right", "wrong"])))
        assert wrong_programs(changed, lambda: sandbox).keys() == {"wrong"}
        assert wrong_programs(share, lambda: sandbox, "another library") == wrong
    assert len(list(cache.glob("*.json"))) == 3, "other tasks and other settings are other files"


def test_nothing_is_run_for_sources_that_make_pairs_with_the_program(cache: Path) -> None:
    for source in (Drawings(), ReArc().read(BadTasks())):
        assert wrong_programs(share_of(source), no_sandbox) == {}
    assert not cache.exists()


def composed(mine: Path, folder: Path, *overrides: str) -> Run:
    base = make_base(folder.parent / "base")
    return compose(
        [
            "data=files", f"data.path={mine}", "data.partition=official", "prompt=program_compact",
            f"model.path={base}", "model.name=toy", "model.lora=null", "+prompt.languages.python=P",
            "augmentation=none", "tracking=off", "hardware=cpu", "inference.limit=0", *overrides,
        ],
        folder,
    )  # fmt: skip


def test_tasks_with_wrong_programs_do_not_train_and_are_listed(
    mine: Path, cache: Path, tmp_path: Path
) -> None:
    run = composed(mine, tmp_path / "run")
    assert run.partition.train == ("right", "right_too")
    assert {task.id: task.program is not None for task in run.validation_tasks} == {
        "held": True,
        "held_wrong": False,
    }
    drawn = Counter(run.stream()[number].task.id for number in range(20))
    assert drawn == {"right": 10, "right_too": 10}
    begin(run)
    (listed,) = json.loads((tmp_path / "run" / "skipped_tasks.json").read_text()).values()
    assert [line.split(": ")[0] for line in listed] == ["task crashing", "task wrong", "task held_wrong"]
    assert all("its program is wrong" in line for line in listed)
    records, _ = run.validation_records
    assert [record.task_id for record in records] == ["held"]


def test_a_prompt_about_grids_runs_no_program(mine: Path, cache: Path, tmp_path: Path) -> None:
    run = composed(mine, tmp_path / "run", "prompt=compact")
    assert len(run.partition.train) == 4
    assert not cache.exists()


def test_tasks_without_a_program_are_counted_and_the_remedy_works(
    mine: Path, cache: Path, tmp_path: Path
) -> None:
    write(mine / "training", "plain.json", task(5))
    with pytest.raises(ValueError, match=r"1 of 3 training tasks of files have none.*output_from_examples=1"):
        composed(mine, tmp_path / "alone").stream()
    both = composed(mine, tmp_path / "both", "prompt.kinds.output_from_examples=1")
    stream = both.stream()
    kinds = Counter((stream[n].task.id == "plain", stream[n].kind) for n in range(60))
    assert kinds[True, "output_from_examples"] == 20
    assert kinds[False, "output_from_examples"] + kinds[False, "program_from_examples"] == 40
    assert min(kinds.values()) >= 10
    with pytest.raises(
        ValueError, match=r"prompt\.language=draw, but the programs of files are in dsl, python"
    ):
        composed(mine, tmp_path / "c", "prompt.kinds.output_from_examples=1", "prompt.language=draw").stream()


def test_a_language_that_the_data_has_alone_is_asked_for_at_inference(cache: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    options = ["data=re_arc", "prompt=program", f"model.path={base}", "model.name=toy", "data.limit=3"]
    run = compose([*options, "augmentation=none", "tracking=off", "prompt.max_length=8192"], tmp_path / "run")
    assert run.corpus.languages == ("dsl",)
    assert run.prompt.language == "dsl"
    assert not run.can_validate, "ARC's evaluation tasks have no program"


def test_the_data_hash_depends_on_programs(mine: Path, cache: Path) -> None:
    one = read(mine / "training").fixed
    write(mine / "training", "right.json", task(1, program=FLIP.replace("grid[:, ::-1]", "np.fliplr(grid)")))
    assert read(mine / "training").fixed.hash() != one.hash()
