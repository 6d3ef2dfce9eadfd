"""Ready rows to token ids and labels: what is given is read, what is to be written has a loss.

{"text": "abc"}                           "<bos>abc<eos>"              a loss on all of it
{"prompt": "2+2=", "completion": "4"}     "<bos>2+2=" and "4<eos>"     on the second part
{"messages": [hi, yes]}                   "<user>hi<end><assistant>" and "yes<end>", as the model's chat template has it
{"input_ids": ids, "labels": labels}      as they are

Parts are tokenised apart: an answer begins with a token of its own, as it does when the model writes it.
"""

import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import TemplateError

from arc_experiments.prompts.encoding import IGNORED, Encoded, tokenize
from arc_experiments.prompts.templates import render
from arc_experiments.tasks.rows import ASSISTANT, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Parts = list[tuple[str, bool]]  # texts one after another, and whether each is learnt


class RowEncoder:
    """Encodes rows for one tokenizer.

    Args:
        end_id: the token that ends a text; one of the tokenizer's own goes before.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", end_id: int) -> None:
        self._tokenizer = tokenizer
        eos = tokenizer.eos_token_id
        self._end = str(tokenizer.decode([end_id if eos is None else eos]))
        self._begin = tokenizer.bos_token or ""

    def encode(self, row: Row) -> Encoded:
        """Ids and labels; the first token has no label, as nothing is there to foresee it by.

        Raises:
            ValueError: the chat template or the tokenizer does not fit the row.
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
        """The texts that the model sees."""
        content = row.content
        if "messages" in content:
            return self._turns(content["messages"], content["num_given"])
        if "text" in content:
            return [(self._begun(self._ended(content["text"])), True)]
        return [(self._begun(content["prompt"]), False), (self._ended(content["completion"]), True)]

    def check_known(self, row: Row) -> None:
        """Raises ValueError where the tokenizer loses characters of the row."""
        if "input_ids" in row.content:
            return
        text = "".join(text for text, _ in self.parts(row))
        back = str(self._tokenizer.decode(self.encode(row).input_ids))
        unknown = "".join(sorted(_letters(text) - _letters(back)))
        if unknown:
            raise ValueError(
                f"data: this model's tokenizer ({len(self._tokenizer)} tokens) cannot write {text[:60]!r}, it has no "
                f"{unknown[:40]!r}: choose another model (model=...)"
            )

    def _begun(self, text: str) -> str:
        return text if self._begin and text.startswith(self._begin) else self._begin + text

    def _ended(self, text: str) -> str:
        return text if text.rstrip().endswith(self._end) else text + self._end

    def _given(self, row: Row) -> Any:
        ids = row.content["input_ids"]
        if ids.max() >= len(self._tokenizer):
            raise ValueError(
                f"data: {row.id} has the token {ids.max()}, and this model's tokenizer has {len(self._tokenizer)}: make "
                "input_ids by the processor that the function is given"
            )
        return ids

    def _turns(self, messages: list[dict[str, Any]], num_given: int) -> Parts:
        """What the assistant says, each time with its end token, and what stands between."""
        if self._tokenizer.chat_template is None:
            raise ValueError(
                "data: rows of messages need a chat template, which this model's tokenizer does not have: give prompt and "
                "completion as texts, or choose another model (model=...)"
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
                    "data: the model's chat template writes earlier turns otherwise once another follows, so that not "
                    "all answers of a conversation can be learnt at once: give each in a row of its own, with prompt and "
                    "completion as lists of messages"
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
    """Characters, but for spaces and for differences that tokenizers do away with."""
    return set("".join(unicodedata.normalize("NFKC", text).casefold().split()))
