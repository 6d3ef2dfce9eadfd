r"""A vocabulary cut down to the tokens of ARC prompts.

    full ids   15 (the cell "0"), 16 ("1"), 198 ("\n"), 151645 (end of turn)
    small ids   0                  1         2            3

Embedding and LM head keep the rows of these tokens only. Their logits are those of the full model, and a
softmax runs over dozens of tokens instead of 150 thousand. The kept tokens are all that the tokenizer gives
for a set of made-up tasks with every colour, size, row number and number of demonstrations, and every token
that occurs within the rows of a grid (tokenizers that join digits have many).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from arc_experiments.config.check import build
from arc_experiments.config.schema import PromptOptions
from arc_experiments.models.hub import ModelError
from arc_experiments.prompts.building import make_prompt
from arc_experiments.tasks import Pair, Task
from arc_experiments.tasks.grids import MAX_SIDE, NUM_COLOURS, Grid

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from arc_experiments.prompts import GridText, Prompt

FILE = "vocabulary.json"
MAX_DEMONSTRATIONS = 30  # more than any ARC task has
JOINED_CELLS = 4  # the longest tokens of different cells that are looked for; of equal cells, up to a row


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """`kept` holds the full ids of the kept tokens, ascending; a token's position in it is its small id."""

    kept: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.kept)

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps({"kept_ids": self.kept}) + "\n")

    def small_ids(self, full: Any) -> Any:
        """Translate special tokens as a model's config holds them: an id, a list of ids, or None."""
        if isinstance(full, list):
            return [self.kept.index(each) for each in full if each in self.kept] or None
        return self.kept.index(full) if full in self.kept else None


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Read the vocabulary saved with some weights; None if they have the full one."""
    if not (folder / FILE).exists():
        return None
    return Vocabulary(kept=tuple(json.loads((folder / FILE).read_text())["kept_ids"]))


def collect(
    tokenizer: Any, make_prompt: Callable[[Any], "Prompt"], grid_text: "GridText", extra: Iterable[Task] = ()
) -> Vocabulary:
    """Collect the tokens that a prompt needs.

    Args:
        make_prompt: makes the prompt for a tokenizer, which here records the ids that it returns.
        extra: more tasks to cover, such as real ones.
    """
    recorder = _Recorder(tokenizer)
    prompt = make_prompt(recorder)
    tasks = [*covering_tasks(), *extra]
    prompt.verify(tasks)
    prompt.longest_answer()
    for task in tasks:
        prompt.encode(task)
    special = {getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad", "unk")}
    ids = recorder.seen | special | {*prompt.stop_ids, prompt.pad_id} | set(_row_tokens(tokenizer, grid_text))
    return Vocabulary(kept=tuple(sorted(int(each) for each in ids if each is not None)))


def choose_vocabulary(
    tokenizer: Any,
    folders: Iterable[Path],
    prompts: Iterable[PromptOptions],
    tasks: Sequence[Task],
    *,
    has_rows: bool,
) -> Vocabulary:
    """The vocabulary that weights in one of these folders came with, else the tokens of these prompts.

    Args:
        tokenizer: the model's own, with all of its tokens.
        tasks: real tasks to cover beside the made-up ones.
        has_rows: whether the data has ready rows.

    Raises:
        ValueError: ready rows may hold any token.
    """
    if has_rows:
        raise ValueError(
            "model.vocabulary=arc holds the tokens of ARC prompts alone, and this data has ready rows: "
            "model.vocabulary=full"
        )
    for folder in folders:
        saved = read_vocabulary(folder)
        if saved is not None:
            return saved
    return union(collect(tokenizer, partial(make_prompt, own), build(own.grid), tasks) for own in prompts)


def union(vocabularies: Iterable[Vocabulary]) -> Vocabulary:
    """Join vocabularies."""
    return Vocabulary(kept=tuple(sorted({each for vocabulary in vocabularies for each in vocabulary.kept})))


def covering_tasks() -> list[Task]:
    """Make small tasks with 0 to 30 demonstrations, and one with every size, row number and colour."""
    small = Pair(input=_stripes((1, 2), 0), output=_stripes((2, 1), 1))
    tall = Pair(input=_stripes((MAX_SIDE, MAX_SIDE), 2), output=_stripes((MAX_SIDE, MAX_SIDE), 3))
    shapes = [(size, MAX_SIDE + 1 - size) for size in range(1, MAX_SIDE + 1)]
    pairs = [Pair(input=_stripes(shape, 0), output=_stripes(shape[::-1], 1)) for shape in shapes]
    counts = range(MAX_DEMONSTRATIONS + 1)
    tasks = [Task(id=f"covering{count}", train=(small,) * count, test=(small,)) for count in counts]
    return [*tasks, Task(id="covering_all_sizes", train=tuple(pairs), test=(tall,))]


def _stripes(shape: tuple[int, int], first: int) -> Grid:
    """A grid whose rows count through the colours, each from another one."""
    rows, columns = np.indices(shape)
    return ((first + columns + 3 * rows) % NUM_COLOURS).astype(np.uint8)


class _Recorder:
    """A tokenizer that records every id it returns."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.seen: set[int] = set()

    def __call__(self, text: str, **options: Any) -> Any:
        encoded = self._tokenizer(text, **options)
        self.seen.update(encoded["input_ids"])
        return encoded

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def _row_tokens(tokenizer: Any, grid_text: "GridText") -> Iterable[int]:
    """Every token whose text occurs in the rows of some grid."""
    mixed = np.array(list(product(range(NUM_COLOURS), repeat=JOINED_CELLS)), dtype=np.uint8)
    plain = np.repeat(np.arange(NUM_COLOURS, dtype=np.uint8)[:, None], MAX_SIDE, axis=1)
    flat = [np.zeros((1, width), np.uint8) for width in range(1, MAX_SIDE + 1)]  # with the fill of frames
    grids = [*np.array_split(mixed, len(mixed) // MAX_SIDE + 1), plain, *flat]
    text = "\n".join(grid_text.write(grid) for grid in grids)
    letters = set(text)
    for full, token in enumerate(tokenizer.batch_decode([[full] for full in range(len(tokenizer))])):
        if token and letters.issuperset(token) and token in text:
            yield full


def shrink(base: "PreTrainedModel", vocabulary: Vocabulary) -> None:
    """Cut embedding and LM head to the rows of these tokens, in place; tied weights stay tied.

    Raises:
        ModelError: the model has fewer tokens than these ids, or other layers that depend on the vocabulary.
    """
    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    size = len(embedding.weight)
    if vocabulary.kept[-1] >= size:
        raise ModelError(
            f"model.vocabulary=arc: the model has {size} tokens and its tokenizer knows more (id "
            f"{vocabulary.kept[-1]}): use model.vocabulary=full, or the tokenizer that belongs to the model"
        )
    _check_nothing_else_depends(base, (embedding, head), size)
    rows = torch.tensor(vocabulary.kept)  # on the CPU, since the two layers of a split model are on two GPUs
    tied = head.weight is embedding.weight
    config = base.config.get_text_config()
    embedding.weight = _rows_of(embedding.weight, rows)
    embedding.num_embeddings = config.vocab_size = len(vocabulary)
    if embedding.padding_idx is not None:
        embedding.padding_idx = vocabulary.small_ids(embedding.padding_idx)
    head.weight = embedding.weight if tied else _rows_of(head.weight, rows)
    if head.bias is not None:
        head.bias = _rows_of(head.bias, rows)
    head.out_features = len(vocabulary)
    for module in base.modules():  # some modules keep a copy of the number
        if getattr(module, "vocab_size", None) == size:
            module.vocab_size = len(vocabulary)
    for holder in (config, base.generation_config):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(holder, name, vocabulary.small_ids(getattr(holder, name, None)))


def _rows_of(weight: nn.Parameter, rows: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(weight.data[rows].clone(), requires_grad=weight.requires_grad)


def _check_nothing_else_depends(base: "PreTrainedModel", cut: tuple[nn.Module, nn.Module], size: int) -> None:
    weights = [parameter for module in cut for parameter in module.parameters()]
    own = {id(parameter) for parameter in weights}
    others = [
        name
        for name, parameter in base.named_parameters()
        if id(parameter) not in own and parameter.shape[:1] == (size,)
    ]
    if others or not all(parameter.is_floating_point() for parameter in weights):
        raise ModelError(
            "model.vocabulary=arc cuts the embedding and the LM head only, and this model's vocabulary is "
            f"also in {', '.join(others) or 'quantised layers'}: use model.vocabulary=full"
        )
