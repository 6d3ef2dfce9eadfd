"""Ready rows: what a model is to read and write, in place of an ARC task.

{"text": "a text"}                                                        all of it is learnt
{"prompt": "2 + 2 = ", "completion": "4"}                                 the completion is
{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}      what the assistant says
{"input_ids": [5, 8, 9], "labels": [-100, -100, 9]}                       labels: all ids, where they are left out

Prompt and completion may also be lists of messages. Other keys, such as the columns of a data set, are not looked at.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_experiments.tasks.task import Task

ASSISTANT = "assistant"
NO_LABEL = -100


@dataclass(frozen=True, kw_only=True, eq=False)
class Row(Task):
    """A ready row stands where a task stands, without pairs; its id is a digest of its content.

    Attributes:
        content: `{"text": ...}`, `{"prompt": ..., "completion": ...}`, `{"messages": [...], "num_given": n}` (the first n
            are not learnt), or `{"input_ids": ids, "labels": ids}`, int32, shape (tokens,).
    """

    content: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Row {self.id} | {', '.join(self.content)}>"


def parse_row(data: Mapping[str, Any], *, split: str, where: str) -> Row:
    """Read one row.

    Raises:
        ValueError: what is wrong, with `where` and the key.
    """
    forms = row_forms(data)
    if len(forms) != 1:
        what = f"is {' and '.join(forms)} at once" if forms else "is no form of row"
        raise ValueError(f"{where} {what}: it has the keys {', '.join(map(str, data)) or '(none)'}")
    content = _FORMS[forms[0]](data, where)
    text = json.dumps(
        content,
        sort_keys=True,
        default=lambda value: value.tolist() if isinstance(value, np.ndarray) else str(value),
    )
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Row(id=f"row_{digest}", train=(), test=(), split=split, content=content)


def row_forms(data: Mapping[str, Any]) -> list[str]:
    """The forms that the keys are those of; a key without a value does not count."""
    return [form for form in _FORMS if all(data.get(key) is not None for key in form.split(" + "))]


def _parse_text(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {"text": _text(data["text"], f"{where}, text")}


def _parse_completion(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    prompt, completion = data["prompt"], data["completion"]
    if isinstance(prompt, str):
        return {"prompt": prompt, "completion": _text(completion, f"{where}, completion")}
    given, written = (_list(data[key], f"{where}, {key}") for key in ("prompt", "completion"))
    return _parse_messages({"messages": [*given, *written]}, where, len(given))


def _parse_messages(data: Mapping[str, Any], where: str, num_given: int = 0) -> dict[str, Any]:
    messages = [
        _message(message, f"{where}, message {number}")
        for number, message in enumerate(_list(data["messages"], f"{where}, messages"))
    ]
    if not any(message["role"] == ASSISTANT for message in messages[num_given:]):
        raise ValueError(f"{where} has no message of the role {ASSISTANT}, so there is nothing to learn")
    if messages[0]["role"] == ASSISTANT:
        raise ValueError(f"{where} begins with the assistant: nothing is there that it could answer")
    return {"messages": messages, "num_given": num_given}


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise ValueError(f'{where} is not of the form {{"role": "user", "content": "..."}}: {shown(message)}')
    _text(message["role"], f"{where}, role")
    if not isinstance(message["content"], str):
        raise ValueError(f"{where}, content is not a text: {shown(message['content'])}")
    return {str(key): value for key, value in message.items() if value is not None}


def _parse_tokens(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    ids = _ids(data["input_ids"], f"{where}, input_ids")
    labels = ids if data.get("labels") is None else _ids(data["labels"], f"{where}, labels")
    mask = data.get("attention_mask")
    used = np.ones(len(ids), bool) if mask is None else _ids(mask, f"{where}, attention_mask") == 1
    if not len(ids) == len(labels) == len(used):
        raise ValueError(f"{where}: input_ids, labels and attention_mask are not of one length")
    ids, labels = ids[used], labels[used]
    if (labels[1:] == NO_LABEL).all():  # of no token, too
        raise ValueError(f"{where} has no label behind its first token, so there is nothing to learn")
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
        raise ValueError(f"{where} holds half a character: {error}") from error
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{where} is not a list of messages: {shown(value)}")
    return list(value)


def shown(value: Any) -> str:
    """What a value is and how it begins, for a message: `int 3`."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


_FORMS: dict[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {
    "text": _parse_text,
    "prompt + completion": _parse_completion,
    "messages": _parse_messages,
    "input_ids": _parse_tokens,
}
