"""The run object: the parts of one composition, each built when it is first asked for.

run = compose(["data=arc1", "model=tiny"])
run.stream()[0]          # the first sample, augmented, as tokens
model = run.model()      # what the run starts with: base and adapter
run.trainer(model, [])   # TRL's SFTTrainer on the stream
run.predict(model)       # candidates for the validation tasks
run.trained_model()      # of a run that has trained: its weights

What builds a part lies with its stage; this file is the table of contents, for the jobs and for notebooks.
Libraries that take long to import are imported by the parts that need them.
"""

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arc_experiments.augmentation import Transform
from arc_experiments.config.check import build, check
from arc_experiments.config.job_kinds import job_kind
from arc_experiments.config.picture_rules import excluded_by_pictures
from arc_experiments.config.rules import answer_limit
from arc_experiments.config.sampling import temperatures, with_samples_of_programs
from arc_experiments.config.schema import Config, Model, PromptOptions
from arc_experiments.corpus.corpus import Corpus, Share
from arc_experiments.corpus.partitions import Partition
from arc_experiments.models.ancestry import Ancestry
from arc_experiments.models.weights import Weights
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts import Prompt
from arc_experiments.prompts.building import NUM_VERIFIED, verified_prompt
from arc_experiments.runs.folder import RunFolder, read_object
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.selection import Rule, rule_named
from arc_experiments.stream.building import check_programs, make_parts, with_steps_of_epochs
from arc_experiments.stream.samples import JoinedStreams, SampleStream, StreamPart
from arc_experiments.tasks import FixedTasks, Row, TaskSet

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from arc_experiments.generation.engine import Engine
    from arc_experiments.generation.predict import Predictor, Way
    from arc_experiments.generation.requests import Request
    from arc_experiments.models.tokenizer import ArcTokenizer
    from arc_experiments.models.vocabulary import Vocabulary
    from arc_experiments.programs.sandbox import Sandbox
    from arc_experiments.prompts.kinds import Asked
    from arc_experiments.resources.choosing import Choice
    from arc_experiments.resources.needs import Needs
    from arc_experiments.resources.workload import Workload
    from arc_experiments.training.trainer import StreamTrainer
    from arc_experiments.training.validation import ValidationLoss

PARTIAL_PREDICTIONS = ".predictions"  # a folder: answers of an evaluation that is under way
NUM_LOOKED_AT = 32  # samples for a data-driven initialisation


def compose(
    overrides: list[str], folder: Path | str | None = None, *, config_dir: Path | str | None = None
) -> "Run":
    """Compose the run that the command would make of these overrides, frozen in its folder but not started.

    Args:
        config_dir: option files of your own (see docs/extending.md).

    Raises:
        ConfigError: mistakes in the composition, all together.
        FolderError: the folder holds another composition.
    """
    from arc_experiments.composing.compose import compose_config
    from arc_experiments.composing.freezing import freeze
    from arc_experiments.composing.naming import folder_name
    from arc_experiments.config.user_code.folders import add_conf

    if config_dir is not None:
        add_conf(Path(config_dir))
    node = compose_config(overrides)
    path = Path(folder) if folder is not None else Path("outputs") / folder_name(node)
    return load_run(freeze(node, path, overrides).path)


def load_run(folder: Path | str) -> "Run":
    """Open the run in a folder, finished or not.

    Raises:
        FolderError: the folder holds no run, or another version's.
        ConfigError: mistakes in its composition.
    """
    from arc_experiments.composing.recorded_code import find_code

    opened = RunFolder(Path(folder))
    find_code(opened.path)
    return Run(opened, check(opened.read_config()), by_hand=True)


class Run:
    """One composition: what feeds the model, the model, its training and its answers.

    Args:
        config: checked; it is not changed.
        by_hand: no worker holds the folder: a training shows itself in its status.

    Raises:
        ValueError: `optim.epochs` does not fit the data or other keys.
    """

    def __init__(self, folder: RunFolder, config: Config, *, by_hand: bool = False) -> None:
        self.folder, self.config = folder, with_samples_of_programs(config)
        self._by_hand = by_hand
        if config.optim.epochs is not None:
            self.config = with_steps_of_epochs(self.config, self.corpus.shares)

    def execute(self) -> "Run":
        """Run or resume the whole job as the command does, in a process of its own whose lines are shown.

        Raises:
            RuntimeError: it did not come to its end.
        """
        from arc_experiments.launching.commands import run_worker

        code = run_worker(self.folder)
        if code:
            error = self.folder.status.get("error") or f"it ended with exit code {code}"
            raise RuntimeError(f"{self.folder}: {error}")
        return load_run(self.folder.path)

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json of the finished run; {} before."""
        return read_object(self.folder / "metrics.json")

    # What feeds the model.

    @cached_property
    def corpus(self) -> Corpus:
        """The tasks that train and those that are held out."""
        seed = self.config.seeds.partition
        return Corpus(
            self.config.data,
            partition_seed=seed,
            processor=self._processor,
            find_wrong=self._wrong_programs,
        )

    def _wrong_programs(self, share: Share) -> dict[str, str]:
        from arc_experiments.corpus.programs import wrong_programs

        if not (share.prompt or self.config.prompt).kinds.need_programs:
            return {}
        return wrong_programs(
            share, lambda: self.sandbox, str(replace(self.config.programs, num_processes=None))
        )

    @property
    def partition(self) -> Partition:
        """Which tasks train and which are held out."""
        return self.corpus.partition

    @property
    def validation_tasks(self) -> TaskSet:
        """The held-out tasks with their solutions, in the partition's order."""
        return self.corpus.validation_tasks

    def predicted_tasks(self) -> TaskSet:
        """The validation tasks that are to be answered (see `answer_limit`); ready rows never are."""
        return self.corpus.asked(answer_limit(self.config))

    @cached_property
    def _full_tokenizer(self) -> "PreTrainedTokenizerBase":
        from arc_experiments.models.tokenizer import load_tokenizer

        return load_tokenizer(self.config.model)

    @cached_property
    def vocabulary(self) -> "Vocabulary | None":
        """The tokens kept: those that its weights came with, else those of its prompts. None: all of them."""
        if self.config.model.vocabulary == "full":
            return None
        from arc_experiments.models.vocabulary import choose_vocabulary

        others = [share.prompt for share in self.corpus.shares if share.prompt is not None]
        return choose_vocabulary(
            self._full_tokenizer,
            folders=(self.weights.folder, self.weights.source),
            prompts=[self.config.prompt, *others],
            tasks=self.corpus.examples(NUM_VERIFIED),
            has_rows=bool(self.corpus.rows),
        )

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase | ArcTokenizer":
        """The model's tokenizer; with `model.vocabulary=arc` in small ids."""
        from arc_experiments.models.tokenizer import ArcTokenizer

        full = self._full_tokenizer
        return full if self.vocabulary is None else ArcTokenizer(full, self.vocabulary)

    @cached_property
    def pictures(self) -> PictureInputs:
        """What the model would be given of pictures, by its processor."""
        from arc_experiments.models.processor import load_processor

        return PictureInputs(load_processor(self.config.model))

    def _processor(self) -> Any:
        """Return what a user's function makes rows with: a vision model's processor, else the tokenizer."""
        from arc_experiments.models.processor import load_processor, reads_pictures

        # Not that of `pictures`, since the function may change it.
        return (
            load_processor(self.config.model) if reads_pictures(self.config.model) else self._full_tokenizer
        )

    @property
    def picture_token(self) -> str | None:
        """The token of which a picture takes many; None for prompts without pictures."""
        return None if self.picture_inputs is None else self.picture_inputs.token

    @property
    def picture_inputs(self) -> PictureInputs | None:
        """What the model is given of pictures, where prompts or rows have some."""
        prompts = [self.config.prompt, *(share.prompt for share in self.corpus.shares if share.prompt)]
        shows_pictures = any(own.shows_pictures for own in prompts)
        return self.pictures if shows_pictures or self._rows_have_images else None

    @cached_property
    def _rows_have_images(self) -> bool:
        """Whether some ready row has images.

        Raises:
            ValueError: images do not go with other settings.
        """
        if not any(row.images for row in self.corpus.rows.values()):
            return False
        for setting, why in excluded_by_pictures(self.config):
            raise ValueError(f"{setting} does not go with ready rows that have images: {why}")
        return True

    @cached_property
    def prompt(self) -> Prompt:
        """The prompt writer, its token table verified on validation tasks."""
        return self._make_prompt(self.config.prompt, list(self.corpus.rows.values()))

    def _make_prompt(self, own: PromptOptions, rows: Sequence[Row] = ()) -> Prompt:
        examples, language = self.corpus.examples(NUM_VERIFIED), None
        if own.kinds.need_programs:
            examples += self.corpus.programs(NUM_VERIFIED)
            language = self.corpus.languages[0] if len(self.corpus.languages) == 1 else None
        return verified_prompt(own, self.tokenizer, examples, rows, language, self.picture_inputs)

    @cached_property
    def _transforms(self) -> dict[str, Transform]:
        return {name: build(options) for name, options in self.config.augmentation.items()}

    def stream(self) -> SampleStream:
        """Endless training samples, and rows of them, by number.

        Raises:
            ValueError: no task of a source is left to train on.
        """
        self.corpus.check_trains()
        check_programs(self.config.prompt, self.corpus.shares)
        parts = make_parts(self.corpus.shares, self._transforms, self._make_prompt)
        return self._stream(parts, self.config.seeds.stream)

    def stream_of(self, tasks: TaskSet, *, seed: int, in_order: bool = False) -> SampleStream:
        """The same of other tasks, with all of the run's augmentations and its own prompt.

        Args:
            in_order: see `StreamPart`.
        """
        part = StreamPart(
            name="tasks",
            source=FixedTasks(tasks),
            task_ids=tasks.ids,
            transforms=list(self._transforms.values()),
            in_order=in_order,
        )
        return self._stream([part], seed)

    def _stream(self, parts: list[StreamPart], seed: int) -> SampleStream:
        optim = self.config.optim
        return SampleStream(
            parts, self.prompt, seed=seed, pack_length=optim.pack_length, answer_gap=optim.answer_gap
        )

    # The model.

    @cached_property
    def processes(self) -> "PartialState":
        """The processes that work on this run together, and which of them this is."""
        from arc_experiments.runs.cores_and_gpus import join_processes

        return join_processes(self.device)

    @cached_property
    def device(self) -> "torch.device":
        """Where the model is."""
        from arc_experiments.models.precision import pick_device

        return pick_device(self.config.hardware)

    @cached_property
    def dtype(self) -> "torch.dtype":
        """What the base model's weights are held and computed in."""
        from arc_experiments.models.precision import pick_dtype

        return pick_dtype(self.config.model.dtype, self.device)

    @property
    def is_sharded(self) -> bool:
        """Whether training shards the weights over the processes."""
        return self.config.hardware.parallelism == "fsdp"

    @cached_property
    def weights(self) -> Weights:
        """The files that the weights come from and go to."""
        return Weights(self.config, self.folder)

    @property
    def ancestry(self) -> Ancestry:
        """The ancestry of the weights that this run makes."""
        return self.weights.ancestry(dtype=self.dtype, shares=self.corpus.shares)

    def model(self, *, trainable: bool = True) -> Any:
        """Load the model that the run starts with: the base and `model.adapter`, or a new LoRA.

        It never has the weights that the run has trained, finished or not: `trained_model` loads those. An
        evaluation with `from_run` trains none, and starts with those of the other run.

        Raises:
            ValueError: the adapter was trained with another prompt, dtype or vocabulary, which only
                `inference.force=true` allows.
        """
        from arc_experiments.models.adapters import add_adapter, needs_samples

        self.weights.check_ancestry(dtype=self.dtype)
        model = self.config.model
        # Every process loads all of a model that is to be sharded, which may be too much for its GPU.
        base = self._base(model, place=not (trainable and self.is_sharded))
        samples = []
        if trainable and needs_samples(model):
            stream = self.stream()
            samples = [stream[index].encoded.input_ids for index in range(NUM_LOOKED_AT)]
        return add_adapter(base, model, seed=self.config.seeds.init, trainable=trainable, samples=samples)

    def trained_model(self) -> Any:
        """Load the model with the weights that this run has trained, for `predict` and `validation_loss`."""
        from arc_experiments.models.adapters import add_adapter

        model = self.weights.trained()
        return add_adapter(self._base(model), model, seed=0, trainable=False)

    def save_weights(self, model: Any, state_dict: "dict[str, torch.Tensor] | None" = None) -> Path:
        """Save what was trained, with its ancestry; the folder appears whole or not at all.

        Args:
            state_dict: the trained weights of a sharded model.
        """
        processor = None if self.picture_inputs is None else self.pictures.processor
        return self.weights.save(model, self.tokenizer, self.ancestry, state_dict, processor=processor)

    def _base(self, model: Model, *, place: bool = True) -> "PreTrainedModel":
        from arc_experiments.models.loading import load_base_for

        options = {"dtype": self.dtype, "device": self.device, "vocabulary": self.vocabulary, "place": place}
        return load_base_for(self.config, model, **options)

    # Training.

    @cached_property
    def needs(self) -> "Needs":
        """What this run needs of memory, and what is chosen by that."""
        from arc_experiments.resources.needs import Needs

        return Needs(
            self.config,
            dtype=self.dtype,
            device=self.device,
            num_processes=self.processes.num_processes,
            num_tokens=lambda: None if self.vocabulary is None else len(self.vocabulary),
            find_work=self._largest_work,
            single=self._why_single_rows(),
        )

    def _largest_work(self) -> "Workload":
        from arc_experiments.resources.workload import find_work

        kind = job_kind(self.config.job.name)
        return find_work(
            self.config,
            stream=self.stream() if kind.trains else None,
            pictures=self.picture_inputs,
            records=self.validation_records[0] if self.can_validate else [],
            requests=self.requests,
            predictor=self.predictor if self.requests else None,
        )

    def _why_single_rows(self) -> str | None:
        """Say why a forward pass has one row where that is chosen; None if it may have several."""
        if self.device.type == "cpu":
            return "on a CPU one row at a time is fastest, since nothing is padded"
        if self.config.optim.pack_length is not None:
            return "packed rows are batches of samples already"
        if self.config.adapt.together != 1:
            return "several adapters are trained at once"
        if self.config.job.name == "adapt" and self.config.hardware.num_processes != 1:
            return "other processes may use the same GPU"
        if self.picture_inputs is not None and len(self.picture_inputs.share_a_pass([1, 2])) > 1:
            return "samples with other numbers of pictures would change each other"
        return None

    @cached_property
    def _chosen(self) -> "Choice":
        """How a training is computed where that is not configured: as an earlier attempt here, or anew."""
        from arc_experiments.resources.choosing import Choice
        from arc_experiments.runs.environment import found_earlier

        names, count = ("per_device_batch_size", "gradient_checkpointing"), self.processes.num_processes
        rows, checkpointing = (found_earlier(self.folder, name, self.device, count) for name in names)
        if rows and checkpointing is not None:
            return Choice(rows=rows, checkpointing=checkpointing)
        return self.needs.choice

    @cached_property
    def per_device_batch_size(self) -> int:
        """Rows that one process trains on at once: as configured, tried (`auto`), or chosen by what fits."""
        configured = self.config.hardware.per_device_batch_size
        if configured is None:
            return self._chosen.rows
        if configured != "auto":
            return int(configured)
        from arc_experiments.training.batch_size import find_batch_size

        return find_batch_size(self.config, self.folder, self.processes, self.model, self.autocast)

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass: as configured, or where only that fits."""
        is_chosen = self.config.hardware.per_device_batch_size is None
        return self.config.model.gradient_checkpointing or (is_chosen and self._chosen.checkpointing)

    def trainer(
        self,
        model: Any,
        callbacks: "Sequence[TrainerCallback]" = (),
        *,
        stream: SampleStream | JoinedStreams | None = None,
        folder: Path | None = None,
        seed: int | None = None,
        kind: "Callable[..., StreamTrainer] | None" = None,
        is_pause_due: Callable[[int], bool] = lambda step: False,
    ) -> "StreamTrainer":
        """SFTTrainer on the stream (see `make_trainer`).

        Args:
            stream, folder, seed: samples, a place for checkpoints, a dropout seed other than the run's own.
            kind: makes the trainer, from StreamTrainer's arguments.
            is_pause_due: whether to pause at the end of a step, numbered from 1.
        """
        from arc_experiments.models.tokenizer import for_trainer
        from arc_experiments.training.building import make_trainer
        from arc_experiments.training.notebook_run import ByHand
        from arc_experiments.training.trainer import StreamTrainer

        trainer = make_trainer(
            model,
            for_trainer(self.tokenizer),
            stream or self.stream(),
            self.config,
            folder=folder or self.folder / "checkpoints",
            dtype=self.dtype,
            device=self.device,
            processes=self.processes,
            seed=self.config.seeds.train if seed is None else seed,
            per_device_batch_size=self.per_device_batch_size,
            gradient_checkpointing=self.gradient_checkpointing,
            pad_id=self.prompt.pad_id,
            pictures=self.picture_inputs,
            callbacks=callbacks,
            is_pause_due=is_pause_due,
            kind=kind or StreamTrainer,
        )
        if self._by_hand and folder is None and self.processes.is_main_process:
            by_hand = ByHand(self.folder)
            trainer.add_callback(by_hand)
            trainer.surrounding = by_hand.training
        return trainer

    def autocast(self) -> "AbstractContextManager[None]":
        """How the model computes outside of the trainer, which sets up the same for itself."""
        import torch

        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @property
    def can_validate(self) -> bool:
        """Whether some held-out task's answer is known, or a ready row is held out."""
        return any(self.prompt.has_answer(task) for task in self.validation_tasks)

    def validation_loss(self, model: Any) -> "ValidationLoss | None":
        """The exact loss over all validation tasks with solutions; None if there is none.

        Raises:
            ValueError: none fits into prompt.max_length.
        """
        from arc_experiments.training.validation import nothing_fits

        if not self.can_validate:
            return None
        records, too_long = self.validation_records
        if not records:
            raise ValueError(nothing_fits(self.validation_tasks, self.prompt))
        return self._loss(model, records, too_long)

    def loss_with_others_pictures(self, model: Any) -> "ValidationLoss | None":
        """The same with the pictures of other tasks; None if the prompt shows none, or of one task alone."""
        others = self.others_pictures_records
        return self._loss(model, others, self.validation_records[1]) if others else None

    def _loss(self, model: Any, records: list[Any], too_long: int) -> "ValidationLoss":
        from arc_experiments.training.validation import validation_loss

        with self.autocast():
            return validation_loss(
                model,
                records,
                num_too_long=too_long,
                pad_id=self.prompt.pad_id,
                pictures=self.picture_inputs,
                batch_size=self.per_device_batch_size,
                processes=self.processes,
            )

    @cached_property
    def validation_records(self) -> tuple[list[Any], int]:
        from arc_experiments.training.validation import make_records

        return make_records(self.validation_tasks, self.prompt, self.corpus.source_of)

    @cached_property
    def others_pictures_records(self) -> list[Any]:
        """What the loss with the pictures of other tasks is measured on; empty without such a loss."""
        from arc_experiments.training.others_pictures import with_others_pictures

        sees = self.can_validate and self.config.prompt.shows_pictures
        return with_others_pictures(self.validation_records[0]) if sees else []

    # Answers.

    def predict(
        self,
        model: Any,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        *,
        resume: bool = False,
    ) -> list[Candidate]:
        """Answer all requests of this run; results of finished batches survive a kill.

        A float32 adapter is merged into its base, which is exact to rounding and faster. The model that was
        passed in has no adapter of its own afterwards.

        Args:
            on_progress: called with (requests done, requests in all).
            resume: take the answers that an earlier attempt kept, which must have been those of this model.
        """
        from arc_experiments.generation.resuming import forget
        from arc_experiments.models.adapters import merge

        kept = self.folder / PARTIAL_PREDICTIONS
        if not resume:
            forget(kept, self.processes)
        takes_adapters = self.config.inference.engine == "vllm"
        model = model.eval() if takes_adapters else merge(model.eval())
        return self.predictor.predict(model, self.requests, kept, on_progress)

    @cached_property
    def predictor(self) -> "Predictor":
        """Answers and rescores as `inference` says, with this run's prompt, engine and processes."""
        from arc_experiments.generation.predict import Predictor, Way
        from arc_experiments.generation.reading import ProgramReader

        programs = ProgramReader(sandbox=self.sandbox) if self.prompt.asks == "program" else None
        return Predictor(
            self.prompt,
            Way(engine=self.engine, max_new_tokens=self.max_new_tokens, programs=programs),
            grids=self._grids,
            batch_tokens=self.config.inference.batch_tokens,
            scoring_views=self.config.inference.scoring_views,
            seed=self.config.seeds.inference,
            processes=self.processes,
            autocast=self.autocast,
        )

    @cached_property
    def sandbox(self) -> "Sandbox":
        """Runs programs, as `programs` says; its processes end with this object, at the latest at exit."""
        from arc_experiments.programs.sandbox import ProgramLimits, Sandbox
        from arc_experiments.runs.cores_and_gpus import share_of_cores

        options = self.config.programs
        limits = ProgramLimits(cpu_seconds=options.cpu_seconds, memory_bytes=options.memory_megabytes * 2**20)
        library = options.barc_library
        sandbox = Sandbox(
            num_processes=options.num_processes or share_of_cores(),
            limits=limits,
            barc_library=None if library is None else Path(library).expanduser(),
        )
        weakref.finalize(self, sandbox.__exit__, None, None, None)
        return sandbox

    @cached_property
    def fallback(self) -> list[Candidate]:
        """The grids of another run (`inference.fallback_run`) for the tasks that are to be answered.

        Raises:
            ValueError: that run has not answered all of them.
        """
        from arc_experiments.generation.other_run import check_likelihoods, grids_of_run

        if self.config.inference.fallback_run is None:
            return []
        other = load_run(Path(self.config.inference.fallback_run).expanduser())
        found = grids_of_run(other.folder.path, other.predicted_tasks(), self.predicted_tasks())
        check_likelihoods(found, self.config.inference.selection)
        return found

    @cached_property
    def engine(self) -> "Engine":
        """What generates answers (see `make_engine`)."""
        from arc_experiments.generation.building import make_engine

        return make_engine(self.config, self.prompt, self.tokenizer, self.dtype)

    @cached_property
    def _grids(self) -> "Way | None":
        """How grids are answered beside programs (`inference.fallback=grid`): greedily."""
        from arc_experiments.generation.decoding import Transformers
        from arc_experiments.generation.predict import Way

        if self.config.inference.fallback == "none":
            return None
        most = self.config.inference.max_new_tokens or self.prompt.longest_answer("output_from_examples")
        return Way(engine=Transformers(), max_new_tokens=most)

    @property
    def rule(self) -> Rule:
        """The rule by which the attempts are chosen (`inference.selection`)."""
        return rule_named(self.config.inference.selection)

    def score(self, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """The scores of answers to this run's tasks (see `scoring.metrics.score`)."""
        from arc_experiments.scoring.metrics import score

        return score(self.predicted_tasks(), candidates, self.rule, self.corpus.source_of)

    @property
    def max_new_tokens(self) -> int:
        """The longest answer: as configured, or what the largest grid needs."""
        return self.config.inference.max_new_tokens or self.prompt.longest_answer()

    @property
    def num_samples(self) -> int:
        """How many answers each question gets."""
        return len(temperatures(self.config.inference))

    @cached_property
    def requests(self) -> "list[Request]":
        """All views of all predicted tasks, as prompts."""
        return self.requests_of(self.predicted_tasks())

    def requests_of(self, tasks: TaskSet) -> "list[Request]":
        """The same of other tasks, whose test outputs may be missing."""
        from arc_experiments.generation.requests import make_requests

        num_views, seed = self.config.inference.num_views, self.config.seeds.inference
        asked: list[Asked] = [self.prompt.asks]
        if self.config.inference.fallback == "grid":
            asked.append("grid")
        return make_requests(tasks, self.prompt, num_views=num_views, seed=seed, asked=asked)
