"""Several adapters of one model at work in one batch, each on rows of its own.

PEFT's layers stay as they are; in place of their matrices A and B stand stacks of them:

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
    """Takes (rows, tokens, in) to (rows, tokens, out), row r by matrix r % n of `weight` (n, out, in).

    Args:
        plain: what each of the matrices is at first.
    """

    def __init__(self, plain: nn.Linear, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(plain.weight.detach().repeat(count, 1, 1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.ndim != 3:
            raise ValueError(
                f"adapt.together={len(self.weight)} does not go with this model, which joins the rows of a batch "
                "inside its layers: adapt.together=1"
            )
        by_matrix = rows.reshape(-1, len(self.weight), *rows.shape[1:])
        return torch.einsum("rnti,noi->rnto", by_matrix, self.weight).flatten(0, 1)


class Stack:
    """A number of adapters for a model, each of which begins as the one that it has.

    Args:
        model: one that `check_stackable` passes.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        self._places = [
            (holder, name, plain, Stacked(plain, count)) for holder, name, plain in _matrices(model)
        ]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model works with all of them; afterwards with its own again, which is as it was."""
        for holder, name, _, stacked in self._places:
            holder[name] = stacked
        try:
            yield
        finally:
            for holder, name, plain, _ in self._places:
                holder[name] = plain

    def take(self, number: int) -> None:
        """Make one of them the model's own."""
        with torch.no_grad():
            for _, _, plain, stacked in self._places:
                plain.weight.copy_(stacked.weight[number])


def check_stackable(model: Any, together: int) -> None:
    """Raises ValueError where something else is trained than plain LoRA matrices, or rows act on each other."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    known = {id(plain.weight) for _, _, plain in _matrices(model)}
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    others = [name for name, each in trained.items() if id(each) not in known]
    others += [str(variant) for layer in layers for variant in layer.lora_variant.values()]
    if others or not trained:
        raise ValueError(
            f"adapt.together={together} trains nothing but plain LoRA matrices, and this model has "
            f"{others[0] if others else 'none'}: adapt.together=1"
        )
    if any(hasattr(model.config.get_text_config(), name) for name in OF_EXPERTS):
        raise ValueError(
            f"adapt.together={together} does not go with a mixture of experts, whose balance is that of all rows: "
            "adapt.together=1"
        )


def _matrices(model: nn.Module) -> Iterator[tuple[nn.ModuleDict, str, nn.Linear]]:
    """The trained matrices of LoRA layers, where each stands."""
    for layer in list(model.modules()):
        if not isinstance(layer, LoraLayer):
            continue
        for holder in (layer.lora_A, layer.lora_B):
            for name, plain in holder.items():
                has_bias = len(list(plain.parameters())) > 1
                if isinstance(plain, nn.Linear) and plain.weight.requires_grad and not has_bias:
                    yield holder, name, plain
