"""job=adapt: each task by its demonstrations, never its answer; the same whoever does it, in any order."""

import dataclasses
import gc
import io
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from adapt_tools import (
    METHODS,
    OPTIONS,
    adapt_run,
    adapted,
    lasting_metrics,
    make_tasks,
    outcomes,
    predictions,
    stop_training_at,
)
from rich.console import Console
from small_training import same, weights
from task_files import write
from toy_grids import grid

from arc_experiments.adaptation.plan import AdaptationPlan
from arc_experiments.adaptation.results import Adapted, Before, Ending
from arc_experiments.adaptation.task_groups import Bundle, TaskGroup, make_task_groups
from arc_experiments.adaptation.time_limits import done_within
from arc_experiments.adaptation.tuner import Tuner
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Answer, Key
from arc_experiments.jobs import adapt, evaluate
from arc_experiments.jobs.beginning import begin
from arc_experiments.launching import helpers
from arc_experiments.models.ancestry import read_ancestry
from arc_experiments.run import Run, compose, load_run
from arc_experiments.runs import cores_and_gpus
from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.submission import GrowingSubmission


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tasks(tmp_path_factory.mktemp("tasks"), 3)


@pytest.fixture(autouse=True, scope="module")
def _quick_garbage_collection() -> Iterator[None]:
    """Each training collects garbage, among all that was imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def finished(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A whole job, and what it printed."""
    return adapted(tmp_path_factory.mktemp("finished") / "run", tasks)


def tuner(run: Run, folder: Path) -> Tuner:
    return Tuner(run, folder, lambda: False)


def answers(tuner: Tuner, unit: TaskGroup, place: str) -> tuple[Candidate, ...]:
    found = tuner.answer(unit.tasks, place)
    assert not isinstance(found, Ending)
    return found


def silent() -> Console:
    return Console(file=io.StringIO())


def lines(candidates: tuple[Candidate, ...] | None) -> list[str]:
    return [candidate.to_json() for candidate in candidates or ()]


# What it leaves


def test_scores_before_and_after_stand_side_by_side(finished: tuple[Run, str]) -> None:
    run, printed = finished
    metrics = run.folder.read_json("metrics.json")
    for score in (metrics["score"], metrics["before"]["score"]):
        assert (score["num_tasks"], score["num_test_outputs"]) == (3, 3)
    gain = metrics["score"]["pass_at_2"] - metrics["before"]["score"]["pass_at_2"]
    assert metrics["difference"]["pass_at_2"]["difference"] == pytest.approx(gain)
    assert "interval" in metrics["difference"]["pass_at_1"]
    assert (metrics["adaptation"]["steps"], metrics["adaptation"]["samples"]) == (9, 9)
    assert outcomes(run) == {"whole": 3}
    assert "before" in printed
    assert "difference" in printed
    assert "3 tasks trained to the end" in printed
    assert "won:" in printed


def test_each_task_has_a_line_with_what_became_of_it(finished: tuple[Run, str]) -> None:
    run, _ = finished
    units = predictions(run, "adaptation.jsonl")
    assert [unit["task_ids"] for unit in units] == [[task_id] for task_id in run.partition.validation]
    assert all(unit["training"]["steps"] == 3 for unit in units)
    asked = [(one["task"], one["view"]) for one in predictions(run)]
    assert [(one["task"], one["view"]) for one in predictions(run, "predictions_before.jsonl")] == asked
    page = (run.folder / "report.html").read_text()
    before_and_after = page.index("<h2>Test-time fine-tuning: before and after</h2>")
    assert before_and_after < page.index("<h2>What was run</h2>")
    first = re.search(r'<dd class="value">([\d.]+)% → ([\d.]+)%</dd><dd class="note">([^<]*)</dd>', page)
    assert first is not None
    shares = [run.metrics["before"]["score"]["pass_at_2"], run.metrics["score"]["pass_at_2"]]
    assert [float(first[1]), float(first[2])] == [round(100 * share, 1) for share in shares]
    assert first[3].startswith("before → after adaptation: ")
    assert "3 tasks trained to the end." in page
    assert not (run.folder / ".adapt").exists()


def test_the_scores_before_are_those_of_an_evaluation(
    finished: tuple[Run, str], tasks: Path, tmp_path: Path
) -> None:
    run, _ = finished
    plain = compose(
        [
            *(option for option in OPTIONS if not option.startswith("optim")),
            "job=evaluate",
            f"data.path={tasks}",
        ],
        tmp_path / "run",
    )
    evaluate.main(plain, silent())
    texts = [one["text"] for one in predictions(plain)]
    assert [one["text"] for one in predictions(run, "predictions_before.jsonl")] == texts


def test_the_same_command_again_shows_the_same_table(finished: tuple[Run, str], tasks: Path) -> None:
    run, printed = finished
    _, shown = adapted(run.folder.path, tasks)
    assert "This run is finished" in shown
    table = [line for line in printed.splitlines() if "pass@2" in line]
    assert [line for line in shown.splitlines() if "pass@2" in line] == table


# It depends on the task alone


@pytest.mark.parametrize(
    "options",
    [
        ["model.lora.dropout=0.5"],
        pytest.param(["model.dtype=bfloat16", "model.gradient_checkpointing=true"], marks=pytest.mark.slow),
        pytest.param(["model.lora=null"], marks=pytest.mark.slow),
    ],
)
def test_a_task_gives_the_same_whatever_came_before_it(
    options: list[str], tasks: Path, tmp_path: Path
) -> None:
    run = adapt_run(tmp_path / "run", tasks, *options)
    units = make_task_groups(run.predicted_tasks(), None)
    forward, backward = tuner(run, tmp_path / "a"), tuner(run, tmp_path / "b")
    first = weights(forward.model)
    before = lines(answers(forward, units[0], "before"))
    there = [forward.adapt(unit) for unit in units]
    back = [backward.adapt(unit) for unit in reversed(units)][::-1]
    assert [lines(unit.candidates) for unit in there] == [lines(unit.candidates) for unit in back]
    assert [unit.training for unit in there] == [unit.training for unit in back]
    assert len({unit.training.loss for unit in there if unit.training}) == 3
    assert same(weights(forward.model), first), "the weights are put back to the last bit"
    assert lines(answers(forward, units[0], "again")) == before


def test_test_outputs_are_out_of_reach(finished: tuple[Run, str], tasks: Path, tmp_path: Path) -> None:
    run, _ = finished
    other = make_tasks(tmp_path / "tasks", 3, test_outputs=1)
    task = run.predicted_tasks()[0]
    changed, _ = adapted(tmp_path / "run", other)
    assert changed.predicted_tasks()[task.id].test[0].output.tolist() != task.test[0].output.tolist()
    for name in ("predictions.jsonl", "predictions_before.jsonl"):
        assert predictions(changed, name) == predictions(run, name)
    work = AdaptationPlan(run, METHODS, lambda: False)
    handed = [task for part in work._singles.values() for task in part]
    handed += [task for unit in work._groups for task in unit.tasks]
    assert all(pair.output is None for task in handed for pair in task.test)


@pytest.mark.slow
def test_tasks_without_solutions_are_adapted_to_as_well(tasks: Path, tmp_path: Path) -> None:
    run = adapt_run(tmp_path / "run", tasks)
    [unit] = make_task_groups(run.predicted_tasks().select(["e1"]), None)
    assert unit.tasks[0].test[0].output is None
    one = tuner(run, tmp_path / "a").adapt(unit)
    [solved] = [u for u in make_task_groups(run.predicted_tasks(), None) if u.tasks.ids == ("e1",)]
    assert lines(one.candidates) == lines(tuner(run, tmp_path / "b").adapt(solved).candidates)


@pytest.mark.slow
def test_nothing_piles_up_from_task_to_task(tasks: Path, tmp_path: Path) -> None:
    run = adapt_run(tmp_path / "run", tasks, "model.gradient_checkpointing=true", "model.dtype=bfloat16")
    units = make_task_groups(run.predicted_tasks(), None)
    one = tuner(run, tmp_path / "a")

    def alive() -> tuple[int, int]:
        gc.collect()
        hooks = sum(len(module._forward_hooks) for module in one.model.modules())
        return sum(isinstance(each, torch.Tensor) for each in gc.get_objects()), hooks

    one.adapt(units[0])
    before, forward = alive(), one.model.get_base_model().forward
    for unit in (*units, *units):
        one.adapt(unit)
    assert alive() == before
    assert one.model.get_base_model().forward == forward
    assert not list((tmp_path / "a").rglob("checkpoint-*"))


# Killed and resumed


@pytest.mark.slow
def test_what_is_finished_stays_finished(
    finished: tuple[Run, str], tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, done = Tuner.adapt, []

    def stops_at_the_second(self: Tuner, unit: object, *lost: float) -> object:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(unit)
        return real(self, unit, *lost)

    monkeypatch.setattr(Tuner, "adapt", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        adapted(tmp_path / "run", tasks)
    [file] = (tmp_path / "run" / ".adapt").glob("after-*.json")
    written = file.stat().st_mtime_ns

    def notes(self: Tuner, unit: object, *lost: float) -> object:
        assert file.stat().st_mtime_ns == written, "the finished one is left as it is"
        done.append(unit)
        return real(self, unit, *lost)

    monkeypatch.setattr(Tuner, "adapt", notes)
    run, _ = adapted(tmp_path / "run", tasks)
    assert len(done) == 3
    assert [unit.tasks.ids for unit in done] == [(task_id,) for task_id in run.partition.validation]
    assert lasting_metrics(run) == lasting_metrics(finished[0])
    assert predictions(run) == predictions(finished[0])


@pytest.mark.slow
def test_a_joint_training_goes_on_from_its_checkpoint(tasks: Path, tmp_path: Path) -> None:
    options = ["adapt.mode=joint", "optim.max_steps=6", "optim.save_steps=2"]
    through, _ = adapted(tmp_path / "through", tasks, *options)
    run = adapt_run(tmp_path / "run", tasks, *options)
    [unit] = make_task_groups(run.predicted_tasks(), 1)
    cut = Tuner(run, run.folder / ".adapt", lambda: False)
    stop_training_at(run, 4)
    with pytest.raises(KeyboardInterrupt):
        cut.adapt(unit)
    kept = sorted(path.name for path in (run.folder / ".adapt").rglob("checkpoint-*"))
    assert kept == ["checkpoint-2", "checkpoint-4"]
    resumed, _ = adapted(tmp_path / "run", tasks, *options)
    assert lasting_metrics(resumed) == lasting_metrics(through)
    assert predictions(resumed) == predictions(through)


@pytest.mark.slow
def test_a_training_with_a_checkpoint_goes_on_although_the_time_is_over(tasks: Path, tmp_path: Path) -> None:
    run = adapt_run(tmp_path / "run", tasks, "adapt.mode=joint", "optim.max_steps=6", "optim.save_steps=2")
    [unit] = make_task_groups(run.predicted_tasks(), 1)
    stop_training_at(run, 4)
    with pytest.raises(KeyboardInterrupt):
        tuner(run, tmp_path / "work").adapt(unit)
    again = load_run(run.folder.path)
    [late] = Tuner(again, tmp_path / "work", lambda: True).adapt_bundle(Bundle(groups=(unit,)))
    assert late.outcome == "stopped_by_time"
    assert late.training is not None
    assert late.training.steps == 5
    assert late.candidates is not None


def test_a_new_attempt_knows_how_long_answers_take(tasks: Path, tmp_path: Path) -> None:
    run = adapt_run(tmp_path / "run", tasks)
    [name, *_] = AdaptationPlan(run, METHODS, lambda: False)._before.names
    folder = RunFolder(run.folder.path / ".adapt")
    folder.path.mkdir()
    folder.write_json(f"{name}.json", Before(candidates=(), seconds=7.0).to_json())
    assert AdaptationPlan(run, METHODS, lambda: False)._answer_seconds() == [7]


@pytest.mark.slow
def test_loading_the_model_is_no_part_of_the_time_of_an_answer(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Run.model

    def slow(self: Run, **options: bool) -> object:
        time.sleep(2)
        return real(self, **options)

    monkeypatch.setattr(Run, "model", slow)
    work = AdaptationPlan(adapt_run(tmp_path / "run", tasks), METHODS, lambda: False)
    work.answer(lambda done: None)
    assert max(work._answer_seconds()) < 2


def test_the_time_is_noted_while_answers_are_made(tasks: Path, tmp_path: Path) -> None:
    run, noted = adapt_run(tmp_path / "run", tasks), list[int]()
    [unit, *_] = make_task_groups(run.predicted_tasks(), None)
    answering = Tuner(run, tmp_path / "work", lambda: False, lambda: noted.append(1))
    answering.answer(unit.tasks, "here")
    assert noted


# Modes


@pytest.mark.parametrize(
    "inference",
    [
        ["inference.num_views=2", "inference.scoring_views=2", "inference.selection=likelihood_mean"],
        pytest.param(["inference.engine=threshold", "inference.threshold=0.2"], marks=pytest.mark.slow),
    ],
)
def test_answers_are_made_and_chosen_as_in_an_evaluation(
    inference: list[str], tasks: Path, tmp_path: Path
) -> None:
    writes_grids = [
        "model.path=package:tiny", "model.weights=pretrained", "prompt.grid.frames=[6,10]",
        "prompt.max_length=896", "inference.max_new_tokens=112", "optim.max_steps=2", "inference.limit=1",
    ]  # fmt: skip
    options = ["inference.constrain=grid", *writes_grids, *inference]
    run, printed = adapted(tmp_path / "run", tasks, *options)
    for name in ("predictions.jsonl", "predictions_before.jsonl"):
        found = predictions(run, name)
        assert {one["task"] for one in found} == set(run.predicted_tasks().ids)
        if "inference.scoring_views=2" in inference:
            assert all(len(one["likelihoods"]) == 2 for one in found if one["valid"])
    assert any(one["valid"] for one in predictions(run))
    assert f"{run.config.inference.selection} (the attempts)" in printed


@pytest.mark.slow
def test_joint_makes_one_adapter_that_says_what_it_was_trained_on(tasks: Path, tmp_path: Path) -> None:
    run, printed = adapted(tmp_path / "run", tasks, "adapt.mode=joint", "adapt.leave_out=[1,2]")
    [unit] = predictions(run, "adaptation.jsonl")
    assert unit["task_ids"] == list(run.partition.validation)
    assert "all tasks together" in printed
    ancestry = read_ancestry(run.folder / "adapter")
    assert ancestry is not None
    assert ancestry.trained_on == tuple(
        f"{task_id}_leave_{count}" for task_id in ("e0", "e1", "e2") for count in (1, 2)
    )
    assert not ancestry.leaks(run.validation_tasks).leaks, "its own demonstrations are no leak"
    again = compose(
        ["job=evaluate", f"from_run={run.folder}", "tracking=off", "hardware=cpu", "hardware.threads=1"],
        tmp_path / "again",
    )
    evaluate.main(again, silent())
    assert [one["text"] for one in predictions(again)] == [one["text"] for one in predictions(run)]


def test_groups_share_an_adapter_each(tasks: Path, tmp_path: Path) -> None:
    run, _ = adapted(tmp_path / "run", tasks, "adapt.mode=groups", "adapt.groups=2", "adapt.save=true")
    units = predictions(run, "adaptation.jsonl")
    ids = run.partition.validation
    assert [tuple(unit["task_ids"]) for unit in units] == [ids[:2], ids[2:]]
    saved = sorted((run.folder / "adapters").iterdir())
    assert len(saved) == 2
    assert [read_ancestry(folder).trained_on for folder in saved] == [
        tuple(sorted(f"{task_id}_leave_1" for task_id in part)) for part in (ids[:2], ids[2:])
    ]


def test_single_tasks_leave_no_weights_unless_asked(
    finished: tuple[Run, str], tasks: Path, tmp_path: Path
) -> None:
    assert not list(finished[0].folder.path.glob("adapter*"))
    run, _ = adapted(tmp_path / "run", tasks, "adapt.save=true", "inference.limit=2")
    assert len(list((run.folder / "adapters").iterdir())) == 2


@pytest.mark.slow
def test_the_moments_of_an_earlier_optimizer_can_be_brought(tasks: Path, tmp_path: Path) -> None:
    training = [option for option in OPTIONS if option != "job=adapt"]
    first = compose([*training, f"data.path={tasks}", "optim.save_steps=3"], tmp_path / "first")
    trainer = first.trainer(first.model(), [])
    trainer.resume_or_start()
    first.save_weights(trainer.model)
    options = [
        "job=adapt",
        f"from_run={tmp_path / 'first'}",
        "tracking=off",
        "hardware=cpu",
        "hardware.threads=1",
    ]
    more = ["optim.max_steps=3", "augmentation=[geometry,order]"]
    results = []
    for name, state in (("without", []), ("with", [f"optim.load_state={tmp_path / 'first'}"])):
        run = compose([*options, *more, *state], tmp_path / name)
        assert run.config.model.adapter == str(tmp_path / "first" / "adapter")
        adapt.main(run, silent())
        results.append(predictions(run, "adaptation.jsonl")[0]["training"]["loss"])
    assert results[0][0] == results[1][0], "the same weights and samples at first"
    assert results[0] != results[1]


# What cannot be adapted to is answered, and counted


def test_a_training_stops_at_its_time_with_the_weights_that_it_has(tasks: Path, tmp_path: Path) -> None:
    run, printed = adapted(tmp_path / "run", tasks, "adapt.seconds_per_task=1e-6", "optim.warmup=0")
    assert outcomes(run) == {"stopped_by_time": 3}
    assert [unit["training"]["steps"] for unit in predictions(run, "adaptation.jsonl")] == [1, 1, 1]
    assert "3 tasks answered with what there was when the time was over" in printed
    assert predictions(run) != predictions(run, "predictions_before.jsonl")


def test_tasks_not_begun_in_time_are_answered_as_before(tasks: Path, tmp_path: Path) -> None:
    run, printed = adapted(tmp_path / "run", tasks, "adapt.seconds=1e-6")
    assert outcomes(run) == {"not_begun_in_time": 3}
    assert predictions(run) == predictions(run, "predictions_before.jsonl")
    assert run.folder.read_json("metrics.json")["score"]["num_tasks"] == 3
    assert "3 tasks not adapted: the time was over" in printed
    assert len(run.folder.read_json("submission.json")) == 3


@pytest.mark.slow
def test_tasks_that_have_too_little_or_are_too_long_are_counted(tasks: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tasks, tmp_path / "tasks")
    pair, long = (
        {"input": [[1, 2, 3]], "output": [[4] * 3]},
        {"input": [[1] * 30] * 4, "output": [[2] * 30] * 4},
    )
    write(folder, "evaluation/few.json", {"train": [pair], "test": [pair]})
    write(folder, "evaluation/long.json", {"train": [long] * 3, "test": [pair]})
    shrunk = {"input": [[1] * 10] * 4, "output": [[2] * 10] * 4}
    write(folder, "evaluation/shrunk.json", {"train": [shrunk] * 4, "test": [pair]})
    run, printed = adapted(tmp_path / "run", folder)
    assert outcomes(run) == {"whole": 4, "too_few_demonstrations": 1, "too_long": 1}
    units = {unit["task_ids"][0]: unit for unit in predictions(run, "adaptation.jsonl")}
    assert units["shrunk"]["training"]["samples_shrunk"] == 3
    assert "3 samples lost demonstrations to fit prompt.max_length" in printed
    for task_id in ("few", "long"):
        before, after = (
            [one for one in predictions(run, name) if one["task"] == task_id]
            for name in ("predictions_before.jsonl", "predictions.jsonl")
        )
        assert before == after


def test_a_training_that_diverges_costs_its_own_task_alone(tasks: Path, tmp_path: Path) -> None:
    run, printed = adapted(tmp_path / "run", tasks, "optim.learning_rate=1e30", "optim.max_steps=5")
    assert outcomes(run) == {"diverged": 3}
    assert predictions(run) == predictions(run, "predictions_before.jsonl")
    assert "a guard stopped it" in printed


# Mistakes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapt.mode=groups"], "does not go with adapt.groups="),
        (["adapt.groups=3"], "does not go with adapt.groups="),
        (["adapt.leave_out=[]"], "adapt.leave_out=[]"),
        (["adapt.leave_out=[0]"], "adapt.leave_out=[0]"),
        (["adapt.leave_out=[1,1]"], "adapt.leave_out=[1, 1]"),
        (["adapt.leave_out=[9]"], "such as [1, 2]"),
        (["adapt.seconds=0"], "adapt.seconds=0"),
        (["adapt.deadline_hours=0.1", "adapt.reserve_seconds=360"], "adapt.reserve_seconds=360"),
        (["adapt.reserve_seconds=10"], "adapt.deadline_hours=null does not go with adapt.reserve_seconds=10"),
        (["inference.limit=0"], "no task to adapt to"),
        (["optim.stop_after=2"], "optim.stop_after=2"),
        (["optim.best_by=validation_loss", "optim.eval_steps=2"], "optim.best_by=validation_loss"),
        (["optim.epochs=3"], "optim.epochs=3"),
        (["data.stream=iterable"], "data.stream=iterable"),
        (["model.compile=true"], "model.compile=true"),
        (["hardware=fsdp", "hardware.num_processes=2"], "hardware.parallelism=fsdp"),
    ],
)
def test_what_cannot_go_together_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config(["job=adapt", *overrides])
    assert message in str(raised.value)


def test_several_processes_do_not_have_to_share_a_batch() -> None:
    config = compose_config(["job=adapt", "hardware.num_processes=2"])
    assert config.optim.batch_size == 1


def test_a_start_by_torchrun_is_refused(tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    run = adapt_run(tmp_path / "run", tasks)
    with pytest.raises(ValueError, match="by the plain command"):
        adapt.main(run, silent())


def test_other_steps_are_another_run(tasks: Path, tmp_path: Path) -> None:
    options = ["optim.schedule=constant", "optim.warmup=1"]
    adapt_run(tmp_path / "run", tasks, *options)
    with pytest.raises(ValueError, match=r"optim\.max_steps: 3 -> 4"):
        adapt_run(tmp_path / "run", tasks, *options, "optim.max_steps=4")


# Memory, deadline, and what is known by now


@pytest.mark.parametrize("mode", ["per_task", "joint"])
@pytest.mark.parametrize(
    ("reason", "words"), [("out_of_memory", "out of memory"), ("diverged", "a guard stopped it")]
)
def test_a_task_that_cannot_be_answered_is_counted_and_costs_no_other(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, reason: str, words: str
) -> None:
    real = Transformers.answer

    def answer(
        self: Transformers, model: object, prompts: object, keys: list[Key], limits: object
    ) -> list[list[Answer]]:
        is_strange = any(task_id == "e1" for task_id, _, _ in keys)
        if is_strange and reason == "out_of_memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        groups = real(self, model, prompts, keys, limits)
        change = {"log_probability": float("nan")} if is_strange else {}
        return [[dataclasses.replace(one, **change) for one in group] for group in groups]

    monkeypatch.setattr(Transformers, "answer", answer)
    run, printed = adapted(tmp_path / "run", tasks, f"adapt.mode={mode}")
    assert outcomes(run) == {"whole": 2, reason: 1}
    assert f"1 task not adapted to the end: {words}" in printed
    assert [one["reason"] for one in predictions(run) if one["task"] == "e1"] == [reason]
    assert run.folder.read_json("metrics.json")["score"]["invalid"][reason] == 1
    units = predictions(run, "adaptation.jsonl")
    assert {key: value for unit in units for key, value in unit["unanswered"].items()} == {"e1": reason}
    assert (run.folder / "adapter").exists() == (mode == "joint")
    before = predictions(run, "predictions_before.jsonl")
    changed = {one["task"] for one, old in zip(predictions(run), before, strict=True) if one != old}
    assert changed == {"e0", "e2"}


def test_a_submission_is_there_before_a_batch_size_is_tried(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(run: Run) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(adapt, "begin", dies)
    run = adapt_run(tmp_path / "run", tasks)
    with pytest.raises(torch.OutOfMemoryError):
        adapt.main(run, silent())
    assert list(run.folder.read_json("submission.json")) == list(run.predicted_tasks().ids)


@pytest.mark.slow
def test_the_batch_size_is_found_before_helpers_come(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[tuple[int, object]] = []

    def start(folder: RunFolder, environments: list[dict[str, str]]) -> list[subprocess.Popen[bytes]]:
        noted.append((len(environments), folder.read_json("environment.json")["per_device_batch_size"]))
        return []

    monkeypatch.setattr(helpers, "start_helpers", start)
    for name, value in {
        cores_and_gpus.PLACE: "0",
        cores_and_gpus.NUM_PLACES: "1",
        "CUDA_VISIBLE_DEVICES": "",
    }.items():
        monkeypatch.setenv(name, value)  # and put back what the job makes of it
    options = ["hardware.per_device_batch_size=auto", "hardware.num_processes=2", "optim.batch_size=4"]
    run, _ = adapted(tmp_path / "run", tasks, *options)
    assert noted == [(1, 1)]
    assert outcomes(run) == {"whole": 3}
    helper = Run(RunFolder(run.folder.path, read_only=True), run.config)
    begin(helper)
    assert helper.per_device_batch_size == 1


def test_processes_that_share_a_gpu_are_not_given_all_of_it_each(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    options = ["hardware=auto", "hardware.per_device_batch_size=auto", "hardware.num_processes=3"]
    run = adapt_run(tmp_path / "run", tasks, *options)
    with pytest.raises(ValueError, match=r"hardware\.num_processes=3 share 2: name a number"):
        adapt.main(run, silent())


def test_the_submission_holds_what_is_known_by_now(tasks: Path, tmp_path: Path) -> None:
    run = adapt_run(tmp_path / "run", tasks)
    work = AdaptationPlan(run, METHODS, lambda: False)
    rule = run.rule
    filler = {task.id: [{"attempt_1": [[0]], "attempt_2": [[0]]}] for task in run.predicted_tasks()}

    def written() -> dict[str, list[dict[str, list[list[int]]]]]:
        GrowingSubmission(run.folder, run.predicted_tasks(), rule, lambda: work.results().candidates).write()
        return run.folder.read_json("submission.json")

    assert written() == filler
    folder = RunFolder(work.folder.path)
    folder.path.mkdir()

    def answer(cell: int) -> tuple[Candidate, ...]:
        one = Candidate(
            task_id="e1", test_index=0, view=0, transforms="", text="", num_tokens=1, log_probability=-1.0,
            grid=grid(str(cell)), reason=None,
        )  # fmt: skip
        return (one,)

    position = run.predicted_tasks().ids.index("e1")
    folder.write_json(f"before-{position}-e1.json", Before(candidates=answer(3), seconds=1.0).to_json())
    known = {"attempt_1": [[3]], "attempt_2": [[3]]}
    assert written() == {**filler, "e1": [known]}
    unit = dataclasses.replace(Adapted.cut_off(("e1",)), candidates=answer(4))
    folder.write_json(f"after-{position}-e1.json", [unit.to_json()])
    assert written() == {**filler, "e1": [{"attempt_1": [[4]], "attempt_2": [[4]]}]}
    assert [one.outcome.value for one in work.results().adapted] == ["cut_off_by_deadline"] * 3


def test_work_is_cut_off_even_where_errors_are_swallowed() -> None:
    def stubborn() -> None:
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # noqa: BLE001
                continue

    assert not done_within(0.05, stubborn)
    assert not done_within(-3, stubborn), "the time was over before"
    assert done_within(5, lambda: None)
    assert done_within(float("inf"), lambda: None)
    time.sleep(0.05)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
