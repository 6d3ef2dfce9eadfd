"""Parse ready rows: training text in place of an ARC task.

{"text": "a text"}                                     the loss covers all of it
{"prompt": "2 + 2 = ", "completion": "4"}              the completion
{"messages": [{"role": "user", "content": "hi"},
              {"role": "assistant", "content": "yes"}]}    the assistant's messages
{"input_ids": [5, 8, 9], "labels": [-100, -100, 9]}    the labels other than -100; labels default to the ids

Prompt and completion may also be lists of messages. Messages show images where their content has a part
{"type": "image"}, each the next of the row's `images`, or its own `image`; if no message has one, the first
of the user's begins with all of them. Other keys, such as a data set's other columns, are ignored.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_experiments.tasks.images import Image, RowImages
from arc_experiments.tasks.task import Task

ASSISTANT = "assistant"
NO_LABEL = -100


@dataclass(frozen=True, kw_only=True, eq=False)
class Row(Task):
    """A ready row in place of a task, without pairs; its id is a digest of its content.

    Attributes:
        content: `{"text": ...}`, `{"prompt": ..., "completion": ...}`, `{"messages": [...], "num_given": n}`
            (the first n have no loss), or `{"input_ids": ids, "labels": ids}`, int32, shape (tokens,). The
            content of a message with images is a list of parts, `{"type": "text", "text": ...}` or
            `{"type": "image"}`.
        images: in the order in which they are shown.
    """

    content: Mapping[str, Any]
    images: tuple[Image, ...] = ()

    def __repr__(self) -> str:
        return f"<Row {self.id} | {', '.join(self.content)}>"


def parse_row(data: Mapping[str, Any], *, split: str, where: str) -> Row:
    """Parse one row.

    Raises:
        ValueError: the row is invalid; the message has `where`, the key and the reason.
    """
    forms = row_forms(data)
    if len(forms) != 1:
        what = f"mixes the forms {' and '.join(forms)}" if forms else "has no known form of row"
        raise ValueError(f"{where} {what}: its keys are {', '.join(map(str, data)) or '(none)'}")
    images = RowImages(data, where)
    content = _FORMS[forms[0]](data, where, images)
    in_order = images.in_order(content)
    seen = {"images": [image.digest for image in in_order]} if in_order else {}
    text = json.dumps(
        {**content, **seen},
        sort_keys=True,
        default=lambda value: value.tolist() if isinstance(value, np.ndarray) else str(value),
    )
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Row(id=f"row_{digest}", train=(), test=(), split=split, content=content, images=in_order)


def row_forms(data: Mapping[str, Any]) -> list[str]:
    """Return the forms whose keys all have a value in `data`."""
    return [form for form in _FORMS if all(data.get(key) is not None for key in form.split(" + "))]


def _parse_text(data: Mapping[str, Any], where: str, images: RowImages) -> dict[str, Any]:
    return {"text": _text(data["text"], f"{where}, text")}


def _parse_completion(data: Mapping[str, Any], where: str, images: RowImages) -> dict[str, Any]:
    prompt, completion = data["prompt"], data["completion"]
    if isinstance(prompt, str):
        return {"prompt": prompt, "completion": _text(completion, f"{where}, completion")}
    given, written = (_list(data[key], f"{where}, {key}") for key in ("prompt", "completion"))
    return _parse_messages({"messages": [*given, *written]}, where, images, len(given))


def _parse_messages(
    data: Mapping[str, Any], where: str, images: RowImages, num_given: int = 0
) -> dict[str, Any]:
    messages = [
        _message(message, f"{where}, message {number}", images)
        for number, message in enumerate(_list(data["messages"], f"{where}, messages"))
    ]
    if not any(message["role"] == ASSISTANT for message in messages[num_given:]):
        raise ValueError(f"{where} has no message with the role {ASSISTANT}, so there is nothing to learn")
    if messages[0]["role"] == ASSISTANT:
        raise ValueError(f"{where} begins with the assistant, which has nothing to answer yet")
    return {"messages": messages, "num_given": num_given}


def _message(message: Any, where: str, images: RowImages) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise ValueError(
            f'{where} does not have the form {{"role": "user", "content": "..."}}: {shown(message)}'
        )
    _text(message["role"], f"{where}, role")
    kept = {str(key): value for key, value in message.items() if value is not None}
    if isinstance(message["content"], list | tuple):
        return kept | {"content": _parts(message, where, images)}
    if not isinstance(message["content"], str):
        raise ValueError(f"{where}, content is not a text: {shown(message['content'])}")
    return kept


def _parts(message: Mapping[str, Any], where: str, images: RowImages) -> str | list[dict[str, str]]:
    """Parse a content of several parts; texts alone are one text."""
    parts: list[dict[str, str]] = []
    for number, part in enumerate(message["content"]):
        place = f"{where}, part {number}"
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            parts.append({"type": "text", "text": _text(part.get("text"), f"{place}, text")})
        elif kind == "image" and message["role"] != ASSISTANT:
            images.take(part, place)
            parts.append({"type": "image"})
        elif kind == "image":
            raise ValueError(f"{place}: the {ASSISTANT} shows an image, which cannot be learnt")
        else:
            raise ValueError(
                f'{place} is neither {{"type": "text", "text": "..."}} nor {{"type": "image"}}: {shown(part)}'
            )
    is_text = all(part["type"] == "text" for part in parts)
    return "".join(part["text"] for part in parts) if is_text else parts


def _parse_tokens(data: Mapping[str, Any], where: str, images: RowImages) -> dict[str, Any]:
    ids = _ids(data["input_ids"], f"{where}, input_ids")
    labels = ids if data.get("labels") is None else _ids(data["labels"], f"{where}, labels")
    mask = data.get("attention_mask")
    used = np.ones(len(ids), bool) if mask is None else _ids(mask, f"{where}, attention_mask") == 1
    if not len(ids) == len(labels) == len(used):
        raise ValueError(f"{where}: input_ids, labels and attention_mask have different lengths")
    ids, labels = ids[used], labels[used]
    if (labels[1:] == NO_LABEL).all():  # also true if there is no token
        raise ValueError(f"{where} has no label after its first token, so there is nothing to learn")
    if (ids < 0).any() or ((labels != ids) & (labels != NO_LABEL)).any():
        raise ValueError(f"{where}: ids must be 0 or more, and each label its token's id or {NO_LABEL}")
    return {"input_ids": ids, "labels": labels}


def _ids(values: Any, where: str) -> NDArray[np.int32]:
    ids = np.asarray(values)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"{where} is not a list of numbers: {shown(values)}")
    return ids.astype(np.int32)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} is not a text: {shown(value)}")
    if not value:
        raise ValueError(f"{where} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} contains half a surrogate pair: {error}") from error
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{where} is not a list of messages: {shown(value)}")
    return list(value)


def shown(value: Any) -> str:
    """Show a value's type and beginning for a message, such as `int 3`."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


_FORMS: dict[str, Callable[[Mapping[str, Any], str, RowImages], dict[str, Any]]] = {
    "text": _parse_text,
    "prompt + completion": _parse_completion,
    "messages": _parse_messages,
    "input_ids": _parse_tokens,
}
