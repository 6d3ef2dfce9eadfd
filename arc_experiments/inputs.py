"""What a run feeds its model: tasks, tokenizer, prompts, training samples, questions. No weights are needed for it."""

import dataclasses
import math
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from arc_experiments.augmentation import Transform
from arc_experiments.config.check import build, check
from arc_experiments.config.paths import local_path
from arc_experiments.config.rules import check_steps, rung_steps
from arc_experiments.config.schema import Config
from arc_experiments.config.schema import Prompt as PromptOptions
from arc_experiments.corpus.corpus import Corpus
from arc_experiments.corpus.partitions import Partition, leave_out
from arc_experiments.models.weights import Weights
from arc_experiments.prompts import Prompt
from arc_experiments.runs.folder import RunFolder
from arc_experiments.stream.samples import Part, SampleStream
from arc_experiments.tasks import FixedTasks, Row, Task, TaskSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from arc_experiments.generation.constraint import Constraint
    from arc_experiments.generation.engine import Engine
    from arc_experiments.generation.predict import Request
    from arc_experiments.models.tokenizer import ArcTokenizer
    from arc_experiments.models.vocabulary import Vocabulary

NUM_UNCONSTRAINED = 32  # requests that are asked without `inference.constrain` as well
NUM_VERIFIED = 32  # tasks on which the token table is compared with the tokenizer


class Inputs:
    """Lazily built parts of one composition. Heavy libraries are imported when a part needs them."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.node: DictConfig = folder.read_config()
        self.config: Config = check(self.node)
        self.weights = Weights(self.config, folder)
        if self.config.optim.epochs is not None:
            self._take_epochs(self.config.optim.epochs)

    @cached_property
    def corpus(self) -> Corpus:
        """The tasks that train and those that are held out."""
        return Corpus(
            self.config.data,
            partition_seed=self.config.seeds.partition,
            tokenizer=lambda: self._full_tokenizer,
        )

    def _take_epochs(self, epochs: float) -> None:
        """Set the steps that they come to.

        Raises:
            ValueError: the data has no end, or what depends on the steps does not fit them.
        """
        optim = self.config.optim
        optim.max_steps, optim.epochs = self._steps_of_epochs(epochs), None
        mistakes = list(check_steps(optim))
        if mistakes:
            raise ValueError(
                f"optim.epochs={epochs:g} are {optim.max_steps} steps here: " + "; ".join(mistakes)
            )

    def _steps_of_epochs(self, epochs: float) -> int:
        """Optimizer steps in which every training task comes so often; raises ValueError where the data has no end."""
        shares, optim = self.corpus.shares, self.config.optim
        endless = [
            share.name
            for share in shares
            if len(shares) > 1 or any(task_id not in share.source.fixed for task_id in share.task_ids)
        ]
        if endless:
            raise ValueError(
                f"optim.epochs={epochs:g}: {', '.join(endless)} has no end (pairs are made anew, or sources are mixed by their "
                "shares), so there is no epoch: optim.max_steps"
            )
        return math.ceil(epochs * sum(len(share.task_ids) for share in shares) / optim.batch_size)

    @property
    def partition(self) -> Partition:
        """Which tasks train and which are held out."""
        return self.corpus.partition

    @property
    def validation_tasks(self) -> TaskSet:
        """The held-out tasks with their solutions, in the partition's order."""
        return self.corpus.validation_tasks

    def predicted_tasks(self) -> TaskSet:
        """Those of the validation tasks that are to be answered (`inference.limit`); ready rows never are.

        All of them where they are answered already: a limit to the work would shorten the list that a file is scored by.
        None at a rung of a halving that the validation loss decides.
        """
        config = self.config
        is_rung = config.optim.stop_after in rung_steps(config.halving, config.optim)
        if is_rung and "pass_at_2" not in (config.halving.metric, config.optim.best_by):
            return TaskSet([])
        limit = config.inference.limit if config.submission is None else None
        return TaskSet(self._arc_validation_tasks[:limit])

    @property
    def can_validate(self) -> bool:
        """Whether a validation loss can be measured: some test output is known, or a ready row is held out."""
        return any(
            isinstance(task, Row) or any(pair.output is not None for pair in task.test)
            for task in self.validation_tasks
        )

    @property
    def _arc_validation_tasks(self) -> list[Task]:
        return [task for task in self.validation_tasks if not isinstance(task, Row)]

    @property
    def _verified_tasks(self) -> list[Task]:
        """Real tasks with answers, on which the token table is compared with the tokenizer."""
        tasks = self._arc_validation_tasks
        known = [task for task in tasks if task.test[0].output is not None]
        return known[:NUM_VERIFIED] or list(leave_out(tasks[:NUM_VERIFIED], 1))

    @cached_property
    def vocabulary(self) -> "Vocabulary | None":
        """The tokens kept: those that its weights came with, else those of this prompt. None: all of them."""
        from arc_experiments.models.vocabulary import collect, read_vocabulary, union

        if self.config.model.vocabulary == "full":
            return None
        if self.corpus.rows:
            raise ValueError(
                "model.vocabulary=arc holds the tokens of ARC prompts alone, and this data has ready rows: "
                "model.vocabulary=full"
            )
        for folder in (self.weights.folder, self.weights.source):
            saved = read_vocabulary(folder)
            if saved is not None:
                return saved
        extra, full = self._verified_tasks, self._full_tokenizer
        prompts = [
            self.config.prompt,
            *(share.prompt for share in self.corpus.shares if share.prompt is not None),
        ]
        return union(
            collect(full, partial(self._make_prompt, own), build(own.grid), extra) for own in prompts
        )

    @cached_property
    def _full_tokenizer(self) -> "PreTrainedTokenizerBase":
        from arc_experiments.models.tokenizer import load_tokenizer

        return load_tokenizer(self.config.model)

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase | ArcTokenizer":
        """The model's tokenizer; with `model.vocabulary=arc` in small ids."""
        from arc_experiments.models.tokenizer import ArcTokenizer

        full = self._full_tokenizer
        return full if self.vocabulary is None else ArcTokenizer(full, self.vocabulary)

    @cached_property
    def prompt(self) -> Prompt:
        """The prompt writer, its token table verified on validation tasks."""
        prompt, rows = self._verified_prompt(self.config.prompt), list(self.corpus.rows.values())
        prompt.check_rows(rows[:: len(rows) // NUM_VERIFIED + 1])
        return prompt

    def _verified_prompt(self, own: PromptOptions) -> Prompt:
        prompt = self._make_prompt(own, self.tokenizer)
        prompt.verify(self._verified_tasks)
        return prompt

    def _make_prompt(self, own: PromptOptions, tokenizer: Any) -> Prompt:
        options = dataclasses.asdict(own)
        del options["name"]
        options |= {"grid": build(options["grid"]), "chat": options["chat"] == "auto"}
        return Prompt(tokenizer=tokenizer, **options)

    def stream(self) -> SampleStream:
        """Endless training samples, and rows of them, by number.

        Raises:
            ValueError: no task of a source is left to train on.
        """
        self.corpus.check_trains()
        parts = [
            Part(
                name=share.name,
                source=share.source,
                task_ids=share.task_ids,
                weight=share.weight,
                transforms=[
                    transform
                    for name, transform in self._transforms.items()
                    if share.augmentation is None or name in share.augmentation
                ],
                prompt=None if share.prompt is None else self._verified_prompt(share.prompt),
            )
            for share in self.corpus.shares
        ]
        return SampleStream(
            parts, self.prompt, seed=self.config.seeds.stream, pack_length=self.config.optim.pack_length
        )

    def stream_of(self, tasks: TaskSet, *, seed: int) -> SampleStream:
        """The same of other tasks: all of the run's augmentations, its own prompt."""
        part = Part(
            name="tasks",
            source=FixedTasks(tasks),
            task_ids=tasks.ids,
            transforms=list(self._transforms.values()),
        )
        return SampleStream([part], self.prompt, seed=seed, pack_length=self.config.optim.pack_length)

    @cached_property
    def _transforms(self) -> dict[str, Transform]:
        return {name: build(options) for name, options in self.config.augmentation.items()}

    @cached_property
    def validation_records(self) -> tuple[list[Any], int]:
        from arc_experiments.training.validation import make_records

        return make_records(self.validation_tasks, self.prompt, self.corpus.source_of)

    @cached_property
    def requests(self) -> "list[Request]":
        """All views of all predicted tasks, as prompts."""
        return self.requests_of(self.predicted_tasks())

    def requests_of(self, tasks: TaskSet) -> "list[Request]":
        """The same of other tasks, whose test outputs may be missing."""
        from arc_experiments.generation.predict import make_requests

        config = self.config
        return make_requests(
            tasks, self.prompt, num_views=config.inference.num_views, seed=config.seeds.inference
        )

    @cached_property
    def unconstrained_requests(self) -> "list[Request]":
        """Those that are asked without `inference.constrain` as well: a sample; none where nothing is constrained."""
        asked = [request for request in self.requests if request.ids is not None]
        if self.config.inference.constrain == "none" or not asked:
            return []
        places = np.linspace(0, len(asked) - 1, min(len(asked), NUM_UNCONSTRAINED)).round().astype(int)
        return [asked[place] for place in places]

    @cached_property
    def engine(self) -> "Engine":
        """How questions are answered.

        Raises:
            ValueError: `inference.constrain=grid` with a tokenizer whose tokens are not whole characters, or
                `inference.engine=vllm` without the package.
        """
        from arc_experiments.generation.constraint import grid_constraint

        is_constrained = self.config.inference.constrain == "grid"
        return self._make_engine(grid_constraint(self.prompt) if is_constrained else None)

    @property
    def unconstrained_engine(self) -> "Engine":
        """The same without `inference.constrain`."""
        return self._make_engine(None)

    def _make_engine(self, constraint: "Constraint | None") -> "Engine":
        from arc_experiments.generation.decoding import Transformers
        from arc_experiments.generation.threshold import Threshold

        options = self.config.inference
        if options.engine == "threshold":
            return Threshold(threshold=options.threshold, constraint=constraint)
        sampling: dict[str, Any] = {
            "num_samples": options.num_samples,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": self.config.seeds.inference,
        }
        if options.engine == "vllm":
            return self._vllm(sampling)
        return Transformers(constraint=constraint, **sampling)

    def _vllm(self, sampling: dict[str, Any]) -> "Engine":
        from arc_experiments.generation.vllm import Vllm
        from arc_experiments.models.adapters import save_weights
        from arc_experiments.models.precision import pick_device, pick_dtype

        config = self.config
        base = local_path(config.model.path)
        dtype = pick_dtype(config.model.dtype, pick_device(config.hardware))
        return Vllm(
            base=base,
            dtype=str(dtype).removeprefix("torch."),
            max_length=config.prompt.max_length,
            memory_share=config.inference.vllm_memory_share,
            save=lambda model, folder: save_weights(model, self.tokenizer, folder, base=base),
            **sampling,
        )

    @property
    def max_new_tokens(self) -> int:
        """The longest answer: as configured, or what the largest grid needs."""
        return self.config.inference.max_new_tokens or self.prompt.longest_answer()
