"""Encode ready rows as token ids and labels; only what the model should write has a loss.

{"text": "abc"}                           "<bos>abc<eos>"              a loss on all of it
{"prompt": "2+2=", "completion": "4"}     "<bos>2+2=" and "4<eos>"     on the second part
{"messages": [hi, yes]}                   "<user>hi<end><assistant>" and "yes<end>", by the chat template
{"input_ids": ids, "labels": labels}      unchanged

Parts are tokenised separately, so that an answer begins with a new token, as in the model's output.
"""

import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import TemplateError

from arc_experiments.prompts.chat import render
from arc_experiments.prompts.encoding import IGNORED, Encoded, tokenize
from arc_experiments.tasks.ready_rows import ASSISTANT, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Parts = list[tuple[str, bool]]  # consecutive texts, and whether each has a loss


class RowEncoder:
    """Encodes rows for one tokenizer.

    Args:
        end_id: the token that ends a text if the tokenizer has no end-of-text token.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", end_id: int) -> None:
        self._tokenizer = tokenizer
        eos = tokenizer.eos_token_id
        self._end = str(tokenizer.decode([end_id if eos is None else eos]))
        self._begin = tokenizer.bos_token or ""

    def encode(self, row: Row) -> Encoded:
        """Encode a row; the first token has no label, as there is nothing to predict it from.

        Raises:
            ValueError: the chat template or the tokenizer cannot write the row.
        """
        if "input_ids" in row.content:
            ids, labels = self._given(row), row.content["labels"].copy()
        else:
            parts = [(tokenize(self._tokenizer, text), learnt) for text, learnt in self.parts(row)]
            ids = np.concatenate([part for part, _ in parts])
            labels = np.concatenate(
                [part if learnt else np.full_like(part, IGNORED) for part, learnt in parts]
            )
        labels[0] = IGNORED
        return Encoded(input_ids=ids, labels=labels, num_prompt=int((labels != IGNORED).argmax()))

    def parts(self, row: Row) -> Parts:
        """Return the texts that the model sees."""
        content = row.content
        if "messages" in content:
            return self._turns(content["messages"], content["num_given"])
        if "text" in content:
            return [(self._begun(self._ended(content["text"])), True)]
        return [(self._begun(content["prompt"]), False), (self._ended(content["completion"]), True)]

    def check_known(self, row: Row) -> None:
        """Raise ValueError if the tokenizer loses characters of the row."""
        if "input_ids" in row.content:
            return
        text = "".join(text for text, _ in self.parts(row))
        back = str(self._tokenizer.decode(self.encode(row).input_ids))
        unknown = "".join(sorted(_letters(text) - _letters(back)))
        if unknown:
            raise ValueError(
                f"data: this model's tokenizer ({len(self._tokenizer)} tokens) cannot write {text[:60]!r}, "
                f"as it has no {unknown[:40]!r}: choose another model (model=...)"
            )

    def _begun(self, text: str) -> str:
        return text if self._begin and text.startswith(self._begin) else self._begin + text

    def _ended(self, text: str) -> str:
        return text if text.rstrip().endswith(self._end) else text + self._end

    def _given(self, row: Row) -> Any:
        ids = row.content["input_ids"]
        if ids.max() >= len(self._tokenizer):
            raise ValueError(
                f"data: {row.id} has the token {ids.max()}, but this model's tokenizer has "
                f"{len(self._tokenizer)} tokens: make input_ids with the processor that the function receives"
            )
        return ids

    def _turns(self, messages: list[dict[str, Any]], num_given: int) -> Parts:
        """Split a conversation into the assistant's messages, with their end tokens, and the text between."""
        if self._tokenizer.chat_template is None:
            raise ValueError(
                "data: rows of messages need a chat template, which this model's tokenizer does not have: "
                "write prompt and completion as texts, or choose another model (model=...)"
            )
        parts: Parts = []
        done = ""
        for place, message in enumerate(messages):
            if place < num_given or message["role"] != ASSISTANT:
                continue
            before = self._render(messages[:place], add_generation_prompt=True)
            through = self._render(messages[: place + 1], add_generation_prompt=False)
            if not (before.startswith(done) and through.startswith(before)):
                raise ValueError(
                    "data: the model's chat template changes earlier turns when another follows, so that one "
                    "row cannot train on all answers of a conversation: write each answer as a separate row, "
                    "with prompt and completion as lists of messages"
                )
            answer = through[len(before) :].rstrip()
            parts += [(before[len(done) :], False), (answer, True)]
            done = before + answer
        return parts

    def _render(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
        try:
            return render(self._tokenizer, messages, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            roles = ", ".join(str(message["role"]) for message in messages)
            raise ValueError(
                f"data: the model's chat template refuses messages of {roles}: {error}"
            ) from error


def _letters(text: str) -> set[str]:
    """Return the text's characters without spaces, and without differences that tokenizers remove."""
    return set("".join(unicodedata.normalize("NFKC", text).casefold().split()))
