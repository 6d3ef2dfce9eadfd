"""Training on the real trainer, with a model small enough for a test."""

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from small_training import run_on_six_tasks, small_run, weights
from transformers import TrainerCallback
from trl import SFTTrainer

from arc_experiments import compose, load_run
from arc_experiments.jobs import evaluate, finetune
from arc_experiments.jobs.beginning import begin
from arc_experiments.models.loading import load_base
from arc_experiments.run import Run
from arc_experiments.training import losses
from arc_experiments.training.checkpoints import last_complete, mark_complete, remove_torn
from arc_experiments.training.dataset import Collator, as_dataset
from arc_experiments.training.divergence import NonFiniteGradients
from arc_experiments.training.recording import cut_log, read_log
from arc_experiments.training.trainer import StreamTrainer
from arc_experiments.training.validation import validation_loss


def losses_of(run: Run) -> list[float]:
    model = run.model()
    lines: list[float] = []

    class Listen(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs) -> None:
            if "loss" in logs:
                lines.append(logs["loss"])

    run.trainer(model, [Listen()]).resume_or_start()
    return lines


def test_validation_loss_is_the_same_for_any_batch_size(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path, "data.limit=20")
    model, (records, too_long) = run.model(), run.validation_records
    assert len(records) >= 4
    results = [
        validation_loss(
            model,
            records,
            num_too_long=too_long,
            pad_id=run.prompt.pad_id,
            batch_size=size,
            processes=run.processes,
        )
        for size in (1, 2, 5)
    ]
    for other in results[1:]:
        assert other.token_mean == pytest.approx(results[0].token_mean, abs=1e-6)
        assert other.task_mean == pytest.approx(results[0].task_mean, abs=1e-6)
        assert other.num_tokens == results[0].num_tokens


def test_validation_loss_equals_a_plain_sum_over_the_answers(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path)
    model, (records, _) = run.model().eval(), run.validation_records
    total = 0.0
    for record in records:
        ids = torch.tensor(record.asked)[None].long()
        with torch.inference_mode():
            log_probabilities = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        picked = log_probabilities.gather(1, ids[0, 1:, None])[-record.answer_length :]
        total -= float(picked.double().sum())
    loss = run.validation_loss(model)
    assert loss.num_tokens == sum(record.answer_length for record in records)
    assert loss.token_mean == pytest.approx(total / loss.num_tokens, abs=1e-6)


def test_a_fresh_lora_changes_nothing_so_the_untrained_loss_is_the_base_models(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path)
    model = run.model()
    assert finetune.untrained_loss(run, model).token_mean == run.validation_loss(model).token_mean


def test_a_first_step_that_fails_is_known_before_the_untrained_model_is_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **named: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory for a step")

    monkeypatch.setattr(StreamTrainer, "training_step", fail)
    run = run_on_six_tasks(tmp_path)
    with pytest.raises(torch.OutOfMemoryError, match="no memory for a step"):
        finetune.main(run, Console(file=io.StringIO()))
    assert not (run.folder / finetune.LOG).exists()


@pytest.mark.parametrize("kind", [[], pytest.param(["model.lora.dora=true"], marks=pytest.mark.slow)])
def test_the_log_begins_with_the_loss_of_the_untrained_model(tmp_path: Path, kind: list[str]) -> None:
    run = run_on_six_tasks(tmp_path, "optim.max_steps=2", "optim.eval_steps=1", *kind)
    untrained = run.validation_loss(run.model())
    finetune.main(run, Console(file=io.StringIO()))
    lines = read_log(run.folder / finetune.LOG)
    assert [line["step"] for line in lines] == [0, 1, 1, 2, 2]
    assert lines[0]["validation_loss"] == pytest.approx(untrained.token_mean, rel=1e-6), "with other threads"
    metrics = run.folder.read_json("metrics.json")
    assert metrics["validation"]["initial_loss"] == lines[0]["validation_loss"]
    assert metrics["seconds"]["validation"] > 0


def test_rows_are_the_streams_samples_whatever_the_number_of_workers(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path)
    dataset = as_dataset(run.stream(), 8)
    stream = run.stream()
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=2, num_workers=workers, collate_fn=Collator(run.prompt.pad_id)
        )
        rows = [row[mask == 1] for batch in loader for row, mask in zip(*pick(batch), strict=True)]
        assert len(rows) == 8
        for index, row in enumerate(rows):
            assert np.array_equal(row, stream[index].encoded.input_ids)


def pick(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return batch["input_ids"], batch["attention_mask"]


def test_the_collator_ignores_padding_in_the_loss(tmp_path: Path) -> None:
    rows = [
        {"input_ids": np.array([1, 2, 3]), "labels": np.array([-100, 2, 3]), "marks": np.array([1, 3])},
        {"input_ids": np.array([4]), "labels": np.array([4]), "marks": np.array([1, 1])},
    ]
    batch = Collator(pad_id=9)(rows)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["labels"].tolist() == [[-100, 2, 3], [4, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["marks"].tolist() == [[1, 3], [1, 1]]


@pytest.mark.slow
def test_the_same_batch_in_one_piece_or_in_four_trains_alike(tmp_path: Path) -> None:
    ones = losses_of(run_on_six_tasks(tmp_path / "a", "hardware.per_device_batch_size=1"))
    fours = losses_of(run_on_six_tasks(tmp_path / "b", "hardware.per_device_batch_size=4"))
    assert len(ones) == 4
    assert ones == pytest.approx(fours, abs=1e-4)


@pytest.mark.slow
def test_a_run_that_stops_early_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    through = losses_of(run_on_six_tasks(tmp_path / "a", "optim.save_steps=2"))
    stopped = losses_of(run_on_six_tasks(tmp_path / "b", "optim.save_steps=2", "optim.stop_after=2"))
    rest = losses_of(run_on_six_tasks(tmp_path / "b", "optim.save_steps=2"))
    assert len(through) == 4
    assert stopped + rest == through, "the schedule keeps its horizon and the stream its place, bit for bit"


@pytest.mark.slow
def test_a_run_killed_after_its_last_checkpoint_trains_no_further(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path, "optim.save_steps=2", "optim.stop_after=2")
    model = run.model()
    run.trainer(model, []).resume_or_start()
    again = run_on_six_tasks(tmp_path, "optim.save_steps=2", "optim.stop_after=2")
    reloaded = again.model()
    trainer = again.trainer(reloaded, [])
    trainer.resume_or_start()
    assert trainer.state.global_step == 2
    assert trainer.counts.samples == 8
    assert all(torch.equal(value, weights(reloaded)[name]) for name, value in weights(model).items())


@pytest.mark.slow
def test_training_counts_its_samples_and_resumes_the_counts(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path, "optim.save_steps=2", "optim.stop_after=2")
    trainer = run.trainer(run.model(), [])
    trainer.resume_or_start()
    assert trainer.counts.samples == 8
    again = run_on_six_tasks(tmp_path, "optim.save_steps=2")
    trainer = again.trainer(again.model(), [])
    trainer.resume_or_start()
    stream = run.stream()
    assert trainer.counts.samples == 16
    assert trainer.session_counts.samples == 8
    assert trainer.counts.tokens == sum(len(stream[index].encoded) for index in range(16))


def test_gradients_that_are_not_numbers_stop_the_run_before_the_weights_change(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path)
    model = run.model()
    before = weights(model)

    class Poison(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs) -> None:
            next(p for p in model.parameters() if p.requires_grad).grad.fill_(float("nan"))

    trainer = run.trainer(model, [])
    trainer.callback_handler.callbacks.insert(0, Poison())
    with pytest.raises(NonFiniteGradients, match=r"step 1 .*learning_rate"):
        trainer.resume_or_start()
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())


def test_a_repetition_penalty_that_a_model_ships_does_not_bend_greedy_answers(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path / "run")
    base = load_base(run.config.model, dtype=torch.float32, device=torch.device("cpu"))
    base.generation_config.repetition_penalty = 1.5
    base.save_pretrained(tmp_path / "base")
    run.tokenizer.save_pretrained(tmp_path / "base")
    other = run_on_six_tasks(tmp_path / "other", f"model.path={tmp_path / 'base'}")
    plain, shipped = (each.predict(each.model()) for each in (run, other))
    assert [candidate.text for candidate in plain] == [candidate.text for candidate in shipped]


def test_answers_in_a_batch_are_those_of_one_prompt_at_a_time(tmp_path: Path) -> None:
    together = run_on_six_tasks(tmp_path / "a", "inference.limit=3", "inference.max_new_tokens=24")
    apart = run_on_six_tasks(
        tmp_path / "b", "inference.limit=3", "inference.max_new_tokens=24", "inference.batch_tokens=1"
    )
    many, single = (each.predict(each.model()) for each in (together, apart))
    assert [candidate.text for candidate in many] == [candidate.text for candidate in single]
    scores = [[candidate.log_probability for candidate in each] for each in (many, single)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_a_torn_checkpoint_is_never_taken(tmp_path: Path) -> None:
    for step in (2, 4, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text("x")
    mark_complete(tmp_path / "checkpoint-2")
    mark_complete(tmp_path / "checkpoint-4")
    assert last_complete(tmp_path) == tmp_path / "checkpoint-4"
    remove_torn(tmp_path)
    assert not (tmp_path / "checkpoint-10").exists(), "the torn one is removed"


def test_without_checkpoints_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert last_complete(tmp_path / "none") is None


def test_the_log_is_cut_back_to_the_checkpoint_and_loses_a_torn_line(tmp_path: Path) -> None:
    log = tmp_path / "train_log.jsonl"
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in range(6)]
    log.write_text("\n".join(lines) + '\n{"step": 6, "lo')
    cut_log(log, 3)
    assert log.read_text().splitlines() == lines[:4]


@pytest.mark.slow
def test_saved_weights_are_loaded_again_and_know_their_ancestry(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path, "optim.max_steps=2", "optim.save_steps=1")
    model = run.model()
    run.trainer(model, []).resume_or_start()
    folder = run.save_weights(model)
    assert run.validation_loss(run.trained_model()).token_mean == run.validation_loss(model).token_mean
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["base_model_name_or_path"] == run.config.model.path
    assert json.loads((folder / "ancestry.json").read_text())["trained_on"] == sorted(run.partition.train)


def test_full_fine_tuning_saves_a_whole_model(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path, "model.lora=null", "optim.max_steps=1")
    model = run.model()
    run.trainer(model, []).resume_or_start()
    assert run.save_weights(model) == tmp_path / "model"
    assert run.validation_loss(run.trained_model()).token_mean == run.validation_loss(model).token_mean


def test_an_adapter_of_another_prompt_is_refused_with_both_names(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path / "a", "optim.max_steps=1")
    adapter = run.save_weights(run.model())
    other = run_on_six_tasks(tmp_path / "b", f"model.adapter={adapter}", "prompt.question='O{input}I'")
    with pytest.raises(ValueError, match=r"prompt\.question: trained with 'I\{input\}O', used with"):
        other.model()
    forced = ["prompt.question='O{input}I'", "inference.force=true"]
    assert run_on_six_tasks(tmp_path / "c", f"model.adapter={adapter}", *forced).model() is not None


def test_validation_on_tasks_that_an_adapter_was_trained_on_is_a_leak(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path / "a", "optim.max_steps=1", "data.limit=null", "seeds.partition=8")
    adapter = run.save_weights(run.model())
    other = run_on_six_tasks(tmp_path / "b", f"model.adapter={adapter}", "data.limit=null")
    assert other.weights.parent is not None
    leaks = {leak.task.id for leak in other.weights.parent.leaks(other.validation_tasks).leaks}
    assert leaks == set(run.partition.train) & set(other.partition.validation) != set()
    assert set(other.ancestry.trained_on) == set(run.partition.train) | set(other.partition.train)


def test_asking_again_asks_the_model_as_it_is_now(tmp_path: Path) -> None:
    run = run_on_six_tasks(tmp_path, "inference.limit=3", "inference.max_new_tokens=8")
    model = run.model()
    before = [candidate.log_probability for candidate in run.predict(model)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    assert [candidate.log_probability for candidate in run.predict(model)] != before


def test_an_evaluation_of_weights_that_have_changed_since_is_refused(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    run = run_on_six_tasks(
        tmp_path / "run", "optim.max_steps=1", "inference.limit=1", "inference.max_new_tokens=8"
    )
    model = run.model()
    run.save_weights(model)
    typed = ["job=evaluate", f"from_run={run.folder.path}", "tracking=off"]
    folder = compose(typed, tmp_path / "evaluation").folder.path
    evaluate.main(load_run(folder), console)
    metrics = (folder / "metrics.json").read_text()
    evaluate.main(load_run(folder), console)
    assert (folder / "metrics.json").read_text() == metrics, "nothing has changed: it is finished"
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).add_(1.0)
    run.save_weights(model)
    with pytest.raises(ValueError, match=r"began with other weights: .*adapter have changed.*resume=false"):
        evaluate.main(load_run(folder), console)


def test_a_run_goes_on_with_the_batch_that_is_asked_for_now(tmp_path: Path) -> None:
    sizes = []
    for size in (4, 1):
        run = run_on_six_tasks(tmp_path, f"hardware.per_device_batch_size={size}")
        begin(run)
        sizes.append(run.per_device_batch_size)
        assert run.folder.read_json("environment.json")["per_device_batch_size"] == size
    assert sizes == [4, 1]


@pytest.mark.slow
def test_seconds_of_training_are_those_of_all_attempts(tmp_path: Path) -> None:
    first = run_on_six_tasks(tmp_path, "optim.save_steps=2", "optim.stop_after=2")
    trainer = first.trainer(first.model(), [])
    trainer.resume_or_start()
    kept = json.loads((tmp_path / "checkpoints" / "checkpoint-2" / "counts.json").read_text())["seconds"]
    assert 0 < kept <= trainer.seconds
    again = run_on_six_tasks(tmp_path, "optim.save_steps=2")
    trainer = again.trainer(again.model(), [])
    start = time.perf_counter()
    trainer.resume_or_start()
    assert kept < trainer.seconds <= kept + time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize("loss_on", ["test_output", "all_outputs"])
def test_the_loss_at_labelled_positions_is_that_of_sfttrainer(
    loss_on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"prompt.loss_on={loss_on}", "hardware.per_device_batch_size=2"]
    ours = losses_of(run_on_six_tasks(tmp_path / "ours", *options))
    monkeypatch.setattr(losses, "MAX_LOGITS", 0)
    assert ours == pytest.approx(losses_of(run_on_six_tasks(tmp_path / "theirs", *options)), abs=2e-6)


@pytest.mark.slow
def test_which_loss_is_computed_depends_on_nothing_that_differs_between_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SFTTrainer's loss makes processes wait for each other: one process alone in it would wait forever."""
    run = run_on_six_tasks(tmp_path, "hardware.per_device_batch_size=2", "optim.max_steps=2")
    model = run.model()
    limit = 2 * run.config.prompt.max_length * model.config.vocab_size
    of_sfttrainer = list[int]()
    real = SFTTrainer.compute_loss

    def counted(self: SFTTrainer, *arguments: Any) -> Any:
        of_sfttrainer.append(self.state.global_step)
        return real(self, *arguments)

    monkeypatch.setattr(SFTTrainer, "compute_loss", counted)
    monkeypatch.setattr(losses, "MAX_LOGITS", limit)
    losses_of(run)
    assert of_sfttrainer == []
    monkeypatch.setattr(
        losses, "MAX_LOGITS", limit - 1
    )  # no batch is that long; one of another process may be
    losses_of(run_on_six_tasks(tmp_path / "b", "hardware.per_device_batch_size=2", "optim.max_steps=2"))
    assert of_sfttrainer == [0, 0, 1, 1]


@pytest.mark.slow
def test_a_training_by_hand_to_its_end_is_answered_and_scored_by_the_command(tmp_path: Path) -> None:
    run = small_run(tmp_path, "optim.max_steps=2", "optim.save_steps=2")
    run.trainer(run.model()).resume_or_start()
    finetune.main(small_run(tmp_path, "optim.max_steps=2", "optim.save_steps=2"), Console(quiet=True))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["train"]["steps"] == 2
    assert metrics["train"]["final_loss"] is None, "no line of the log tells it"
    assert metrics["validation"]["loss"]["token_mean"] > 0
    assert (tmp_path / "report.html").exists()
