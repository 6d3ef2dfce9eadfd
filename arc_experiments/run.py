"""The run object: where a composition becomes things. The jobs are written with it, and so is a notebook.

run = compose(["data=arc1", "model=tiny"])
run.stream()[0]          # the first sample, augmented, as tokens
model = run.model()      # base and adapter
run.trainer(model, [])   # TRL's SFTTrainer on the stream
run.predict(model)       # candidates for the validation tasks
"""

import dataclasses
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from arc_experiments.ancestry import Ancestry, read_ancestry
from arc_experiments.checking import build, check, split_batch
from arc_experiments.composing import compose_config
from arc_experiments.config import Config, Model
from arc_experiments.corpus import Corpus
from arc_experiments.partitions import Partition
from arc_experiments.prompts import Prompt
from arc_experiments.run_folder import RunFolder, folder_name, freeze
from arc_experiments.selection import Candidate
from arc_experiments.stream import Part, SampleStream
from arc_experiments.tasks import TaskSet

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from arc_experiments.generation import Request
    from arc_experiments.models import ArcTokenizer, Vocabulary
    from arc_experiments.training.trainer import StreamTrainer
    from arc_experiments.training.validation import ValidationLoss

NUM_VERIFIED = 32  # tasks on which the token table is compared with the tokenizer
PARTIAL_PREDICTIONS = ".predictions"  # a folder: answers of an evaluation that is under way
NUM_LOOKED_AT = 32  # samples for a data-driven initialisation
# What a prompt looks like; its length and its loss are not part of that.
PROMPT_LOOK = ("grid", "system", "introduction", "demonstration", "question", "answer", "chat")


def compose(overrides: list[str], folder: Path | str | None = None) -> "Run":
    """The run that the command would make of these overrides, frozen in its folder but not started.

    Raises:
        ConfigError: mistakes in the composition, all together.
        FolderError: the folder holds another composition.
    """
    node = compose_config(overrides)
    path = Path(folder) if folder is not None else Path("outputs") / folder_name(node)
    return Run(freeze(node, path, overrides))


def load_run(folder: Path | str) -> "Run":
    """The run in a folder, finished or not."""
    return Run(RunFolder(Path(folder)))


class Run:
    """Lazily built parts of one composition. Heavy libraries are imported when a part needs them."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.node: DictConfig = folder.read_config()
        self.config: Config = check(self.node)

    @cached_property
    def corpus(self) -> Corpus:
        """The tasks that train and those that are held out."""
        return Corpus(self.config.data, partition_seed=self.config.seeds.partition)

    @property
    def partition(self) -> Partition:
        """Which tasks train and which are held out."""
        return self.corpus.partition

    @property
    def validation_tasks(self) -> TaskSet:
        """The held-out tasks with their solutions, in the partition's order."""
        return self.corpus.validation_tasks

    def predicted_tasks(self) -> TaskSet:
        """Those of the validation tasks that are to be answered (`inference.limit`)."""
        return self.validation_tasks.select(self.partition.validation[: self.config.inference.limit])

    @cached_property
    def processes(self) -> "PartialState":
        """The processes that work on this run together, and which of them this is."""
        from arc_experiments.processes import join_processes

        return join_processes(self.device)

    @cached_property
    def device(self) -> "torch.device":
        from arc_experiments.models import pick_device

        return pick_device(self.config.hardware)

    @property
    def is_sharded(self) -> bool:
        """Whether training shards the weights over the processes."""
        return self.config.hardware.parallelism == "fsdp"

    @cached_property
    def dtype(self) -> "torch.dtype":
        from arc_experiments.models import pick_dtype

        return pick_dtype(self.config.model.dtype, self.device)

    @cached_property
    def vocabulary(self) -> "Vocabulary | None":
        """The tokens kept: those that its weights came with, else those of this prompt. None: all of them."""
        from arc_experiments.models import collect, load_tokenizer, read_vocabulary

        if self.config.model.vocabulary == "full":
            return None
        for folder in (self.weights_folder, self._weights_source):
            saved = read_vocabulary(folder)
            if saved is not None:
                return saved
        extra = list(self.validation_tasks)[:NUM_VERIFIED]
        grid = build(self.config.prompt.grid)
        return collect(load_tokenizer(self.config.model), self._make_prompt, grid, extra)

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase | ArcTokenizer":
        """The model's tokenizer; with `model.vocabulary=arc` in small ids."""
        from arc_experiments.models import ArcTokenizer, load_tokenizer

        full = load_tokenizer(self.config.model)
        return full if self.vocabulary is None else ArcTokenizer(full, self.vocabulary)

    @cached_property
    def prompt(self) -> Prompt:
        """The prompt writer, its token table verified on validation tasks."""
        prompt = self._make_prompt(self.tokenizer)
        prompt.verify(list(self.validation_tasks)[:NUM_VERIFIED])
        return prompt

    def _make_prompt(self, tokenizer: Any) -> Prompt:
        options = dataclasses.asdict(self.config.prompt)
        del options["name"]
        options |= {"grid": build(options["grid"]), "chat": options["chat"] == "auto"}
        return Prompt(tokenizer=tokenizer, **options)

    def stream(self) -> SampleStream:
        """Endless training samples, and rows of them, by number."""
        transforms = {name: build(options) for name, options in self.config.augmentation.items()}
        parts = [
            Part(
                name=share.name,
                source=share.source,
                task_ids=share.task_ids,
                weight=share.weight,
                transforms=[
                    transform
                    for name, transform in transforms.items()
                    if share.augmentation is None or name in share.augmentation
                ],
            )
            for share in self.corpus.shares
        ]
        return SampleStream(
            parts, self.prompt, seed=self.config.seeds.stream, pack_length=self.config.optim.pack_length
        )

    def model(self, *, trainable: bool = True) -> Any:
        """Base model and adapter on the device.

        Raises:
            ValueError: the adapter was trained with another prompt, dtype or vocabulary (`inference.force=true`
                goes on).
        """
        from arc_experiments.models import add_adapter, needs_samples

        self._check_ancestry()
        model = self.config.model
        # Every process loads all of a model that is to be sharded, which may be too much for its GPU.
        base = self._base(model, place=not (trainable and self.is_sharded))
        samples = []
        if trainable and needs_samples(model):
            stream = self.stream()
            samples = [stream[index].encoded.input_ids for index in range(NUM_LOOKED_AT)]
        return add_adapter(base, model, seed=self.config.seeds.init, trainable=trainable, samples=samples)

    @property
    def _weights_source(self) -> Path:
        return Path(self.config.model.adapter or self.config.model.path).expanduser()

    @property
    def parent(self) -> Ancestry | None:
        """The ancestry of the weights that this run starts from, if they have one."""
        return read_ancestry(self._weights_source)

    @property
    def ancestry(self) -> Ancestry:
        """The ancestry of the weights that this run makes."""
        own = Ancestry(
            base=self.config.model.path,
            dtype=str(self.dtype).removeprefix("torch."),
            prompt=self._prompt_look(),
            trained_on=tuple(sorted(self.partition.train)),
            vocabulary=self.config.model.vocabulary,
        )
        return own.with_parent(self.parent)

    def _prompt_look(self) -> dict[str, Any]:
        return {name: getattr(self.config.prompt, name) for name in PROMPT_LOOK}

    def _check_ancestry(self) -> None:
        if self.parent is None or self.config.inference.force:
            return
        dtype = str(self.dtype).removeprefix("torch.")
        conflicts = self.parent.conflicts(
            dtype=dtype, vocabulary=self.config.model.vocabulary, prompt=self._prompt_look()
        )
        if conflicts:
            raise ValueError(
                f"the weights in {self.config.model.adapter or self.config.model.path} do not fit this run:\n  "
                + "\n  ".join(conflicts)
                + "\nTake that run's settings (from_run=<folder>), or go on with inference.force=true"
            )

    @cached_property
    def per_device_batch_size(self) -> int:
        """Rows that one process trains on at once: as configured, or (`auto`) the most that fits."""
        configured = self.config.hardware.per_device_batch_size
        if configured != "auto":
            return int(configured)
        if self.device.type == "cpu":
            return 1  # nothing is padded then, and running out of memory could not be caught
        from accelerate.utils import gather_object

        from arc_experiments.training.batch_size import largest_batch

        size = largest_batch(
            self.model(),
            rows=self.config.optim.batch_size // self.processes.num_processes,
            length=self.config.optim.pack_length or self.config.prompt.max_length,
            autocast=self.autocast,
        )
        return int(min(gather_object([size])))

    def trainer(self, model: Any, callbacks: "list[TrainerCallback]") -> "StreamTrainer":
        """SFTTrainer on the stream.

        Raises:
            ValueError: the batch does not divide among the processes, or the model cannot be sharded over them.
        """
        from arc_experiments.models import for_trainer
        from arc_experiments.training.arguments import make_arguments
        from arc_experiments.training.trainer import make_trainer

        config = self.config
        num_processes = self.processes.num_processes
        arguments = make_arguments(
            config.optim,
            config.hardware,
            output_dir=self.folder / "checkpoints",
            dtype=self.dtype,
            device=self.device,
            seed=config.seeds.train,
            gradient_checkpointing=config.model.gradient_checkpointing,
            per_device_batch_size=self.per_device_batch_size,
            iterable=config.data.stream == "iterable",
            accumulation=split_batch(config.optim.batch_size, num_processes, self.per_device_batch_size),
            compile=config.model.compile,
        )
        stream = self.stream()
        return make_trainer(
            model,
            for_trainer(self.tokenizer),
            self._rows(stream),
            arguments,
            optim=config.optim,
            pad_id=self.prompt.pad_id,
            part_names=[part.name for part in stream.parts],
            callbacks=callbacks,
        )

    def _rows(self, stream: SampleStream) -> "Dataset | IterableDataset":
        """The training rows, in the exposure that `data.stream` names."""
        from arc_experiments.training.checkpoints import last_complete, step_of
        from arc_experiments.training.dataset import Turn, as_dataset, as_iterable

        config = self.config
        if config.data.stream == "indexed":
            return as_dataset(stream, config.optim.max_steps * config.optim.batch_size)
        checkpoint = last_complete(self.folder / "checkpoints")
        turn = Turn(
            first_row=0 if checkpoint is None else step_of(checkpoint) * config.optim.batch_size,
            batch_size=self.per_device_batch_size,
            rank=self.processes.process_index,
            num_ranks=self.processes.num_processes,
            num_workers=config.hardware.num_workers,
        )
        return as_iterable(stream, turn)

    def autocast(self) -> "AbstractContextManager[None]":
        """How the model computes outside of the trainer, which sets up the same for itself."""
        import torch

        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def validation_loss(self, model: Any) -> "ValidationLoss":
        """Exact loss over all validation tasks."""
        from arc_experiments.training.validation import validation_loss

        records, too_long = self.validation_records
        with self.autocast():
            return validation_loss(
                model,
                records,
                num_too_long=too_long,
                pad_id=self.prompt.pad_id,
                batch_size=self.per_device_batch_size,
                processes=self.processes,
            )

    def untrained_validation_loss(self, model: Any) -> "ValidationLoss":
        """The same before training, a quarter faster where a new LoRA still adds exactly nothing."""
        lora = self.config.model.lora
        adds = lora is None or self.config.model.adapter or lora.dora or lora.initialisation != "default"
        if adds or self.is_sharded:
            return self.validation_loss(model)
        with model.disable_adapter():
            return self.validation_loss(model)

    @cached_property
    def validation_records(self) -> tuple[list[Any], int]:
        from arc_experiments.training.validation import make_records

        return make_records(self.validation_tasks, self.prompt, self.corpus.source_of)

    @cached_property
    def requests(self) -> "list[Request]":
        """All views of all predicted tasks, as prompts."""
        from arc_experiments.generation import make_requests

        config = self.config
        return make_requests(
            self.predicted_tasks(),
            self.prompt,
            num_views=config.inference.num_views,
            seed=config.seeds.inference,
        )

    @property
    def max_new_tokens(self) -> int:
        """The longest answer: as configured, or what the largest grid needs."""
        return self.config.inference.max_new_tokens or self.prompt.longest_answer()

    def predict(
        self, model: Any, on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Candidate]:
        """Candidates for every request; finished batches are kept if this is killed.

        A float32 adapter is merged into its base, which is exact to rounding and faster; the model that is
        handed in has no adapter of its own afterwards.
        """
        from arc_experiments.models import merge

        return self._predict(merge(model.eval()), self.folder / PARTIAL_PREDICTIONS, on_progress)

    def predict_in_training(self, model: Any) -> list[Candidate]:
        """The same with the model left exactly as it is, for a look during training; nothing is kept."""
        was_training, partial = model.training, self.folder / f"{PARTIAL_PREDICTIONS}.training"
        self._remove(partial)  # that of a killed attempt, with other weights
        candidates = self._predict(model.eval(), partial, lambda done, total: None)
        self._remove(partial)
        model.train(was_training)
        return candidates

    def _remove(self, folder: Path) -> None:
        """Remove a folder that all processes use, when all are here."""
        self.processes.wait_for_everyone()
        if self.processes.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
        self.processes.wait_for_everyone()

    def _predict(self, model: Any, partial: Path, on_progress: Callable[[int, int], None]) -> list[Candidate]:
        from arc_experiments.generation import predict

        with self.autocast():
            return predict(
                model,
                self.prompt,
                self.requests,
                max_new_tokens=self.max_new_tokens,
                batch_tokens=self.config.inference.batch_tokens,
                partial=partial,
                processes=self.processes,
                on_progress=on_progress,
            )

    @property
    def weights_folder(self) -> Path:
        """Where the trained weights are: `adapter/`, or `model/` after full fine-tuning."""
        full = self.config.model.lora is None and self.config.model.adapter is None
        return self.folder / ("model" if full else "adapter")

    def save_weights(self, model: Any, state_dict: "dict[str, torch.Tensor] | None" = None) -> Path:
        """Save what was trained, with its ancestry; the folder appears whole or not at all.

        Args:
            state_dict: the trained weights of a sharded model.
        """
        from arc_experiments.models import save_weights

        final = self.weights_folder
        temporary = final.with_name(f".{final.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        save_weights(model, self.tokenizer, temporary, base=self.config.model.path, state_dict=state_dict)
        self.ancestry.save(temporary)
        shutil.rmtree(final, ignore_errors=True)
        return temporary.rename(final)

    def trained_model(self) -> Any:
        """The model with the weights that this run has trained."""
        from arc_experiments.models import add_adapter

        model = dataclasses.replace(self.config.model)
        if self.weights_folder.name == "adapter":
            model.adapter = str(self.weights_folder)
        else:
            model.path, model.weights = str(self.weights_folder), "pretrained"
        return add_adapter(self._base(model), model, seed=0, trainable=False)

    def _base(self, model: Model, *, place: bool = True) -> "PreTrainedModel":
        from arc_experiments.models import load_base

        return load_base(
            model,
            dtype=self.dtype,
            device=self.device,
            vocabulary=self.vocabulary,
            device_map="auto" if self.config.hardware.parallelism == "split" else None,
            place=place,
        )
