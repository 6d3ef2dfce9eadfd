"""A model whose layers are spread over several places, as far as a CPU can tell.

accelerate moves what comes into each part to the part's device and what comes out back. Here all parts are on
the CPU, with these hooks on each of them.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from small_training import logged, same, small_run, trained, weights
from small_vision import make_tasks, vision_run
from toy_models import settings

from arc_experiments.models.hub import ModelError
from arc_experiments.models.loading import _check_on_gpus
from arc_experiments.run import Run

SPLIT = ("hardware.parallelism=split", "optim.max_steps=2", "inference.limit=1", "inference.max_new_tokens=4")


def parts(module: torch.nn.Module, layers: list[torch.nn.Module], place: str = "") -> Iterator[str]:
    """Yield the names of the layers, and of the largest modules without any of them."""
    for name, child in module.named_children():
        inside = set(child.modules())
        if child in layers or not inside.intersection(layers):
            yield f"{place}{name}"
        else:
            yield from parts(child, layers, f"{place}{name}.")


def hooked(run: Run) -> Any:
    """The run's model with a hook on each of its parts."""
    model = run.model()
    base = model.get_base_model()
    layers = list(base.get_decoder().layers)
    dispatch_model(base, dict.fromkeys(parts(base, layers), "cpu"), force_hooks=True)
    assert all(hasattr(layer, "_hf_hook") for layer in layers)
    return model


def make_run(kind: str, tasks: Path, folder: Path, *more: str) -> Run:
    options = [*SPLIT[1:], *more]
    if kind == "text":
        return small_run(folder, "model.path=package:tiny", "model.weights=pretrained", *options)
    return vision_run(kind, tasks, folder, *options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "mllama"])
def test_a_split_model_trains_and_answers_like_a_whole_one(kind: str, tmp_path: Path) -> None:
    tasks = make_tasks(tmp_path / "tasks", 2)
    whole = make_run(kind, tasks, tmp_path / "whole")
    split = make_run(kind, tasks, tmp_path / "split", SPLIT[0])
    model, spread = whole.model(), hooked(split)
    one, two = trained(whole, model=model), trained(split, model=spread)
    assert two.is_model_parallel is False, "all parts are on one device"
    assert logged(one, "loss") == pytest.approx(logged(two, "loss"), abs=1e-6)
    assert same(weights(model), weights(spread))
    loss, other = whole.validation_loss(model), split.validation_loss(spread)
    assert loss is not None
    assert other is not None
    assert loss.token_mean == pytest.approx(other.token_mean, abs=1e-6)
    answers = [[one.text for one in run.predict(each)] for run, each in ((whole, model), (split, spread))]
    assert answers[0] == answers[1]


def test_a_split_model_that_the_gpus_cannot_hold_is_refused() -> None:
    spread = SimpleNamespace(hf_device_map={"model.layers.0": 0, "model.layers.1": "cpu", "lm_head": "disk"})
    message = r"cannot hold model\.path=/m: 2 of its parts \(model\.layers\.1, \.\.\.\) would be"
    with pytest.raises(ModelError, match=message):
        _check_on_gpus(settings(Path("/m")), spread)
    spread.hf_device_map = {"": torch.device("cuda", 0)}
    _check_on_gpus(settings(Path("/m")), spread)
