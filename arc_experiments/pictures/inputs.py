"""What a vision-language model is given of pictures, made by the processor that came with it.

The image processor turns pixels into tensors (`pixel_values` and what belongs to them), and every picture
takes as many tokens of the prompt as the processor says. Here are only the two things that processors make of
whole texts and that we need for token ids with labels: which tokens are pictures, and (Mllama) which tokens
look at which picture, for prompt and answer alike.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_experiments.pictures.cell_table import CellTable
from arc_experiments.pictures.drawing import AnyPicture, Picture, Style

Arrays = dict[str, NDArray[Any]]


class UnknownInputs(ValueError):
    """A processor that gives its model something which is not known here."""


class PictureInputs:
    """Writes pictures as text for the tokenizer and as arrays for the model.

    Args:
        processor: transformers' for the model: image processor, tokenizer, and how they go together.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self._texts: dict[tuple[int, int], str] = {}
        self._tables: dict[Style, CellTable | None] = {}

    @property
    def placeholder(self) -> str:
        """The token that chat templates write for a picture, and prompts without one."""
        return str(self.processor.image_token)

    @property
    def token(self) -> str:
        """The token of which a picture takes many."""
        token_id = self.processor.image_token_ids[-1]
        return str(self.processor.tokenizer.convert_ids_to_tokens(token_id))

    @property
    def cell_pixels(self) -> int | None:
        """Side of what one vision token sees, where pictures keep their size; None: they are resized."""
        images = self.processor.image_processor
        if hasattr(images, "merge_size") and hasattr(images, "patch_size"):
            return int(images.patch_size) * int(images.merge_size)
        return None

    @property
    def min_pixels(self) -> int:
        """The area below which pictures that keep their size would be enlarged."""
        return int(self.processor.image_processor.size["shortest_edge"]) if self.cell_pixels else 0

    @property
    def canvas_pixels(self) -> int | None:
        """Side of the square that every picture is resized to; None: pictures keep their size."""
        if self.cell_pixels is not None:
            return None
        images = self.processor.image_processor
        size = dict(getattr(images, "max_image_size", None) or images.size)
        side = int(size.get("height") or size.get("longest_edge") or size["shortest_edge"])
        tiles = getattr(images, "max_image_tiles", 1)
        return side * math.isqrt(tiles)  # Mllama's four tiles are 2 x 2

    def text(self, picture: AnyPicture) -> str:
        """Return what stands for a picture in the text: its tokens, as many as the processor says."""
        if picture.size not in self._texts:
            processed = self._processed([[picture]])
            self._texts[picture.size] = self.processor.replace_image_token(processed, image_idx=0)
        return self._texts[picture.size]

    def check_tokens(
        self, ids: NDArray[Any], has_loss: NDArray[np.bool_], pictures: Sequence[AnyPicture], where: str
    ) -> None:
        """Check ready-made ids, shape (tokens,), and which of them have a loss.

        Raises:
            ValueError: tokens of pictures have a loss, or are more or fewer than these pictures take.
        """
        texts = "".join(map(self.text, pictures))
        wanted = self._num_tokens(self.processor.tokenizer(texts, add_special_tokens=False)["input_ids"])
        given = self._num_tokens(ids)
        if given != wanted:
            raise ValueError(
                f"{where} has {len(pictures)} images, which take {wanted} tokens of this model, and its "
                f"input_ids have {given} such tokens: make them with the model's processor"
            )
        if self._num_tokens(ids[has_loss]):
            raise ValueError(f"{where}: the labels of tokens of images must be -100, they cannot be learnt")

    def _num_tokens(self, ids: Any) -> int:
        return int(np.isin(ids, self._image_ids).sum())

    @property
    def _image_ids(self) -> list[int]:
        own = getattr(self.processor, "image_token_ids", None)
        return list(own) if own else [int(self.processor.image_token_id)]

    def arrays(self, pictures: Sequence[Sequence[AnyPicture]], ids: NDArray[np.int64]) -> Arrays:
        """Make what the model needs beside token ids and mask.

        Args:
            pictures: of each row, in the order of their tokens.
            ids: the rows' padded tokens, shape (rows, length).
        """
        if not any(pictures):
            return {}
        made = self._processed(pictures)
        num_tiles = made.pop("num_tiles", None)
        if num_tiles is not None:
            made["cross_attention_mask"] = self._looks_at(ids, num_tiles)
        if getattr(self.processor, "return_mm_token_type_ids", False):
            # Gemma 3 has another name for them.
            names = self.processor.model_input_names
            name = "token_type_ids" if "token_type_ids" in names else "mm_token_type_ids"
            made[name] = np.isin(ids, self.processor.image_token_ids).astype(np.int64)
        unused = {"rows", "cols", *getattr(self.processor, "unused_input_names", ())}
        return {name: np.asarray(values) for name, values in made.items() if name not in unused}

    def share_a_pass(self, num_pictures: Sequence[int]) -> list[list[int]]:
        """Group rows, given their numbers of pictures, such that no row changes with others of its group.

        In Mllama, text before a row's first picture attends to all pictures evenly, also to the blank ones
        that fill up a row with fewer than others.
        """
        places = range(len(num_pictures))
        if not hasattr(self.processor.image_processor, "max_image_tiles"):
            return [list(places)]
        return [[at for at in places if num_pictures[at] == each] for each in sorted(set(num_pictures))]

    def verify(
        self, texts: Sequence[str], pictures: Sequence[Sequence[AnyPicture]], ids: Sequence[Any]
    ) -> None:
        """Compare ids and arrays with what the processor itself makes of texts and pictures.

        Args:
            texts: with a placeholder for each picture.
            ids: the tokens of these texts, each int32, shape (tokens,).

        Raises:
            UnknownInputs: they differ: this family of models needs something that is not built here.
        """
        images = [[picture.draw() for picture in row] for row in pictures]
        for row, (text, own) in enumerate(zip(texts, ids, strict=True)):
            theirs = self.processor(
                text=[text], images=images[row : row + 1], add_special_tokens=False, return_tensors="np"
            )
            wide = np.asarray(own, np.int64)[None]
            ours = {"input_ids": wide, **self.arrays(pictures[row : row + 1], wide)}
            names = set(theirs) - {"attention_mask"}
            for name in sorted(names | set(ours)):
                if name not in ours or name not in theirs or not np.array_equal(ours[name], theirs[name]):
                    raise UnknownInputs(
                        f"model: {type(self.processor).__name__} makes {name} of pictures in another way "
                        "than is known here, so this model cannot be trained on pictures; those that can: "
                        "Llama-3.2-Vision, Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Idefics3, SmolVLM, Gemma 3"
                    )

    def _processed(self, pictures: Sequence[Sequence[AnyPicture]]) -> dict[str, Any]:
        table = self._table_of(pictures)
        if table is None:
            return self._by_processor(pictures)
        return table.process([picture for row in pictures for picture in row])

    def are_looked_up(self, pictures: Sequence[Sequence[AnyPicture]]) -> bool:
        """Return whether `arrays` of these takes less time than sending its result from a worker."""
        return self._table_of(pictures) is not None

    def _table_of(self, pictures: Sequence[Sequence[AnyPicture]]) -> CellTable | None:
        styles = {
            picture.style if isinstance(picture, Picture) else None for row in pictures for picture in row
        }
        return self._table(styles.pop()) if len(styles) == 1 else None

    def _table(self, style: Style | None) -> CellTable | None:
        """Return what replaces the processor for pictures of this style, if anything does."""
        if style is None or self.cell_pixels is None:
            return None
        if style not in self._tables:
            self._tables[style] = CellTable.of(
                lambda pictures: self._by_processor([pictures]), style, self.cell_pixels
            )
        return self._tables[style]

    def _by_processor(self, pictures: Sequence[Sequence[AnyPicture]]) -> dict[str, Any]:
        images = [[picture.draw() for picture in row] for row in pictures]
        process = self.processor.image_processor
        # Idefics3's text depends on how a picture was cut.
        options = {"return_row_col_info": True} if hasattr(process, "return_row_col_info") else {}
        return dict(process(images, return_tensors="np", **options))

    def _looks_at(self, ids: NDArray[np.int64], num_tiles: list[list[int]]) -> NDArray[np.int64]:
        """Make Mllama's mask: int64, shape (rows, length, pictures, tiles)."""
        from transformers.models.mllama import processing_mllama as mllama

        images = self.processor.image_processor
        spans = [
            mllama.get_cross_attention_token_mask(row.tolist(), self.processor.image_token_id) for row in ids
        ]
        made: NDArray[np.int64] = mllama.convert_sparse_cross_attention_mask_to_dense(
            spans, num_tiles=num_tiles, max_num_tiles=images.max_image_tiles, length=ids.shape[1]
        )
        return made


def folded(text: str, token: str) -> str:
    """Write a token that follows itself once, with the number: `<image><image>` as `<image> x 2`."""
    return re.sub(
        f"(?:{re.escape(token)}){{2,}}", lambda found: f"{token} x {len(found[0]) // len(token)}", text
    )
