"""What weights were trained with: tasks (also their ancestors'), prompt, dtype and vocabulary.

Saved as `ancestry.json` beside the weights and read when they are loaded. A validation task in the ancestry
is a leak, whatever its id, also if turned or recoloured. Another prompt, dtype or vocabulary is a mistake.
"""

import json
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command reads ancestries while it composes, and tasks are slow to import
    from arc_experiments.corpus.matches import LeakReport
    from arc_experiments.tasks import TaskSet

FILE = "ancestry.json"
TRAINED_ON = "what these weights were trained on"


@dataclass(frozen=True, kw_only=True)
class Ancestry:
    """The contents of `ancestry.json`.

    Attributes:
        base: the path of the base model.
        prompt: the options that decide what a prompt looks like.
        trained_on: task ids, sorted.
        vocabulary: "full" or "arc"; missing, and so "full", in files from before there was a choice.
        pairs: keys of the pairs of these tasks (see `corpus.matches.key`).
        by_id: the tasks that can be recognised by their ids only: with generated pairs, or too many to keep.
        base_fingerprint: of an adapter's base (see `weights.fingerprint`); "" if it has none.
    """

    base: str
    dtype: str
    prompt: dict[str, Any]
    trained_on: tuple[str, ...]
    vocabulary: str = "full"
    pairs: frozenset[bytes] = frozenset()
    by_id: tuple[str, ...] = ()
    base_fingerprint: str = ""

    def save(self, folder: Path) -> None:
        values = {**asdict(self), "pairs": b64encode(b"".join(sorted(self.pairs))).decode()}
        (folder / FILE).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")

    def with_parent(self, parent: "Ancestry | None") -> "Ancestry":
        """Add what the weights were trained on that these started from."""
        if parent is None:
            return self
        return replace(
            self,
            trained_on=tuple(sorted({*self.trained_on, *parent.trained_on})),
            pairs=self.pairs | parent.pairs,
            by_id=tuple(sorted({*self.by_id, *parent.by_id})),
        )

    def leaks(self, validation: "TaskSet") -> "LeakReport":
        """Find the validation tasks that were trained on, except on their demonstrations by design."""
        from arc_experiments.corpus.leaks import Finder
        from arc_experiments.corpus.partitions import is_left_out, origin

        made_of = {origin(task_id) for task_id in self.trained_on if is_left_out(task_id)}
        return Finder(validation).compare_keys(self.pairs, self.by_id, TRAINED_ON, allowed=made_of)

    def conflicts(
        self,
        *,
        dtype: str,
        vocabulary: str,
        prompt: dict[str, Any],
        base: str | None = None,
        base_fingerprint: str = "",
    ) -> list[str]:
        """Describe what differs between training and use, a line each.

        Args:
            base: path of an adapter's base model, None without an adapter; copies may lie elsewhere, so only
                the last part of the path is compared.
            base_fingerprint: of that model; "" if unknown.
        """
        lines = [] if dtype == self.dtype else [f"model.dtype: trained in {self.dtype}, used in {dtype}"]
        if base is not None and _last_part(base) != _last_part(self.base):
            lines.append(f"model.path: trained on {self.base}, used on {base}")
        elif self.base_fingerprint and base_fingerprint and base_fingerprint != self.base_fingerprint:
            lines.append(f"model.path: the weights of {base} are not those that the adapter was trained on")
        if vocabulary != self.vocabulary:
            lines.append(f"model.vocabulary: trained with {self.vocabulary}, used with {vocabulary}")
        for key in self.differing_options(prompt):
            lines.append(
                f"prompt.{key}: trained with {self.prompt.get(key)!r}, used with {prompt.get(key)!r}"
            )
        return lines

    def differing_options(self, prompt: dict[str, Any]) -> list[str]:
        """The options in which this prompt's look differs from the training's."""
        names = sorted(self.prompt.keys() | prompt.keys())
        return [name for name in names if self.prompt.get(name) != prompt.get(name)]


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def read_ancestry(folder: Path) -> Ancestry | None:
    """Read the ancestry beside some weights; None if this project did not make them."""
    if not (folder / FILE).exists():
        return None
    from arc_experiments.corpus.matches import KEY_BYTES

    data = json.loads((folder / FILE).read_text())
    keys = b64decode(data.get("pairs", ""))
    data |= {
        "trained_on": tuple(data["trained_on"]),
        "pairs": frozenset(keys[n : n + KEY_BYTES] for n in range(0, len(keys), KEY_BYTES)),
        # Files from before there were keys name tasks only.
        "by_id": tuple(data.get("by_id", data["trained_on"])),
    }
    if "grid" in data["prompt"]:  # missing in files from before there were frames
        data["prompt"]["grid"] = {"frames": [], "fill": ".", **data["prompt"]["grid"]}
    return Ancestry(**data)
