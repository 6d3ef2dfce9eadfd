"""The typed schema of a composition, its checks, and where the YAML files are.

In: what Hydra composed from `conf/`. Out: a `Config`, every value checked. Nothing here imports torch, so a
mistake is answered at once.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.utils import get_class, instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class ConfigError(ValueError):
    """One or more mistakes in a composition, each a line that names the key, the value and the remedy."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


def limited(
    default: Any = MISSING, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> Any:
    """A number field with its allowed range (`low <= x <= high`, `x > above`)."""
    return field(default=default, metadata={"low": low, "high": high, "above": above})


def one_of(*choices: str) -> Any:
    """A text field with its allowed values; the first is the default."""
    return field(default=choices[0], metadata={"choices": choices})


@dataclass
class Data:
    """Where tasks come from and how they are split."""

    name: str = MISSING
    source: Any = MISSING  # open set: a dataclass named by _target_, with read() or stream methods
    validation_source: Any = None  # null: validation tasks come from `source` too
    path: str | None = None
    partition: str = one_of("seeded", "official")
    num_validation: float = limited(100, above=0)  # a share of the pool if below 1
    limit: int | None = limited(None, low=1)


@dataclass
class Lora:
    """PEFT's LoraConfig, by the names of the field."""

    rank: int = limited(16, low=1)
    alpha: float = limited(32.0, above=0)
    dropout: float = limited(0.0, low=0, high=0.999)
    target_modules: Any = "all-linear"
    rslora: bool = False
    dora: bool = False
    initialisation: str = one_of("default", "gaussian", "pissa", "olora", "orthogonal")
    modules_to_save: list[str] = field(default_factory=list)


@dataclass
class Model:
    """The base model and what is trained of it (`lora: null` trains everything)."""

    name: str = MISSING
    path: str = MISSING
    revision: str | None = None
    adapter: str | None = None
    weights: str = one_of("auto", "pretrained", "random")
    dtype: str = one_of("auto", "float32", "bfloat16", "float16")
    quantisation: str = one_of("none", "4bit", "8bit")
    attention: str = one_of("sdpa", "eager", "flash_attention_2")
    gradient_checkpointing: bool = False
    lora: Lora | None = field(default_factory=Lora)


@dataclass
class Optim:
    """The optimizer, its schedule, and the steps at which things happen."""

    name: str = "adamw_torch"
    learning_rate: float = limited(1e-4, above=0)
    weight_decay: float = limited(0.0, low=0)
    schedule: str = one_of("linear", "constant", "cosine", "inverse_sqrt")
    warmup: float = limited(0.05, low=0)
    max_grad_norm: float = limited(1.0, above=0)
    batch_size: int = limited(16, low=1)
    max_steps: int = limited(1000, low=1)
    stop_after: int | None = limited(None, low=1)
    log_steps: int = limited(1, low=1)
    eval_steps: int | None = limited(None, low=1)
    save_steps: int = limited(100, low=1)


@dataclass
class Prompt:
    """How a task becomes text."""

    name: str = MISSING
    grid: Any = MISSING  # open set: a grid text, named by _target_
    system: str | None = None
    introduction: str = ""
    demonstration: str = MISSING
    question: str = MISSING
    answer: str = MISSING
    chat: str = one_of("auto", "never")
    loss_on: str = one_of("test_output", "all_outputs")
    max_length: int = limited(8192, low=16)


@dataclass
class Inference:
    """Views, generation, selection."""

    num_views: int = limited(8, low=1)
    engine: str = one_of("transformers")
    selection: str = one_of("votes_then_log_probability")
    max_new_tokens: int | None = limited(None, low=1)
    batch_tokens: int = limited(32768, low=1)
    limit: int | None = limited(None, low=0)
    force: bool = False


@dataclass
class Hardware:
    """How many of what."""

    device: str = one_of("auto", "cpu", "cuda")
    num_processes: int = limited(1, low=1, high=1)  # several are to come
    per_device_batch_size: int = limited(1, low=1)
    num_workers: int = limited(0, low=0)
    threads: int | None = limited(None, low=1)
    gpu_ids: list[int] | None = None


@dataclass
class Tracking:
    """Weights & Biases; `auto` is online with a key, offline without."""

    mode: str = one_of("auto", "online", "offline", "off")
    project: str = "arc_experiments"
    entity: str | None = None
    group: str | None = None
    log_steps: int = limited(10, low=1)


@dataclass
class Job:
    """The verb: a module of `arc_experiments.jobs`."""

    name: str = "finetune"


@dataclass
class Launch:
    """Where and how many at once."""

    name: str = "local"
    max_parallel: int = limited(1, low=1)


@dataclass
class Seeds:
    """One seed a purpose; all but the partition follow the master `seed`."""

    partition: int = limited(7, low=0, high=2**32 - 1)
    stream: int = limited("${seed}", low=0)
    init: int = limited("${seed}", low=0)
    train: int = limited("${seed}", low=0)
    inference: int = limited("${seed}", low=0)


@dataclass
class Config:
    """A whole composition."""

    data: Data = MISSING
    model: Model = MISSING
    prompt: Prompt = MISSING
    augmentation: dict[str, Any] = field(default_factory=dict)  # open set; the order is that of application
    optim: Optim = MISSING
    inference: Inference = MISSING
    hardware: Hardware = MISSING
    tracking: Tracking = MISSING
    job: Job = MISSING
    launch: Launch = MISSING
    seed: int = limited(1, low=0)
    seeds: Seeds = field(default_factory=Seeds)
    from_run: str | None = None
    resume: bool = True


def store_schema() -> None:
    """Make the schema known to Hydra as `schema`, the first entry of `conf/config.yaml`."""
    ConfigStore.instance().store(name="schema", node=Config)


def conf_dir() -> Path:
    """The folder of YAML files: inside the package (installed) or beside it (checkout)."""
    package = Path(__file__).parent
    return next(path for path in (package / "conf", package.parent / "conf") if path.is_dir())


def typed(values: DictConfig | dict[str, Any]) -> DictConfig:
    """The values on the schema, which refuses keys and types that it does not know."""
    node = OmegaConf.merge(OmegaConf.structured(Config), values)
    assert isinstance(node, DictConfig)
    return node


def check(node: DictConfig) -> Config:
    """Check a composed node (see `typed`) and return it as values.

    Raises:
        ConfigError: all mistakes of our own checks together.
    """
    mistakes = _check_open_sets(node)
    if mistakes:
        raise ConfigError(mistakes)
    try:
        config: Config = OmegaConf.to_object(node)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError([f"{getattr(error, 'full_key', '')}: {str(error).splitlines()[0]}"]) from error
    mistakes = [*_check_limits(config, ""), *_check_combination(config)]
    if mistakes:
        raise ConfigError(mistakes)
    return config


def build(options: dict[str, Any]) -> Any:
    """Build the object that an open set's options describe (`_target_` and its fields)."""
    return instantiate(options, _convert_="all")


def _open_sets(node: DictConfig) -> Iterator[str]:
    """Dotted keys of every node that names a dataclass by `_target_`."""
    yield from ("data.source", "prompt.grid")
    if node.data.validation_source is not None:
        yield "data.validation_source"
    for name in node.augmentation:
        yield f"augmentation.{name}"


def _check_open_sets(node: DictConfig) -> list[str]:
    mistakes = []
    for key in _open_sets(node):
        options = OmegaConf.select(node, key)
        if not isinstance(options, DictConfig) or "_target_" not in options:
            mistakes.append(f"{key} must name its class by _target_, got {options!r}")
            continue
        try:
            structure = OmegaConf.structured(get_class(options._target_))
            OmegaConf.set_readonly(structure, False)  # frozen dataclasses come read-only
            plain = OmegaConf.to_container(options, resolve=True)
            assert isinstance(plain, dict)
            filled = OmegaConf.merge(structure, {name: plain[name] for name in plain if name != "_target_"})
            OmegaConf.to_object(filled)  # runs the dataclass's own checks
            values = OmegaConf.to_container(filled)
            OmegaConf.update(node, key, {"_target_": options._target_, **values}, merge=False)  # type: ignore[dict-item]
        except OmegaConfBaseException as error:
            mistakes.append(_open_set_mistake(key, options, error))
        except (ValueError, ImportError, AttributeError) as error:
            mistakes.append(f"{key}: {error}")
    return mistakes


def _open_set_mistake(key: str, options: DictConfig, error: OmegaConfBaseException) -> str:
    inner = str(getattr(error, "full_key", None) or "")
    if inner in options and OmegaConf.is_interpolation(options, inner) and options[inner] is None:
        written = OmegaConf.to_container(options, resolve=False)
        assert isinstance(written, dict)
        taken_from = str(written[inner]).strip("${}")
        return f"{taken_from} is needed and has no value: {taken_from}=..."
    return f"{key}{'.' if inner else ''}{inner}: {str(error).splitlines()[0]}"


def _check_limits(value: Any, prefix: str) -> Iterator[str]:
    for entry in dataclasses.fields(value):
        key, item, rule = f"{prefix}{entry.name}", getattr(value, entry.name), entry.metadata
        if dataclasses.is_dataclass(item):
            yield from _check_limits(item, f"{key}.")
        elif item is None:
            continue
        elif "choices" in rule and item not in rule["choices"]:
            yield f"{key}={item} is not one of: {', '.join(rule['choices'])}"
        elif rule.get("low") is not None and item < rule["low"]:
            yield f"{key}={item} is too small: at least {rule['low']}"
        elif rule.get("above") is not None and item <= rule["above"]:
            yield f"{key}={item} is too small: above {rule['above']}"
        elif rule.get("high") is not None and item > rule["high"]:
            yield f"{key}={item} is too large: at most {rule['high']}"


def _check_combination(config: Config) -> Iterator[str]:
    optim, hardware, model = config.optim, config.hardware, config.model
    at_once = hardware.per_device_batch_size * hardware.num_processes
    if optim.batch_size % at_once:
        yield (
            f"optim.batch_size={optim.batch_size} does not divide into hardware.num_processes="
            f"{hardware.num_processes} x hardware.per_device_batch_size={hardware.per_device_batch_size}: "
            f"choose a multiple of {at_once}, or a smaller hardware.per_device_batch_size"
        )
    if optim.save_steps % optim.log_steps:
        yield (
            f"optim.save_steps={optim.save_steps} is not a multiple of optim.log_steps={optim.log_steps}: "
            "a resumed run could not repeat the losses it logs"
        )
    if model.quantisation != "none" and model.lora is None:
        yield f"model.quantisation={model.quantisation} needs model.lora: quantised weights cannot be trained"
    if optim.stop_after is not None and optim.stop_after > optim.max_steps:
        yield f"optim.stop_after={optim.stop_after} is beyond optim.max_steps={optim.max_steps}"
    jobs = sorted(file.stem for file in (conf_dir() / "job").glob("*.yaml"))
    if config.job.name not in jobs:
        yield f"job.name={config.job.name} is not one of: {', '.join(jobs)}"
    if hardware.gpu_ids is not None and len(hardware.gpu_ids) != 1:
        yield f"hardware.gpu_ids={hardware.gpu_ids}: one process uses one GPU, name one"
    if config.data.path is not None and config.data.source.get("path") != config.data.path:
        yield f"data.path={config.data.path} is not read by data={config.data.name}: use data=files"
    if hardware.gpu_ids is not None and hardware.device == "cpu":
        yield "hardware.gpu_ids is set, but hardware.device=cpu"
    yield from _check_template(config.prompt)
    yield from _check_paths(config)


def _check_template(prompt: Prompt) -> Iterator[str]:
    places = {"demonstration": ("{input}", "{output}"), "question": ("{input}",), "answer": ("{output}",)}
    for name, needed in places.items():
        text = getattr(prompt, name)
        if any(text.count(place) != 1 for place in needed):
            yield f"prompt.{name} must hold {' and '.join(needed)} once: {text!r}"


def _check_paths(config: Config) -> Iterator[str]:
    for key, path in (("data.path", config.data.path), ("model.adapter", config.model.adapter)):
        if path is not None and not Path(path).expanduser().exists():
            yield f"{key}={path} does not exist (looked in {Path.cwd()})"
    path = config.model.path
    if not path:
        yield "model.path is empty: a folder, or a hub id of the form owner/name"
    if path.startswith(("/", "./", "../", "~")) and not Path(path).expanduser().is_dir():
        yield f"model.path={path} is not a folder (looked in {Path.cwd()}); a hub id has the form owner/name"
    if config.data.num_validation >= 1 and config.data.num_validation % 1:
        yield f"data.num_validation={config.data.num_validation} must be a whole number, or a share below 1"
