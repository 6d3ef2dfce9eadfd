"""Import another pipeline's YAML as an experiment: `python -m arc_experiments.import_config old.yaml`.

In: a file with the sections `dataset`, `model`, `training` and `slurm`, as in pipelines on llama-cookbook.
Out: conf/experiment/<its name>.yaml, whose name is printed; each key that is not carried over is reported.

    dataset:  {name: custom_dataset, file: my_data.py:load, test_split: validation, split_ratio: 0.9}
    model:    {name: Qwen/Qwen2.5-0.5B-Instruct, peft: true, peft_method: lora, checkpoint_dir: runs/a}
    training: {batch_size: 8, lr: 1e-4, epochs_per_job: 2, total_jobs: 3, gradient_accumulation: 2}
    slurm:    {partition: gpu, time: "04:00:00", nodes: 1, gpu_id: 0}
"""

import argparse
import ast
import hashlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from arc_experiments.composing.naming import slug
from arc_experiments.config.schema import conf_dir
from arc_experiments.config.user_code.by_path import split_name
from arc_experiments.runs.folder import RunFolder

# Names of datasets in such files, and our options for them.
DATA = {
    "arc": "arc1", "arc1": "arc1", "arc_agi": "arc1", "arc_agi_1": "arc1", "arc2": "arc2",
    "arc_agi_2": "arc2", "re_arc": "re_arc", "rearc": "re_arc", "concept_arc": "concept_arc",
    "mini_arc": "mini_arc", "barc": "barc",
}  # fmt: skip
PICTURES = ("vision", "-vl-", "llava", "idefics", "smolvlm")  # parts of the names of models of pictures
SECTIONS = ("dataset", "model", "training", "slurm")
COMMAND = "python -m arc_experiments.import_config"


class NotImportable(ValueError):
    """The file cannot become an experiment; the message names it and the reason."""


@dataclass
class Experiment:
    """What the file becomes.

    Attributes:
        defaults: options by group.
        values: values by dotted key.
        notes: what was not carried over, or was changed.
    """

    defaults: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Section:
    """The keys of a section, each taken once; the keys left over are not carried over."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self._name, self._values = name, dict(values)

    def take(self, key: str) -> Any:
        return self._values.pop(key, None)

    def left(self) -> Iterator[str]:
        return (f"{self._name}.{key}={value}: not carried over" for key, value in self._values.items())


def convert(old: Mapping[str, Any]) -> Experiment:
    """Convert a pipeline's file.

    Raises:
        NotImportable: no model, no data, or a PEFT method other than LoRA.
    """
    new = Experiment()
    new.notes += [f"{key}: not carried over" for key in old if key not in SECTIONS]
    for name, take in zip(SECTIONS, (_dataset, _model, _training, _slurm), strict=True):
        values = old.get(name) or {}
        if not isinstance(values, Mapping):
            raise NotImportable(f"{name}: must hold keys, got {values!r}")
        section = Section(name, values)
        take(section, new)
        new.notes += section.left()
    return new


def _dataset(section: Section, new: Experiment) -> None:
    name, file = section.take("name"), section.take("file")
    split, ratio = section.take("test_split"), section.take("split_ratio")
    known = DATA.get(str(name).lower().replace("-", "_"))
    if file is not None and str(file).partition(":")[0].endswith(".py"):
        new.defaults["data"] = "custom"
        new.values["data.file"] = file
        if split is not None:
            new.values["data.source.validation_split"] = split
        if ratio is not None and _takes_ratio(str(file)):
            new.values["data.source.split_ratio"] = ratio
        elif ratio is not None:
            new.notes.append(
                f"dataset.split_ratio={ratio}: not carried over, as the function of {file} has no argument "
                "split_ratio"
            )
        return
    if file is not None:
        new.defaults["data"] = known if known in ("arc1", "re_arc", "barc") else "files"
        new.values["data.path"] = file
    elif known is not None:
        new.defaults["data"] = known
    else:
        raise NotImportable(
            f"dataset.name={name} is none of: {', '.join(sorted(DATA))}; name its file by dataset.file "
            "(a Python file, or tasks)"
        )
    if ratio is not None:
        new.values["data.partition"] = "seeded"
        new.values["data.num_validation"] = round(1 - float(ratio), 6)
        new.notes.append(
            f"dataset.split_ratio={ratio}: is the share that trains, so data.num_validation is the rest"
        )
    if split is not None:
        new.notes.append(f"dataset.test_split={split}: data.partition says here what is held out")


def _takes_ratio(file: str) -> bool:
    """Whether the function in a Python file takes a split_ratio; True if the file is not there yet."""
    path, name = split_name(file)
    if not path.is_file():
        return True
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise NotImportable(f"dataset.file={file}: {error}") from error
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            arguments = node.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            return arguments.kwarg is not None or any(each.arg == "split_ratio" for each in named)
    return True


def _model(section: Section, new: Experiment) -> None:
    name = section.take("name")
    if name is None:
        raise NotImportable("model.name is missing")
    option = _options_by_path().get(str(name))
    if option is None:
        option = "custom_vision" if any(part in str(name).lower() for part in PICTURES) else "custom"
        new.values["model.path"] = name
    new.defaults["model"] = option
    method, peft = section.take("peft_method"), section.take("peft")
    if peft is False:
        new.values["model.lora"] = None
    elif method not in (None, "lora"):
        raise NotImportable(f"model.peft_method={method}: only lora is supported")
    folder = section.take("checkpoint_dir")
    if folder is not None:
        new.values["hydra.run.dir"] = folder


def _options_by_path() -> dict[str, str]:
    found = {}
    for file in (conf_dir() / "model").glob("*.yaml"):
        found[str(read(file).get("path"))] = file.stem
    return found


def read(file: Path) -> dict[str, Any]:
    """Read the sections of a file; raises NotImportable if it has none."""
    values = OmegaConf.to_container(OmegaConf.load(file))
    if not isinstance(values, dict):
        raise NotImportable("is no YAML file of sections")
    raw = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    if isinstance(values.get("slurm"), dict) and "time" in values["slurm"]:
        values["slurm"]["time"] = raw["slurm"]["time"]  # YAML reads 24:00:00 as a number of seconds
    return {str(key): value for key, value in values.items()}


def _training(section: Section, new: Experiment) -> None:
    batch, accumulation = section.take("batch_size"), section.take("gradient_accumulation") or 1
    if batch is not None:
        new.values["optim.batch_size"] = batch * accumulation
        new.values["hardware.per_device_batch_size"] = batch
    rate = section.take("lr")
    if rate is not None:
        new.values["optim.learning_rate"] = float(rate)
    epochs, jobs = section.take("epochs_per_job"), section.take("total_jobs") or 1
    if epochs is not None:
        if new.defaults.get("data") == "re_arc":
            new.notes.append(f"training.epochs_per_job={epochs}: RE-ARC has no end, so set optim.max_steps")
        else:
            new.values["optim.epochs"] = epochs * jobs
            new.notes.append(
                f"training.epochs_per_job={epochs} x total_jobs={jobs}: optim.epochs={epochs * jobs} in all, "
                "on one schedule"
            )
    if jobs > 1:
        new.values["launch.chain.total_jobs"] = jobs


def _slurm(section: Section, new: Experiment) -> None:
    taken = {key: section.take(key) for key in ("partition", "time", "nodes")}
    gpu = section.take("gpu_id")
    gpus = gpu if isinstance(gpu, list) else [] if gpu is None else [gpu]
    if not any(value is not None for value in taken.values()):
        if new.values.get("launch.chain.total_jobs") and "optim.epochs" not in new.values:
            new.values["launch.chain.seconds_per_job"] = 3600.0
            new.notes.append(
                "training.total_jobs without slurm.time: launch.chain.seconds_per_job=3600, adjust it"
            )
        if gpus:
            new.values["hardware.gpu_ids"] = gpus
        return
    new.defaults["launch"] = "slurm"
    new.values |= {f"launch.slurm.{key}": value for key, value in taken.items() if value is not None}
    if gpus:
        new.values["launch.slurm.gpus_per_node"] = len(gpus)
        new.notes.append(f"slurm.gpu_id={gpu}: the cluster chooses which of a node's GPUs a job gets")


def to_yaml(new: Experiment, origin: Path) -> str:
    """Write the experiment as YAML; its first lines say where it is from, and hash the rest."""
    nested: dict[str, Any] = {}
    for key, value in new.values.items():
        place = nested
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    defaults = [{f"override /{group}": option} for group, option in new.defaults.items()]
    body = OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults, **nested}))
    body = "".join(f"# {note}\n" for note in new.notes) + body
    return f"{_head(origin)}{_hash_line(body)}\n{body}"


def is_as_imported(text: str, origin: Path) -> bool:
    """Whether the file's text is unchanged since it was imported."""
    line, _, body = text.removeprefix(_head(origin)).partition("\n")
    return line == _hash_line(body)


def _head(origin: Path) -> str:
    """The lines by which an imported file is recognised."""
    return f"# @package _global_\n# Imported from {origin}.\n"


def _hash_line(body: str) -> str:
    return f"# Hash of what follows, as it was imported: {hashlib.sha256(body.encode()).hexdigest()[:16]}"


def main(arguments: list[str]) -> int:
    """Write the experiment, print its name, and on stderr what was not carried over; return the exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="See docs/migrating.md")
    parser.add_argument("file", type=Path, help="the pipeline's YAML file")
    parser.add_argument("--name", help="name of the experiment (default: that of the file)")
    parser.add_argument("--force", action="store_true", help="overwrite it although it was edited by hand")
    typed = parser.parse_args(arguments)
    says = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        new = convert(read(typed.file))
    except (OSError, yaml.YAMLError, OmegaConfBaseException, NotImportable) as error:
        says.print(f"{typed.file}: {error}")
        return 2
    origin = typed.file.resolve()
    name, text = slug(typed.name or typed.file.stem), to_yaml(new, origin)
    for note in new.notes:
        says.print(f"note: {note}")
    file, again = conf_dir() / "experiment" / f"{name}.yaml", f"{COMMAND} {shlex.quote(str(typed.file))}"
    before = file.read_text(encoding="utf-8") if file.exists() else text
    if not before.startswith(_head(origin)):
        says.print(
            f"{file} is another experiment (not imported from {origin}), and is left alone: import this one "
            f"under another name by {again} --name <name>, and run it by "
            "python -m arc_experiments experiment=<name>"
        )
        return 2
    if not typed.force and not is_as_imported(before, origin):
        says.print(
            f"{file} was edited by hand since it was imported, and is left alone: run it as it is by "
            f"python -m arc_experiments experiment={name}, or overwrite it by {again} --force"
        )
        return 2
    RunFolder(file.parent).write(file.name, text)
    says.print(f"written: {file}; run it: python -m arc_experiments experiment={name}")
    Console(soft_wrap=True, highlight=False, markup=False).print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
