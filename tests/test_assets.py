"""What travels in the package: the tasks that the base model is judged by are none that it was trained on."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_corpus import corpus_of

from arc_experiments import compose
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import check
from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import Config
from arc_experiments.models.ancestry import read_ancestry
from arc_experiments.programs.languages.dsl import solution
from arc_experiments.sources import Drawings, Files
from arc_experiments.sources.pools.generators import follows_rule, generators
from arc_experiments.tasks import BadTasks
from arc_experiments.tasks.rngs import rng_for
from tools.make_models import make_config, make_tokenizer, take_weights
from tools.make_re_arc_tasks import REPEATED, TRAINED


@cache
def base_config() -> Config:
    return compose_config(["experiment=pretrain_base"])  # type: ignore[return-value]


def tasks_of(name: str) -> dict[str, Any]:
    with open(local_path(f"package:re_arc/{name}.json")) as file:
        tasks: dict[str, Any] = json.load(file)
    return tasks


@pytest.mark.slow
def test_the_held_out_tasks_and_those_that_evaluation_tasks_repeat_are_left_out_of_its_training() -> None:
    held_out = set(tasks_of("held_out"))
    assert len(held_out) == 40
    for name in ("pretrain_small", "pretrain_base", "pretrain_wide"):
        config = check(compose_config([f"experiment={name}"]))
        trains = [source for source in config.data.sources.values() if source.trains]
        assert trains
        for source in trains:
            assert set(source.source["leave_out"]) == held_out | REPEATED


def test_the_other_tasks_that_it_is_judged_by_are_trained_on() -> None:
    trained = {task_id.removesuffix("_trained") for task_id in tasks_of("trained")}
    ancestry = read_ancestry(Path(local_path("package:tiny")))
    assert ancestry is not None
    assert len(trained) == 120
    assert trained <= set(ancestry.trained_on)
    assert not set(ancestry.trained_on) & (set(tasks_of("held_out")) | REPEATED)


@pytest.mark.parametrize("name", ["tiny", "tiny_program"])
def test_the_models_are_what_their_files_are_made_to_be(tmp_path: Path, name: str) -> None:
    folder = Path(local_path(f"package:{name}"))
    make_tokenizer(name).save_pretrained(tmp_path)
    make_config(name).save_pretrained(tmp_path)
    for file in tmp_path.iterdir():
        assert json.loads((folder / file.name).read_text()) == json.loads(file.read_text()), file.name


def test_the_program_models_tokenizer_writes_every_program_and_reads_it_back() -> None:
    tokenizer = make_tokenizer("tiny_program")
    drawings = Drawings(draws=[1, 16], side=[10, 30], noise=[0.0, 0.3])
    drawn = [
        drawings.draw(number, rng_for("test", number, visit)).program
        for number in range(len(drawings.ids))
        for visit in range(20)
    ]
    for program in (*drawn, *map(solution, generators())):
        assert program is not None
        ids = tokenizer(program.text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == program.text


@pytest.mark.slow
def test_the_model_knows_a_task_it_has_not_seen(tmp_path: Path) -> None:
    run = compose(["job=evaluate", "data=re_arc_held_out", "data.limit=4", "tracking=off"], tmp_path / "run")
    loss = run.validation_loss(run.model(trainable=False))
    assert loss is not None
    assert loss.token_mean < 0.5, "its card says 0.20 of all forty"


def test_pairs_of_trained_tasks_come_from_the_same_recipe_as_those_of_the_training() -> None:
    source = base_config().data.sources["re_arc"].source
    assert (*source["difficulty"], source["max_side"]) == (*TRAINED.difficulty, TRAINED.max_side)
    for name in ("held_out", "trained"):
        for task in tasks_of(name).values():
            grids = [grid for pair in (*task["train"], *task["test"]) for grid in pair.values()]
            assert max(max(len(grid), len(grid[0])) for grid in grids) <= TRAINED.max_side


def test_the_demo_trains_on_no_task_that_it_shows_as_unseen() -> None:
    corpus = corpus_of("experiment=demo")
    shown = [task_id for task_id, name in corpus.source_of.items() if name == "held_out"]
    assert len(shown) == 10
    assert set(shown) < set(tasks_of("held_out"))
    (share,) = corpus.shares
    assert (share.name, len(share.task_ids)) == ("arc1", 800 - 8 - 10)
    assert not set(shown) & set(share.task_ids)


def test_each_of_the_sets_is_a_data_option_that_can_be_evaluated() -> None:
    for name, num_tasks in (("re_arc_held_out", 40), ("re_arc_trained", 120), ("re_arc_short", 30)):
        assert len(corpus_of(f"data={name}", "job=evaluate").validation_tasks) == num_tasks


def test_the_weights_of_a_run_travel_in_half_the_bytes_with_their_ancestry(tmp_path: Path) -> None:
    trained, folder = tmp_path / "run" / "model", tmp_path / "package"
    trained.mkdir(parents=True)
    folder.mkdir()
    weight = torch.linspace(-1, 1, 7)
    save_file({"weight": weight}, trained / "model.safetensors")
    (trained / "ancestry.json").write_text("{}")
    take_weights(tmp_path / "run", folder)
    taken = load_file(folder / "model.safetensors")["weight"]
    assert torch.equal(taken, weight.to(torch.bfloat16))
    assert (folder / "ancestry.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["held_out", "trained", "short"])
def test_every_packaged_pair_follows_the_rule_of_its_task(name: str) -> None:
    pytest.importorskip("reasoning_gym", reason="the extra re-arc is not installed")
    for task in Files(path=f"package:re_arc/{name}.json").read(BadTasks()).fixed:
        for pair in (*task.train, *task.test):
            assert follows_rule(task.id.removesuffix(f"_{name}"), pair), task.id
