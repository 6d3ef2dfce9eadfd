"""adapt.together: tasks trained in one batch give what they give one by one."""

import dataclasses
import gc
import io
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_tools import METHODS, adapt_run, adapted, lasting_metrics, outcomes, predictions, stop_training_at
from rich.console import Console
from small_training import same, weights
from task_files import write

from arc_experiments.adaptation.plan import AdaptationPlan
from arc_experiments.adaptation.results import AdaptationCounts, Adapted
from arc_experiments.adaptation.task_groups import TaskGroup, make_bundles, make_task_groups
from arc_experiments.adaptation.tuner import Tuner
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import ConfigError
from arc_experiments.jobs import adapt
from arc_experiments.models.ancestry import read_ancestry
from arc_experiments.run import Run
from arc_experiments.training import losses
from arc_experiments.training.trainer import StreamTrainer

SMALL = ["adapt.together=3", "optim.batch_size=2"]
MARK = 9  # a colour that one task alone has


def make_tasks(folder: Path) -> Path:
    """A task to train on, and tasks to adapt to of different lengths; the longest has a cell of MARK."""
    rng = np.random.default_rng(0)

    def pair(height: int, width: int, colour: int) -> dict[str, Any]:
        return {"input": rng.integers(0, MARK, (height, width)).tolist(), "output": [[colour] * width]}

    def task(height: int, width: int, colour: int, demonstrations: int) -> dict[str, Any]:
        pairs = [pair(height, width, colour) for _ in range(demonstrations)]
        return {"train": pairs, "test": [pair(height, width, colour)]}

    write(folder, "training/t.json", task(1, 3, 1, 3))
    write(folder, "evaluation/e0.json", task(1, 2, 0, 3))
    write(folder, "evaluation/e1.json", task(2, 6, MARK, 4))
    write(folder, "evaluation/e2.json", task(3, 4, 2, 3))
    return folder


@pytest.fixture(autouse=True, scope="module")
def _quick_garbage_collection() -> Iterator[None]:
    """Each training collects garbage, among all that was imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tasks(tmp_path_factory.mktemp("tasks"))


class Observed:
    """A tuner of a run with all that its trainings made.

    Attributes:
        trainers: in their order.
        weights: by unit, with which it was answered.
    """

    def __init__(self, folder: Path, tasks: Path, *overrides: str) -> None:
        self.run = adapt_run(folder, tasks, *SMALL, *overrides)
        self.trainers: list[StreamTrainer] = []
        self.weights: dict[str, dict[str, torch.Tensor]] = {}
        real_trainer = self.run.trainer

        def trainer(*arguments: Any, **options: Any) -> StreamTrainer:
            self.trainers.append(real_trainer(*arguments, **options))
            return self.trainers[-1]

        self.run.trainer = trainer
        self.tuner = Tuner(self.run, folder / "apart", lambda: False)
        real_answer = self.tuner.answer

        def answer(tasks: Any, name: str, **more: Any) -> Any:
            self.weights[name] = weights(self.tuner.model)
            return real_answer(tasks, name, **more)

        self.tuner.answer = answer
        self.units = make_task_groups(self.run.predicted_tasks(), None)

    def one_by_one(self) -> list[Adapted]:
        return [self.tuner.adapt(unit) for unit in self.units]

    def together(self) -> list[Adapted]:
        """In the order of the units."""
        [bundle] = make_bundles(self.units, 3)
        done = {one.task_ids: one for one in self.tuner.adapt_bundle(bundle)}
        return [done[unit.tasks.ids] for unit in self.units]


def assert_close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=0, atol=1e-5)


def assert_same_training(left: AdaptationCounts | None, right: AdaptationCounts | None) -> None:
    assert left is not None
    assert right is not None
    assert left.loss == pytest.approx(right.loss, abs=1e-5)
    assert dataclasses.replace(left, loss=None) == dataclasses.replace(right, loss=None)


def assert_same_answers(run: Run, other: Run) -> None:
    for one, two in zip(predictions(run), predictions(other), strict=True):
        assert one.pop("log_probability") == pytest.approx(two.pop("log_probability"), abs=1e-4)
        assert one == two


def assert_equal_to_one_by_one(observed: Observed) -> None:
    first = weights(observed.tuner.model)
    alone, weights_alone = observed.one_by_one(), dict(observed.weights)
    assert len(observed.trainers) == 3
    together = observed.together()
    assert len(observed.trainers) == 4
    for name, value in weights_alone.items():
        assert_close(observed.weights[name], value)
        assert max(float((value[key] - first[key]).abs().max()) for key in first) > 1e-3
    for one, other in zip(together, alone, strict=True):
        assert (one.outcome, one.task_ids) == (other.outcome, other.task_ids)
        assert_same_training(one.training, other.training)
        assert [each.text for each in one.candidates] == [each.text for each in other.candidates]
    assert same(weights(observed.tuner.model), first), "the weights are put back to the last bit"


# The same as one by one


@pytest.mark.parametrize("rows", [1, 2])
def test_each_task_is_trained_as_if_it_were_alone(rows: int, tasks: Path, tmp_path: Path) -> None:
    options = [f"hardware.per_device_batch_size={rows}", "optim.weight_decay=0.1"]
    observed = Observed(tmp_path / "run", tasks, *options)
    assert_equal_to_one_by_one(observed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adamw_torch_fused"])
def test_other_optimizers_do_not_mix_the_tasks(name: str, tasks: Path, tmp_path: Path) -> None:
    rate = 2e-2 if name == "sgd" else 2e-3
    options = [f"optim.name={name}", f"optim.learning_rate={rate}", "optim.max_steps=2"]
    assert_equal_to_one_by_one(Observed(tmp_path / "run", tasks, *options))


def test_gradients_are_clipped_for_the_task_alone_whose_norm_is_too_large(
    tasks: Path, tmp_path: Path
) -> None:
    options = ["optim.name=sgd", "optim.learning_rate=2e-2", "optim.max_steps=1", "optim.max_grad_norm=20.5"]
    observed = Observed(tmp_path / "run", tasks, *options, "optim.warmup=0")
    assert_equal_to_one_by_one(observed)
    norms = [one.state.log_history[0]["grad_norm"] for one in observed.trainers[:3]]
    assert [norm > 20.5 for norm in norms].count(True) == 1, "it bites for one of them"
    of_all = observed.trainers[3].state.log_history[0]["grad_norm"]
    assert of_all == pytest.approx(sum(norm**2 for norm in norms) ** 0.5)


@pytest.mark.parametrize(
    "options",
    [
        ["optim.label_smoothing=0.1"],
        ["optim.pack_length=300", "hardware.num_workers=1"],
        ["model.gradient_checkpointing=true", "model.lora.initialisation=pissa"],
    ],
)
def test_losses_packing_and_checkpointing_are_those_of_one_task(
    options: list[str], tasks: Path, tmp_path: Path
) -> None:
    assert_equal_to_one_by_one(Observed(tmp_path / "run", tasks, "optim.max_steps=2", *options))


def test_the_fused_loss_of_a_gpu_is_shared_out_as_well(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "MAX_LOGITS", 0)
    assert_equal_to_one_by_one(Observed(tmp_path / "run", tasks, "optim.max_steps=2"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_reduced_precision_and_dropout_train_every_task(dtype: str, tasks: Path, tmp_path: Path) -> None:
    options = [f"model.dtype={dtype}", "model.lora.dropout=0.5"]
    observed = Observed(tmp_path / "run", tasks, *options)
    once, again = observed.together(), observed.together()
    assert [one.training for one in once] == [one.training for one in again]
    assert [one.outcome.value for one in once] == ["whole"] * 3


# The job


@pytest.fixture(scope="module")
def finished(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A whole job of two tasks at once, and what it printed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return adapted(folder, tasks, *SMALL, "adapt.together=2", "adapt.save=true")


@pytest.mark.slow
def test_a_job_leaves_the_same_files_as_one_by_one(
    finished: tuple[Run, str], tasks: Path, tmp_path: Path
) -> None:
    run, printed = finished
    method = "each task by itself, 2 at once, with 1 demonstration at a time left out as test pair"
    assert f"adaptation   {method}" in printed
    alone, _ = adapted(tmp_path / "run", tasks, *SMALL, "adapt.together=1", "adapt.save=true")
    assert_same_answers(run, alone)
    units, others = predictions(run, "adaptation.jsonl"), predictions(alone, "adaptation.jsonl")
    assert [unit["task_ids"] for unit in units] == [[task_id] for task_id in run.partition.validation]
    for unit, other in zip(units, others, strict=True):
        assert_same_training(AdaptationCounts(**unit["training"]), AdaptationCounts(**other["training"]))
    seconds = run.folder.read_json("metrics.json")["seconds"]["training"]
    assert seconds == pytest.approx(sum(unit["seconds"]["training"] for unit in units))
    folders = sorted((run.folder / "adapters").iterdir())
    assert [folder.name for folder in folders] == sorted(
        p.name for p in (alone.folder / "adapters").iterdir()
    )
    assert [read_ancestry(folder).trained_on for folder in folders] == [
        (f"e{number}_leave_1",) for number in range(3)
    ]
    assert not (run.folder / ".adapt").exists()


def test_groups_are_of_tasks_of_one_length_whoever_makes_them(tasks: Path, tmp_path: Path) -> None:
    run = adapt_run(tmp_path / "run", tasks, *SMALL, "adapt.together=2")
    bundles = AdaptationPlan(run, METHODS, lambda: False)._bundles.values()
    assert [[group.tasks.ids for group in bundle.groups] for bundle in bundles] == [
        [("e0",), ("e2",)],
        [("e1",)],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("save_steps", [2, 1000])
def test_a_group_that_was_killed_gives_the_same(save_steps: int, tasks: Path, tmp_path: Path) -> None:
    options = [*SMALL, "optim.max_steps=5", f"optim.save_steps={save_steps}"]
    through, _ = adapted(tmp_path / "through", tasks, *options)
    run = adapt_run(tmp_path / "run", tasks, *options)
    [bundle] = AdaptationPlan(run, METHODS, lambda: False)._bundles.values()
    cut = Tuner(run, run.folder / ".adapt", lambda: False)
    stop_training_at(run, 4)
    with pytest.raises(KeyboardInterrupt):
        cut.adapt_bundle(bundle)
    kept = sorted(path.name for path in (run.folder / ".adapt").rglob("checkpoint-*"))
    assert kept == (["checkpoint-2", "checkpoint-4"] if save_steps == 2 else [])
    resumed, _ = adapted(tmp_path / "run", tasks, *options)
    assert lasting_metrics(resumed) == lasting_metrics(through)
    assert predictions(resumed) == predictions(through)
    known = [unit["training"] for unit in predictions(resumed, "adaptation.jsonl")]
    assert known == [unit["training"] for unit in predictions(through, "adaptation.jsonl")]


@pytest.mark.slow
def test_a_group_that_was_killed_between_its_answers_is_not_trained_again(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*SMALL, "optim.max_steps=4", "optim.save_steps=2"]
    through, _ = adapted(tmp_path / "through", tasks, *options)
    real, answered = Tuner._answer_adapted, list[str]()

    def stops_at_the_second(self: Tuner, unit: TaskGroup) -> Any:
        answered.append(unit.name)
        if len(answered) == 2:
            raise KeyboardInterrupt
        return real(self, unit)

    monkeypatch.setattr(Tuner, "_answer_adapted", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        adapted(tmp_path / "run", tasks, *options)
    monkeypatch.setattr(StreamTrainer, "train", lambda self, **options: pytest.fail("trained again"))
    resumed, _ = adapted(tmp_path / "run", tasks, *options)
    assert answered.count(answered[0]) == 2, "its answers are kept and resumed"
    assert_same_answers(resumed, through)
    known = [unit["training"] for unit in predictions(resumed, "adaptation.jsonl")]
    assert known == [unit["training"] for unit in predictions(through, "adaptation.jsonl")]


# Where one of them cannot be trained


@pytest.mark.slow
def test_tasks_that_cannot_be_trained_are_left_out_before(tasks: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tasks, tmp_path / "tasks")
    pair = {"input": [[1, 2, 3]], "output": [[4] * 3]}
    long = {"input": [[1] * 30] * 4, "output": [[2] * 30] * 4}
    write(folder, "evaluation/few.json", {"train": [pair], "test": [pair]})
    write(folder, "evaluation/long.json", {"train": [long] * 3, "test": [pair]})
    run, _ = adapted(tmp_path / "run", folder, *SMALL, "adapt.together=5")
    alone, _ = adapted(tmp_path / "alone", folder, *SMALL, "adapt.together=1")
    assert outcomes(run) == outcomes(alone) == {"whole": 3, "too_few_demonstrations": 1, "too_long": 1}
    assert_same_answers(run, alone)


@pytest.fixture
def _diverging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that knows no number for MARK while it is trained."""
    real = Run.model

    def model(self: Run, **options: Any) -> Any:
        made, token = real(self, **options), self.tokenizer.convert_tokens_to_ids(str(MARK))

        def spoil(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            is_marked = (inputs[0] == token).any(1)[:, None, None]
            return output.masked_fill(is_marked, torch.nan) if module.training else output

        made.get_input_embeddings().register_forward_hook(spoil)
        return made

    monkeypatch.setattr(Run, "model", model)


@pytest.mark.slow
@pytest.mark.usefixtures("_diverging")
def test_a_training_that_diverges_costs_its_own_task_alone(
    tasks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = [*SMALL, "augmentation=[order]"]
    run, _ = adapted(tmp_path / "run", tasks, *options)
    assert outcomes(run) == {"whole": 2, "diverged": 1}
    assert "one by one instead" in caplog.text
    alone, _ = adapted(tmp_path / "alone", tasks, *options, "adapt.together=1")
    assert predictions(run) == predictions(alone)
    assert outcomes(alone) == outcomes(run)


@pytest.mark.slow
def test_a_group_that_does_not_fit_into_memory_is_trained_one_by_one(
    tasks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    observed = Observed(tmp_path / "run", tasks)
    real = observed.run.trainer

    def trainer(*arguments: Any, **options: Any) -> StreamTrainer:
        if isinstance(options["kind"], partial):
            time.sleep(0.3)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(*arguments, **options)

    observed.run.trainer = trainer
    adapt_one, lost = observed.tuner.adapt, list[float]()

    def adapt(unit: TaskGroup, seconds: float = 0.0) -> Adapted:
        lost.append(seconds)
        return adapt_one(unit, seconds)

    observed.tuner.adapt = adapt
    together = observed.together()
    assert [one.outcome.value for one in together] == ["whole"] * 3
    assert sum(lost) >= 0.3, "what failed has cost time as well"
    assert "e0-and-2: CUDA out of memory. Tried to allocate 2 GiB; one by one instead" in caplog.text
    alone = observed.one_by_one()
    assert [one.training for one in together] == [one.training for one in alone]


@pytest.mark.slow
def test_all_of_a_group_stop_when_the_time_is_over(tasks: Path, tmp_path: Path) -> None:
    run, _ = adapted(tmp_path / "run", tasks, *SMALL, "adapt.seconds_per_task=1e-6", "optim.warmup=0")
    assert outcomes(run) == {"stopped_by_time": 3}
    assert [unit["training"]["steps"] for unit in predictions(run, "adaptation.jsonl")] == [1, 1, 1]
    late, _ = adapted(tmp_path / "late", tasks, *SMALL, "adapt.seconds=1e-6")
    assert outcomes(late) == {"not_begun_in_time": 3}


@pytest.mark.slow
def test_a_group_has_the_time_of_all_of_its_tasks(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamTrainer, "seconds", property(lambda self: 10.0 * self.state.global_step))
    observed = Observed(tmp_path / "run", tasks, "adapt.seconds_per_task=9", "optim.max_steps=5")
    assert [one.training.steps for one in observed.together()] == [3, 3, 3]


# Mistakes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapt.together=0"], "adapt.together=0 is too small"),
        (["adapt.mode=joint"], "adapt.together=2 does not go with adapt.mode=joint"),
        (["adapt.mode=groups", "adapt.groups=2"], "adapt.together=2 does not go with adapt.mode=groups"),
        (["optim.name=adamw_8bit"], "optim.name=adamw_8bit: tasks would act on each other"),
        (["optim.name=adafactor"], "optim.name=adafactor"),
        (["hardware.per_device_batch_size=auto"], "hardware.per_device_batch_size=auto"),
        (["model.lora=null"], "model.lora=null: there are no adapters"),
        (["model.lora.dora=true"], "model.lora.dora=true"),
        (["model.lora.modules_to_save=[lm_head]"], "model.lora.modules_to_save=['lm_head']"),
        (["model.compile=true"], "model.compile=true"),
        (["optim.neftune_alpha=5"], "optim.neftune_alpha=5"),
    ],
)
def test_what_cannot_be_trained_at_once_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config(["job=adapt", "adapt.together=2", *overrides])
    assert message in str(raised.value)


def test_the_moments_of_another_optimizer_are_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match=r"does not go with optim\.load_state=.*take null"):
        compose_config(["job=adapt", "adapt.together=2", f"optim.load_state={tmp_path}"])


def test_an_adapter_that_trains_more_is_refused_when_it_is_loaded(tasks: Path, tmp_path: Path) -> None:
    saving = adapt_run(tmp_path / "saving", tasks, *SMALL, "adapt.together=1", "model.lora.dora=true")
    saved = saving.save_weights(saving.model())
    given = [option for option in SMALL if not option.startswith("adapt")]
    run = adapt_run(tmp_path / "run", tasks, *given, f"model.adapter={saved}", "adapt.together=2")
    with pytest.raises(ValueError, match=r"adapt\.together=2 trains nothing but plain LoRA matrices"):
        adapt.main(run, Console(file=io.StringIO()))
