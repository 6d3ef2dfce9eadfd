"""The typed schema of a composition: every key, its type, default, range or choices; and where conf/ is.

What is checked beyond that is in `check.py`, which names its modules (`rules.py`, `exclusions.py`, ...).
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from arc_experiments.config.job_kinds import JOBS

BENCHMARK_PARTS = ("stream", "loading", "training", "generation", "scoring")
# Rules that rank candidates, by the names of their functions in `scoring/selection.py`.
NEED_LIKELIHOODS = (
    "likelihood_product", "full_probmul_3", "likelihood_sum", "likelihood_mean", "likelihood_min",
    "likelihood_max", "votes_plus_likelihood",
)  # fmt: skip
SELECTIONS = ("votes_then_log_probability", "majority_vote", *NEED_LIKELIHOODS)
# transformers' optimizers, without those that change weights during the backward pass (no guard could stop
# them), that need target modules or a mode for evaluation, or that run on neither a CPU nor an NVIDIA GPU.
OPTIMIZERS = (
    "adamw_torch", "adamw_torch_fused", "adamw_torch_8bit", "adamw_torch_4bit", "adamw_8bit",
    "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor", "ademamix", "ademamix_8bit",
    "paged_ademamix_8bit", "paged_ademamix_32bit", "lion_8bit", "lion_32bit", "paged_lion_8bit",
    "paged_lion_32bit", "stable_adamw",
    "grokadamw", "adamw_anyprecision", "adagrad", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit", "sgd",
)  # fmt: skip

MAX_VIEWS = 10_000  # each is a prompt for every test output, all in memory; a task has far more distinct ones


def limited(
    default: Any = MISSING, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> Any:
    """Declare a number with its allowed range (`low <= x <= high`, `x > above`)."""
    return field(default=default, metadata={"low": low, "high": high, "above": above})


def one_of(*choices: str, or_own: bool = False) -> Any:
    """Declare a text with its allowed values, of which the first is the default.

    Args:
        or_own: also allow a function of the user's (see `own_function`).
    """
    return field(default=choices[0], metadata={"choices": choices, "or_own": or_own})


@dataclass
class Kinds:
    """Weights of the kinds of question in training; they need not sum to 1."""

    output_from_examples: float = limited(1.0, low=0)
    input_from_inputs: float = limited(0.0, low=0)
    output_from_outputs: float = limited(0.0, low=0)
    program_from_examples: float = limited(0.0, low=0)
    output_from_program: float = limited(0.0, low=0)

    @property
    def need_programs(self) -> bool:
        return self.program_from_examples + self.output_from_program > 0


@dataclass
class TemplateOptions:
    """The texts of one of the additional kinds of question."""

    introduction: str = ""
    demonstration: str = ""
    question: str = ""
    answer: str = MISSING

    @property
    def shows_pictures(self) -> bool:
        texts = self.introduction + self.demonstration + self.question
        return any(name in texts for name in PICTURES)


PICTURES = ("{input_picture}", "{output_picture}", "{sheet}")  # in a template
# Of a prompt that shows pictures.
PICTURE_OPTIONS = ("cell_pixels", "line_pixels", "margin_pixels", "canvas_pixels", "palette")


@dataclass
class PromptOptions:
    """How a task becomes text."""

    name: str = MISSING
    grid: Any = MISSING  # open set: a grid text, named by _target_
    system: str | None = None
    introduction: str = ""
    demonstration: str = MISSING
    question: str = MISSING
    answer: str = MISSING
    input_from_inputs: TemplateOptions | None = None
    output_from_outputs: TemplateOptions | None = None
    program_from_examples: TemplateOptions | None = None
    output_from_program: TemplateOptions | None = None
    languages: dict[str, str] = field(default_factory=dict)  # what {language} becomes
    language: str | None = None
    asks: str = one_of("grid", "program")
    kinds: Kinds = field(default_factory=Kinds)
    chat: str = one_of("auto", "never")
    loss_on: str = one_of("test_output", "all_outputs")
    cell_pixels: int | None = limited(None, low=1)
    line_pixels: int = limited(0, low=0)
    margin_pixels: int = limited(0, low=0)
    canvas_pixels: int | None = limited(None, low=8)
    palette: list[str] | None = None
    max_length: int = limited(8192, low=16)
    fit: str = one_of("drop", "redraw")

    @property
    def shows_pictures(self) -> bool:
        """Whether some kind of question shows grids as pictures."""
        own = TemplateOptions(self.introduction, self.demonstration, self.question, self.answer)
        others = (
            self.input_from_inputs,
            self.output_from_outputs,
            self.program_from_examples,
            self.output_from_program,
        )
        return any(each.shows_pictures for each in (own, *others) if each is not None)


@dataclass
class Source:
    """Where tasks come from and how they are split."""

    name: str = MISSING
    source: Any = None  # open set: a dataclass named by _target_, with read() or stream methods
    validation_source: Any = None  # null: validation tasks come from `source` too
    path: str | None = None
    file: str | None = None
    partition: str = one_of("seeded", "stratified", "k_fold", "official", "file", "all", "none")
    num_validation: float = limited(100, above=0)  # a share of the pool if below 1
    fold: int = limited(0, low=0)
    num_folds: int = limited(5, low=2)
    partition_file: str | None = None
    train_tasks: str = one_of("whole", "leave_out", "none")
    validation_tasks: str = one_of("none", "leave_out")
    leave_out: int = limited(1, low=1)
    tasks: list[str] | None = None
    fraction: float = limited(1.0, above=0, high=1)
    limit: int | None = limited(None, low=1)
    on_bad_task: str = one_of("refuse", "skip")
    augmentation: list[str] | None = None
    prompt: PromptOptions | None = None  # null: the run's; only of a mixture's source

    @property
    def trains(self) -> bool:
        """Whether something of it is trained on, not only validated on."""
        return self.partition != "all" or self.validation_tasks == "leave_out"


@dataclass
class Data(Source):
    """One source, or a mixture: several in `sources`, each with its weight."""

    sources: dict[str, Source] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    stream: str = one_of("indexed", "iterable")
    leaks: str = one_of("warn", "drop", "refuse", "ignore")  # validation tasks found in the training data


@dataclass
class Lora:
    """PEFT's LoraConfig, by the names of the field."""

    rank: int = limited(16, low=1)
    alpha: float = limited(32.0, above=0)
    dropout: float = limited(0.0, low=0, high=0.999)
    target_modules: Any = "all-linear"
    vision: bool = False  # also on the parts of a model that see pictures
    rslora: bool = False
    dora: bool = False
    initialisation: str = one_of("default", "gaussian", "pissa", "olora", "orthogonal", "eva")
    modules_to_save: list[str] = field(default_factory=list)


@dataclass
class Model:
    """The base model, and what of it is trained (`lora: null`: all weights)."""

    name: str = MISSING
    path: str = MISSING
    revision: str | None = None
    adapter: str | None = None
    weights: str = one_of("pretrained", "random")
    dtype: str = one_of("auto", "float32", "bfloat16", "float16")
    quantisation: str = one_of("none", "4bit", "8bit")
    vocabulary: str = one_of("full", "arc")  # arc: the tokens of ARC prompts alone
    attention: str = one_of("auto", "sdpa", "eager", "flash_attention_2", "flex_attention")
    compile: bool = False
    gradient_checkpointing: bool = False
    lora: Lora | None = field(default_factory=Lora)


DECAY = 0.2  # share of all steps, if a schedule has a decay and `optim.decay` is null


@dataclass
class Optim:
    """The optimizer, its schedule, and the steps at which things happen."""

    name: str = one_of(*OPTIMIZERS)
    learning_rate: float = limited(1e-4, above=0)
    embedding_learning_rate: float | None = limited(None, above=0)
    weight_decay: float = limited(0.0, low=0)
    schedule: str = one_of(
        "linear", "constant", "cosine", "cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay",
        "inverse_sqrt", "cyclic", or_own=True,
    )  # fmt: skip
    warmup: float = limited(0.05, low=0)
    cycles: int | None = limited(None, low=1)
    min_learning_rate: float | None = limited(None, low=0)
    decay: float | None = limited(None, above=0)
    label_smoothing: float = limited(0.0, low=0, high=0.999)
    neftune_alpha: float | None = limited(None, above=0)
    max_grad_norm: float = limited(1.0, above=0)
    batch_size: int = limited(16, low=1)
    pack_length: int | None = limited(None, low=16)
    answer_gap: int = limited(0, low=0)
    max_steps: int = limited(1000, low=1)
    epochs: float | None = limited(None, above=0)
    stop_after: int | None = limited(None, low=1)
    log_steps: int = limited(1, low=1)
    eval_steps: int | None = limited(None, low=1)
    save_steps: int = limited(100, low=1)
    load_state: str | None = None
    best_by: str = one_of("none", "validation_loss", "pass_at_2")
    patience: int | None = limited(None, low=1)
    min_delta: float = limited(0.0, low=0)
    max_skipped_steps: int = limited(20, low=1)
    spike_factor: float | None = limited(3.0, above=1)
    stop_on_spike: bool = False


@dataclass
class Inference:
    """Views, generation, selection."""

    num_views: int = limited(8, low=1, high=MAX_VIEWS)
    engine: str = one_of("transformers", "threshold", "vllm")
    num_samples: Any = 1  # or a list, a number for each temperature; no union: OmegaConf cannot merge one
    temperature: Any = 0.0
    top_p: float = limited(1.0, above=0, high=1)
    threshold: float = limited(0.1, above=0, high=1)
    constrain: str = one_of("none", "grid", "program")
    fallback: str = one_of("none", "grid")
    fallback_run: str | None = None
    vllm_memory_share: float = limited(0.6, above=0, high=1)
    scoring_views: int = limited(0, low=0, high=MAX_VIEWS)
    selection: str = one_of(*SELECTIONS, or_own=True)
    max_new_tokens: int | None = limited(None, low=1)
    batch_tokens: int = limited(32768, low=1)
    limit: int | None = limited(None, low=0)
    force: bool = False


@dataclass
class Programs:
    """How programs are run. The limits are those of one program on one input."""

    cpu_seconds: float = limited(2.0, above=0)
    memory_megabytes: int = limited(512, low=16)
    num_processes: int | None = limited(None, low=1)
    barc_library: str | None = None


@dataclass
class Hardware:
    """How many of what."""

    device: str = one_of("auto", "cpu", "cuda")
    num_processes: int | None = limited(1, low=1)
    parallelism: str = one_of("data", "fsdp", "split")
    per_device_batch_size: Any = 1  # or "auto", or null; no union of types: OmegaConf cannot merge one
    num_workers: int = limited(0, low=0)
    threads: int | None = limited(None, low=1)
    gpu_ids: list[int] | None = None
    force: bool = False


@dataclass
class Tracking:
    """Weights & Biases; `auto` is online with a key, offline without."""

    mode: str = one_of("auto", "online", "offline", "off")
    project: str = "arc_experiments"
    entity: str | None = None
    group: str | None = None
    log_steps: int = limited(10, low=1)
    num_images: int = limited(4, low=0)


@dataclass
class Job:
    """The verb: a module of `arc_experiments.jobs`."""

    name: str = one_of(*JOBS)


@dataclass
class Benchmark:
    """What job=benchmark measures, how often and for how long; each measurement is a process of its own."""

    parts: list[str] = field(default_factory=lambda: list(BENCHMARK_PARTS))
    rounds: int = limited(3, low=1)
    max_seconds: float = limited(20.0, above=0)
    samples: int = limited(500, low=1)
    workers: list[int] = field(default_factory=lambda: [0, 1, 2])
    consumer_tokens_per_second: float = limited(60000.0, above=0)
    consumer_samples_per_second: float | None = limited(None, above=0)
    batch_sizes: list[int] = field(default_factory=lambda: [1, 2])
    lengths: list[int] = field(default_factory=lambda: [512, 1024])
    input_sizes: list[str] = field(default_factory=list)  # "2x30": two demonstrations, grids of 30 x 30
    packing: list[bool] = field(default_factory=lambda: [False])
    accumulation: int = limited(2, low=1)
    vary: list[str] = field(default_factory=list)  # "model.attention=sdpa,eager"
    prompts: int = limited(64, low=1)
    new_tokens: int = limited(64, low=1)
    candidates: int = limited(8, low=1)
    prompt_tokens: int = limited(1500, low=2)


OWN_SETS = ("validation", "train")  # the names in `audit` of the two parts of this run's partition


@dataclass
class Audit:
    """What job=audit compares: data options, folders or files, `train` and `validation` of this run."""

    tasks: list[str] = field(default_factory=lambda: ["validation"])
    against: list[str] = field(default_factory=lambda: ["train"])
    pictures: int = limited(40, low=0)


@dataclass
class Inspect:
    """What job=inspect shows and counts: samples, or rows if they are packed."""

    first: int = limited(0, low=0)
    num_samples: int = limited(8, low=1, high=200)
    num_counted: int = limited(2000, low=1)


@dataclass
class Adapt:
    """Test-time fine-tuning (job=adapt): which tasks share a model, what it is trained on, for how long."""

    method: str = one_of("fine_tune", "search_and_learn")
    mode: str = one_of("per_task", "joint", "groups")
    groups: int | None = limited(None, low=2)  # of mode=groups
    together: int = limited(1, low=1)  # of mode=per_task
    leave_out: list[int] = field(default_factory=lambda: [1])
    programs: int | None = limited(None, low=1)  # of method=search_and_learn, as the next three
    rounds: int = limited(4, low=1)
    relabelled: int = limited(8, low=1)
    joined: int = limited(0, low=0)
    seconds_per_task: float | None = limited(None, above=0)
    seconds: float | None = limited(None, above=0)
    deadline_hours: float | None = limited(None, above=0)
    reserve_seconds: float = limited(300.0, low=0)  # of deadline_hours
    second_pass: bool = False  # of method=fine_tune
    save: bool = False


@dataclass
class Chain:
    """One long run as several shorter jobs, each of which resumes exactly where the one before stopped."""

    total_jobs: int = limited(1, low=1)
    steps_per_job: int | None = limited(None, low=1)
    seconds_per_job: float | None = limited(None, above=0)


@dataclass
class Slurm:
    """What `launch=slurm` requests from the cluster for each job."""

    partition: str | None = None
    time: str | None = None
    nodes: int = limited(1, low=1)
    gpus_per_node: int = limited(0, low=0)
    cpus_per_task: int | None = limited(None, low=1)
    memory: str | None = None
    account: str | None = None
    constraint: str | None = None
    directives: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    signal_seconds: int = limited(120, low=1)
    workers: int = limited(1, low=1)
    template: str | None = None


@dataclass
class Command:
    """Which command submits which file to a scheduler, and what the file asks of it for each job."""

    template: str = MISSING
    submit: str = MISSING
    id: str = r"(\S+)"
    element: str | None = None
    queue: str | None = None
    cancel: str | None = None
    lost_hours: float | None = limited(24.0, low=0)
    hours: float | None = limited(None, above=0)
    cpus: int | None = limited(None, low=1)
    gpus: int = limited(0, low=0)
    memory_gigabytes: float | None = limited(None, above=0)
    disk_gigabytes: float | None = limited(None, above=0)
    directives: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    pause_seconds: int = limited(120, low=1)
    workers: int = limited(1, low=1)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Launch:
    """Where jobs run (here, or by the section that is set), how many at once, and what if one fails."""

    name: str = "local"
    max_parallel: int = limited(1, low=1)
    retries: int = limited(0, low=0)
    fail_fast: bool = False
    dry_run: bool = False
    chain: Chain = field(default_factory=Chain)
    slurm: Slurm | None = None
    command: Command | None = None


@dataclass
class Halving:
    """Successive halving of a sweep's configurations: after each rung the better ones are trained further."""

    rungs: list[float] = field(default_factory=list)  # steps, or shares of max_steps; []: a plain sweep
    keep: float = limited(0.5, above=0, high=1)
    metric: str = one_of("validation_loss", "pass_at_2")


MAX_SEED = 2**32 - 1  # NumPy's, and so the trainer's


@dataclass
class Seeds:
    """One seed for each purpose; all but the partition default to the master `seed`."""

    partition: int = limited(7, low=0, high=MAX_SEED)
    stream: int = limited("${seed}", low=0, high=MAX_SEED)
    init: int = limited("${seed}", low=0, high=MAX_SEED)
    train: int = limited("${seed}", low=0, high=MAX_SEED)
    inference: int = limited("${seed}", low=0, high=MAX_SEED)


@dataclass
class Config:
    """A whole composition."""

    name: str | None = None
    note: str | None = None
    data: Data = MISSING
    model: Model = MISSING
    prompt: PromptOptions = MISSING
    augmentation: dict[str, Any] = field(default_factory=dict)  # open set; the order is that of application
    optim: Optim = MISSING
    inference: Inference = MISSING
    programs: Programs = field(default_factory=Programs)
    hardware: Hardware = MISSING
    tracking: Tracking = MISSING
    job: Job = MISSING
    launch: Launch = MISSING
    halving: Halving = field(default_factory=Halving)
    benchmark: Benchmark = field(default_factory=Benchmark)
    inspect: Inspect = field(default_factory=Inspect)
    audit: Audit = field(default_factory=Audit)
    adapt: Adapt = field(default_factory=Adapt)
    seed: int = limited(1, low=0, high=MAX_SEED)
    seeds: Seeds = field(default_factory=Seeds)
    from_run: str | None = None
    submission: str | None = None
    resume: bool = True


@functools.cache
def store_schema() -> None:
    """Register the schema with Hydra as `schema`, the first entry of `conf/config.yaml`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    # Hydra deep-copies the store for every group that --help lists (a second in all), and nodes on reading.
    vars(store)["__deepcopy__"] = lambda memo: store


def conf_dir() -> Path:
    """Return the folder of YAML files: inside the package (installed) or beside it (checkout)."""
    package = Path(__file__).parents[1]
    return next(path for path in (package / "conf", package.parent / "conf") if path.is_dir())


def typed(values: DictConfig | dict[str, Any]) -> DictConfig:
    """Put values on the schema, and use them up; OmegaConf's errors name keys and types that it lacks."""
    node = OmegaConf.unsafe_merge(OmegaConf.structured(Config), values)
    assert isinstance(node, DictConfig)
    return node
