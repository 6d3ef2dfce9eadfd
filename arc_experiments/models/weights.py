"""The files that a run's weights are read from and written to, and the ancestry that goes with them.

from   `model.adapter`, or else `model.path`
to     `adapter/` in the run's folder, or `model/` after full fine-tuning
"""

import dataclasses
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arc_experiments.config.paths import PREFIX, local_path
from arc_experiments.config.schema import PICTURE_OPTIONS, Config, Model
from arc_experiments.corpus.leaks import Searched, keys_to_keep
from arc_experiments.models.ancestry import Ancestry, read_ancestry
from arc_experiments.models.known_weights import known_ancestry
from arc_experiments.runs.folder import RunFolder

if TYPE_CHECKING:
    import torch

# The options that change what a prompt looks like, which its length and its loss do not.
PROMPT_LOOK = ("grid", "system", "introduction", "demonstration", "question", "answer", "chat")
PROGRAM_LOOK = ("program_from_examples", "languages")  # also, of a prompt that asks for programs
HASHED_BYTES = 2**20  # at either end of a file, for its fingerprint


class Weights:
    """The weights that a run starts with, and those that it makes."""

    def __init__(self, config: Config, run_folder: RunFolder) -> None:
        self._config, self._run_folder = config, run_folder

    @property
    def source(self) -> Path:
        """What the run starts with: the folder of an adapter or a model, or a hub id."""
        return Path(local_path(self._config.model.adapter or self._config.model.path))

    @property
    def parent(self) -> Ancestry | None:
        """The ancestry of the weights that the run starts with, if they have one."""
        return None if self._are_random else read_ancestry(self.source)

    @property
    def past(self) -> Ancestry | None:
        """What the weights that the run starts with were trained on, as far as it is known.

        Of public ones prompt and dtype are unknown, so that their `parent` is None.
        """
        if self._are_random:
            return None
        return self.parent or known_ancestry(self._config.model.path)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the weights that the run starts with; "" for random ones."""
        return "" if self._are_random else fingerprint(self.source)

    @property
    def _base_fingerprint(self) -> str:
        """The fingerprint of the base model; "" for a random one."""
        model = self._config.model
        return fingerprint(Path(local_path(model.path))) if model.weights == "pretrained" else ""

    @property
    def _are_random(self) -> bool:
        return self._config.model.weights == "random" and self._config.model.adapter is None

    @property
    def _is_of_package(self) -> bool:
        return self._config.model.adapter is None and self._config.model.path.startswith(PREFIX)

    @property
    def folder(self) -> Path:
        """Where trained weights are saved: `adapter/`, or `model/` after full fine-tuning."""
        full = self._config.model.lora is None and self._config.model.adapter is None
        return self._run_folder / ("model" if full else "adapter")

    def trained(self) -> Model:
        """The model options that load what this run has trained."""
        if self.folder.name == "adapter":
            return dataclasses.replace(self._config.model, adapter=str(self.folder))
        return dataclasses.replace(self._config.model, path=str(self.folder), weights="pretrained")

    def ancestry(self, *, dtype: "torch.dtype", shares: Sequence[Searched]) -> Ancestry:
        """Make the ancestry of weights that were trained on these sources and tasks."""
        pairs, by_id = keys_to_keep(shares)
        own = Ancestry(
            base=self._config.model.path,
            dtype=_name(dtype),
            prompt=self._prompt_look(),
            trained_on=tuple(sorted({task_id for share in shares for task_id in share.task_ids})),
            vocabulary=self._config.model.vocabulary,
            pairs=pairs,
            by_id=by_id,
            base_fingerprint=self._base_fingerprint if self.folder.name == "adapter" else "",
        )
        return own.with_parent(self.past)

    def check_ancestry(self, *, dtype: "torch.dtype") -> None:
        """Refuse weights trained with another prompt, dtype or vocabulary, unless `inference.force=true`.

        A model of the package is a base like those of the hub: any prompt can be tried on it.

        Raises:
            ValueError: with a line for each difference.
        """
        if self.parent is None or self._is_of_package or self._config.inference.force:
            return
        conflicts = self.parent.conflicts(
            dtype=_name(dtype),
            vocabulary=self._config.model.vocabulary,
            prompt=self._prompt_look(),
            base=self._config.model.path if self._config.model.adapter is not None else None,
            base_fingerprint=self._base_fingerprint,
        )
        if conflicts:
            raise ValueError(
                f"the weights in {self.source} do not fit this run:\n  "
                + "\n  ".join(conflicts)
                + "\nUse that run's settings (from_run=<folder>), or inference.force=true"
            )

    def prompt_note(self) -> str | None:
        """A note if the package's model is used with another prompt than it was trained with."""
        if self.parent is None or not self._is_of_package:
            return None
        differing = [f"prompt.{name}" for name in self.parent.differing_options(self._prompt_look())]
        if not differing:
            return None
        path = self._config.model.path
        return f"{path} was trained with another prompt, and answers to that ({', '.join(differing)})"

    def save(
        self,
        model: Any,
        tokenizer: Any,
        ancestry: Ancestry,
        state_dict: "dict[str, torch.Tensor] | None" = None,
        folder: Path | None = None,
        processor: Any = None,
    ) -> Path:
        """Save what was trained, with its ancestry; the folder appears whole or not at all.

        Args:
            state_dict: the trained weights, if the model itself holds a part of them only.
            folder: None for the run's own, where the tokenizer lies beside an adapter, too.
            processor: of a model that sees pictures.
        """
        from arc_experiments.models.adapters import save_weights
        from arc_experiments.models.processor import save_processor

        is_own, folder = folder is None, folder or self.folder
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        base = self._config.model
        save_weights(
            model, tokenizer, temporary, base=base.path, revision=base.revision, state_dict=state_dict
        )
        if is_own and folder.name == "adapter":
            tokenizer.save_pretrained(temporary)
        if processor is not None and folder.name == "model":
            save_processor(processor, temporary)
        ancestry.save(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        return temporary.rename(folder)

    def _prompt_look(self) -> dict[str, Any]:
        prompt = dataclasses.asdict(self._config.prompt)
        programs = PROGRAM_LOOK if prompt["kinds"]["program_from_examples"] else ()
        pictures = PICTURE_OPTIONS if self._config.prompt.shows_pictures else ()
        return {name: prompt[name] for name in (*PROMPT_LOOK, *programs, *pictures)}


def fingerprint(folder: Path) -> str:
    """Hash the weights in a folder to sixteen hex digits; "" if there are none, as for a model of the hub.

    Hashes the size, beginning and end of each file: training changes all of it, and reading is quick.
    """
    files = sorted(folder.glob("*.safetensors"))
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(f"{path.name} {size}\n".encode() + file.read(HASHED_BYTES))
            file.seek(max(0, size - HASHED_BYTES))
            digest.update(file.read())
    return digest.hexdigest()[:16] if files else ""


def _name(dtype: "torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")
