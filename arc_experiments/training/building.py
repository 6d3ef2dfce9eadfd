"""The trainer of a composition, with its guard, its checkpoints and its callbacks."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig

from arc_experiments.adapters_at_once.trainer import TogetherTrainer
from arc_experiments.config.schema import Optim
from arc_experiments.training import optimizers
from arc_experiments.training.best import Best
from arc_experiments.training.callbacks import Checkpoints
from arc_experiments.training.dataset import Collator
from arc_experiments.training.guards import Guard
from arc_experiments.training.schedules import CYCLES
from arc_experiments.training.sharding import sharding
from arc_experiments.training.trainer import StreamTrainer


def make_trainer(
    model: Any,
    tokenizer: Any,
    dataset: Dataset | IterableDataset,
    arguments: SFTConfig,
    *,
    optim: Optim,
    pad_id: int,
    part_names: Sequence[str],
    callbacks: list[TrainerCallback],
    is_pause_due: Callable[[int], bool],
    together: int = 1,
) -> StreamTrainer:
    """The trainer, ready to start or to go on.

    Args:
        together: how many adapters the model has, of which each row of a batch is one's.

    Raises:
        OptimizerError: the optimizer needs a package that is not installed.
        ShardingError: the model cannot be sharded.
    """
    optimizers.check_available(arguments)
    folder = Path(str(arguments.output_dir))
    best = Best(by=optim.best_by, patience=optim.patience, min_delta=optim.min_delta, folder=folder)
    kind = StreamTrainer if together == 1 else partial(TogetherTrainer, together=together)
    with sharding(arguments, model):
        trainer = kind(
            part_names=part_names,
            stop_after=optim.stop_after,
            embedding_learning_rate=optim.embedding_learning_rate,
            load_state=None if optim.load_state is None else Path(optim.load_state).expanduser(),
            label_smoothing=optim.label_smoothing,
            attends_by_sample=(
                optim.pack_length is not None
                and not arguments.torch_compile
                and arguments.device.type == "cpu"  # a model to be sharded is still there, wherever it trains
            ),
            cycles=(optim.cycles or CYCLES) if optim.schedule == "cyclic" else None,
            best=best if optim.best_by != "none" else None,
            is_pause_due=is_pause_due,
            model=model,
            args=arguments,
            train_dataset=dataset,
            data_collator=Collator(pad_id),
            processing_class=tokenizer,
            callbacks=callbacks,
        )
    guard = Guard(
        trainer.accelerator,
        max_skipped_steps=optim.max_skipped_steps,
        spike_factor=optim.spike_factor,
        stop_on_spike=optim.stop_on_spike,
    )
    trainer.add_callback(guard)
    trainer.add_callback(Checkpoints(trainer.accelerator, trainer.own_state, trainer.best))
    trainer.remove_callback(PrinterCallback)  # the terminal is the job's
    for parameter in model.parameters():
        if parameter.requires_grad:  # float16's is; a quantised model's adapter SFTTrainer made bfloat16
            parameter.data = parameter.data.float()
    return trainer
