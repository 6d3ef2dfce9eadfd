"""The optimizer, its schedules, second stages, guards: on the real trainer, with a tiny model."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import logged, overflow, same, small_run, trained, weights
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.training_args import OptimizerNames

from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze
from arc_experiments.config.check import ConfigError
from arc_experiments.config.schema import OPTIMIZERS
from arc_experiments.runs.folder import FolderError, RunFolder
from arc_experiments.training.divergence import (
    SPIKE_LEAST,
    Guard,
    LossSpike,
    NonFiniteGradients,
    ScaleWatch,
    SkippedSteps,
    spike,
)
from arc_experiments.training.optimizers import OptimizerError, check_available
from arc_experiments.training.schedules import cyclic
from arc_experiments.training.trainer import FIRST_LOSS_SCALE, StreamTrainer

STEPS, WARMUP, RATE = 8, 2, 1e-3


# Schedules: the share of the full rate after the warm-up, from x = 0..1 over the 6 steps that are left


def inverse_sqrt(x: float) -> float:
    return math.sqrt(WARMUP / (WARMUP + x * (STEPS - WARMUP)))


SCHEDULES: dict[str, tuple[list[str], Callable[[float], float]]] = {
    "linear": ([], lambda x: 1 - x),
    "constant": ([], lambda x: 1),
    "cosine": ([], lambda x: (1 + math.cos(math.pi * x)) / 2),
    "cosine_with_restarts": (["optim.cycles=2"], lambda x: (1 + math.cos(math.pi * (2 * x % 1))) / 2),
    "cosine_with_min_lr": (
        ["optim.min_learning_rate=2e-4"],
        lambda x: 0.2 + 0.8 * (1 + math.cos(math.pi * x)) / 2,
    ),
    "warmup_stable_decay": (["optim.decay=0.5"], lambda x: min(1, (1 - x) * 6 / 4)),
    "inverse_sqrt": ([], inverse_sqrt),
    # down over two steps, up to the half over two, down over two
    "cyclic": (["optim.cycles=2"], lambda x: [1, 0.5, 0, 0.25, 0.5, 0.25][round(6 * x)]),
}


def scheduled(schedule: str) -> list[str]:
    warmup = "optim.warmup=0.25" if schedule == "cosine" else f"optim.warmup={WARMUP}"
    return [f"optim.schedule={schedule}", f"optim.learning_rate={RATE}", warmup, *SCHEDULES[schedule][0]]


def by_formula(schedule: str) -> Any:
    formula = SCHEDULES[schedule][1]
    rising = [step / WARMUP for step in range(WARMUP)]
    falling = [formula(step / (STEPS - WARMUP)) for step in range(STEPS - WARMUP)]
    return pytest.approx([RATE * share for share in rising + falling], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_follows_its_formula(tmp_path: Path, schedule: str) -> None:
    run = small_run(tmp_path, *scheduled(schedule))
    trainer, rates = run.trainer(run.model()), []
    trainer.create_optimizer_and_scheduler(STEPS)
    for _ in range(STEPS):
        rates += trainer.lr_scheduler.get_last_lr()[:1]
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates == by_formula(schedule)


@pytest.mark.parametrize("schedule", ["cosine", "cyclic"])  # transformers', and one of ours
def test_a_run_that_resumes_follows_its_schedule(tmp_path: Path, schedule: str) -> None:
    trained(small_run(tmp_path, *scheduled(schedule), "optim.stop_after=4"))
    rates = logged(trained(small_run(tmp_path, *scheduled(schedule))), "learning_rate")
    assert rates == by_formula(schedule)


def test_cycles_have_lower_and_lower_peaks_and_end_at_zero() -> None:
    rates = [cyclic(step, warmup_steps=10, max_steps=80, cycles=4) for step in range(81)]
    assert [rates[step] for step in (0, 10, 30, 50, 70)] == pytest.approx([0, 1, 0.75, 0.5, 0.25])
    assert [rates[step] for step in (20, 40, 60, 80)] == pytest.approx([0, 0, 0, 0])


def test_without_warm_up_the_first_step_has_the_full_rate(tmp_path: Path) -> None:
    run = small_run(tmp_path, "optim.warmup=0", "optim.max_steps=1", "optim.save_steps=1")
    assert logged(trained(run), "learning_rate") == [run.config.optim.learning_rate]


# Optimizers


def test_the_list_of_optimizers_is_transformers_less_those_that_do_not_fit() -> None:
    left_out = {name.value for name in OptimizerNames} - set(OPTIMIZERS)
    reasons = ("galore", "apollo", "lomo", "adalomo", "schedule_free", "adamw_torch_npu", "adamw_torch_xla")
    assert {name for name in left_out if not name.startswith(reasons)} == set()
    assert set(OPTIMIZERS) <= {name.value for name in OptimizerNames}


def test_every_optimizer_that_is_installed_moves_the_weights_and_the_others_say_what_is_missing(
    tmp_path: Path,
) -> None:
    run = small_run(tmp_path)
    model = run.model()
    trainer = run.trainer(model, [])
    missing = {}
    for name in OPTIMIZERS:
        trainer.optimizer, trainer.args.optim = None, OptimizerNames(name)
        try:
            check_available(trainer.args)
        except OptimizerError as error:
            missing[name] = str(error)
            continue
        before = weights(model)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        trainer.create_optimizer().step()
        assert not any(torch.equal(before[key], value) for key, value in weights(model).items()), name
    needing = {"adamw_torch_8bit", "adamw_torch_4bit", "grokadamw", "adamw_anyprecision", "stable_adamw"}
    assert missing.keys() <= needing
    for name, message in missing.items():
        assert f"optim.name={name} is not available here" in message
        assert "adamw_torch" in message


def test_a_missing_package_is_reported_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.trainer_optimizer.is_bitsandbytes_available", lambda: False)
    run = small_run(tmp_path, "optim.name=adamw_8bit")
    with pytest.raises(OptimizerError, match=r"optim\.name=adamw_8bit is not .* install `bitsandbytes`"):
        run.trainer(run.model(), [])


@pytest.mark.parametrize(
    "name",
    [
        "adamw_8bit",
        pytest.param("paged_adamw_8bit", marks=pytest.mark.slow),
        pytest.param("adafactor", marks=pytest.mark.slow),
    ],
)
def test_a_run_resumes_exactly_with_other_optimizers(tmp_path: Path, name: str) -> None:
    chosen = [f"optim.name={name}", "optim.max_steps=4", "optim.save_steps=2", "model.lora.rank=32"]
    through = logged(trained(small_run(tmp_path / "a", *chosen)), "loss")
    trained(small_run(tmp_path / "b", *chosen, "optim.stop_after=2"))
    assert logged(trained(small_run(tmp_path / "b", *chosen)), "loss") == through


EMBEDDINGS = ["model.lora.modules_to_save=[embed_tokens]", "optim.embedding_learning_rate=1e-5"]


def test_embeddings_are_trained_with_their_own_rate_on_the_same_schedule(tmp_path: Path) -> None:
    run = small_run(
        tmp_path, *EMBEDDINGS, "optim.weight_decay=0.1", "optim.learning_rate=1e-3", "optim.warmup=4"
    )
    seen = []

    class Listen(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs) -> None:
            seen.append([(group["lr"], group["weight_decay"]) for group in optimizer.param_groups])

    model = run.model()
    trainer = trained(run, (Listen(),), model)
    groups = trainer.optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert ["embed_tokens" in names[id(p)] for p in groups[-1]["params"]] == [True]
    assert not any("embed_tokens" in names[id(p)] for group in groups[:-1] for p in group["params"])
    assert sum(len(group["params"]) for group in groups) == len(weights(model))
    for step in range(4):
        assert seen[step] == [(1e-3 * step / 4, 0.1), (pytest.approx(1e-5 * step / 4), 0.1)]


def test_an_embedding_rate_without_a_trained_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptimizerError, match=r"optim\.embedding_learning_rate=.*modules_to_save"):
        trained(small_run(tmp_path, "optim.embedding_learning_rate=1e-5"))


def test_full_fine_tuning_decays_no_biases_and_norms_in_either_group(tmp_path: Path) -> None:
    run = small_run(
        tmp_path, "model.lora=null", "optim.weight_decay=0.1", "optim.embedding_learning_rate=1e-5"
    )
    model = run.model()
    optimizer = run.trainer(model, []).create_optimizer()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    kinds = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert kinds.keys() == set(names.values())
    for name, kind in kinds.items():
        assert kind[0] == (1e-5 if "embed_tokens" in name else run.config.optim.learning_rate), name
        assert kind[1] == (0.0 if "bias" in name or "norm" in name else 0.1), name


# What changes the loss


def first_sample_log_probabilities(run: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all tokens at the labelled positions (rows), and those of the labels, under the untrained model."""
    sample = run.stream()[0].encoded
    ids, labels = torch.tensor(sample.input_ids)[None].long(), torch.tensor(sample.labels).long()[1:]
    with torch.no_grad():
        rows = run.model().eval()(input_ids=ids).logits[0, :-1].log_softmax(-1)[labels >= 0]
    return rows, rows.gather(1, labels[labels >= 0, None])


def test_label_smoothing_mixes_in_the_mean_over_the_vocabulary(tmp_path: Path) -> None:
    run = small_run(tmp_path, "optim.label_smoothing=0.2", "optim.max_steps=1")
    everything, right = first_sample_log_probabilities(run)
    expected = -0.8 * right.mean() - 0.2 * everything.mean()
    assert logged(trained(run), "loss") == [pytest.approx(float(expected), rel=1e-4)]


def test_without_label_smoothing_the_loss_is_that_of_the_labels(tmp_path: Path) -> None:
    run = small_run(tmp_path, "optim.max_steps=1")
    _, right = first_sample_log_probabilities(run)
    assert logged(trained(run), "loss") == [pytest.approx(-float(right.mean()), rel=1e-4)]


def test_label_smoothing_is_the_same_in_one_piece_or_in_four(tmp_path: Path) -> None:
    chosen = ["optim.label_smoothing=0.2", "optim.batch_size=4", "optim.max_steps=2", "optim.save_steps=2"]
    ones = trained(small_run(tmp_path / "a", *chosen))
    fours = trained(small_run(tmp_path / "b", *chosen, "hardware.per_device_batch_size=4"))
    assert logged(ones, "loss") == pytest.approx(logged(fours, "loss"), abs=1e-4)


@pytest.mark.slow
def test_neftune_is_noise_in_training_only_and_resumes_exactly(tmp_path: Path) -> None:
    chosen = ["optim.max_steps=4", "optim.save_steps=2"]
    plain = logged(trained(small_run(tmp_path / "plain", *chosen)), "loss")
    run = small_run(tmp_path / "a", *chosen, "optim.neftune_alpha=5")
    inside = []

    class Validate(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
            inside.append(run.validation_loss(model).token_mean == run.validation_loss(model).token_mean)

    noisy = logged(trained(run, (Validate(),)), "loss")
    assert plain[0] != noisy[0] == pytest.approx(plain[0], rel=0.5)
    assert inside == [True] * 4
    trained(small_run(tmp_path / "b", *chosen, "optim.neftune_alpha=5", "optim.stop_after=2"))
    assert logged(trained(small_run(tmp_path / "b", *chosen, "optim.neftune_alpha=5")), "loss") == noisy


# Second stages

FIRST = ["optim.max_steps=4", "optim.learning_rate=1e-3", "optim.weight_decay=0.1"]
SECOND = ["optim.max_steps=4", "optim.save_steps=2", "optim.learning_rate=5e-5", "optim.warmup=0"]


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages") / "first"
    run = small_run(folder, *FIRST)
    model = run.model()
    trained(run, (), model)
    run.save_weights(model)
    return folder


class AtFirstStep(TrainerCallback):
    """What the optimizer has when it is about to make its first step."""

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs) -> None:
        if self.state is None:
            self.state = copy.deepcopy(optimizer.state_dict())


def test_a_second_stage_has_the_old_moments_and_the_new_rate(first_stage: Path, tmp_path: Path) -> None:
    start = AtFirstStep()
    chosen = [*SECOND, f"model.adapter={first_stage}/adapter", f"optim.load_state={first_stage}"]
    trainer = trained(small_run(tmp_path, *chosen), (start,))
    old = torch.load(first_stage / "checkpoints/checkpoint-4/optimizer.pt")
    assert start.state is not None
    assert start.state["state"].keys() == old["state"].keys()
    for place, moments in old["state"].items():
        assert set(moments) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(start.state["state"][place][key], value) for key, value in moments.items())
    assert {group["lr"] for group in start.state["param_groups"]} == {5e-5}
    assert {group["initial_lr"] for group in start.state["param_groups"]} == {5e-5}
    assert {group["weight_decay"] for group in start.state["param_groups"]} == {0.0}
    assert logged(trainer, "learning_rate")[0] == 5e-5


@pytest.mark.slow
def test_a_second_stage_that_is_resumed_does_not_load_the_moments_again(
    first_stage: Path, tmp_path: Path
) -> None:
    chosen = [*SECOND, f"model.adapter={first_stage}/adapter", f"optim.load_state={first_stage}"]
    through = logged(trained(small_run(tmp_path / "a", *chosen)), "loss")
    without = logged(trained(small_run(tmp_path / "c", *chosen[:-1])), "loss")
    trained(small_run(tmp_path / "b", *chosen, "optim.stop_after=2"))
    assert logged(trained(small_run(tmp_path / "b", *chosen)), "loss") == through != without


def test_moments_find_their_parameters_by_name_in_other_groups(tmp_path: Path) -> None:
    trained(small_run(tmp_path / "a", *FIRST, EMBEDDINGS[0]))
    start, run = (
        AtFirstStep(),
        small_run(tmp_path / "b", *SECOND, *EMBEDDINGS, f"optim.load_state={tmp_path}/a"),
    )
    trainer = trained(run, (start,))
    checkpoint = tmp_path / "a/checkpoints/checkpoint-4"
    names = [
        entry["name"]
        for entry in json.loads((checkpoint / "optimizer_parameters.json").read_text())["parameters"]
    ]
    old = torch.load(checkpoint / "optimizer.pt")["state"]
    own = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    now = [own[id(p)] for group in trainer.optimizer.param_groups for p in group["params"]]
    assert start.state is not None
    assert now != names
    assert sorted(now) == sorted(names)
    for place, name in enumerate(now):
        assert torch.equal(start.state["state"][place]["exp_avg"], old[names.index(name)]["exp_avg"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("model.lora.rank=8", r"differs in \d+ places:\n  base_model.*lora_A.*: \[4, 40\] -> \[8, 40\]"),
        ("model.lora.target_modules=[q_proj]", r"k_proj.*\] -> \(absent\)"),
        ("optim.name=adafactor", r"optim\.name: adamw_torch -> adafactor"),
    ],
)
def test_moments_of_other_parameters_are_refused_with_the_first_differences(
    first_stage: Path, tmp_path: Path, change: str, expected: str
) -> None:
    run = small_run(tmp_path, *SECOND, f"optim.load_state={first_stage}", change)
    with pytest.raises(OptimizerError, match=expected) as raised:
        trained(run)
    assert len(str(raised.value).splitlines()) <= 7
    assert "optim.load_state=null" in str(raised.value)


@pytest.mark.slow
def test_moments_of_eight_bits_are_taken_over_too(tmp_path: Path) -> None:
    # Small states stay in 32 bits.
    big = ["model.path=package:tiny", "model.lora.rank=32", "optim.name=adamw_8bit"]
    trained(small_run(tmp_path / "a", *FIRST, *big))
    start = AtFirstStep()
    trained(small_run(tmp_path / "b", *SECOND, *big, f"optim.load_state={tmp_path}/a"), (start,))
    old = torch.load(tmp_path / "a/checkpoints/checkpoint-4/optimizer.pt", weights_only=False)["state"]
    assert start.state is not None
    assert start.state is not None
    kept = [(leaves(start.state["state"][place]), leaves(moments)) for place, moments in old.items()]
    assert any(value.dtype == torch.uint8 for _, then in kept for value in then)
    for now, then in kept:
        assert len(now) == len(then) > 0
        assert all(torch.equal(*pair) for pair in zip(now, then, strict=True))


def leaves(moments: Any) -> list[torch.Tensor]:
    """All tensors, however bitsandbytes wraps them."""
    if isinstance(moments, dict):
        return [leaf for key in sorted(moments) for leaf in leaves(moments[key])]
    return [moments] if isinstance(moments, torch.Tensor) else []


# Guards


def test_the_loss_scale_is_watched_on_a_real_scaler() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    watch, warnings = ScaleWatch(max_skipped_steps=5), []

    def step(gradient: float) -> None:
        scaler.scale(parameter.sum() * 0).backward()
        parameter.grad = torch.tensor([gradient])
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        warnings.append(watch.note(scaler.get_scale(), skipped=scaler.get_scale() < before))

    for _ in range(2):
        step(math.inf)
    step(1.0)
    assert warnings == [None] * 3, "two skipped steps are float16's daily life"
    for _ in range(4):
        step(math.inf)
    fallen = "float16: the loss scale has fallen to 0.5; small gradients may be lost soon"
    assert warnings[3:] == [fallen, None, None, None]
    with pytest.raises(SkippedSteps, match=r"5 steps in a row .*0\.03125.*model\.dtype=bfloat16"):
        step(math.inf)
    assert float(parameter.detach()) == -1.0, "only the finite gradient has moved the weight"


def test_float16_computes_in_it_on_a_cpu_too_and_resumes_with_its_loss_scale(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def run(folder: str, *overrides: str) -> StreamTrainer:
        half = small_run(tmp_path / folder, "optim.warmup=0", *overrides)
        trainer = half.trainer(half.model(), [])
        overflow(trainer, at={2})
        trainer.resume_or_start()
        return trainer

    caplog.set_level("INFO")
    whole = run("whole", "model.dtype=float16")
    assert "step 3: float16: skipped, its gradients are beyond the range" in caplog.text
    run("stopped", "model.dtype=float16", "optim.stop_after=4")
    resumed = run("stopped", "model.dtype=float16")
    for trainer in (whole, resumed):
        assert trainer.accelerator.scaler.get_scale() == FIRST_LOSS_SCALE / 2
    assert same(weights(whole.model), weights(resumed.model))
    losses = logged(whole, "loss")
    assert losses == logged(resumed, "loss")
    full = logged(trained(small_run(tmp_path / "full", "model.dtype=float32", "optim.warmup=0")), "loss")
    assert losses[:3] != full[:3]
    assert losses[:3] == pytest.approx(full[:3], abs=0.05)


def test_a_run_of_skipped_steps_ends_a_training_and_names_the_last_checkpoint(tmp_path: Path) -> None:
    options = ["optim.max_skipped_steps=3", "optim.save_steps=2", "optim.warmup=0"]
    run = small_run(tmp_path, "model.dtype=float16", *options)
    model = run.model()
    trainer = run.trainer(model, [])
    before = overflow(trainer, at={0, 2, 3, 4})
    with pytest.raises(
        SkippedSteps, match=r"step 5: float16: 3 steps .* down to 64\).* checkpoint is .*checkpoint-4$"
    ):
        trainer.resume_or_start()
    assert not same(before[0], before[1]), "step 2 was a good one"
    assert same(before[1], weights(model)), "skipped steps change nothing"


def test_gradients_that_are_not_numbers_name_the_last_whole_checkpoint(tmp_path: Path) -> None:
    class Poison(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs) -> None:
            if state.global_step == 5:
                next(p for p in model.parameters() if p.requires_grad).grad.fill_(math.inf)

    run = small_run(tmp_path)
    trainer = run.trainer(run.model(), [])
    trainer.callback_handler.callbacks.insert(0, Poison())
    with pytest.raises(NonFiniteGradients, match=r"step 6 .*checkpoint is .*checkpoint-4$"):
        trainer.resume_or_start()


@pytest.mark.parametrize(
    ("losses", "median"),
    [
        ([1.0] * 10 + [3.1], 1.0),
        ([1.0] * 10 + [3.0], None),
        ([1.0] * 9 + [100.0], None),  # too early to tell
        ([100.0] * 60 + [1.0] * 50 + [4.0], 1.0),  # what is long past does not count
        ([], None),
    ],
)
def test_a_spike_is_a_loss_far_above_its_moving_median(losses: list[float], median: float | None) -> None:
    assert spike(losses, 3.0) == median


def test_a_spike_of_one_of_several_adapters_is_seen() -> None:
    guard = Guard(max_skipped_steps=1, spike_factor=3.0, stop_on_spike=True)
    calm = [{"loss": 4.0, "losses": [1.0] * 4}] * SPIKE_LEAST
    state = TrainerState(global_step=11, log_history=[*calm, {"loss": 7.5, "losses": [1.0, 1.0, 4.5, 1.0]}])
    with pytest.raises(LossSpike, match=r"the loss 4\.5 is more than .* its recent median \(1\)"):
        guard.on_log(TrainingArguments(use_cpu=True), state, TrainerControl(), logs={"loss": 7.5})


class Shake(TrainerCallback):
    """Spoils the model before step 13: all logits become far too large."""

    def on_step_begin(self, args, state, control, model=None, **kwargs) -> None:
        if state.global_step == 12:
            next(p for name, p in model.named_parameters() if name.endswith("model.norm.weight")).data.mul_(
                100
            )


SPIKY = ["optim.max_steps=14", "optim.save_steps=6", "optim.learning_rate=1e-5"]


@pytest.mark.slow
def test_a_spike_warns_and_the_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = trained(small_run(tmp_path, *SPIKY), (Shake(),))
    assert trainer.state.global_step == 14
    messages = [entry.getMessage() for entry in caplog.records if "spike_factor" in entry.getMessage()]
    assert messages[0].startswith("step 13: the loss ")


def test_a_spike_stops_the_training_if_asked_before_the_next_checkpoint(tmp_path: Path) -> None:
    run = small_run(tmp_path, *SPIKY, "optim.stop_on_spike=true")
    with pytest.raises(LossSpike, match=r"step 13: .*optim\.spike_factor=3 .*checkpoint-12$"):
        trained(run, (Shake(),))
    assert not (tmp_path / "checkpoints/checkpoint-14").exists()


@pytest.mark.slow
def test_the_median_survives_a_resume(tmp_path: Path) -> None:
    trained(small_run(tmp_path, *SPIKY, "optim.stop_on_spike=true", "optim.stop_after=12"))
    with pytest.raises(LossSpike, match="step 13"):
        trained(small_run(tmp_path, *SPIKY, "optim.stop_on_spike=true"), (Shake(),))


# A longer run


LONGER = ["optim.schedule=constant", "optim.warmup=2", "optim.save_steps=2"]


@pytest.mark.slow
def test_a_finished_run_is_made_longer_as_if_it_had_been_so_from_the_start(tmp_path: Path) -> None:
    through = trained(small_run(tmp_path / "a", *LONGER, "optim.max_steps=6"))
    trained(small_run(tmp_path / "b", *LONGER, "optim.max_steps=4"))
    RunFolder(tmp_path / "b").end("done")
    run = small_run(tmp_path / "b", *LONGER, "optim.max_steps=6")
    assert run.folder.status["state"] == "paused"
    longer = trained(run)
    assert logged(longer, "loss") == logged(through, "loss")
    assert same(weights(longer.model), weights(through.model))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["optim.max_steps=50"], ["optim.max_steps=75"]),  # linear
        (["model.lora=null", "optim.max_steps=50"], ["model.lora=null", "optim.max_steps=75"]),
        (["optim.schedule=constant", "optim.max_steps=50"], ["optim.schedule=constant",
        "optim.max_steps=75"]), ([*LONGER, "optim.max_steps=50"], [*LONGER, "optim.max_steps=25"]), ([*LONGER,
        "optim.max_steps=50"], [*LONGER, "optim.max_steps=75", "seed=2"]),
    ],
    ids=["horizon", "all weights", "warm-up in a share", "shorter", "another seed"],
)  # fmt: skip
def test_a_run_is_not_made_longer_where_its_past_would_have_been_another(
    tmp_path: Path, before: list[str], after: list[str]
) -> None:
    freeze(compose_config(before), tmp_path / "run", before)
    with pytest.raises(FolderError, match=r"optim\.max_steps: 50 -> \d+") as raised:
        freeze(compose_config(after), tmp_path / "run", after)
    for part in (
        "optim.schedule=constant or inverse_sqrt",
        "optim.stop_after",
        f"model.path={tmp_path}/run/model"
        if "model.lora=null" in before
        else f"model.adapter={tmp_path}/run/adapter",
        "optim.load_state=",
        "resume=false",
    ):
        assert part in str(raised.value)
    assert RunFolder(tmp_path / "run").read_config().optim.max_steps == 50


# Mistakes

MISTAKES = {
    "optim.name=adam": ["optim.name=adam is not one of", "adamw_torch"],
    "optim.name=lomo": ["optim.name=lomo is not one of"],
    "optim.schedule=sawtooth": ["optim.schedule=sawtooth is not one of", "cyclic"],
    "optim.cycles=3": ["does not go with optim.cycles=3", "cosine_with_restarts or cyclic"],
    "optim.min_learning_rate=1e-6": ["optim.min_learning_rate=1e-06: the schedule", "cosine_with_min_lr"],
    "optim.decay=0.3": ["optim.decay=0.3: the schedule does not read it", "warmup_stable_decay"],
    "optim.schedule=cosine_with_min_lr optim.min_learning_rate=1": ["optim.min_learning_rate=1.0 is above"],
    "optim.schedule=warmup_stable_decay optim.decay=0.6 optim.warmup=0.6": ["more than optim.max_steps=100"],
    "optim.schedule=warmup_stable_decay optim.decay=2.5": ["optim.decay=2.5 must be a whole number"],
    "optim.warmup=2.5": ["optim.warmup=2.5 must be a whole number", "share"],
    "optim.warmup=101": ["optim.warmup=101", "take more than optim.max_steps=100"],
    "optim.label_smoothing=1": ["optim.label_smoothing=1.0 is too large"],
    "optim.neftune_alpha=0": ["optim.neftune_alpha=0.0 is too small"],
    "optim.embedding_learning_rate=0": ["optim.embedding_learning_rate=0.0 is too small"],
    "optim.load_state=nowhere": ["optim.load_state=nowhere holds no checkpoints", "checkpoints/"],
    "optim.patience=3": ["optim.best_by=none does not go with optim.patience=3"],
    "optim.min_delta=0.1": ["optim.best_by=none does not go with optim.min_delta=0.1"],
    "optim.best_by=validation_loss optim.eval_steps=null": ["does not go with optim.eval_steps=null"],
    "optim.best_by=pass_at_2 inference.limit=0": [
        "optim.best_by=pass_at_2 does not go with inference.limit=0"
    ],
    "optim.best_by=accuracy": ["optim.best_by=accuracy is not one of", "pass_at_2"],
    "optim.max_skipped_steps=0": ["optim.max_skipped_steps=0 is too small"],
    "optim.spike_factor=1": ["optim.spike_factor=1.0 is too small: above 1"],
    "optim.spike_factor=null optim.stop_on_spike=true": [
        "optim.stop_on_spike=true does not go with optim.spike_factor=null"
    ],
}  # fmt: skip


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_answered_with_its_key_and_the_remedy(typed: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config(typed.split(" "))
    assert [part for part in MISTAKES[typed] if part not in str(raised.value)] == [], str(raised.value)


# Epochs, where data have an end


def test_an_epoch_is_a_visit_to_each_training_task(tmp_path: Path) -> None:
    run = small_run(tmp_path, "optim.epochs=2.5", "optim.batch_size=2", "optim.save_steps=1")
    assert run.config.optim.max_steps == 5, "4 tasks, 2 a step"
    assert trained(run).counts.samples == 10


def test_the_jobs_of_a_local_chain_share_the_steps_of_epochs(tmp_path: Path) -> None:
    of_three = ["optim.epochs=2.5", "optim.batch_size=2", "optim.save_steps=1", "launch.chain.total_jobs=3"]
    run = small_run(tmp_path / "a", *of_three, "optim.log_steps=1")
    assert run.config.launch.chain.steps_per_job == 2, "of 5 steps"
    by_time = small_run(tmp_path / "b", *of_three, "launch.chain.seconds_per_job=60")
    assert by_time.config.launch.chain.steps_per_job is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=mix"], "arc1, re_arc has no end"),
        (
            ["optim.epochs=1", "optim.batch_size=4", "optim.log_steps=2", "optim.save_steps=2"],
            "optim.epochs=1 means 1 step here: .*no loss would be logged",
        ),
    ],
)
def test_epochs_of_what_has_none_are_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_run(tmp_path, "optim.epochs=3", *overrides)


def test_epochs_of_packed_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"optim\.epochs=3 does not go with optim\.pack_length=2048"):
        compose_config(["optim.epochs=3", "optim.pack_length=2048"])


def test_a_rank_typed_after_no_lora_is_refused() -> None:
    message = r"^model\.lora\.rank=8 is in what model\.lora=null leaves out: leave one out$"
    with pytest.raises(ConfigError, match=message):
        compose_config(["model.lora=null", "model.lora.rank=8"])
    assert compose_config(["model.lora.rank=8", "model.lora=null"]).model.lora is None, "the later one wins"


def test_steps_typed_beside_epochs_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"optim\.max_steps=10 is replaced by optim\.epochs=2: leave one out"
    ):
        compose_config(["optim.max_steps=10", "optim.epochs=2"])
    assert compose_config(["optim.max_steps=10", "optim.epochs=null"]).optim.max_steps == 10
