"""What weights carry with them: the tasks they were trained on, their ancestors' too, the prompt, the dtype,
the vocabulary.

Saved as `ancestry.json` beside the weights, read when they are loaded: a validation task in the ancestry is a
leak, another prompt, dtype or vocabulary a mistake.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

FILE = "ancestry.json"


@dataclass(frozen=True, kw_only=True)
class Ancestry:
    """`prompt` holds the options that decide what a prompt looks like; `trained_on` sorted task ids.

    `vocabulary` is "full" or "arc" (weights saved before there was a choice say nothing, and are "full").
    """

    base: str
    dtype: str
    prompt: dict[str, Any]
    trained_on: tuple[str, ...]
    vocabulary: str = "full"

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    def with_parent(self, parent: "Ancestry | None") -> "Ancestry":
        """These weights started from the parent's: what it was trained on counts too."""
        if parent is None:
            return self
        trained_on = tuple(sorted({*self.trained_on, *parent.trained_on}))
        return replace(self, trained_on=trained_on)

    def leaks(self, validation: Iterable[str]) -> list[str]:
        """Validation tasks that were trained on."""
        seen = set(self.trained_on)
        return [task_id for task_id in validation if task_id in seen]

    def conflicts(self, *, dtype: str, vocabulary: str, prompt: dict[str, Any]) -> list[str]:
        """What differs between training and use, a line each."""
        lines = [] if dtype == self.dtype else [f"model.dtype: trained in {self.dtype}, used in {dtype}"]
        if vocabulary != self.vocabulary:
            lines.append(f"model.vocabulary: trained with {self.vocabulary}, used with {vocabulary}")
        for key in sorted(self.prompt.keys() | prompt.keys()):
            ours, theirs = self.prompt.get(key), prompt.get(key)
            if ours != theirs:
                lines.append(f"prompt.{key}: trained with {ours!r}, used with {theirs!r}")
        return lines


def read_ancestry(folder: Path) -> Ancestry | None:
    """None for weights that this project did not make."""
    if not (folder / FILE).exists():
        return None
    data = json.loads((folder / FILE).read_text())
    return Ancestry(**{**data, "trained_on": tuple(data["trained_on"])})
