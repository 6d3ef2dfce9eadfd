"""Prompts answered as they fit into memory: fewer at a time, then fewer samples of one at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from arc_experiments.generation.batching import NoRoom, Room
from arc_experiments.generation.engine import Answer, Engine, Key, Limits
from arc_experiments.prompts.tokens import Ids


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """A prompt, and whose it is."""

    key: Key
    prompt: Ids


def answer_within(
    room: Room, engine: Engine, model: Any, questions: Sequence[Question], limits: Limits
) -> list[list[Answer]]:
    """The answers to each prompt of one batch, as the engine would give them to all at once, but for rounding.

    Raises:
        NoRoom: a prompt does not fit by itself; the message says whose.
    """

    def ask(part: Sequence[Question], engine: Engine) -> list[list[Answer]]:
        return engine.answer(model, [one.prompt for one in part], [one.key for one in part], limits)

    def tokens_of(part: Sequence[Question]) -> int:
        return max(len(one.prompt) for one in part) + limits.max_new_tokens

    def ask_alone(one: Question) -> list[Answer]:
        with no_room_for(one.key[0], tokens_of([one])):
            return room.in_parts(
                range(engine.num_samples),
                lambda samples: len(samples) * tokens_of([one]),
                lambda samples: ask([one], engine.only(samples))[0],
            )

    return room.in_parts(
        questions,
        lambda part: len(part) * engine.rows_per_prompt * tokens_of(part),
        lambda part: ask(part, engine) if len(part) > 1 else [ask_alone(part[0])],
    )


@contextmanager
def no_room_for(task_id: str, num_tokens: int) -> Iterator[None]:
    """Says whose prompt it is that does not fit, and what can be done."""
    try:
        yield
    except NoRoom as error:
        raise NoRoom(
            f"task {task_id}: one prompt with its answer, up to {num_tokens:,} tokens, does not fit into memory by "
            "itself (inference.batch_tokens is for more than one): lower prompt.max_length or "
            "inference.max_new_tokens, raise inference.threshold if that is the engine, take a smaller model or "
            f"model.quantisation=4bit, or a GPU that nobody else uses ({error})"
        ) from error
