"""What can be wrong with what a run reads: data, prompts and models.

Each check yields a line for each mistake: key, value, remedy.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_class

from arc_experiments.config.exclusions import SOURCE_EXCLUSIONS, VOCABULARY_LAYERS, excluded
from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import Config, Data, Lora, Model, PromptOptions, Source, TemplateOptions

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# How PEFT names what `model.lora` says, where a saved adapter can differ from it.
LORA_NAMES = {
    "rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "rslora": "use_rslora", "dora": "use_dora",
    "target_modules": "target_modules", "modules_to_save": "modules_to_save",
    "initialisation": "init_lora_weights", "vision": "exclude_modules",
}  # fmt: skip


def check_path(key: str, path: str | None) -> Iterator[str]:
    """Check that the path is a file or folder; null is right."""
    if path is not None and not Path(local_path(path)).exists():
        yield f"{key}={path} does not exist (looked in {Path.cwd()})"


def check_share(key: str, value: float | None) -> Iterator[str]:
    """Check that a number is a share below 1 or a whole number."""
    if value is not None and value >= 1 and value % 1:
        yield f"{key}={value} must be a whole number, or a share below 1"


# data


def check_data(data: Data, transforms: list[str], *, trains: bool, is_taken: bool) -> Iterator[str]:
    """Check one source, or several with weights.

    Args:
        transforms: names of this run's augmentations.
        trains: whether the job needs tasks to train on.
        is_taken: by `from_run`, so that Hydra does not know its sources.
    """
    if data.sources:
        yield from _check_mixture(data, is_taken=is_taken)
        for name, source in data.sources.items():
            yield from _check_source(f"data.sources.{name}", source, transforms)
    else:
        yield from _check_source("data", data, transforms)
    if trains and not any(source.trains for source in (data.sources.values() or [data])):
        yield "data.partition=all holds every task out and leaves nothing to train on: job=evaluate takes it"


def _check_source(place: str, source: Source, transforms: list[str]) -> Iterator[str]:
    yield from excluded(source, SOURCE_EXCLUSIONS, f"{place}.")
    yield from check_share(f"{place}.num_validation", source.num_validation)
    if source.partition == "k_fold" and source.fold >= source.num_folds:
        yield f"{place}.fold={source.fold} is too large: 0 to {source.num_folds - 1} ({place}.num_folds)"
    is_hub = source.source["_target_"] == "arc_experiments.sources.Hub"
    if not (is_hub and HUB_ID.fullmatch(source.path or "")):
        yield from check_path(f"{place}.path", source.path)
    yield from check_path(f"{place}.partition_file", source.partition_file)
    for key, reader in (("path", "files"), ("file", "custom")):
        value = getattr(source, key)
        if value is not None and source.source.get(key) != value:
            yield f"{place}.{key}={value} is not read by data={source.name}: use data={reader}"
    if source.file is not None:
        yield from _check_file(place, source, source.file)
    for name in source.augmentation or []:
        if name not in transforms:
            known = ", ".join(transforms) or "none"
            yield f"{place}.augmentation names {name}, which is not one of this run's: {known}"


def _check_file(place: str, source: Source, file: str) -> Iterator[str]:
    from arc_experiments.config.user_code.by_path import (
        check_file,  # imports numpy, which --help should not wait for
    )

    yield from (f"{place}.file{mistake}" for mistake in check_file(file))
    if source.partition == "none" and source.source.get("validation_split") is not None:
        yield (
            f"{place}.partition=none holds nothing out, so what the function returns for validation would "
            f"train: {place}.source.validation_split=null, or {place}.partition=official"
        )


def _check_mixture(data: Data, *, is_taken: bool) -> Iterator[str]:
    for entry in dataclasses.fields(Source):
        key, value = entry.name, getattr(data, entry.name)
        if key not in ("name", "limit") and value != entry.default:
            how = (
                f"'+data.sources={{<name>:{{{key}:...}}}}'" if is_taken else f"data.sources.<name>.{key}=..."
            )
            yield f"data.{key}={value} is not read by a mixture: {how} (of {', '.join(data.sources)})"
    training = {name for name, source in data.sources.items() if source.trains}
    for name in sorted(data.weights.keys() ^ training):
        if name in data.sources and name not in training:
            yield (
                f"data.weights.{name}: data.sources.{name}.partition=all trains on nothing, leave out its "
                "weight"
            )
        else:
            yield f"data.weights.{name} and data.sources.{name} must both be there"
    for name, weight in data.weights.items():
        if weight <= 0:
            yield f"data.weights.{name}={weight} is too small: above 0"


# prompt

# What the texts of each kind of question hold (see `_check_placeholders`).
MAIN_PLACEHOLDERS = {
    "introduction": "", "demonstration": "input output", "question": "input", "answer": "output",
}  # fmt: skip
PLACEHOLDERS = {
    "input_from_inputs": {"introduction": "", "demonstration": "input", "question": "", "answer": "input"},
    "output_from_outputs": {
        "introduction": "", "demonstration": "output", "question": "", "answer": "output",
    },
    "program_from_examples": {
        "introduction": "[language]", "demonstration": "[input] output", "question": "[language] [input]",
        "answer": "program",
    },
    "output_from_program": {
        "introduction": "[language]", "demonstration": "", "question": "[language] program input",
        "answer": "output",
    },
}  # fmt: skip


def check_prompts(config: Config) -> Iterator[str]:
    """Check the run's prompt, and those of single sources."""
    prompts = {"prompt": config.prompt}
    for name, source in config.data.sources.items():
        if source.prompt is not None:
            prompts[f"data.sources.{name}.prompt"] = source.prompt
    yield from _check_carried(config)
    for place, prompt in prompts.items():
        yield from _check_templates(prompt, place)
        if config.optim.pack_length is not None and config.optim.pack_length < prompt.max_length:
            yield (
                f"optim.pack_length={config.optim.pack_length} is less than "
                f"{place}.max_length={prompt.max_length}: a row must hold the longest sample, raise the "
                "former or lower the latter"
            )


def _check_carried(config: Config) -> Iterator[str]:
    """Check that tasks which train on their programs are augmented in ways that programs can follow."""
    carried = {
        name: getattr(get_class(options["_target_"]), "carries_programs", False)
        for name, options in config.augmentation.items()
    }
    for name, source in (config.data.sources or {"": config.data}).items():
        own = source.augmentation if source.augmentation is not None else list(carried)
        wrong = [each for each in own if not carried.get(each, True)]
        if wrong and source.trains and (source.prompt or config.prompt).kinds.need_programs:
            key = f"data.sources.{name}.augmentation" if name else "augmentation"
            left = ",".join(each for each in own if each not in wrong)
            yield (
                f"{key} has {', '.join(wrong)}, which no program can follow, and the prompt trains on "
                f"programs: {key}=[{left}]"
            )


def _check_templates(prompt: PromptOptions, key: str) -> Iterator[str]:
    yield from _check_placeholders(prompt, key, MAIN_PLACEHOLDERS)
    for kind, placeholders in PLACEHOLDERS.items():
        template, weight = getattr(prompt, kind), getattr(prompt.kinds, kind)
        if template is not None:
            yield from _check_placeholders(template, f"{key}.{kind}", placeholders)
        elif weight > 0:
            having = "program" if "program" in kind else "arc24"
            yield (
                f"{key}.kinds.{kind}={weight} needs a template: {prompt.name} has no {key}.{kind}; "
                f"write one, or take a prompt that has it (prompt={having})"
            )
    asked = {"grid": "output_from_examples", "program": "program_from_examples"}.get(prompt.asks)
    if asked is not None and getattr(prompt.kinds, asked) == 0:
        yield (
            f"{key}.asks={prompt.asks} asks what is not trained on: set {key}.kinds.{asked} above 0, or take "
            f"{key}.asks={'program' if prompt.asks == 'grid' else 'grid'}"
        )
    if prompt.language is not None and prompt.language not in prompt.languages:
        yield (
            f"{key}.language={prompt.language} has no text in {key}.languages, which has: "
            f"{', '.join(prompt.languages) or 'none'}"
        )


def _check_placeholders(
    template: PromptOptions | TemplateOptions, key: str, placeholders: Mapping[str, str]
) -> Iterator[str]:
    """Check that each text holds the grids and programs that it needs once, and no others.

    A grid may be shown as text, as a picture, or both; a sheet shows all that the prompt needs.

    Args:
        placeholders: what each text holds, such as "input output"; in brackets if it need not be there.
    """
    has_sheet = "{sheet}" in template.introduction + template.question
    for name, wanted in placeholders.items():
        text = getattr(template, name)
        needed = [word for word in wanted.split() if not word.startswith("[")]
        for word in ("input", "output", "program", "language"):
            count, pictures = text.count(f"{{{word}}}"), text.count(f"{{{word}_picture}}")
            least, most = word in needed, word in needed or f"[{word}]" in wanted
            is_shown = count + pictures or (has_sheet and name != "answer") or not least
            if count > most or pictures > (most and name != "answer") or not is_shown:
                must = " and ".join(f"{{{each}}}" for each in needed)
                rule = f"must hold {must} once" if least else f"must not hold {{{word}}}"
                yield f"{key}.{name} {rule}: {text!r}"
                break
        if text.count("{sheet}") > (name in ("introduction", "question")):
            yield f"{key}.{name} must not hold {{sheet}}, which introduction or question may, once: {text!r}"
        for place in ("number", "end"):
            if name != "demonstration" and f"{{{place}}}" in text:
                yield f"{key}.{name} must not hold {{{place}}}, which only demonstrations have: {text!r}"


# model


def check_model(model: Model) -> Iterator[str]:
    """Check paths, and LoRA on layers that the rest of the section changes."""
    yield from _check_model_paths(model)
    if model.lora is None:
        return
    try:
        layers = ", ".join(_vocabulary_layers(model.lora))
    except re.error as error:
        yield f"model.lora.target_modules={model.lora.target_modules} is no regular expression: {error}"
        return
    if model.vocabulary == "arc" and layers:
        yield (
            f"model.lora trains {layers}, which model.vocabulary=arc cuts: the adapter would not fit the "
            "base model. Leave it out, or use model.vocabulary=full"
        )
    if model.lora.initialisation in ("pissa", "olora") and layers:
        yield f"model.lora.initialisation={model.lora.initialisation} cannot be saved with LoRA on {layers}"


def _vocabulary_layers(lora: Lora) -> list[str]:
    """Those of embedding and LM head that this LoRA would train."""
    targets = lora.target_modules
    is_pattern = isinstance(targets, str) and targets != "all-linear"
    named = [name for name in VOCABULARY_LAYERS if is_pattern and re.fullmatch(targets, name)]
    if not isinstance(targets, str):
        named = [name for name in targets if name in VOCABULARY_LAYERS]
    return named + [name for name in lora.modules_to_save if name in VOCABULARY_LAYERS]


def _check_model_paths(model: Model) -> Iterator[str]:
    yield from check_path("model.adapter", model.adapter)
    adapter, path = Path(model.adapter or "").expanduser(), Path(model.path).expanduser()
    if model.adapter is not None and (adapter / "adapter" / "adapter_config.json").exists():
        yield (
            f"model.adapter={model.adapter} is a run, which holds its adapter: "
            f"model.adapter={adapter}/adapter"
        )
    if not model.path:
        yield "model.path is empty: a folder, or a hub id of the form owner/name"
    elif model.path.startswith(("/", "./", "../", "~")) and not path.is_dir():
        yield (
            f"model.path={model.path} is not a folder (looked in {Path.cwd()}); "
            "a hub id has the form owner/name"
        )
    elif (path / "adapter_config.json").exists() and not (path / "config.json").exists():
        # It would load as if it were a model, with its base from wherever its file says.
        base = json.loads((path / "adapter_config.json").read_text()).get("base_model_name_or_path")
        yield f"model.path={path} is an adapter, no model: model.path={base} model.adapter={path}"


def ignored_lora(model: Model, typed: Iterable[str]) -> Iterator[str]:
    """Yield a line for each LoRA setting typed beside an adapter that has another, and so would be ignored.

    Those of a model's YAML file are always there: that the adapter's own are used instead is no mistake.

    Args:
        typed: the dotted keys on the command line.
    """
    file = Path(model.adapter or "").expanduser() / "adapter_config.json"
    keys = set(typed)
    if model.adapter is None or not file.exists():
        return
    if model.lora is None:
        if "model.lora" in keys:
            yield (
                f"model.lora=null trains all weights, and model.adapter={model.adapter} is a LoRA: "
                "leave one out"
            )
        return
    if "model.lora" in keys:  # as a whole
        keys |= {f"model.lora.{name}" for name in LORA_NAMES}
    saved = json.loads(file.read_text())
    for name, peft_name in sorted(LORA_NAMES.items()):
        if (key := f"model.lora.{name}") not in keys:
            continue
        ours, its = getattr(model.lora, name), saved.get(peft_name)
        if name == "initialisation" and its is True:
            its = "default"
        if name == "vision":  # saved as the parts that it leaves out, which models of text lack as well
            its = ours and not its
        if _comparable(ours) != _comparable(its):
            yield f"{key}={ours}, but the adapter in {model.adapter} has {its} and keeps it: leave {key} out"


def _comparable(value: Any) -> Any:
    """Lists without their order; none as an empty one."""
    return sorted(value or []) if isinstance(value, list) or value is None else value
