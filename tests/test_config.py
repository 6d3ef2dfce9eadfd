"""Configuration: everything in conf/ composes, and mistakes are answered in plain words, without torch."""

import dataclasses
import itertools
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import typing
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from arc_experiments.composing.compose import compose_config
from arc_experiments.composing.freezing import freeze
from arc_experiments.composing.mistakes import typed_as_flags
from arc_experiments.composing.naming import differences
from arc_experiments.composing.words import COMMANDS
from arc_experiments.config.check import ConfigError, build, check
from arc_experiments.config.exclusions import EXCLUSIONS, SOURCE_EXCLUSIONS, holds, parse
from arc_experiments.config.job_kinds import JOBS
from arc_experiments.config.sampling import temperatures
from arc_experiments.config.schema import Config, Source, conf_dir
from arc_experiments.config.user_code import folders
from arc_experiments.config.user_code.folders import add_conf, options_of
from arc_experiments.runs.folder import FolderError

ROOT = Path(__file__).resolve().parents[1]
GROUPS = {
    "augmentation", "data", "experiment", "hardware", "inference", "job", "launch", "model", "optim",
    "prompt", "sweep", "tracking",
}  # fmt: skip
OPTIONS = [
    f"{folder.name}={file.stem}"
    for folder in sorted(conf_dir().iterdir())
    if folder.is_dir() and folder.name != "study"  # which no composition takes: see test_study.py
    for file in sorted(folder.glob("*.yaml"))
]
GRID_TEXTS = sorted(file.stem for file in (conf_dir() / "prompt" / "grid").glob("*.yaml"))
PROMPTS = sorted(file.stem for file in (conf_dir() / "prompt").glob("*.yaml"))
SWEEPS = sorted((conf_dir() / "sweep").glob("*.yaml"))
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def compose_filled(overrides: list[str], folder: Path) -> DictConfig:
    """Compose; a value that only the user can give (a path) becomes `folder`, or a python file in it."""
    (folder / "file.py").touch()
    try:
        return compose_config(overrides)
    except ConfigError as error:
        needed = [
            re.fullmatch(r"(\S+) is needed and has no value: \1=\.\.\.(?: \(.*\))?", line)
            for line in error.mistakes
        ]
        if not all(needed):
            raise
        return compose_config(
            [*overrides, *(f"{match[1]}={_path(match[1], folder)}" for match in needed if match)]
        )


def _path(key: str, folder: Path) -> Path:
    return folder / "file.py" if key.endswith(".file") else folder


# What is in conf/

# Sets that nothing trains on.
JUDGED_BY = ("data=re_arc_held_out", "data=re_arc_trained", "data=re_arc_short")

MOUNTED = ("experiment=kaggle", "experiment=nvarc")  # which look for their inputs where Kaggle has them


def test_every_group_and_every_file_of_it_is_tried() -> None:
    assert {option.partition("=")[0] for option in OPTIONS} >= GROUPS
    assert len(OPTIONS) >= 35
    assert len(OPTIONS) + len(GRID_TEXTS) + 1 + len(options_of("study")) == len(
        list(conf_dir().rglob("*.y*ml"))
    ), "a file outside of the groups is not tried"


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_with_all_others_at_their_default(option: str, tmp_path: Path) -> None:
    more = ["job=evaluate"] if option in JUDGED_BY else []
    if option in MOUNTED:
        more = ["from_run=null", f"data.path={tmp_path}"]
    config = check(compose_filled([option, *more], tmp_path))
    group, _, name = option.partition("=")
    chosen = getattr(config, group, None)
    if hasattr(chosen, "name") and group not in ("optim", "tracking"):
        assert chosen.name == name


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_value_of_every_sweep_composes(file: Path) -> None:
    preset = OmegaConf.load(file)
    assert preset.hydra.mode == "MULTIRUN"
    params = OmegaConf.select(preset, "hydra.sweeper.params") or {}
    assert params or "halving" in preset, "which says how, and leaves open what"
    for key, values in params.items():
        for value in str(values).split(","):
            assert OmegaConf.select(compose_config([f"sweep={file.stem}", f"{key}={value}"]), key) is not None


def test_every_field_of_a_class_in_a_yaml_is_listed_there() -> None:
    """A field that is not listed could be set only with a +, which nobody guesses."""
    seen = 0
    for file in conf_dir().rglob("*.yaml"):
        for node in nodes(OmegaConf.to_container(OmegaConf.load(file))):
            if "_target_" in node:
                fields = dataclasses.fields(get_class(node["_target_"]))
                assert {field.name for field in fields} == set(node) - {"_target_"}, file
                seen += 1
    assert seen >= 10


def nodes(node: object) -> Iterator[dict]:
    if isinstance(node, dict):
        yield node
        for key in node:
            yield from nodes(node[key])


def test_the_default_needs_no_network_and_no_account() -> None:
    config = check(compose_config([]))
    assert (config.data.name, config.model.path, config.tracking.mode) == ("arc1", "package:tiny", "auto")
    assert list(config.augmentation) == ["geometry", "colours", "order", "swap"]


def test_a_model_brings_its_prompt_and_what_is_typed_wins() -> None:
    assert compose_config(["model=qwen05"]).prompt.name == "arc24"
    assert compose_config(["model=qwen05", "prompt=compact"]).prompt.name == "compact"
    assert compose_config(["model=tiny", "optim=arc24"]).optim.max_steps == 200000


# The grid text lies in the prompt and is chosen beside it


COVERING = list(itertools.islice(zip(itertools.cycle(GRID_TEXTS), itertools.cycle(PROMPTS)), len(PROMPTS)))
PAIRS = [
    pytest.param(*pair, marks=[] if pair in COVERING else pytest.mark.slow)  # each of both once is quick
    for pair in itertools.product(GRID_TEXTS, PROMPTS)
]


def test_the_quick_pairs_have_every_grid_text_and_every_prompt() -> None:
    assert {grid_text for grid_text, _ in COVERING} == set(GRID_TEXTS)
    assert {prompt for _, prompt in COVERING} == set(PROMPTS)


@pytest.mark.parametrize(("grid_text", "prompt"), PAIRS)
def test_every_grid_text_composes_with_every_prompt(grid_text: str, prompt: str) -> None:
    config = check(compose_config([f"prompt={prompt}", f"prompt/grid={grid_text}"]))
    assert config.prompt.name == prompt
    written = build(config.prompt.grid).write(np.array([[1, 0], [0, 2]], np.uint8))
    comments = (conf_dir() / "prompt" / "grid" / f"{grid_text}.yaml").read_text(encoding="utf-8")
    example = "".join(f"{line[4:]}\n" for line in comments.splitlines() if line.startswith("#   "))
    assert example.rstrip() == written.rstrip(), "its file shows what it gives"


@pytest.mark.parametrize(
    "beside", [["model=qwen05"], ["prompt=arc24_long"], ["model=qwen15", "prompt=compact"]]
)
def test_the_grid_text_is_chosen_whoever_names_the_prompt(beside: list[str]) -> None:
    grid = compose_config([*beside, "prompt/grid=symbols"]).prompt.grid
    assert ("".join(grid.cells), grid.opening, grid.row_numbers) == ("ñòûæðõøþëÿ", "", False)


def test_grid_texts_combine_and_single_options_are_set_beside() -> None:
    typed = ["model=qwen05", "prompt/grid=[shape,colour_names,separated]", "prompt.grid.row_numbers=true"]
    grid = compose_config(typed).prompt.grid
    assert grid.opening == "```grid shape: {height}x{width}\n"
    assert (grid.cells[0], grid.separator, grid.row_numbers) == ("Black", "|", True)
    assert compose_config(["prompt.grid.separator=' '"]).prompt.grid.separator == " "
    assert compose_config(["model=qwen05", "prompt/grid=[]"]).prompt.grid.opening == ""


def test_augmentations_are_applied_in_the_order_typed() -> None:
    config = compose_config(["augmentation=[swap,geometry]"])
    assert list(config.augmentation) == ["swap", "geometry"]


def test_named_seeds_follow_the_master_unless_set() -> None:
    seeds = compose_config(["seed=5", "seeds.train=2"]).seeds
    assert dict(seeds) == {"partition": 7, "stream": 5, "init": 5, "train": 2, "inference": 5}


# Mistakes: what is typed, and what the answer must say (the dotted key, and the remedy)

MISTAKES: list[tuple[str, list[str]]] = [
    # unknown keys
    ("model.lora.rnak=3", ["model.lora.rnak", "Did you mean: model.lora.rank?"]),
    ("modle=tiny", ["modle", "Did you mean: model?"]),
    ("optim.lr=3", ["optim.lr", "optim has: name, learning_rate"]),
    ("learning_rate=3", ["learning_rate", "Did you mean: optim.learning_rate?"]),
    ("seeds.nothing=1", ["seeds.nothing", "seeds has: partition, stream"]),
    ("+foo=3", ["foo", "A composition has: ", "data, model"]),
    ("+optim.lr=3", ["optim.lr", "optim has: name, learning_rate"]),
    ("augmentation.geometry.prob=1", ["augmentation.geometry.prob", "probability"]),
    ("data.source.versoin=arcagi1", ["data.source.versoin", "Did you mean: data.source.version?"]),
    ("prompt/grid=wrong", ["prompt/grid=wrong", "colour_names", "shape_and_row_numbers"]),
    ("prompt.kinds.output_from_inputs=1", ["prompt.kinds.output_from_inputs", "kinds.output_from_outputs"]),
    ("prompt.kinds.input_from_inputs=often", ["prompt.kinds.input_from_inputs=often must be a number"]),
    ("prompt.input_from_inputs.system=x", ["prompt.input_from_inputs.system", "mean: prompt.system?"]),
    ("prompt.grid.separater=-", ["prompt.grid.separater", "prompt.grid.separator"]),
    # unknown options
    ("data=arc3", ["data=arc3 is not an option of data", "Did you mean", "data=arc2", "re_arc"]),
    ("prompt/grid=fram", ["prompt/grid=fram is not", "Did you mean: prompt/grid=framed?", "minimal"]),
    ("prompt=grid", ["prompt=grid is not an option of prompt", "framed"]),
    ("model=qwen5", ["Did you mean: model=qwen15 or model=qwen05", "tiny"]),
    ("model=me/mine", ["model=me/mine is not", "a folder write model=custom model.path=me/mine.", "tiny"]),
    ("model=./mine", ["model=./mine is not", "model=custom model.path=./mine."]),
    ("model=/mine", ["model=/mine is not", "model=custom model.path=/mine."]),
    ("data=3", ["data=3", "arc1, arc2"]),
    ("optim=null", ["optim=null", "adamw"]),
    ("augmentation=null", ["augmentation=null", "geometry", "none"]),
    ("augmentation=[geometry,colour]", ["augmentation=colour is", "Did you mean: augmentation=colours?"]),
    ("experiment=nothing", ["experiment=nothing is", "smoke"]),
    ("sweep=nothing", ["sweep=nothing is", "seeds"]),
    ("job=train", ["job=train is", "finetune"]),
    # wrong types
    ("seed=x", ["seed=x must be a whole number"]),
    ("optim.max_steps=1.5", ["optim.max_steps=1.5 must be a whole number"]),
    ("optim.max_steps=1e3", ["optim.max_steps=1000.0 must be a whole number: optim.max_steps=1000"]),
    ("optim.learning_rate=fast", ["optim.learning_rate=fast must be a number"]),
    ("resume=maybe", ["resume=maybe must be true or false"]),
    ("hardware.gpu_ids=0", ["hardware.gpu_ids", "int", "list"]),
    ("model.lora=3", ["model.lora", "Lora"]),
    ("model.path=null", ["model.path", "not Optional"]),
    ("seed=${foo}", ["seed", "'foo' not found"]),
    # classes that are not there
    ("data.source=null", ["data.source", "_target_"]),
    ("+augmentation.mine._target_=nowhere.Mine", ["augmentation.mine", "nowhere", "installed"]),
    ("+augmentation.mine._target_=os.path.join", ["augmentation.mine", "os.path.join", "non-class"]),
    # missing values, files and folders
    ("data=files", ["data.path is needed", "data.path=..."]),
    ("model=custom", ["model.path is needed", "model.path=..."]),
    ("model=custom model.path=./nowhere", ["model.path=./nowhere is not a folder", "owner/name"]),
    (
        "model.path=me/mine",
        ["another model than model=tiny (package:tiny)", "model=custom model.path=me/mine", "model.name="],
    ),
    ("model=qwen05 model.path=me/mine", ["another model than model=qwen05 (Qwen/Qwen2.5-0.5B-Instruct)"]),
    ("model.path=package:tiny_program", ["another model than model=tiny (", "have: model=tiny_program, or"]),
    (
        "model=qwen05 model.path=me/Qwen2.5-0.5B-Instruct-GPTQ",
        ["another model than model=qwen05", "model=custom model.path=me/Qwen2.5-0.5B-Instruct-GPTQ, or"],
    ),
    ("model=Qwen/Qwen2.5-7B", ["a hub id or a folder write model=custom model.path=Qwen/Qwen2.5-7B."]),
    ("model=/models/x", ["a hub id or a folder write model=custom model.path=/models/x."]),
    ("model=Qwen/Qwen2.5-0.5B-Instruct", ["not an option of model: this model is model=qwen05."]),
    ("model=tini", ["Did you mean: model=tiny?"]),
    ("model=", ["model= is not an option of model. Available"]),
    ("from_run=nowhere", ["nowhere is not a run folder", "run.yaml"]),
    # not an override at all
    ("seed", ["seed", "Did you mean: seed=...?"]),
    ("model.path=~/x", ["need quotes of their own inside", """'model.path="~/x"'"""]),
    ("seed=[1", ["seed=[1", "no viable alternative"]),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "expected"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_mistake_is_answered_with_its_key_and_the_remedy(typed: str, expected: list[str]) -> None:
    with pytest.raises((ConfigError, FolderError)) as raised:
        compose_config(typed.split(" "))
    message = str(raised.value)
    assert [part for part in expected if part not in message] == [], message
    assert "Traceback" not in message


# Our own checks tell all mistakes together, so each of these lists is one composition.
OWN_MISTAKES: dict[str, list[tuple[str, list[str]]]] = {
    "values": [
        # out of range
        ("model.lora.rank=0", ["model.lora.rank=0 is", "at least 1"]),
        ("model.lora.dropout=1", ["model.lora.dropout=1.0 is", "at most 0.999"]),
        ("optim.learning_rate=-1", ["optim.learning_rate=-1.0 is", "above 0"]),
        ("seeds.partition=5000000000", ["seeds.partition=5000000000 is", "at most 4294967295"]),
        ("data.limit=0", ["data.limit=0 is", "at least 1"]),
        ("data.num_validation=1.5", ["data.num_validation=1.5 must be", "whole number"]),
        ("hardware.device=gpu", ["hardware.device=gpu is", "auto, cpu, cuda"]),
        ("inference.engine=guess", ["inference.engine=guess is", "transformers"]),
        ("inference.num_samples=2", ["inference.num_samples=2: greedy answers", "inference.temperature"]),
        (
            "inference.selection=likelihood_min",
            ["inference.selection=likelihood_min does not go with", "scoring_views"],
        ),
        ("inference.threshold=0", ["inference.threshold=0.0 is too small", "above 0"]),
        (
            "inference.top_p=0.5",
            ["inference.top_p=0.5: greedy answers do not read it", "inference.temperature"],
        ),
        ("job.name=train", ["job.name=train is", "finetune, evaluate"]),
        # files that are not there
        ("data.path=nowhere", ["data.path=nowhere does not exist", "looked in"]),
        ("model.adapter=nowhere", ["model.adapter=nowhere does not exist", "looked in"]),
        ("model.path=", ["model.path is empty", "owner/name"]),
        # values that do not go together
        ("hardware.per_device_batch_size=3", ["hardware.per_device_batch_size=3", "multiple of 3"]),
        ("optim.log_steps=3", ["optim.save_steps=25 is not a multiple of optim.log_steps=3"]),
        (
            "optim.stop_after=1000",
            [
                "optim.stop_after=1000 is beyond optim.max_steps=100",
                "optim.stop_after=1000 is not a multiple of optim.log_steps=3",
            ],
        ),
        # templates
        ("prompt.answer=none", ["prompt.answer must hold {output} once"]),
        ("prompt.question=none", ["prompt.question must hold {input} once"]),
        (
            "prompt.introduction='{number} {end} {output}'",
            [
                "prompt.introduction must not hold {output}",
                "prompt.introduction must not hold {number}",
                "prompt.introduction must not hold {end}",
            ],
        ),
        (
            "prompt.input_from_inputs.answer='{output}'",
            ["prompt.input_from_inputs.answer must hold {input} once"],
        ),
        ("prompt.input_from_inputs.question='{input}'", ["prompt.input_from_inputs.question must not hold"]),
        ("prompt.output_from_outputs=null", []),
        ("prompt.kinds.output_from_outputs=1", ["needs a template", "prompt.output_from_outputs"]),
        ("prompt.kinds.output_from_examples=0", ["prompt.asks=grid asks what is not trained on"]),
        ("prompt.kinds.program_from_examples=1", ["needs a template", "prompt=program"]),
        ("prompt.asks=grid", ["set prompt.kinds.output_from_examples above 0"]),
        ("prompt.language=draw", ["prompt.language=draw has no text in prompt.languages"]),
        ("prompt.kinds.input_from_inputs=-1", ["prompt.kinds.input_from_inputs=-1.0", "at least 0"]),
        ("prompt.fit=cut", ["prompt.fit=cut is not one of: drop, redraw"]),
    ],
    "values that need others": [
        ("model.quantisation=4bit", ["model.lora=null does not go with model.quantisation=4bit"]),
        ("model.lora=null", ["quantised weights cannot be trained"]),
        ("hardware.device=cpu", ["hardware.gpu_ids=[0] does not go with hardware.device=cpu"]),
        ("hardware.gpu_ids=[0]", ["hardware.device=cpu"]),
    ],
    "classes": [
        ("data.source.version=arcagi9", ["data.source: version=arcagi9", "arcagi1, arcagi2"]),
        ("augmentation.geometry.probability=2", ["augmentation.geometry: probability=2.0", "0..1"]),
        ("augmentation.order.probability=x", ["augmentation.order.probability", "'x'", "Float"]),
        ("+augmentation.mine=3", ["augmentation.mine must name its class by _target_"]),
        ("prompt.grid.row_numbers=maybe", ["prompt.grid.row_numbers", "'maybe'", "bool"]),
    ],
    "a grid text": [("prompt.grid.cells=[1]", ["prompt.grid: cells=['1']", "10 different"])],
    "a generator": [
        ("data=re_arc", ["data.source"]),
        ("data.source.difficulty=[1,0]", ["data.source: difficulty=[1.0, 0.0]", "[low, high]"]),
    ],
}


@pytest.mark.parametrize("mistakes", OWN_MISTAKES.values(), ids=list(OWN_MISTAKES))
def test_our_own_checks_tell_all_mistakes_together(mistakes: list[tuple[str, list[str]]]) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config([typed for typed, _ in mistakes])
    message = str(raised.value)
    for _, expected in mistakes:
        assert [part for part in expected if part not in message] == [], message


@pytest.mark.parametrize(
    ("number", "temperature", "expected"),
    [
        ("64", "0.9", []),
        ("[8,128]", "[0.1,0.9]", []),
        ("[8,128]", "0.9", ["inference.num_samples=[8, 128] inference.temperature=0.9 must be two numbers"]),
        ("[8,128]", "[0.1,0.5,0.9]", ["two lists of one length"]),
        ("[8,0]", "[0.1,0.9]", ["inference.num_samples=[8, 0] is neither a number of answers"]),
        ("1.5", "0.9", ["inference.num_samples=1.5 is neither a number of answers"]),
        ("[8,128]", "[0,0.9]", ["temperature 0 gives the same answer each time", "0.05"]),
        ("1", "hot", ["inference.temperature=hot is neither a number from 0"]),
        ("1", "-1", ["inference.temperature=-1 is neither a number from 0"]),
    ],
)
def test_samples_and_temperatures_are_numbers_or_lists_of_one_length(
    number: str, temperature: str, expected: list[str]
) -> None:
    typed = [f"inference.num_samples={number}", f"inference.temperature={temperature}"]
    if not expected:
        assert len(temperatures(check(compose_config(typed)).inference)) in (64, 136)
        return
    with pytest.raises(ConfigError) as raised:
        compose_config(typed)
    assert [part for part in expected if part not in str(raised.value)] == []


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("model.lora.rank=64", r"model\.lora\.rank=64, but the adapter in .* has 4 and keeps it"),
        ("model.lora={rank: 64}", r"model\.lora\.rank=64, but the adapter in .* has 4 and keeps it"),
        ("model.lora=null", r"model\.lora=null trains all weights, and model\.adapter="),
        ("model.lora.vision=true", r"model\.lora\.vision=True, but the adapter in .* has False and keeps it"),
    ],
)
def test_lora_settings_beside_an_adapter_that_has_others_are_refused(
    typed: str, message: str, tmp_path: Path
) -> None:
    saved = {"r": 4, "lora_alpha": 16, "lora_dropout": 0.0, "exclude_modules": "model.visual.*"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(saved))
    with pytest.raises(ConfigError, match=message):
        compose_config([f"model.adapter={tmp_path}", typed])
    assert compose_config([f"model.adapter={tmp_path}", "model.lora.rank=4"]).model.lora.rank == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            "optim.max_steps=5 optim.log_steps=10 optim.save_steps=10",
            r"optim\.log_steps=10 is beyond .*max_steps=5",
        ),
        (
            "optim.best_by=validation_loss optim.patience=1 optim.log_steps=5 optim.eval_steps=7",
            r"optim\.eval_steps=7 is not a multiple of optim\.log_steps=5",
        ),
        ("optim.schedule=warmup_stable_decay optim.warmup=0.9", r"optim\.decay=0\.2 take more than"),
        ("seed=5000000000", r"seed=5000000000 is too large"),
        ("inference.num_views=100000000", r"inference\.num_views=100000000 is too large: at most 10000"),
        ("inference.scoring_views=20000", r"inference\.scoring_views=20000 is too large: at most 10000"),
        (
            "data=arc2 data.num_validation=20",
            r"data\.partition=official does not go with data\.num_validation=20",
        ),
        ("data=mix data.num_validation=50", r"data\.num_validation=50.* is not read by a mixture"),
        ("data=mix data.augmentation=[geometry]", r"data\.augmentation=.* is not read by a mixture"),
        (
            "data=mix data.sources.arc1.num_validation=10.5",
            r"data\.sources\.arc1\.num_validation=10\.5 must be",
        ),
    ],
)
def test_a_value_that_would_not_be_read_or_could_not_be_kept_is_refused(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_config(overrides.split())


def test_a_run_named_as_an_adapter_is_told_where_its_adapter_is(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=rf"is a run, .*: model\.adapter={tmp_path}/adapter"):
        compose_config([f"model.adapter={tmp_path}"])


# What from_run brings


@pytest.fixture(scope="module")
def earlier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "earlier"
    overrides = [
        "data=re_arc",
        "prompt.max_length=512",
        "model.lora.rank=4",
        "seeds.partition=3",
        "optim.max_steps=9",
    ]
    folder = freeze(compose_config(overrides), path, overrides)
    (folder / "adapter").mkdir()  # as a finished run has it
    return path


@pytest.fixture(scope="module")
def program_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "programs"
    overrides = ["data=re_arc", "prompt=program"]
    folder = freeze(compose_config(overrides), path, overrides)
    (folder / "adapter").mkdir()
    return path


def test_from_run_brings_data_model_prompt_and_partition(earlier_run: Path) -> None:
    config = check(compose_config(["job=evaluate", f"from_run={earlier_run}"]))
    assert config.data.name == "re_arc"
    assert config.model.lora is not None
    assert config.model.lora.rank == 4
    assert config.prompt.max_length == 512
    assert config.seeds.partition == 3
    assert config.optim.max_steps != 9, "how it was trained is not brought along"


def test_what_is_typed_beside_from_run_wins(earlier_run: Path) -> None:
    typed = ["data=arc2", "prompt.max_length=256", "seeds.partition=4"]
    config = check(compose_config(["job=evaluate", f"from_run={earlier_run}", *typed]))
    assert (config.data.name, config.prompt.max_length, config.seeds.partition) == ("arc2", 256, 4)
    assert config.data.partition == "official", "a group that was chosen anew is taken whole"


def test_an_experiment_beside_from_run_stands_above_what_the_run_brings(earlier_run: Path) -> None:
    overrides = ["job=evaluate", f"from_run={earlier_run}", "experiment=smoke", "inference.limit=3"]
    config = compose_config(overrides)
    assert (config.data.limit, config.prompt.max_length, config.inference.num_views) == (8, 896, 2)
    assert (config.data.name, config.model.lora.rank, config.inference.limit) == ("re_arc", 4, 3)


@pytest.mark.parametrize("experiment", ["production", "test"])
def test_the_model_is_the_runs_whatever_an_experiment_chooses(earlier_run: Path, experiment: str) -> None:
    overrides = ["job=evaluate", f"from_run={earlier_run}", f"experiment={experiment}", "hardware=cpu"]
    config = check(compose_config(overrides))
    assert (config.model.name, config.model.lora.rank) == ("tiny", 4)
    assert config.data.name == "mix", "the experiment's, also where it is another's that it changes"


def test_an_evaluation_named_as_from_run_is_told_which_run_it_evaluated(
    earlier_run: Path, tmp_path: Path
) -> None:
    overrides = ["job=evaluate", f"from_run={earlier_run}"]
    (freeze(compose_config(overrides), tmp_path, overrides) / "metrics.json").write_text("{}")
    with pytest.raises(ConfigError, match=rf"is an evaluation: .*from_run={earlier_run}"):
        compose_config(["job=evaluate", f"from_run={tmp_path}"])


def test_a_grid_text_that_is_typed_beside_from_run_is_not_lost(earlier_run: Path) -> None:
    typed = ["job=evaluate", f"from_run={earlier_run}", "prompt/grid=separated"]
    assert compose_config(typed).prompt.grid.separator == "|"
    assert compose_config(typed).prompt.max_length == 512, "the rest of the prompt is the run's"
    assert compose_config([*typed, "prompt.grid.separator=/"]).prompt.grid.separator == "/"


def test_a_named_model_may_lie_elsewhere_or_be_trained_further_or_lend_its_settings(
    earlier_run: Path, tmp_path: Path
) -> None:
    copy = ["model=qwen05", "model.path=/models/Qwen2.5-0.5B-Instruct"]
    (tmp_path / "Qwen2.5-0.5B-Instruct").mkdir()
    copy[1] = f"model.path={tmp_path}/Qwen2.5-0.5B-Instruct"
    assert compose_config(copy).model.name == "qwen05"
    shutil.copytree(earlier_run, tmp_path / "run")
    (tmp_path / "run" / "model").mkdir()
    name = compose_config(["job=evaluate", f"from_run={earlier_run}"]).model.name
    assert compose_config([f"model={name}", f"model.path={tmp_path}/run/model"]).model.name == name
    cache = tmp_path / "models--Qwen--Qwen2.5-0.5B-Instruct" / "snapshots"
    cache.mkdir(parents=True)
    assert compose_config(["model=qwen05", f"model.path={cache}"]).model.name == "qwen05"
    mine = compose_config(["model.path=me/mine", "model.name=mine"])
    assert (mine.model.name, mine.prompt.name) == ("mine", "framed"), "tiny's settings, by wish"


def test_from_run_brings_the_adapter_once_there_is_one(earlier_run: Path, tmp_path: Path) -> None:
    config = compose_config(["job=evaluate", f"from_run={earlier_run}"])
    assert config.model.adapter == str(earlier_run / "adapter")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(earlier_run, unfinished)
    (unfinished / "adapter").rmdir()
    with pytest.raises(ConfigError, match=r"from_run=.*unfinished has no trained weights yet"):
        compose_config(["job=evaluate", f"from_run={unfinished}"])


def test_all_weights_that_a_run_has_trained_are_not_lost_to_a_model_typed_beside_it(
    earlier_run: Path, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    shutil.copytree(earlier_run, full)
    (full / "adapter").rename(full / "model")
    assert compose_config(["job=evaluate", f"from_run={full}"]).model.path == str(full / "model")
    typed = "model.path=elsewhere/Qwen2.5-0.5B-Instruct"
    with pytest.raises(ConfigError, match=r"in its model/: leave model\.path=\.\.\. out"):
        compose_config(["job=adapt", f"from_run={full}", typed])
    assert compose_config(["job=adapt", f"from_run={earlier_run}", typed]).model.path in typed


# The real command


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which importing a heavy library ends the command."""
    traps = tmp_path_factory.mktemp("traps")
    for library in ("torch", "transformers", "trl", "peft", "wandb", "datasets"):
        (traps / f"{library}.py").write_text(f"raise SystemExit('{library} was imported')\n")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(traps), str(ROOT)])}


def command(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "arc_experiments", *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("model.lora.rnak=3", "model.lora.rank"),
        ("data=3", "arc1"),
        ("optim.learning_rate=0", "above 0"),
        ("job=evaluate from_run=nowhere", "not a run folder"),
        ("--multirun seed=1 data=arc1,arc3", "data=arc3"),
    ],
)
def test_the_command_answers_a_mistake_without_traceback_or_torch(
    typed: str, expected: str, tmp_path: Path, without_torch: dict[str, str]
) -> None:
    answer = command(tmp_path, without_torch, *typed.split(" "))
    assert answer.returncode == 2
    assert expected in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""
    assert list(tmp_path.rglob("run.yaml")) == [], "nothing is frozen"


@pytest.mark.parametrize("arguments", ["--help", "--cfg job"])
def test_questions_are_answered_within_two_seconds_without_torch(
    arguments: str, tmp_path: Path, without_torch: dict[str, str]
) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = command(tmp_path, without_torch, *arguments.split(" "))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert answer.returncode == 0, answer.stderr
    assert "learning_rate" in answer.stdout
    # CPU seconds, since others may be using this machine; without the shared ConfigStore it takes 1.7.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    line = f"{shlex.quote(sys.executable)} -m arc_experiments --help | true; exit ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (answer.returncode, answer.stderr) == (0, "")


# The commands that the documents name


def commands(text: str) -> list[list[str]]:
    """Words of every command in fenced bash blocks, without comments, lines ending in \\ joined."""
    blocks = re.findall(r"^```(?:bash|sh|shell|console)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in split_line(line.removeprefix("$ "))]
    return [
        [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word) or words[0] == "make"]
        for words in parts
    ]


def split_line(line: str) -> Iterator[list[str]]:
    """The commands of a line that are joined by && ; or |."""
    words = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    words.whitespace_split, words.commenters = True, "#"
    for is_operator, group in itertools.groupby(words, lambda word: set(word) <= set(";&|")):
        if not is_operator:
            yield list(group)


def in_document(path: Path, program: list[str]) -> list[list[str]]:
    """Arguments of a document's commands that start with `program` (a python may have its path)."""
    found = [[Path(words[0]).name, *words[1:]] for words in commands(path.read_text(encoding="utf-8"))]
    return [words[len(program) :] for words in found if words[: len(program)] == program]


def test_commands_are_found_in_fenced_blocks_only() -> None:
    text = (
        "```bash\nmake demo   # all of it\n# a remark\n"
        "WANDB_MODE=off .venv/bin/python -m arc_experiments \\\n"
        "  'a=[b]' && cd x\n```\n"
        "text `make nothing`\n```yaml\nmake: no\n```\n"
    )
    assert commands(text) == [
        ["make", "demo"], [".venv/bin/python", "-m", "arc_experiments", "a=[b]"], ["cd", "x"]
    ]  # fmt: skip


def test_the_readme_names_commands() -> None:
    readme = ROOT / "README.md"
    assert in_document(readme, ["python", "-m", "arc_experiments"])
    assert in_document(readme, ["make"])


@pytest.mark.slow
@pytest.mark.parametrize("document", TEXTS, ids=lambda path: path.name)
def test_every_command_in_the_documents_composes(
    document: Path, earlier_run: Path, program_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_own", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("KAGGLE_INPUT", str(tmp_path / "input"))
    (tmp_path / "input" / "tasks").mkdir(parents=True)
    (tmp_path / "input" / "tasks" / "arc_test_challenges.json").touch()
    (tmp_path / "input" / "run").symlink_to(earlier_run)
    composed = set()
    found = [
        in_document(document, program)
        for program in (["python", "-m", "arc_experiments"], ["arc-experiments"])
    ]
    for arguments in itertools.chain(*found):
        if arguments[:1] == ["-sc"] or COMMANDS.keys() & arguments[:1]:
            continue
        if "--config-dir" in arguments:  # my_folder/conf, the reader's own
            arguments.pop(arguments.index("--config-dir") + 1)
            add_conf(ROOT / "docs" / "example_extension" / "conf")
        typed = [word for word in arguments if not word.startswith("-") and word != "job"]
        run = program_run if "adapt.method=search_and_learn" in typed else earlier_run
        for overrides in swept([with_stand_in(word, run, tmp_path) for word in typed]):
            if tuple(overrides) not in composed:
                compose_config(overrides)
            composed.add(tuple(overrides))


def with_stand_in(word: str, run: Path, folder: Path) -> str:
    """Folders that only the reader has are replaced by folders that are there."""
    key, _, value = word.partition("=")
    stand_ins = {"from_run": run, "data.path": folder, "model.adapter": folder, "submission": folder}
    if value.startswith(("/", "./", "../", "~")):
        stand_ins["model.path"] = folder
    return f"{key}={stand_ins[key]}" if key in stand_ins else word


def swept(overrides: list[str]) -> Iterator[list[str]]:
    """Jobs of a sweep that have each swept value at least once; the overrides themselves if none is swept."""
    choices = []
    for text, override in zip(overrides, OverridesParser.create().parse_overrides(overrides), strict=True):
        key = override.get_key_element()
        swept = override.is_sweep_override()
        choices.append([f"{key}={value}" for value in override.sweep_string_iterator()] if swept else [text])
    for job in range(max(map(len, choices), default=1)):
        yield [values[job % len(values)] for values in choices]


@pytest.mark.parametrize("document", TEXTS, ids=lambda path: path.name)
def test_every_module_and_make_target_in_the_documents_exists(document: Path) -> None:
    for words in in_document(document, ["python", "-m"]):
        assert find_spec(words[0]) is not None, words
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for words in in_document(document, ["make"]):
        named = {word for word in words if "=" not in word and not word.startswith("-")}
        assert named <= targets, f"no such target: {named - targets}"


def test_the_experiments_test_and_production_differ_in_size_only() -> None:
    production, test = (compose_config([f"experiment={name}"]) for name in ("production", "test"))
    changed = {line.partition(":")[0] for line in differences(production, test)}
    assert changed == {
        "optim.max_steps", "optim.batch_size", "optim.log_steps", "optim.eval_steps", "optim.save_steps",
        "data.limit", "inference.num_views", "inference.limit", "inference.max_new_tokens",
    }  # fmt: skip


# Jobs


def test_the_table_of_jobs_their_modules_and_their_config_files_agree() -> None:
    modules = {
        file.stem
        for file in (ROOT / "arc_experiments" / "jobs").glob("*.py")
        if re.search(r"^def main\(", file.read_text(), re.MULTILINE)
    }
    files = {file.stem for file in (conf_dir() / "job").glob("*.yaml")}
    assert set(JOBS) == modules == files


def test_the_sections_that_a_job_hashes_are_sections() -> None:
    sections = {entry.name for entry in dataclasses.fields(Config)}
    assert all(set(kind.hashed) <= sections for kind in JOBS.values())


# The table of exclusions


def conditions() -> Iterator[tuple[type, str]]:
    for kind, table in ((Config, EXCLUSIONS), (Source, SOURCE_EXCLUSIONS)):
        for feature, setting, _, _ in table:
            for condition in (*feature.split(" "), setting):
                yield kind, condition


def field_of(kind: type, key: str) -> tuple[dataclasses.Field, object]:
    """The schema's field with this dotted key, and its type."""
    for name in key.split("."):
        hint = typing.get_type_hints(kind)[name]
        entry = next(entry for entry in dataclasses.fields(kind) if entry.name == name)
        kind = next(
            (inner for inner in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(inner)), kind
        )
    return entry, hint


def test_the_table_names_keys_and_values_of_the_schema() -> None:
    checked = 0
    for kind, condition in conditions():
        key, _, values = parse(condition)
        entry, hint = field_of(kind, key)
        if "choices" in entry.metadata:
            assert set(values) <= set(entry.metadata["choices"]), condition
            checked += 1
        if hint is bool:
            assert set(values) <= {"true", "false"}, condition
    assert checked > 30


def test_a_key_that_only_some_read_is_excluded_unless_it_has_its_default() -> None:
    for kind, key in (
        (Config, "inference.threshold"), (Config, "inference.vllm_memory_share"),
        (Config, "adapt.reserve_seconds"),
        (Source, "fold"), (Source, "num_folds"), (Source, "leave_out"), (Source, "num_validation"),
    ):  # fmt: skip
        default = f"{field_of(kind, key)[0].default:g}"
        settings = [parse(condition) for _, condition in conditions()]
        assert any(
            key == name and default in values and not is_equal for name, is_equal, values in settings
        ), key


def test_conditions_hold_of_numbers_lists_and_sections_as_they_are_typed() -> None:
    values = check(compose_config(["hardware.gpu_ids=[0]", "model.lora=null"]))
    for condition, expected in {
        "inference.top_p=1": True, "optim.stop_after=null": True, "hardware.gpu_ids=1|0": True,
        "model.path=package:*": True, "model.path!=package:*": False, "model.lora=null": True,
        "model.lora.dora=true": False, "model.lora.dora!=true": False, "data.sources={}": True,
    }.items():  # fmt: skip
        assert holds(values, condition) == expected, condition


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--max_steps", "10"], ["--max_steps is no flag: write optim.max_steps=10"]),
        (["--optim.max-steps=10"], ["--optim.max-steps=10 is no flag: write optim.max_steps=10"]),
        (["--seed", "3", "--multirun"], ["--seed is no flag: write seed=3"]),
        (["--limit"], ["--limit is no flag: write data.limit=... or inference.limit=..."]),
        (["--multirun", "--cfg", "job", "--config-dir", "x", "seed=1,2", "--info"], []),
    ],
)
def test_a_key_typed_as_a_flag_is_answered_with_what_to_write(typed: list[str], said: list[str]) -> None:
    assert list(typed_as_flags(typed)) == said
