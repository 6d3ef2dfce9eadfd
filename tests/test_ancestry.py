"""What weights were trained on travels with them, and is known again by content and by id."""

import json
from pathlib import Path

import pytest
import torch

from arc_experiments import compose
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import check
from arc_experiments.config.paths import local_path
from arc_experiments.corpus.corpus import Corpus
from arc_experiments.corpus.leaks import keys_to_keep
from arc_experiments.models import weights
from arc_experiments.models.ancestry import Ancestry, read_ancestry
from arc_experiments.models.known_weights import known_ancestry
from arc_experiments.models.weights import Weights, fingerprint
from arc_experiments.runs.folder import RunFolder
from arc_experiments.tasks import TaskSet


def corpus(*overrides: str, partition: int = 7) -> Corpus:
    return Corpus(check(compose_config(list(overrides))).data, partition_seed=partition)


def trained_on(corpus: Corpus) -> Ancestry:
    pairs, by_id = keys_to_keep(corpus.shares)
    return Ancestry(
        base="b", dtype="float32", prompt={}, trained_on=corpus.partition.train, pairs=pairs, by_id=by_id
    )


@pytest.fixture(scope="module")
def arc1() -> Corpus:
    return corpus()


def test_it_is_read_as_it_was_saved_and_always_the_same_bytes(arc1: Corpus, tmp_path: Path) -> None:
    ancestry = trained_on(arc1)
    ancestry.save(tmp_path)
    written = (tmp_path / "ancestry.json").read_bytes()
    assert len(written) < 60_000
    again = read_ancestry(tmp_path)
    assert again == ancestry
    assert again is not None
    again.save(tmp_path)
    assert (tmp_path / "ancestry.json").read_bytes() == written
    assert len(ancestry.pairs) > 2500


def test_an_adapter_of_partition_8_has_been_trained_on_most_of_partition_7(arc1: Corpus) -> None:
    other = corpus(partition=8)
    shared = set(other.partition.train) & set(arc1.partition.validation)
    leaks = trained_on(other).leaks(arc1.validation_tasks)
    assert {leak.task.id for leak in leaks.leaks if leak.extent == "whole"} == shared
    assert len(shared) > 60
    assert trained_on(arc1).leaks(arc1.validation_tasks).leaks == (), "its own are held out"


def test_an_adapter_of_arc_agi_2_has_been_trained_on_arc_agi_1_whatever_the_ids(arc1: Corpus) -> None:
    ancestry = trained_on(corpus("data=arc2"))
    nameless = Ancestry(base="b", dtype="float32", prompt={}, trained_on=("x",), pairs=ancestry.pairs)
    counts = nameless.leaks(arc1.validation_tasks).counts
    assert (counts["leaks"], counts["whole"], counts["answers"]) == (91, 90, 91)


def test_an_adapter_of_re_arc_has_been_trained_on_the_training_tasks_by_their_ids(arc1: Corpus) -> None:
    ancestry = trained_on(corpus("data=re_arc"))
    assert (ancestry.pairs, len(ancestry.by_id)) == (frozenset(), 400)
    training = TaskSet(task for task in arc1.shares[0].source.fixed if task.split == "training")
    counts = ancestry.leaks(training).counts
    assert (counts["by_id"], counts["whole"]) == (400, 0)
    assert ancestry.leaks(arc1.validation_tasks).leaks == ()


def test_one_saved_before_there_were_keys_is_known_by_ids_alone(arc1: Corpus, tmp_path: Path) -> None:
    first, second = arc1.partition.validation[:2]
    old = {"base": "b", "dtype": "float32", "prompt": {}, "trained_on": ["a", first]}
    (tmp_path / "ancestry.json").write_text(json.dumps(old))
    ancestry = read_ancestry(tmp_path)
    assert ancestry is not None
    leaks = ancestry.leaks(arc1.validation_tasks.select([first, second]))
    assert [(leak.task.id, leak.extent) for leak in leaks.leaks] == [(first, "id")]


def test_one_saved_before_there_were_frames_has_the_prompt_of_today(tmp_path: Path) -> None:
    today = check(compose_config(["prompt=arc24"])).prompt
    look = {"grid": dict(today.grid), "system": today.system}
    of_then = {**look["grid"]}
    del of_then["frames"], of_then["fill"]
    old = {"base": "b", "dtype": "float32", "prompt": {**look, "grid": of_then}, "trained_on": []}
    (tmp_path / "ancestry.json").write_text(json.dumps(old))
    ancestry = read_ancestry(tmp_path)
    assert ancestry is not None
    assert ancestry.differing_options(look) == []


def test_a_base_whose_weights_have_changed_is_told_by_its_fingerprint() -> None:
    ancestry = Ancestry(base="models/b", dtype="float32", prompt={}, trained_on=(), base_fingerprint="a" * 16)

    def conflicts(**use: str) -> list[str]:
        return ancestry.conflicts(dtype="float32", vocabulary="full", prompt={}, **use)

    assert conflicts(base="elsewhere/b", base_fingerprint="a" * 16) == []
    assert conflicts(base="elsewhere/b") == [], "a hub's, of which no file is at hand"
    (line,) = conflicts(base="elsewhere/b", base_fingerprint="c" * 16)
    assert line == "model.path: the weights of elsewhere/b are not those that the adapter was trained on"


def test_an_adapter_knows_the_weights_that_it_was_trained_on(tmp_path: Path) -> None:
    run = compose(["experiment=smoke", "tracking=off"], tmp_path)
    ancestry = Weights(run.config, run.folder).ancestry(dtype=torch.float32, shares=[])
    assert ancestry.base_fingerprint == fingerprint(Path(local_path("package:tiny"))) != ""
    drawn = compose(["experiment=smoke", "tracking=off", "model.weights=random"], tmp_path / "drawn")
    assert Weights(drawn.config, drawn.folder).ancestry(dtype=torch.float32, shares=[]).base_fingerprint == ""


def test_what_the_parent_was_trained_on_counts_too(arc1: Corpus) -> None:
    parent = trained_on(corpus("data=arc2", "data.limit=20"))
    child = trained_on(arc1).with_parent(parent)
    assert child.pairs == trained_on(arc1).pairs | parent.pairs
    assert set(child.trained_on) == {*arc1.partition.train, *parent.trained_on}
    assert child.with_parent(None) == child


def test_another_task_of_the_same_name_is_no_leak_where_the_pairs_are_known(arc1: Corpus) -> None:
    task_id = arc1.partition.validation[0]
    ancestry = Ancestry(
        base="b", dtype="float32", prompt={}, trained_on=(task_id,), pairs=frozenset([b"8 bytes."])
    )
    assert ancestry.leaks(arc1.validation_tasks).leaks == ()


def test_demonstrations_trained_on_by_design_are_no_leak_to_their_own_task(arc1: Corpus) -> None:
    combined = corpus("data.validation_tasks=leave_out")
    assert combined.leaks.leaks == ()
    assert trained_on(combined).leaks(arc1.validation_tasks).leaks == ()
    unnamed = Ancestry(
        base="b", dtype="float32", prompt={}, trained_on=("x",), pairs=trained_on(combined).pairs
    )
    counts = unnamed.leaks(arc1.validation_tasks).counts
    assert (counts["leaks"], counts["demonstrations_only"]) == (100, 99), (
        "3979b1a8 asks for what it has shown"
    )


def test_a_model_of_the_package_takes_any_prompt_and_another_model_its_own_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Ancestry(base="package:tiny", dtype="bfloat16", prompt={"question": "?"}, trained_on=("a",))
    monkeypatch.setattr(weights, "read_ancestry", lambda folder: own)
    of_package = Weights(check(compose_config(["model.path=package:tiny"])), RunFolder(tmp_path))
    assert of_package.parent == own, "what it was trained on counts"
    of_package.check_ancestry(dtype=torch.float32)
    note = of_package.prompt_note()
    assert note is not None
    assert "package:tiny was trained with another prompt" in note
    assert "prompt.question" in note
    of_folder = Weights(
        check(compose_config([f"model.path={tmp_path}", "model.name=mine"])), RunFolder(tmp_path)
    )
    with pytest.raises(ValueError, match=r"prompt\.question: trained with '\?'"):
        of_folder.check_ancestry(dtype=torch.float32)


def test_random_weights_have_no_past_although_the_folder_holds_others(tmp_path: Path) -> None:
    shipped, untrained = (
        Weights(check(compose_config([f"model.weights={weights}"])), RunFolder(tmp_path))
        for weights in ("pretrained", "random")
    )
    assert shipped.source == untrained.source
    assert shipped.parent is not None
    assert untrained.parent is None
    assert (len(shipped.fingerprint), untrained.fingerprint) == (16, "")


def test_the_packages_model_names_the_prompt_that_it_was_trained_with(tmp_path: Path) -> None:
    def note(*overrides: str) -> str | None:
        return Weights(check(compose_config(list(overrides))), RunFolder(tmp_path)).prompt_note()

    assert note() is None
    assert "prompt.grid" in (note("prompt=compact") or "")
    assert note("prompt=compact", "model.weights=random") is None


NVARC = "sorokin/qwen3_4b_grids15_sft139"


@pytest.mark.parametrize(
    "path", [NVARC, f"/kaggle/input/models/{NVARC}/transformers/bfloat16/1", NVARC.upper()]
)
def test_public_weights_are_known_by_their_name_to_have_seen_the_evaluation_tasks(path: str) -> None:
    ancestry = known_ancestry(path)
    assert ancestry is not None
    evaluation = TaskSet(
        task for task in corpus("data=arc2").shares[0].source.fixed if task.split == "evaluation"
    )
    assert ancestry.leaks(evaluation).counts["answers"] == len(evaluation) == 120


def test_generated_pairs_of_public_weights_are_known_by_the_ids_of_their_tasks(arc1: Corpus) -> None:
    ancestry = known_ancestry("da-fr/Llama-3.2-3B-ARChitects-ReArc-bnb-4bit")
    assert ancestry is not None
    assert (len(ancestry.by_id), ancestry.pairs) == (400, frozenset())
    assert ancestry.leaks(arc1.validation_tasks).leaks == (), "evaluation tasks"


def test_of_other_weights_nothing_is_known() -> None:
    assert known_ancestry("Qwen/Qwen2.5-0.5B-Instruct") is None
    assert known_ancestry("me/my_qwen3_4b_grids15_sft139_copy") is None


def test_what_starts_with_public_weights_carries_on_what_they_have_seen(tmp_path: Path) -> None:
    config = check(compose_config(["model=custom", f"model.path={NVARC}"]))
    weights = Weights(config, RunFolder(tmp_path))
    assert weights.parent is None, "their prompt is unknown, and so nothing conflicts with it"
    weights.check_ancestry(dtype=torch.float32)
    child = weights.ancestry(dtype=torch.float32, shares=[])
    known = known_ancestry(NVARC)
    assert known is not None
    assert child.pairs == known.pairs
    drawn = check(compose_config(["model=custom", f"model.path={NVARC}", "model.weights=random"]))
    assert Weights(drawn, RunFolder(tmp_path)).past is None
