"""Extend the optimizer that transformers builds: a learning rate for embeddings, a second stage's initial
moments.

A checkpoint's optimizer state knows its parameters by position only. So their names and shapes are stored
beside it (`optimizer_parameters.json`), and a second stage looks up the moments by name, whatever its
parameter groups:

    {"optimizer": "adamw_torch", "parameters": [{"name": "...q_proj.lora_A.default.weight", "shape": [32,
    96]}, ...]}
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from transformers import Trainer
from trl import SFTConfig

from arc_experiments.training.checkpoints import last_complete

PARAMETERS_FILE = "optimizer_parameters.json"
STATE_FILE = "optimizer.pt"  # transformers' name
SHOWN_DIFFERENCES = 5

Description = dict[str, Any]


class OptimizerError(ValueError):
    """An optimizer that cannot be built or continued as configured; the message names key and remedy."""


def check_available(arguments: SFTConfig) -> None:
    """Raise OptimizerError if the optimizer's package is not installed."""
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments)
    except (ImportError, ValueError) as error:
        raise OptimizerError(
            f"optim.name={arguments.optim.value} is not available here: {error}. Install it, or set "
            "optim.name=adamw_torch"
        ) from error


def split_embeddings(optimizer: Optimizer, model: Any, learning_rate: float) -> None:
    """Give the trained parameters of the embeddings and the output layer their own learning rate.

    Raises:
        OptimizerError: none of them is trained.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = (inner.get_input_embeddings(), inner.get_output_embeddings())
    chosen = {id(parameter) for layer in layers if layer is not None for parameter in layer.parameters()}
    if not any(id(parameter) in chosen for group in optimizer.param_groups for parameter in group["params"]):
        raise OptimizerError(
            f"optim.embedding_learning_rate={learning_rate}, but no embedding is trained: train them "
            "(model.lora.modules_to_save=[embed_tokens,lm_head]), or set it to null"
        )
    for group in list(optimizer.param_groups):
        own = [parameter for parameter in group["params"] if id(parameter) in chosen]
        if own:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in chosen]
            optimizer.add_param_group({**group, "params": own, "lr": learning_rate})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]


def describe(optimizer: Optimizer, model: torch.nn.Module, name: str) -> Description:
    """Return the contents of `optimizer_parameters.json`: which parameters the state's positions mean."""
    names = {id(parameter): own for own, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        "optimizer": name,
        "parameters": [{"name": names[id(each)], "shape": list(each.shape)} for each in parameters],
    }


def load_moments(optimizer: Optimizer, now: Description, run_folder: Path) -> None:
    """Load the moments (and step counts) of a run's last whole checkpoint; keep the new rates and decay.

    Raises:
        OptimizerError: that run had another optimizer or other parameters.
    """
    checkpoint = last_complete(run_folder / "checkpoints")
    if checkpoint is None or not (checkpoint / PARAMETERS_FILE).exists():
        raise OptimizerError(
            f"optim.load_state={run_folder} has no whole checkpoint with {PARAMETERS_FILE}: "
            "name a run folder whose checkpoints were kept, or set null"
        )
    before = json.loads((checkpoint / PARAMETERS_FILE).read_text())
    changed = _differences(before, now)
    if changed:
        shown = "\n  ".join(changed[:SHOWN_DIFFERENCES])
        raise OptimizerError(
            f"optim.load_state={run_folder} does not fit: its {checkpoint.name} differs in {len(changed)} "
            f"places:\n  {shown}\nUse that run's model and optimizer, or start without moments "
            "(optim.load_state=null)"
        )
    stored = torch.load(checkpoint / STATE_FILE, map_location="cpu", weights_only=True)["state"]
    place = {parameter["name"]: position for position, parameter in enumerate(before["parameters"])}
    positions = [place[parameter["name"]] for parameter in now["parameters"]]
    state = {new: stored[old] for new, old in enumerate(positions) if old in stored}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _differences(before: Description, now: Description) -> list[str]:
    kinds = [each["optimizer"].removesuffix("_fused") for each in (before, now)]  # the same state
    changed = [f"optim.name: {before['optimizer']} -> {now['optimizer']}"] if kinds[0] != kinds[1] else []
    old, new = (
        {parameter["name"]: parameter["shape"] for parameter in each["parameters"]} for each in (before, now)
    )
    for name in [*old, *(name for name in new if name not in old)]:
        if old.get(name) != new.get(name):
            changed.append(f"{name}: {old.get(name, '(absent)')} -> {new.get(name, '(absent)')}")
    return changed
