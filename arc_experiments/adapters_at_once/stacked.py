"""Run several adapters of one model in one batch, each on its own rows.

PEFT's layers stay as they are; stacks replace their matrices A and B:

    row of the batch          0 1 2 3 4 5
    its adapter, of three     0 1 2 0 1 2
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

OF_EXPERTS = ("output_router_logits", "num_experts", "num_local_experts", "n_routed_experts")  # in configs


class Stacked(nn.Module):
    """Maps (rows, tokens, in) to (rows, tokens, out), row r by matrix r % n of `weight` (n, out, in).

    Args:
        plain: the initial value of each matrix.
    """

    def __init__(self, plain: nn.Linear, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(plain.weight.detach().repeat(count, 1, 1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.ndim != 3:
            raise ValueError(
                f"adapt.together={len(self.weight)} does not work with this model, which joins the rows of a "
                "batch inside its layers: set adapt.together=1"
            )
        by_matrix = rows.reshape(-1, len(self.weight), *rows.shape[1:])
        return torch.einsum("rnti,noi->rnto", by_matrix, self.weight).flatten(0, 1)


class Stack:
    """Several adapters for a model, each initialised with the one that it has.

    Args:
        model: passes `check_stackable`.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        self._places = [
            (holder, name, plain, Stacked(plain, count)) for holder, name, plain in _matrices(model)
        ]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Use all of them in the model; afterwards its own again, unchanged."""
        for holder, name, _, stacked in self._places:
            holder[name] = stacked
        try:
            yield
        finally:
            for holder, name, plain, _ in self._places:
                holder[name] = plain

    def take(self, number: int) -> None:
        """Copy one of them to the model's own."""
        with torch.no_grad():
            for _, _, plain, stacked in self._places:
                plain.weight.copy_(stacked.weight[number])


def check_stackable(model: Any, together: int) -> None:
    """Raise ValueError if anything but plain LoRA matrices is trained, or rows affect each other."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    known = {id(plain.weight) for _, _, plain in _matrices(model)}
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    others = [name for name, each in trained.items() if id(each) not in known]
    others += [str(variant) for layer in layers for variant in layer.lora_variant.values()]
    if others or not trained:
        raise ValueError(
            f"adapt.together={together} trains nothing but plain LoRA matrices, and this model has "
            f"{others[0] if others else 'none'}: set adapt.together=1"
        )
    if any(hasattr(model.config.get_text_config(), name) for name in OF_EXPERTS):
        raise ValueError(
            f"adapt.together={together} does not work with a mixture of experts, which balances over all "
            "rows: set adapt.together=1"
        )


def _matrices(model: nn.Module) -> Iterator[tuple[nn.ModuleDict, str, nn.Linear]]:
    """Yield the trained matrices of LoRA layers: holder, name, matrix."""
    for layer in list(model.modules()):
        if not isinstance(layer, LoraLayer):
            continue
        for holder in (layer.lora_A, layer.lora_B):
            for name, plain in holder.items():
                has_bias = len(list(plain.parameters())) > 1
                if isinstance(plain, nn.Linear) and plain.weight.requires_grad and not has_bias:
                    yield holder, name, plain
