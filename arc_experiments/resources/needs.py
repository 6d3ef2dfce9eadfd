"""What one run needs: its memory by rows of a forward pass, the choice of these rows, and its disk."""

import logging
from collections.abc import Callable
from functools import cached_property

import torch
from accelerate.utils import gather_object
from transformers import AutoConfig

from arc_experiments.config.schema import Config
from arc_experiments.models.hub import load
from arc_experiments.resources.choosing import Choice, choose
from arc_experiments.resources.fake_model import FakeModel, fake_model
from arc_experiments.resources.limits import free_gpu_memory, free_host_memory
from arc_experiments.resources.memory import CPU_SLACK, SLACK, Need, model_need
from arc_experiments.resources.workload import Workload

USED = 0.95  # of free memory, when something is chosen
EASY = 0.1  # of it: nothing needs to be counted

log = logging.getLogger(__name__)


class Needs:
    """Counts what a run needs, each piece when it is asked for.

    Args:
        num_processes: that compute this run together.
        num_tokens: returns those of a cut vocabulary; None for the model's own.
        find_work: returns the largest pieces of work.
        single: why a forward pass of training must have one row; None: it may have several.

    Attributes:
        is_countable: whether the memory of such a model is known; false once it could not be counted.
    """

    def __init__(
        self,
        config: Config,
        *,
        dtype: torch.dtype,
        device: torch.device,
        num_processes: int,
        num_tokens: Callable[[], int | None],
        find_work: Callable[[], Workload],
        single: str | None,
    ) -> None:
        self._config, self._dtype, self._device, self._num_processes = config, dtype, device, num_processes
        self._num_tokens, self._find_work, self._single = num_tokens, find_work, single
        self._counted: dict[tuple[int, bool], Need] = {}
        self.is_countable = True

    @cached_property
    def work(self) -> Workload:
        """The largest pieces of work."""
        return self._find_work()

    @cached_property
    def model(self) -> FakeModel:
        """The model without its weights."""
        trains = self.work.row is not None
        return fake_model(
            self._config.model, num_tokens=self._num_tokens(), dtype=self._dtype, trainable=trains
        )

    def memory(self, *, rows: int, checkpointing: bool) -> Need | None:
        """Return what the model takes where it computes; None if models of its kind cannot be counted.

        Raises:
            ValueError: the model cannot be loaded.
        """
        key = rows, checkpointing
        if self.is_countable and key not in self._counted:
            try:
                self._counted[key] = model_need(
                    self.model,
                    self._config,
                    self.work,
                    rows=rows,
                    checkpointing=checkpointing,
                    num_processes=self._num_processes,
                    tiled=self._is_tiled(),
                    slack=CPU_SLACK if self._device.type == "cpu" else SLACK,
                )
            except ValueError:
                raise
            except Exception:  # of the model's own code, which may do anything
                log.exception("the memory of this model cannot be counted")
                self.is_countable = False
        return self._counted.get(key)

    def _is_tiled(self) -> bool:
        """Whether SFTTrainer's own loss is used, on a GPU, which holds no logits."""
        is_split = self._config.hardware.parallelism == "split"
        of_text = self.work.row is not None and not self.work.pictures.arrays
        return (
            self._device.type == "cuda" and of_text and not (is_split or self._config.optim.label_smoothing)
        )

    @cached_property
    def free(self) -> int:
        """Bytes that are free where the model computes: on its GPUs, or for each process on a CPU.

        The least of all processes, which must choose alike.
        """
        if self._device.type == "cuda":
            is_split = self._config.hardware.parallelism == "split"
            own = free_gpu_memory(self._device, all_gpus=is_split)
        else:
            own = free_host_memory() // self._num_processes
        return int(min(gather_object([own])))

    def _fits_easily(self) -> bool:
        """Whether a row takes a small part of what is free, by a rule of thumb, which takes no time.

        34 bytes a layer for each token and hidden number in half precision (Korthikanti et al., 2022,
        Reducing Activation Recomputation in Large Transformer Models), twice that in float32.
        """
        text = load(AutoConfig, self._config.model).get_text_config()
        length = self._config.optim.pack_length or self._config.prompt.max_length
        return bool(2 * 34 * length * text.hidden_size * text.num_hidden_layers < EASY * self.free)

    @cached_property
    def choice(self) -> Choice:
        """How a training is computed where `hardware.per_device_batch_size` is null."""
        checkpointing = self._config.model.gradient_checkpointing
        if self._single is not None and self._fits_easily():
            reason = f"hardware.per_device_batch_size=1: {self._single}"
            return Choice(rows=1, checkpointing=checkpointing, reasons=(reason,))
        if self.memory(rows=1, checkpointing=checkpointing) is None:
            why = "the memory of this model cannot be counted"
            reason = f"hardware.per_device_batch_size=1: {why}"
            return Choice(rows=1, checkpointing=checkpointing, reasons=(reason,))

        def need(rows: int, with_checkpointing: bool) -> int:
            found = self.memory(rows=rows, checkpointing=with_checkpointing)
            assert found is not None, "it was counted with one row"
            return found.total

        return choose(
            need,
            int(USED * self.free),
            most_rows=self._config.optim.batch_size // self._num_processes,
            single=self._single,
            checkpointing=checkpointing,
        )
