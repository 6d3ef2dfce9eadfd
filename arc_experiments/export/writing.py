"""Write a run's weights as a folder for others: weights, tokenizer, processor, ancestry, card."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from arc_experiments.config.paths import path_outside
from arc_experiments.config.plurals import plural
from arc_experiments.export.merging import load_merged, logits
from arc_experiments.export.notes import CONFIG, TOKENS, notes_on_adapter, notes_on_whole
from arc_experiments.export.published import copy_tokenizer, end_ids, whole_folder
from arc_experiments.models.adapters import WEIGHTS
from arc_experiments.models.ancestry import Ancestry, read_ancestry
from arc_experiments.models.hub import ModelError
from arc_experiments.models.precision import DTYPES
from arc_experiments.models.processor import reads_pictures
from arc_experiments.models.tokenizer import load_tokenizer
from arc_experiments.models.vocabulary import FILE as VOCABULARY
from arc_experiments.models.vocabulary import read_vocabulary
from arc_experiments.models.weights import fingerprint
from arc_experiments.report.model_card import FILE as CARD
from arc_experiments.report.model_card import write_card
from arc_experiments.run import Run
from arc_experiments.tasks.grids import NUM_COLOURS

PROBE_ROWS = 8  # lines of digits
EXACT = 1e-4  # of the largest logit: what float32 may lose by adding in another order


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A folder that was written.

    Attributes:
        notes: what must be known of the weights, as on the card.
        checked: how near their logits are to those of the trained model; "" for an adapter.
    """

    folder: Path
    notes: tuple[str, ...]
    checked: str = ""


def export_whole(run: Run, out: Path, dtype: str | None, *, for_llama_cpp: bool = False) -> Exported:
    """Write one model with everything merged and all tokens, and compare what it says with base and adapter.

    Args:
        dtype: of the weights; None for what the run computed in.
        for_llama_cpp: refuse what its converter would refuse.

    Raises:
        ValueError: there are no weights, they do not fit the base, this dtype or the converter.
        FolderError: `out` exists.
    """
    ancestry, model = _ancestry(run), run.weights.trained()
    dtype = dtype or ancestry.dtype
    with whole_folder(out) as folder:
        tokenizer = load_tokenizer(model)
        probe = _probe(tokenizer)
        merged, expected = load_merged(run, ancestry.dtype, probe)
        ends = end_ids(tokenizer, run.config, model)
        merged.generation_config.update(
            eos_token_id=ends if len(ends) > 1 else ends[0], pad_token_id=tokenizer.pad_token_id
        )
        num_tokens, kind = len(merged.get_input_embeddings().weight), type(merged)
        if for_llama_cpp and max(tokenizer.get_vocab().values()) >= num_tokens:
            raise ModelError(
                f"llama.cpp's converter takes no model with fewer tokens ({num_tokens}) than its tokenizer "
                f"({len(tokenizer)}): use --merge"
            )
        merged.to(DTYPES[dtype]).save_pretrained(folder)
        del merged  # before it is read again
        copy_tokenizer(model, folder)
        checked = _check(kind, folder, dtype, probe, expected)
        replace(ancestry, base_fingerprint="").save(folder)
        kept = read_vocabulary(run.weights.folder)
        if kept is not None:
            (folder / TOKENS).write_text(json.dumps({"allowed_token_ids": kept.kept}) + "\n")
        notes = tuple(notes_on_whole(run, dtype=dtype, kept=kept, num_tokens=num_tokens))
        _write_card(run, folder, notes)
    return Exported(folder=out, notes=notes, checked=checked)


def export_adapter(run: Run, out: Path, dtype: str | None) -> Exported:
    """Write the adapter with what belongs to it.

    Args:
        dtype: of its weights; None to leave them as they are.

    Raises:
        ValueError: the run has no adapter.
        FolderError: `out` exists.
    """
    _ancestry(run)
    source, model = run.weights.folder, run.config.model
    if source.name != "adapter":
        raise ModelError("this run trained all weights (model.lora=null), so it has no adapter: use --merge")
    config = json.loads((source / CONFIG).read_text())
    config["base_model_name_or_path"] = path_outside(model.path)
    with whole_folder(out) as folder:
        weights = load_file(source / WEIGHTS)
        if dtype is not None:
            weights = {name: value.to(DTYPES[dtype]) for name, value in weights.items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        copy_tokenizer(run.weights.trained(), folder)
        for name in ("ancestry.json", VOCABULARY):
            if (source / name).exists():
                (folder / name).write_bytes((source / name).read_bytes())
        notes = tuple(notes_on_adapter(config, weights.values()))
        _write_card(run, folder, notes)
    return Exported(folder=out, notes=notes)


def _ancestry(run: Run) -> Ancestry:
    """Return the ancestry of the run's weights.

    Raises:
        ValueError: there are none, or their base is another one today.
    """
    weights, folder = run.weights, run.folder
    found = read_ancestry(weights.folder)
    if found is None and run.config.from_run is not None and run.config.job.name == "evaluate":
        raise ValueError(f"{folder} is an evaluation: name the run that it evaluated: {run.config.from_run}")
    if found is None:
        state = folder.state.name
        raise ValueError(f"{folder} has no {weights.folder.name}/ ({state}): name a run that has trained one")
    base = path_outside(run.config.model.path)
    today = fingerprint(Path(base))
    if found.base_fingerprint and today and today != found.base_fingerprint:
        raise ModelError(f"model.path={base}: these are not the weights that the adapter was trained on")
    return found


def _probe(tokenizer: Any) -> torch.Tensor:
    """Rows of digits, which every tokenizer of a run can write: int64, shape (1, tokens)."""
    digits = [str(colour) for colour in range(NUM_COLOURS)]
    text = "".join("".join(digits[row:] + digits[:row]) + "\n" for row in range(PROBE_ROWS))
    return torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])


def _check(kind: Any, folder: Path, dtype: str, probe: torch.Tensor, expected: torch.Tensor) -> str:
    """Load the folder as others do; say how near its logits are.

    Raises:
        ModelError: they are others.
    """
    model, report = kind.from_pretrained(folder, dtype=DTYPES[dtype], output_loading_info=True)
    found, largest = logits(model.eval(), probe), float(expected.abs().max())
    difference = float((found - expected).abs().max())
    if report["missing_keys"] or not difference < float("inf"):
        missing = ", ".join(sorted(report["missing_keys"])[:5])
        reason = f"lacks {missing}" if missing else f"overflows in {dtype}: use --dtype bfloat16 or float32"
        raise ModelError(f"the merged model {reason}")
    if dtype == "float32" and difference > EXACT * largest:
        raise ModelError(
            f"the merged model's logits differ from the trained one's by {difference:.3g}: this kind of "
            "adapter cannot be merged; use --adapter"
        )
    return (
        f"its logits differ from those of the trained model by at most {difference:.2g} (the largest is "
        f"{largest:.3g}), over {plural(len(expected), 'token')}"
    )


def _write_card(run: Run, folder: Path, notes: Sequence[str]) -> None:
    """Write the card with what the run's own says of its prompt."""
    own = run.weights.folder / CARD
    question = re.search(r"^````text\n(.*?)\n````$", own.read_text(), re.S | re.M) if own.exists() else None
    write_card(
        run.folder.path,
        folder,
        run.metrics,
        question=question[1] if question else None,
        shows_pictures=reads_pictures(run.weights.trained()),
        notes=notes,
    )
