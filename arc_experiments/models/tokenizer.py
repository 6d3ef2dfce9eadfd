r"""The model's tokenizer, and one with the small ids of a cut vocabulary, for prompts and for the trainer.

full tokenizer "10\n" -> 16, 15, 198      small ids 1, 0, 2      back: decode([1, 0, 2]) == "10\n"
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from arc_experiments.config.schema import Model
from arc_experiments.models.hub import ModelError, load
from arc_experiments.models.vocabulary import Vocabulary
from arc_experiments.tasks.grids import NUM_COLOURS

SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """Load the tokenizer that belongs to a model; raises ModelError if there is none."""
    tokenizer: PreTrainedTokenizerBase = load(AutoTokenizer, model)
    if len(tokenizer) < NUM_COLOURS:  # transformers makes an empty one of missing files, silently
        raise ModelError(
            f"model.path={model.path} has no tokenizer (tokenizer.json is missing): copy the tokenizer's "
            "files of its base model into the folder"
        )
    return tokenizer


class ArcTokenizer:
    """The full tokenizer with small ids; it has what a prompt needs of a tokenizer."""

    def __init__(self, full: Any, vocabulary: Vocabulary) -> None:
        self.full, self.vocabulary = full, vocabulary
        self._small = {each: small for small, each in enumerate(vocabulary.kept)}
        self.bos_token: str | None = full.bos_token
        self.chat_template = full.chat_template
        self.apply_chat_template = full.apply_chat_template
        self.get_chat_template = full.get_chat_template

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def eos_token_id(self) -> int | None:
        return self._small.get(self.full.eos_token_id)

    @property
    def pad_token_id(self) -> int | None:
        return self._small.get(self.full.pad_token_id)

    def __call__(self, text: str, **options: Any) -> dict[str, Any]:
        """Tokenise as the full tokenizer does, into small ids.

        Raises:
            ModelError: the text needs a token that was not kept.
        """
        encoded = dict(self.full(text, **options))
        try:
            encoded["input_ids"] = [self._small[each] for each in encoded["input_ids"]]
        except KeyError as error:
            missing = self.full.decode([error.args[0]])
            raise ModelError(
                f"model.vocabulary=arc does not hold the token {missing!r} (id {error.args[0]}), which this "
                "prompt needs: use the prompt that the vocabulary was made for, or model.vocabulary=full"
            ) from error
        return encoded

    def decode(self, ids: Iterable[int]) -> str:
        return str(self.full.decode(np.asarray(self.vocabulary.kept)[np.asarray(ids, dtype=np.int64)]))

    def save_pretrained(self, folder: Any) -> None:
        """Save the full tokenizer; the vocabulary is a file of its own."""
        self.full.save_pretrained(folder)


def for_trainer(tokenizer: Any) -> Any:
    """Return what TRL accepts: a tokenizer of transformers, whose special tokens have the model's ids.

    A cut vocabulary becomes a list of words: the trainer reads its special tokens and saves it, no more.
    """
    if not isinstance(tokenizer, ArcTokenizer):
        return tokenizer
    words = tokenizer.full.convert_ids_to_tokens(list(tokenizer.vocabulary.kept))
    special = {name: getattr(tokenizer.full, name) for name in SPECIAL}
    model = WordLevel(
        {word: small for small, word in enumerate(words)}, unk_token=special["unk_token"] or words[0]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model),
        **{name: token for name, token in special.items() if token is not None},
    )
