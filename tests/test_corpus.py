"""Sources, their splits and their shares: what one holds out trains in none."""

import json
from pathlib import Path

import pytest

from arc_experiments.checking import ConfigError
from arc_experiments.composing import compose_config
from arc_experiments.config import Config, Data, Source
from arc_experiments.corpus import Corpus

MIX = ["data=mix", "data.sources.arc1.limit=20"]


def data_of(*overrides: str) -> Data:
    from arc_experiments.checking import check

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
            source={"_target_": "arc_experiments.tasks.JsonFiles", "path": str(tmp_path / name)},
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
    files = "arc_experiments.tasks.JsonFiles"
    sources = {
        "mine": Source(
            name="files", source={"_target_": files, "path": str(tmp_path / "mine")}, partition="official"
        ),
        "theirs": Source(
            name="files", source={"_target_": files, "path": str(tmp_path / "theirs")}, partition="none"
        ),
    }
    corpus = Corpus(Data(name="mix", sources=sources, weights={"mine": 1, "theirs": 1}), partition_seed=7)
    with pytest.raises(ValueError, match=r"data\.sources\.theirs: all of its tasks are held out"):
        _ = corpus.shares


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.weights.re_arc=0"], "data.weights.re_arc=0.0 is too small"),
        (["+data.weights.other=1"], "data.weights.other and data.sources.other must both be there"),
        (["data.partition=official"], "name source and partition there"),
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
