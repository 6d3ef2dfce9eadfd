"""Encode ready rows as token ids and labels; only what the model should write has a loss.

{"text": "abc"}                           "<bos>abc<eos>"              a loss on all of it
{"prompt": "2+2=", "completion": "4"}     "<bos>2+2=" and "4<eos>"     on the second part
{"messages": [hi, yes]}                   "<user>hi<end><assistant>" and "yes<end>", by the chat template
{"input_ids": ids, "labels": labels}      unchanged

Where the chat template writes a placeholder for an image, its tokens are written, as many as the model's
processor says.

Parts are tokenised separately, so that an answer begins with a new token, as in the model's output.
"""

import re
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import TemplateError

from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts.chat import render, render_parts
from arc_experiments.prompts.encoding import IGNORED, Encoded, tokenize
from arc_experiments.tasks.ready_rows import ASSISTANT, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Parts = list[tuple[str, bool]]  # consecutive texts, and whether each has a loss


class RowEncoder:
    """Encodes rows for one tokenizer.

    Args:
        end_id: the token that ends a text if the tokenizer has no end-of-text token.
        images: writes the rows' images; None for rows without.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", end_id: int, images: PictureInputs | None = None
    ) -> None:
        self._tokenizer, self._images = tokenizer, images
        eos = tokenizer.eos_token_id
        self._end = str(tokenizer.decode([end_id if eos is None else eos]))
        self._begin = tokenizer.bos_token or ""

    def encode(self, row: Row) -> Encoded:
        """Encode a row; the first token has no label, as there is nothing to predict it from.

        Raises:
            ValueError: the chat template or the tokenizer cannot write the row, or not with its images.
        """
        assert self._images is not None or not row.images, "rows with images need the model's processor"
        if "input_ids" in row.content:
            ids, labels = self._given(row), row.content["labels"].copy()
        else:
            parts = [(tokenize(self._tokenizer, text), learnt) for text, learnt in self.parts(row)]
            ids = np.concatenate([part for part, _ in parts])
            labels = np.concatenate(
                [part if learnt else np.full_like(part, IGNORED) for part, learnt in parts]
            )
        labels[0] = IGNORED
        num_prompt = int((labels != IGNORED).argmax())
        return Encoded(input_ids=ids, labels=labels, num_prompt=num_prompt, pictures=row.images)

    def parts(self, row: Row) -> Parts:
        """Return the texts that the model sees, with the tokens of images in them."""
        parts = self._parts(row)
        if self._images is None:
            return parts
        self._check_shown(row, sum(text.count(self._images.placeholder) for text, _ in parts))
        written = map(self._images.text, row.images)
        mark = re.escape(self._images.placeholder)
        return [(re.sub(mark, lambda _: next(written), text), learnt) for text, learnt in parts]

    def _parts(self, row: Row) -> Parts:
        content = row.content
        if "messages" in content:
            return self._turns(content["messages"], content["num_given"])
        if "text" in content:
            return [(self._begun(self._ended(content["text"])), True)]
        return [(self._begun(content["prompt"]), False), (self._ended(content["completion"]), True)]

    def check_known(self, row: Row) -> None:
        """Raise ValueError if the tokenizer loses characters of the row, or writes its images wrongly."""
        if "input_ids" in row.content:
            return
        if self._images is not None and row.images:
            self._check_images(self._images, row)
        text = "".join(text for text, _ in self.parts(row))
        back = str(self._tokenizer.decode(self.encode(row).input_ids))
        unknown = "".join(sorted(_letters(text) - _letters(back)))
        if unknown:
            raise ValueError(
                f"data: this model's tokenizer ({len(self._tokenizer)} tokens) cannot write {text[:60]!r}, "
                f"as it has no {unknown[:40]!r}: choose another model (model=...)"
            )

    def _check_images(self, images: PictureInputs, row: Row) -> None:
        """Compare the text before the first answer with what the model's processor makes of it."""
        before, expanded = self._parts(row)[0][0], self.parts(row)[0][0]
        shown = row.images[: before.count(images.placeholder)]
        images.verify([before], [shown], [tokenize(self._tokenizer, expanded)])

    def _check_shown(self, row: Row, num_shown: int) -> None:
        if num_shown != len(row.images):
            raise ValueError(
                f"data: {row.id} has {len(row.images)} images, and its text shows {num_shown}: either the "
                "model's chat template leaves some out, or the text has the model's own mark of an image"
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
        if self._images is not None:
            has_loss = row.content["labels"] != IGNORED
            self._images.check_tokens(ids, has_loss, row.images, f"data: {row.id}")
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
        write = render if self._images is None else render_parts
        if self._images is not None:
            messages = [{**each, "content": _as_parts(each["content"])} for each in messages]
        try:
            return write(self._tokenizer, messages, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            roles = ", ".join(str(message["role"]) for message in messages)
            raise ValueError(
                f"data: the model's chat template refuses messages of {roles}: {error}"
            ) from error


def _as_parts(content: str | list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _letters(text: str) -> set[str]:
    """Return the text's characters without spaces, and without differences that tokenizers remove."""
    return set("".join(unicodedata.normalize("NFKC", text).casefold().split()))
