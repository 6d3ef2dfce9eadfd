"""How long a job may take: what is timed is warm, changes nothing, and counts validations and answers."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from small_training import small_run, weights

from arc_experiments.jobs import estimate, finetune, time_left
from arc_experiments.jobs.adapt import _how_far
from arc_experiments.jobs.estimate import Seconds, answering_seconds, step_seconds
from arc_experiments.jobs.time_left import TIMED_STEPS, TimeLeft, estimate_text
from arc_experiments.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("run"), "optim.max_steps=2", "inference.limit=null")


def test_the_time_left_counts_steps_validations_and_answers() -> None:
    left = TimeLeft(last_step=100, eval_steps=30, step=2.0, validation=5.0, answering=Seconds(7.0, 9.0))
    assert [left.num_validations(done) for done in (0, 29, 30, 90, 99, 100)] == [4, 4, 3, 1, 1, 0]
    assert left.after(0) == 100 * 2 + 4 * 5 + 7
    assert left.after(95) == 5 * 2 + 5 + 7
    assert left.after(100) == 7


def test_the_time_left_follows_what_the_training_measures() -> None:
    left = TimeLeft(last_step=100, eval_steps=None, validation=5.0, answering=Seconds(7.0, 9.0))
    assert left.after(0) is None, "no step is known"
    left.correct(step=3.0, validation=None)
    assert left.after(90) == 10 * 3 + 5 + 7
    left.correct(step=None, validation=1.0)
    assert left.after(90) == 10 * 3 + 1 + 7


def test_the_estimate_names_the_validations_and_the_prompts() -> None:
    asked = SimpleNamespace(requests=[SimpleNamespace(ids=np.zeros(3))] * 128)
    left = TimeLeft(last_step=100, eval_steps=25, step=0.5, validation=3.0, answering=Seconds(20.4, 24.0))
    text = "training about 1 min 2 s more (4 validations included), then 128 prompts, about 20 s"
    assert estimate_text(asked, left, 0) == text
    left.eval_steps, left.answering = None, None
    assert (
        estimate_text(asked, left, 90) == "training about 8 s more (1 validation included), then 128 prompts"
    )


def test_the_loss_with_others_pictures_is_counted_once_at_the_end() -> None:
    left = TimeLeft(last_step=100, eval_steps=50, others_pictures=0.5, step=1.0, validation=4.0)
    assert left.training(90) == 10 + 4 + 2
    assert left.training(0) == 100 + 2 * 4 + 2
    assert left.training(100) == 0
    text = "training about 16 s more (1 validation and one with others' pictures included)"
    assert estimate_text(SimpleNamespace(requests=[]), left, 90) == text


def test_answers_that_may_not_end_are_said_to_take_longer() -> None:
    assert str(Seconds(20.0, 24.0)) == "about 20 s"
    assert str(Seconds(20.0, 130.0)) == "about 20 s (up to 2 min 10 s, if answers do not end)"
    assert Seconds(2.0, 4.0).plus(Seconds(1.0, 2.0)).over(3) == Seconds(1.0, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "at"), [(TIMED_STEPS + 3, TIMED_STEPS + 1), (2, 2)])
def test_the_time_is_told_once_after_a_few_steps_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, at: int
) -> None:
    told = []
    monkeypatch.setattr(time_left, "estimate_text", lambda run, left, step: told.append((step, left)) or "")
    answered = ["inference.limit=null", "inference.max_new_tokens=16"]
    run = small_run(tmp_path, f"optim.max_steps={steps}", *answered)
    finetune.main(run, Console(quiet=True))
    ((step, left),) = told
    assert step == at
    assert left.step > 0
    assert left.answering.most >= left.answering.about > 0


def test_estimating_the_answers_leaves_random_numbers_alone(tmp_path: Path) -> None:
    run = small_run(tmp_path, "inference.num_samples=2", "inference.temperature=0.8")
    model, before = run.model(), torch.get_rng_state()
    assert answering_seconds(run, model) is not None
    assert torch.equal(torch.get_rng_state(), before)


def test_timing_a_step_leaves_weights_gradients_and_random_numbers_alone(run: Run) -> None:
    model = run.model()
    trainer, before, mode = run.trainer(model), weights(model), model.training
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert step_seconds(run, trainer, run.stream()) > 0
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training == mode
    trainer.resume_or_start()
    assert trainer.state.global_step == 2
    assert trainer.counts.samples == 2, "what was timed is not counted as trained on"


def test_a_cold_first_step_does_not_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def first_slow(*_: object) -> None:
        time.sleep(0.002 if calls else 0.5)
        calls.append(1)

    monkeypatch.setattr(estimate, "_pass", first_slow)
    assert step_seconds(run, run.trainer(run.model()), run.stream()) < 0.1


def test_a_cold_first_answer_does_not_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def first_slow(self: object, model: object, prompts: list, keys: list, limits: object) -> list:
        time.sleep(0.0 if calls else 1.0)
        calls.append(len(prompts))
        return []

    monkeypatch.setattr(type(run.engine), "answer", first_slow)
    seconds = answering_seconds(run, run.model())
    assert seconds is not None
    assert seconds.about < 0.5
    assert max(calls) > 1, "one prompt alone says nothing about a batch"


def test_the_answers_take_about_as_long_as_estimated(run: Run) -> None:
    model = run.model()
    estimated = answering_seconds(run, model)
    start = time.perf_counter()
    run.predict(model)
    assert estimated is not None
    assert time.perf_counter() - start < 20 * estimated.about
    assert time.perf_counter() - start > estimated.about / 20


def test_memory_that_runs_out_ends_the_estimate_and_not_the_job(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(run.engine), "answer", full)
    model = run.model()
    mode = model.training
    assert answering_seconds(run, model) is None
    assert model.training == mode


def test_vllm_tells_nothing_before_it_has_started(tmp_path: Path) -> None:
    config = SimpleNamespace(inference=SimpleNamespace(engine="vllm"))
    assert answering_seconds(SimpleNamespace(config=config), None) is None


def test_nothing_is_left_after_the_last_task() -> None:
    assert _how_far(2, 2, 3, 10.0, None) == "5 s left"
    assert _how_far(3, 3, 3, 15.0, None) == ""
