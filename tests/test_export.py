"""Exported weights: other programs compute with them what the run does; nothing is lost or overwritten."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from export_tools import IDS, OPTIONS, look, toy_run, trained_run
from rich.console import Console
from safetensors.torch import load_file, save_file
from toy_models import byte_tokenizer, make_base
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from arc_experiments import compose
from arc_experiments.config.paths import path_outside
from arc_experiments.export import writing
from arc_experiments.export.__main__ import main
from arc_experiments.export.merging import restore
from arc_experiments.export.writing import export_adapter, export_whole
from arc_experiments.jobs import finetune
from arc_experiments.models.ancestry import read_ancestry
from arc_experiments.models.hub import ModelError
from arc_experiments.run import Run

ARC = "model.vocabulary=arc"


def base_and_adapter(run: Run) -> dict[str, Any]:
    return {"base": path_outside(run.config.model.path), "adapter": str(run.folder / "adapter"), "ids": IDS}


def whole(run: Run) -> dict[str, Any]:
    return {"base": str(run.folder / "model"), "ids": IDS}


def pictures(run: Run) -> dict[str, Any]:
    request = run.requests[0]
    ids, arrays = request.encoded.input_ids[None].astype("int64"), request.encoded.pictures
    made = run.pictures.arrays([arrays], ids)
    return {
        **base_and_adapter(run),
        "kind": "AutoModelForImageTextToText",
        "ids": ids[0].tolist(),
        "arrays": {name: value.tolist() for name, value in made.items()},
    }


CASES: dict[str, tuple[Callable[[Path], Run], Callable[[Run], dict[str, Any]], float]] = {
    "lora": (toy_run, base_and_adapter, 1e-5),
    "dora": (lambda folder: toy_run(folder, "model.lora.dora=true", kind="llama"), base_and_adapter, 1e-5),
    "pissa": (lambda folder: toy_run(folder, "model.lora.initialisation=pissa"), base_and_adapter, 1e-5),
    "lora on one of two tied layers": (
        lambda folder: toy_run(folder, "model.lora.target_modules=[q_proj,embed_tokens]"),
        base_and_adapter,
        1e-5,
    ),
    "a tied layer trained whole": (
        lambda folder: toy_run(folder, "model.lora.modules_to_save=[lm_head]"), base_and_adapter, 1e-5,
    ),
    "cut vocabulary": (lambda folder: toy_run(folder, ARC), base_and_adapter, 1e-5),
    "all weights": (lambda folder: toy_run(folder, "model.lora=null"), whole, 1e-5),
    "all weights, cut vocabulary": (
        lambda folder: toy_run(folder, "model.lora=null", ARC, tied=False),
        lambda run: {**whole(run), "ids": [3, 1, 4, 1, 5], "kept": list(run.vocabulary.kept)},
        1e-5,
    ),
    "4-bit base": (lambda folder: toy_run(folder, "model.quantisation=4bit"), base_and_adapter, 1e-5),
    "8-bit base, whose layers round what goes in": (
        lambda folder: toy_run(folder, "model.quantisation=8bit"),
        base_and_adapter,
        0.1,
    ),
    "pictures": (
        lambda folder: trained_run(
            folder, "model=tiny_vision", "data=see", "prompt=picture_compact", "model.dtype=float32"
        ),
        pictures,
        1e-4,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The largest difference of the logits of each case."""
    looks, place = {}, tmp_path_factory.mktemp("export")
    for number, (name, (make, outside, _)) in enumerate(CASES.items()):
        folder = place / str(number)
        folder.mkdir()
        run = make(folder)
        out = export_whole(run, folder / "out", "float32").folder
        looks[name] = {**outside(run), "exported": str(out)}
        looks[name]["bits"] = {"4bit": 4, "8bit": 8}.get(run.config.model.quantisation)
    return look(looks, place)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_plain_transformers_and_peft_compute_the_same_logits(compared: dict[str, float], name: str) -> None:
    assert compared[name] <= CASES[name][2]


# What lies beside the weights


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return toy_run(tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return toy_run(tmp_path_factory.mktemp("cut"), ARC)


def test_the_folder_has_all_tokens_a_named_dtype_and_the_ends_of_answers(cut: Run, tmp_path: Path) -> None:
    exported = export_whole(cut, tmp_path / "out", "bfloat16")
    config = AutoConfig.from_pretrained(exported.folder)
    assert config.vocab_size == len(byte_tokenizer())
    assert config.dtype == torch.bfloat16
    assert {value.dtype for value in load_file(exported.folder / "model.safetensors").values()} == {
        torch.bfloat16
    }
    tokenizer = AutoTokenizer.from_pretrained(exported.folder)
    assert tokenizer("0\n")["input_ids"] == byte_tokenizer()("0\n")["input_ids"]
    generation = GenerationConfig.from_pretrained(exported.folder)
    assert tokenizer.convert_ids_to_tokens(generation.eos_token_id) == "<|im_end|>"
    allowed = json.loads((exported.folder / "arc_token_ids.json").read_text())["allowed_token_ids"]
    assert allowed == list(cut.vocabulary.kept)
    assert not (exported.folder / "vocabulary.json").exists(), "which would say that tokens are missing"
    assert "It was trained with" in exported.notes[-1]
    assert "by at most" in exported.checked


def test_the_exported_model_is_a_base_for_further_runs(cut: Run, tmp_path: Path) -> None:
    out = export_whole(cut, tmp_path / "out", "float32").folder
    again = compose(
        [*OPTIONS, "model.name=exported", f"model.path={out}", ARC, "job=evaluate"], tmp_path / "again"
    )
    loss = again.validation_loss(again.model(trainable=False))
    expected = cut.validation_loss(cut.trained_model())
    assert loss.token_mean == pytest.approx(expected.token_mean, abs=1e-5)
    assert again.weights.parent.trained_on == cut.ancestry.trained_on


def test_a_run_on_a_cut_model_gets_its_tokens_from_where_that_one_had_them(tmp_path: Path) -> None:
    first = toy_run(tmp_path, ARC, "model.lora=null")
    second = trained_run(tmp_path / "second", ARC, f"model.path={first.folder / 'model'}")
    out = export_whole(second, tmp_path / "out", "float32").folder
    found = load_file(out / "model.safetensors")["model.embed_tokens.weight"]
    published = load_file(tmp_path / "base" / "model.safetensors")["model.embed_tokens.weight"]
    trained = load_file(first.folder / "model" / "model.safetensors")["model.embed_tokens.weight"]
    kept = torch.tensor(first.vocabulary.kept)
    assert torch.equal(found[kept], trained)
    others = torch.ones(len(found), dtype=torch.bool).index_fill(0, kept, False)
    assert torch.equal(found[others], published[others])


def test_weights_of_another_model_are_not_put_into_a_base(lora: Run, cut: Run, tmp_path: Path) -> None:
    small = toy_run(tmp_path, ARC, "model.lora=null").trained_model()
    others = (
        make_base(tmp_path / "narrow", hidden_size=32),
        make_base(tmp_path / "deep", num_hidden_layers=3),
    )
    for other in others:
        with pytest.raises(ModelError, match="the base is not the model that was trained"):
            restore(AutoModelForCausalLM.from_pretrained(other), small, cut.vocabulary)


def test_the_card_says_what_was_made_of_the_weights(finished: Run, tmp_path: Path) -> None:
    out = export_whole(finished, tmp_path / "out", None).folder
    card = (out / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"
    for text in (
        "A LoRA adapter of rank 4 was merged into them, in float32.",
        "Its weights are in float32.",
        "| pass_at_2 | 0.0% |",
        "`optim.max_steps` | 2 |",
        "trained on 4 tasks",
    ):
        assert text in card
    own = (finished.folder / "adapter" / "README.md").read_text()
    assert (
        card[card.index("````text") : card.index("## Data")]
        == own[own.index("````text") : own.index("## Data")]
    )
    assert "\n\n\n" not in card
    assert read_ancestry(out).base_fingerprint == ""


def test_an_adapter_is_exported_with_what_loads_it(finished: Run, cut: Run, tmp_path: Path) -> None:
    out = export_adapter(finished, tmp_path / "out", "bfloat16").folder
    weights = load_file(out / "adapter_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    own = load_file(finished.folder / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(value.bfloat16(), weights[name]) for name, value in own.items())
    card = (out / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "peft"
    assert "Its base is a folder on the machine that trained it" in card
    assert read_ancestry(out) == read_ancestry(finished.folder / "adapter")
    cut_out = export_adapter(cut, tmp_path / "cut", None).folder
    assert (cut_out / "vocabulary.json").read_bytes() == (cut.folder / "adapter/vocabulary.json").read_bytes()


# The command


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("finished")
    base = f"model.path={make_base(folder / 'base')}"
    fast = ["inference.num_views=1", "inference.limit=1", "inference.max_new_tokens=4", "hardware.threads=1"]
    run = compose([*OPTIONS, base, *fast, "optim.batch_size=1", "optim.eval_steps=null"], folder / "run")
    finetune.main(run, Console(quiet=True))
    return run


@pytest.mark.parametrize(
    ("kind", "name", "next_step"),
    [
        ("--merge", "merged", "vllm serve {}"),
        ("--adapter", "adapter", "--enable-lora --max-lora-rank 16 --lora-modules run={}"),
        ("--gguf-ready", "gguf-ready", "python convert_hf_to_gguf.py {} --outfile run.gguf"),
    ],
)
def test_the_command_writes_into_the_run_folder_once_and_says_what_to_type_next(
    finished: Run, kind: str, name: str, next_step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = finished.folder / "exports" / name
    assert main([str(finished.folder), kind]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == str(out)
    assert f"hf upload YOUR_NAME/run {out}" in said
    assert next_step.format(out) in said
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert main([str(finished.folder), kind]) == 2
    assert f"{out} exists: name another folder (--out), or remove it" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.slow
def test_the_command_says_nothing_of_libraries_that_the_run_does_not_use(
    finished: Run, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "arc_experiments.export", str(finished.folder), "--adapter"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_what_fails_leaves_nothing_behind(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(writing, "copy_tokenizer", fail)
    assert main([str(finished.folder), "--merge", "--out", str(tmp_path / "new" / "out")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []


def test_a_dtype_that_cannot_hold_the_weights_is_refused(tmp_path: Path) -> None:
    run = toy_run(tmp_path, "model.lora=null")
    file = run.folder / "model" / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.0.mlp.down_proj.weight"] *= 1e7
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="overflows in float16: use --dtype bfloat16 or float32"):
        export_whole(run, tmp_path / "out", "float16")
    assert not (tmp_path / "out").exists()


def test_mistakes_are_told_with_the_remedy(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    untrained = compose([*OPTIONS, "model.name=m", f"model.path={tmp_path}"], tmp_path / "untrained").folder
    whole = toy_run(tmp_path, "model.lora=null").folder
    evaluation = compose(
        ["experiment=smoke", "job=evaluate", f"from_run={finished.folder}"], tmp_path / "evaluation"
    ).folder
    for folder, kind, message in [
        (tmp_path, "--merge", "is not a run folder: it has no run.yaml"),
        (untrained, "--merge", r"has no adapter/ (waiting): name a run that has trained one"),
        (whole, "--adapter", "this run trained all weights (model.lora=null), so it has no adapter"),
        (evaluation, "--merge", f"is an evaluation: name the run that it evaluated: {finished.folder}"),
    ]:
        assert main([str(folder), kind, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(finished.folder)])


def test_a_base_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    run = toy_run(tmp_path)
    make_base(tmp_path / "base", initializer_range=0.2)
    with pytest.raises(ModelError, match="these are not the weights that the adapter was trained on"):
        export_whole(run, tmp_path / "out", None)
