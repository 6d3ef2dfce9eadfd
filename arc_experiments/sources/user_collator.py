"""A user's own collator, in llama-cookbook's form: `get_data_collator(processor)` in the file of `data.file`.

get_data_collator(processor)([sample])  ->  {"input_ids": (1, n), "labels": (1, n), "pixel_values": ..., ...}

It is used as it is, for each sample alone, when the data is read: its ids and labels become a ready row, and
the images that it gives to the processor are the row's images. From there on padding, batches, pixels and the
validation loss are those of all other rows, so that a number does not depend on who shares a batch.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from arc_experiments.config.user_code.by_path import UserCodeError, UserFunction, as_theirs
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.tasks.images import Image
from arc_experiments.tasks.ready_rows import shown

NAME = "get_data_collator"
NUM_COMPARED = 8  # samples of which all that the collator makes is compared with what the model will be given
OURS = {"input_ids", "labels", "attention_mask"}


class UserCollator:
    """Makes ready rows of a user's samples.

    Args:
        function: the user's; its file has `get_data_collator`.
        load: loads what it is given: the model's processor, or its tokenizer.

    Raises:
        UserCodeError: it fails.
    """

    def __init__(self, function: UserFunction, load: Callable[[], Any]) -> None:
        self._file = function.file
        processor = load()
        self._seen: list[Any] = []
        self._inputs: PictureInputs | None = None
        if hasattr(processor, "image_processor"):
            processor, self._inputs = copy.copy(processor), PictureInputs(load())
            processor.image_processor = _watched(processor.image_processor, self._seen)
        with as_theirs(self._file, f"{NAME}(processor)"):
            self._collate = function.module_values[NAME](processor)
        self._num_compared = 0

    def row(self, sample: Any, where: str) -> dict[str, Any]:
        """Make a ready row of a sample.

        Raises:
            UserCodeError: the collator fails, or gives something that the model would not be given.
        """
        self._seen.clear()
        with as_theirs(self._file, f"the collator of {NAME}, for a batch of one sample"):
            batch = self._collate([sample])
        where = f"{where}: what {NAME}'s collator returns"
        if not isinstance(batch, Mapping) or not {"input_ids", "labels"} <= batch.keys():
            what = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else shown(batch)
            raise UserCodeError(f"{where} has no input_ids and labels: {what}")
        made = {str(name): np.asarray(values) for name, values in batch.items()}
        if made["input_ids"].ndim != 2 or len(made["input_ids"]) != 1:
            shape = made["input_ids"].shape
            raise UserCodeError(f"{where} for one sample has input_ids of the shape {shape}, not (1, tokens)")
        images = [Image.of(value, where) for value in self._seen]
        if self._num_compared < NUM_COMPARED:
            self._compare(made, images, where)
            self._num_compared += 1
        row: dict[str, Any] = {name: made[name][0] for name in OURS & made.keys()}
        return row | ({"images": images} if images else {})

    def _compare(self, made: Mapping[str, Any], images: list[Image], where: str) -> None:
        """Refuse inputs of the model that are not made again of the row's ids and images."""
        ours = {} if self._inputs is None else self._inputs.arrays([images], made["input_ids"])
        for name in sorted((made.keys() - OURS) | ours.keys()):
            if name not in ours or name not in made or not np.array_equal(made[name], ours[name]):
                raise UserCodeError(
                    f"{where} has other {name} than the model's processor makes of these images and ids by "
                    "default, and only those are given to the model: leave out what changes them, or let "
                    "rows of messages be encoded here (data.source.collator=false)"
                )


def _watched(own: Any, seen: list[Any]) -> Any:
    """Return a copy of an image processor that adds the images that it is given to a list."""
    from transformers.image_utils import make_flat_list_of_images

    class Watched(type(own)):  # type: ignore[misc]
        def __call__(self, images: Any, *args: Any, **options: Any) -> Any:
            seen.extend(make_flat_list_of_images(images))
            return super().__call__(images, *args, **options)

    watched = copy.copy(own)
    watched.__class__ = Watched
    return watched
