"""Train several adapters at once: row r of a batch belongs to adapter r % n, and each is trained as if alone.

The adapters' matrices are stacks, so every trained parameter has a first dimension of n. An elementwise
optimizer then does to each adapter what it would do to that one alone, given that each has its own loss, over
its own labelled tokens, and its own gradient norm.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from arc_experiments.prompts import IGNORED
from arc_experiments.training.losses import token_losses
from arc_experiments.training.trainer import Counts, StreamTrainer

TOGETHER_FILE = "together.json"
EPSILON = 1e-6  # added to a norm that is divided by, as in torch's own clipping


class TogetherTrainer(StreamTrainer):
    """Logs the adapters' losses as `losses`; `loss` is their sum.

    Args:
        together: how many adapters there are.
    """

    def __init__(self, *, together: int, **options: Any) -> None:
        super().__init__(**options)
        self._together = together
        self.counts_of = [Counts()] * together  # by adapter
        self._losses = torch.zeros(together, device=self.args.device)  # sums over steps, since the last log
        self._num_steps = 0

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """Return the micro-batches of one optimizer step, and each adapter's labelled tokens in them."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._num_steps += 1
        chosen = [self._by_adapter(batch["labels"][:, 1:] != IGNORED).sum((0, 2)) for batch in batches]
        return batches, torch.stack(chosen).sum(0).to(device)

    def _take_marks(self, batches: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
        marks = torch.stack([self._by_adapter(batch.pop("marks")).sum(0) for batch in batches]).sum(0)
        self.counts_of = [
            counts.plus(own, self._part_names)
            for counts, own in zip(self.counts_of, marks.tolist(), strict=True)
        ]
        return marks.sum(0)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the sum of the adapters' losses, each the mean over its own labelled tokens."""
        if self._loss_at_labels:
            outputs, logits, targets = self._at_labels(model, inputs)
            each = token_losses(logits, targets, self._label_smoothing)
        else:
            outputs = model(**inputs, use_cache=False, fused_lm_head=True)
            each = -outputs.log_probs
        losses = self._by_adapter(each).sum((0, 2)) / num_items_in_batch
        self._losses += losses.detach()
        return (losses.sum(), outputs) if return_outputs else losses.sum()

    def _by_adapter(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.reshape(-1, self._together, *rows.shape[1:])

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        """Clip each adapter's gradients by their own norm; return the norm of all."""
        self.accelerator.unscale_gradients()  # float16's
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        of_each = torch.stack([torch.linalg.vector_norm(gradient, dim=(1, 2)) for gradient in gradients])
        norms = torch.linalg.vector_norm(of_each, dim=0)
        factors = (self.args.max_grad_norm / (norms + EPSILON)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factors[:, None, None])
        total: torch.Tensor = torch.linalg.vector_norm(norms)
        return total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add each adapter's loss to a logged one."""
        entry: dict[str, Any] = logs
        if "loss" in entry:
            entry["losses"] = (self._losses / self._num_steps).tolist()
            self._losses.zero_()
            self._num_steps = 0
        super().log(entry, start_time)

    def state_files(self) -> dict[str, Any]:
        """Return each adapter's counts beside the sums."""
        return {**super().state_files(), TOGETHER_FILE: [asdict(counts) for counts in self.counts_of]}

    def read_state_files(self, checkpoint: Path) -> None:
        """Continue from the `state_files` in a checkpoint."""
        super().read_state_files(checkpoint)
        stored = json.loads((checkpoint / TOGETHER_FILE).read_text())
        self.counts_of = [Counts(**counts) for counts in stored]
