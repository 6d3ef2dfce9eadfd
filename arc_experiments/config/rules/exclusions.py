"""What does not go together, told the same way everywhere."""

from collections.abc import Iterator, Mapping


def excluded(what: str, others: Mapping[str, tuple[bool, str]]) -> Iterator[str]:
    """A line for each of the others that is so: the key with its value -> (whether it is so, why not and what instead)."""
    for value, (is_so, why) in others.items():
        if is_so:
            yield f"{what} does not go with {value}: {why}"
