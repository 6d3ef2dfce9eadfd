"""A vocabulary cut to ARC's tokens: the same logits, the same texts, and nothing that goes unnoticed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quick_compose import compose
from toy_models import byte_tokenizer, joining_tokenizer, make_base
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from arc_experiments.config.check import ConfigError
from arc_experiments.models.ancestry import read_ancestry
from arc_experiments.models.hub import ModelError
from arc_experiments.models.loading import load_base
from arc_experiments.models.tokenizer import ArcTokenizer, for_trainer
from arc_experiments.models.vocabulary import Vocabulary, collect, read_vocabulary, shrink
from arc_experiments.prompts import GridText, Prompt
from arc_experiments.run import Run
from arc_experiments.tasks import Pair, Task

CPU = torch.device("cpu")
SMALL = [
    "experiment=smoke",
    "prompt=compact",
    "tracking=off",
    "data.limit=4",
    "prompt.max_length=1500",
    "optim.max_steps=2",
]


def arc_run(folder: Path, base: Path, *overrides: str) -> Run:
    custom = ["model=custom", f"model.path={base}", "model.dtype=float32", "model.lora.rank=4"]
    return compose([*SMALL, *custom, "model.vocabulary=arc", *overrides], folder)


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_the_full_model_for_the_kept_tokens(
    tmp_path: Path, kind: str, tied: bool
) -> None:
    base = make_base(tmp_path / "base", kind=kind, tied=tied)
    run = arc_run(tmp_path / "run", base)
    full = AutoModelForCausalLM.from_pretrained(base).eval()
    kept = torch.tensor(run.vocabulary.kept)
    cut = load_base(run.config.model, dtype=torch.float32, device=CPU, vocabulary=run.vocabulary)
    assert len(kept) < len(byte_tokenizer()) / 2
    assert cut.get_output_embeddings().weight.shape == cut.get_input_embeddings().weight.shape
    assert (cut.get_output_embeddings().weight is cut.get_input_embeddings().weight) == tied
    small = torch.from_numpy(run.stream()[0].encoded.input_ids).long()[None]
    with torch.inference_mode():
        expected = full(input_ids=kept[small]).logits[..., kept]
        assert torch.equal(cut(input_ids=small).logits, expected)


def test_prompts_are_the_same_texts_and_the_same_tokens(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    cut = arc_run(tmp_path / "cut", base)
    full = arc_run(tmp_path / "full", base, "model.vocabulary=full")
    kept = np.array(cut.vocabulary.kept)
    for index in range(20):
        ours, theirs = cut.stream()[index].encoded, full.stream()[index].encoded
        assert np.array_equal(kept[ours.input_ids], theirs.input_ids)
        assert np.array_equal(ours.labels >= 0, theirs.labels >= 0)
        assert cut.prompt.decode(ours.input_ids) == full.prompt.decode(theirs.input_ids)
    assert [kept[each] for each in cut.prompt.stop_ids] == list(full.prompt.stop_ids)
    assert kept[cut.prompt.pad_id] == full.prompt.pad_id
    assert cut.prompt.exact_table == full.prompt.exact_table


def toy_prompt(tokenizer: object, grid: GridText) -> Prompt:
    return Prompt(
        tokenizer=tokenizer, grid=grid, system=None, introduction="", answer="{output}", chat=False,
        demonstration="Input\n{input}Output\n{output}", question="Input\n{input}Output\n",
        loss_on="all_outputs", max_length=10**6,
    )  # fmt: skip


COLOURS = ["Black", "Blue", "Red", "Green", "Yellow", "Gray", "Pink", "Orange", "Cyan", "Maroon"]


@pytest.mark.parametrize(
    "grid_text",
    [
        GridText(),
        GridText(row_numbers=True, opening="shape: {height}x{width}\n"),
        GridText(cells=[digit * 3 for digit in "0123456789"]),
        GridText(cells=COLOURS, separator=" "),
        GridText(separator="|"),
        GridText(frames=[6, 10]),
    ],
    ids=["plain", "row_numbers", "repeated", "names", "separated", "framed"],
)
def test_tokenizers_that_join_cells_never_need_another_token(grid_text: GridText) -> None:
    full = joining_tokenizer()
    vocabulary = collect(full, lambda tokenizer: toy_prompt(tokenizer, grid_text), grid_text)
    prompt = toy_prompt(ArcTokenizer(full, vocabulary), grid_text)
    plain = toy_prompt(full, grid_text)
    rng = np.random.default_rng(0)
    for _ in range(60):
        grids = [rng.integers(0, 10, rng.integers(1, 31, 2)).astype(np.uint8) for _ in range(4)]
        pairs = [Pair(input=grids[0], output=grids[1]), Pair(input=grids[2], output=grids[3])]
        task = Task(id="t", train=(pairs[0],), test=(pairs[1],))
        ids = np.array(vocabulary.kept)[prompt.encode(task).input_ids]
        assert np.array_equal(ids, plain.encode(task).input_ids)


@settings(max_examples=30)
@given(st.text("0123456789\n InputOB|", max_size=30))
def test_text_survives_small_ids(text: str) -> None:
    full = byte_tokenizer()
    written = set(full(text, add_special_tokens=False)["input_ids"])
    cut = ArcTokenizer(full, Vocabulary(kept=tuple(sorted(written | {0, 2, 258}))))
    small = cut(text, add_special_tokens=False)["input_ids"]
    assert all(token < len(written) + 3 for token in small)
    assert cut.decode(small) == text


def test_a_token_that_was_not_kept_is_refused_by_name() -> None:
    full = byte_tokenizer()
    kept = tuple(sorted(full("0123", add_special_tokens=False)["input_ids"]))
    tokenizer = ArcTokenizer(full, Vocabulary(kept=kept))
    assert tokenizer("21", add_special_tokens=False)["input_ids"] == [2, 1]
    with pytest.raises(ModelError, match=r"does not hold the token '7' .*model\.vocabulary=full"):
        tokenizer("17", add_special_tokens=False)


def test_the_trainer_gets_special_tokens_with_the_ids_of_the_model(tmp_path: Path) -> None:
    run = arc_run(tmp_path / "run", make_base(tmp_path / "base"))
    named = for_trainer(run.tokenizer)
    assert isinstance(named, PreTrainedTokenizerFast)
    assert (named.eos_token_id, named.pad_token_id) == (
        run.tokenizer.eos_token_id,
        run.tokenizer.pad_token_id,
    )
    plain = byte_tokenizer()
    assert for_trainer(plain) is plain


def trained(run: Run) -> Path:
    model = run.model()
    run.trainer(model, []).resume_or_start()
    folder = run.save_weights(model)
    loss = run.validation_loss(model).token_mean
    assert run.validation_loss(run.trained_model()).token_mean == loss
    return folder


@pytest.mark.slow
def test_an_adapter_brings_its_vocabulary_along_and_fits_the_full_base(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    run = arc_run(tmp_path / "run", base)
    adapter = trained(run)
    assert read_vocabulary(adapter) == run.vocabulary
    assert read_ancestry(adapter).vocabulary == "arc"
    again = compose([*SMALL, "job=evaluate", f"from_run={run.folder}"], tmp_path / "again")
    assert again.vocabulary == run.vocabulary
    loss = again.validation_loss(again.model(trainable=False)).token_mean
    assert loss == run.validation_loss(run.trained_model()).token_mean

    full = ["model.vocabulary=full", f"model.adapter={adapter}"]
    with pytest.raises(ValueError, match=r"model\.vocabulary: trained with arc, used with full"):
        compose([*SMALL, f"from_run={run.folder}", "model.vocabulary=full"], tmp_path / "no").model()
    forced = arc_run(tmp_path / "forced", base, "inference.force=true", *full).model(trainable=False)
    kept = torch.tensor(run.vocabulary.kept)
    small = torch.from_numpy(run.stream()[0].encoded.input_ids).long()[None]
    with torch.inference_mode():
        expected = forced(input_ids=kept[small]).logits[..., kept]
        assert torch.equal(run.trained_model()(input_ids=small).logits, expected)


@pytest.mark.slow
def test_full_fine_tuning_saves_a_small_model_that_is_loaded_again(tmp_path: Path) -> None:
    run = arc_run(tmp_path / "run", make_base(tmp_path / "base"), "model.lora=null")
    folder = trained(run)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == len(run.vocabulary)
    with pytest.raises(ValueError, match=r"vocabulary of ARC prompts alone .*model\.vocabulary=arc"):
        arc_run(tmp_path / "full", folder, "model.vocabulary=full", "inference.force=true").model()


def test_answers_are_written_in_small_ids_and_read_as_text(tmp_path: Path) -> None:
    run = arc_run(
        tmp_path / "run", make_base(tmp_path / "base"), "inference.max_new_tokens=8", "inference.limit=1"
    )
    kept, full = np.array(run.vocabulary.kept), byte_tokenizer()
    candidates = run.predict(run.model())
    assert candidates
    for candidate in candidates:
        assert candidate.text, "a random model writes something"
        small = run.tokenizer(candidate.text, add_special_tokens=False)["input_ids"]
        assert full.decode(kept[small]) == candidate.text


@pytest.mark.parametrize(
    "option",
    [
        "model.lora.target_modules=[q_proj,embed_tokens]",
        "model.lora.target_modules='.*(q_proj|lm_head)'",
        "model.lora.modules_to_save=[lm_head]",
    ],
)
def test_an_adapter_on_what_is_cut_is_refused(option: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"which model\.vocabulary=arc cuts"):
        compose(["model.vocabulary=arc", option], tmp_path / "run")


def test_a_model_with_fewer_tokens_than_its_tokenizer_is_refused(tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(make_base(tmp_path / "base"))
    with pytest.raises(ModelError, match=r"the model has 259 tokens .*id 300"):
        shrink(base, Vocabulary(kept=(1, 300)))


def test_a_model_whose_vocabulary_is_elsewhere_too_is_refused(tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(make_base(tmp_path / "base"))
    base.model.more = torch.nn.Embedding(259, 4)
    with pytest.raises(ModelError, match=r"is also in model\.more\.weight"):
        shrink(base, Vocabulary(kept=(1, 2)))


def test_an_ancestry_from_before_there_was_a_choice_is_full(tmp_path: Path) -> None:
    old = {"base": "b", "dtype": "float32", "prompt": {}, "trained_on": ["a"]}
    (tmp_path / "ancestry.json").write_text(json.dumps(old))
    ancestry = read_ancestry(tmp_path)
    assert ancestry.vocabulary == "full"
    assert ancestry.conflicts(dtype="float32", vocabulary="full", prompt={}) == []
