"""The best validation: which it is, its weights, when to give up; all that over kills and resumes."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from small_training import SMALL, logged, same, small_run, trained, weights
from transformers import TrainerCallback

from arc_experiments.jobs import finetune
from arc_experiments.jobs.answering import answer_in_training, score_in_training
from arc_experiments.run import Run
from arc_experiments.training.best import Best, BestState
from arc_experiments.training.recording import Recorder, read_log
from arc_experiments.training.trainer import StreamTrainer
from arc_experiments.training.validation import ValidationLoss

BY_LOSS = ["optim.best_by=validation_loss", "optim.eval_steps=1"]


def best(by: str = "validation_loss", patience: int | None = None, min_delta: float = 0.0) -> Best:
    return Best(by=by, patience=patience, min_delta=min_delta, folder=Path("nowhere"))


# Which one it is


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_best_is_the_first_of_the_smallest_losses_or_of_the_largest_scores(values: list[float]) -> None:
    for by, target in (("validation_loss", min(values)), ("pass_at_2", max(values))):
        kept = best(by)
        for step, value in enumerate(values, start=1):
            kept.note(step, value)
        assert kept.state.value == target
        assert kept.state.step == 1 + values.index(target)
        assert kept.state.num_since == len(values) - kept.state.step


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.data())
def test_a_best_that_is_stored_and_restored_goes_on_as_if_it_had_not_been(
    values: list[float], data: st.DataObject
) -> None:
    through, cut = best(patience=3), data.draw(st.integers(0, len(values)))
    for step, value in enumerate(values, start=1):
        through.note(step, value)
    first, second = best(patience=3), best(patience=3)
    for step, value in enumerate(values[:cut], start=1):
        first.note(step, value)
    second.state = BestState(**json.loads(json.dumps(asdict(first.state))))
    for step, value in enumerate(values[max(0, cut - 1) :], start=max(1, cut)):  # one of them once more
        second.note(step, value)
    assert second.state == through.state
    assert second.is_given_up == through.is_given_up


def test_it_gives_up_after_as_many_validations_without_a_better_one_as_the_patience_says() -> None:
    kept, given_up = best(patience=2), []
    for step, value in enumerate([3.0, 2.0, 2.5, 1.0, 1.0, 5.0], start=1):
        kept.note(step, value)
        given_up.append(kept.is_given_up)
    assert given_up == [False, False, False, False, False, True]
    assert (kept.state.step, kept.state.value) == (4, 1.0)


def test_better_by_less_than_min_delta_is_not_better() -> None:
    kept = best(min_delta=0.1)
    assert [kept.note(step, value) for step, value in enumerate([1.0, 0.95, 0.89], start=1)] == [
        True,
        False,
        True,
    ]


def test_a_loss_that_is_not_a_number_is_never_the_best() -> None:
    kept = best()
    assert [kept.note(step, value) for step, value in enumerate([math.nan, 2.0, math.nan], start=1)] == [
        False,
        True,
        False,
    ]


# In a training with given validation losses


def evaluation(losses: dict[int, float]) -> Callable[[StreamTrainer], ValidationLoss]:
    def evaluate(trainer: StreamTrainer) -> ValidationLoss:
        loss = losses[trainer.state.global_step]
        return ValidationLoss(token_mean=loss, task_mean=loss, num_tokens=1, num_tasks=1, num_too_long=0)

    return evaluate


class Snapshots(TrainerCallback):
    """The weights after each step; dies at one of them if asked, after the validation."""

    def __init__(self, die_at: int | None = None) -> None:
        self.weights: dict[int, dict[str, torch.Tensor]] = {}
        self._die_at = die_at

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        self.weights[state.global_step] = weights(model)
        if state.global_step == self._die_at:
            raise KeyboardInterrupt


def train(run: Run, losses: dict[int, float], snapshots: Snapshots) -> StreamTrainer:
    """A training with these validation losses, as the job does it."""
    trainer = run.trainer(run.model(), [])
    recorder = Recorder(
        trainer,
        run.folder / "train_log.jsonl",
        evaluate=lambda: evaluation(losses)(trainer),
        evaluate_untrained=lambda: evaluation(losses)(trainer),
        eval_steps=1,
        on_line=lambda line: None,
    )
    trainer.add_callback(snapshots)
    trainer.resume_or_start()
    recorder.validate(trainer.state.global_step)
    return trainer


VALLEY = {1: 5.0, 2: 4.0, 3: 1.0, 4: 2.0, 5: 3.0, 6: 4.0, 7: 0.5, 8: 6.0}


@pytest.mark.slow
def test_the_weights_of_the_best_validation_come_back_at_the_end(tmp_path: Path) -> None:
    snapshots = Snapshots()
    trainer = train(small_run(tmp_path, *BY_LOSS), VALLEY, snapshots)
    assert trainer.best is not None
    assert same(weights(trainer.model), snapshots.weights[8])
    assert trainer.best.take_back(trainer)
    assert same(weights(trainer.model), snapshots.weights[7])
    assert [path.name for path in (tmp_path / "checkpoints").glob("*best*")] == ["best-7"]


@pytest.mark.slow
def test_patience_stops_the_training_with_a_checkpoint_and_a_resume_does_not_go_on(tmp_path: Path) -> None:
    chosen = [*BY_LOSS, "optim.patience=3"]
    trainer = train(small_run(tmp_path, *chosen), VALLEY, Snapshots())
    assert trainer.state.global_step == 6
    assert (tmp_path / "checkpoints/checkpoint-6/complete").exists()
    again = train(small_run(tmp_path, *chosen), VALLEY, Snapshots())
    assert again.state.global_step == 6
    assert again.is_given_up
    assert again.session_counts.samples == 0
    assert again.best is not None
    assert again.best.state.step == 3


@pytest.mark.parametrize(
    "die_at",
    [
        pytest.param(3, marks=pytest.mark.slow),
        pytest.param(4, marks=pytest.mark.slow),
        5,
        pytest.param(7, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_with_the_same_best(tmp_path: Path, die_at: int) -> None:
    chosen, snapshots = [*BY_LOSS, "optim.save_steps=2"], Snapshots()
    through = train(small_run(tmp_path / "a", *chosen), VALLEY, snapshots)
    with pytest.raises(KeyboardInterrupt):
        train(small_run(tmp_path / "b", *chosen), VALLEY, Snapshots(die_at))
    resumed = train(small_run(tmp_path / "b", *chosen), VALLEY, Snapshots())
    assert through.best is not None
    assert resumed.best is not None
    assert resumed.best.state == through.best.state
    resumed.best.take_back(resumed)
    assert same(weights(resumed.model), snapshots.weights[7])


@pytest.mark.slow
def test_a_resume_that_stops_earlier_still_has_the_best_of_its_checkpoint(tmp_path: Path) -> None:
    chosen, snapshots = [*BY_LOSS, "optim.save_steps=2"], Snapshots()
    with pytest.raises(KeyboardInterrupt):  # after the validation of step 7, which was the best of all
        train(small_run(tmp_path, *chosen), VALLEY, Snapshots(7))
    stopped = train(small_run(tmp_path, *chosen, "optim.stop_after=6"), VALLEY, snapshots)
    assert stopped.best is not None
    assert stopped.best.state.step == 3
    assert stopped.best.take_back(stopped)
    assert (tmp_path / "checkpoints/best-3").is_dir()


# Scoring during training

SCORING = [
    "optim.max_steps=4",
    "optim.eval_steps=2",
    "optim.save_steps=2",
    "inference.limit=1",
    "inference.num_views=2",
]
SHORT = "inference.max_new_tokens=12"


@pytest.mark.slow
def test_scoring_in_the_middle_leaves_the_training_as_it_would_have_been(tmp_path: Path) -> None:
    plain = trained(small_run(tmp_path / "plain", *SCORING, SHORT))
    run = small_run(tmp_path / "scored", *SCORING, SHORT)
    scores = []

    class Score(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
            before = weights(model)
            scores.append(score_in_training(run, model))
            assert same(before, weights(model))
            assert model.training

    scored = trained(run, (Score(),))
    assert len(scores) == 4
    assert logged(scored, "loss") == logged(plain, "loss")
    assert logged(scored, "grad_norm") == logged(plain, "grad_norm")
    assert same(weights(scored.model), weights(plain.model))
    assert not list((tmp_path / "scored").glob(".predictions*"))


def test_scores_in_training_are_those_that_the_end_would_give(tmp_path: Path) -> None:
    run = small_run(tmp_path, *SCORING, SHORT)
    model = run.model()
    trained(run, (), model)
    looked = [(c.text, c.view) for c in answer_in_training(run, model)]
    assert looked == [(c.text, c.view) for c in run.predict(model)]


def lines(folder: Path, name: str) -> list[tuple[float, float]]:
    return [(line["step"], line[name]) for line in read_log(folder / "train_log.jsonl") if name in line]


@pytest.mark.slow
def test_the_job_keeps_the_weights_of_the_best_validation(tmp_path: Path) -> None:
    run = small_run(
        tmp_path,
        *BY_LOSS,
        "optim.max_steps=6",
        "optim.learning_rate=0.05",
        "optim.patience=2",
        "inference.limit=0",
        "model.path=package:tiny",
    )  # a rate at which it soon becomes worse
    finetune.main(run, Console(quiet=True))
    metrics, losses = run.folder.read_json("metrics.json"), dict(lines(tmp_path, "validation_loss")[1:])
    assert metrics["best"]["value"] == min(losses.values()) == losses[metrics["best"]["step"]]
    assert metrics["train"]["stopped_early"]
    assert metrics["train"]["steps"] == metrics["best"]["step"] + 2 == max(losses)
    assert metrics["validation"]["loss"]["token_mean"] == metrics["best"]["value"]
    assert run.validation_loss(run.trained_model()).token_mean == metrics["best"]["value"]


@pytest.mark.slow
def test_the_job_can_choose_by_score_and_writes_it_beside_the_loss(tmp_path: Path) -> None:
    run = small_run(tmp_path, *SCORING, SHORT, "optim.best_by=pass_at_2")
    finetune.main(run, Console(quiet=True))
    metrics = run.folder.read_json("metrics.json")
    assert lines(tmp_path, "pass_at_2") == [(2, 0.0), (4, 0.0)]
    assert [step for step, _ in lines(tmp_path, "validation_loss")] == [0, 2, 4]
    assert metrics["best"] == {"by": "pass_at_2", "step": 2, "value": 0.0}, "the first of equals"
    log = (tmp_path / "train_log.jsonl").read_text()
    finetune.main(run, Console(quiet=True))
    assert (tmp_path / "train_log.jsonl").read_text() == log, "finished: nothing is done again"


@pytest.mark.slow
def test_two_processes_choose_stop_and_smooth_as_one_does(tmp_path: Path) -> None:
    chosen = [
        *SMALL, SHORT, "optim.best_by=pass_at_2", "optim.patience=1", "optim.eval_steps=2",
        "optim.batch_size=4", "optim.label_smoothing=0.1", "optim.schedule=cyclic",
        "optim.embedding_learning_rate=1e-5", "model.lora.modules_to_save=[embed_tokens]",
        "inference.limit=1",
    ]  # fmt: skip
    for number in (1, 2):
        folder = [f"hydra.run.dir={tmp_path}/{number}", f"hardware.num_processes={number}"]
        subprocess.run([sys.executable, "-m", "arc_experiments", *chosen, *folder], check=True, timeout=300)
    one, two = (read_log(tmp_path / number / "train_log.jsonl") for number in ("1", "2"))
    assert len(one) == len(two) == 7, "four steps, and three validations"
    for name in ("step", "loss", "validation_loss", "pass_at_2", "learning_rate"):
        ours, theirs = ([line[name] for line in lines if name in line] for lines in (one, two))
        assert ours == pytest.approx(theirs, abs=1e-4)
    for number in ("1", "2"):
        metrics = json.loads((tmp_path / number / "metrics.json").read_text())
        assert metrics["best"] == {"by": "pass_at_2", "step": 2, "value": 0.0}
        assert metrics["train"]["stopped_early"]
        assert metrics["train"]["steps"] == 4
