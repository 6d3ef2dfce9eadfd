"""Make the files of the package's vision model: `python -m tools.make_vision_model <run folder>`.

It is a Qwen2.5-VL whose language part is the package's small model `tiny`, with tokens for pictures, and
whose vision part is as small: one vision token sees one cell of 8 x 8 pixels. The weights come from a
finished run of `experiment=pretrain_see`, which starts from tiny's weights and a random vision part:
`python -m tools.make_vision_model --start <folder>` writes them.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from arc_experiments.models.ancestry import FILE as ANCESTRY
from tools.make_models import ASSETS, SPECIAL, WEIGHTS, make_config, make_tokenizer, take_weights

NAME = "tiny_vision"
PATCH, MERGE = 4, 2  # pixels a side of a patch, patches a side of a token
PICTURE_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
LARGEST_PICTURE = 2**20  # pixels; the smallest is one cell


def make_vision_tokenizer() -> Any:
    """Make tiny's tokenizer with the tokens of pictures after its own."""
    tokenizer = make_tokenizer("tiny")
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in PICTURE_TOKENS])
    return tokenizer


def make_vision_config() -> Qwen2_5_VLConfig:
    """Make the shape: tiny with positions in rows and columns, and a vision part of two layers."""
    text, ids = make_config("tiny").to_dict(), make_vision_tokenizer().convert_tokens_to_ids(PICTURE_TOKENS)
    for name in ("architectures", "model_type", "transformers_version", "dtype"):
        text.pop(name, None)
    # Of the 32 pairs of a head's rotation, 8 turn with the number in the text, 12 with rows, 12 with columns.
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]}
    start, end, image, video = ids
    return Qwen2_5_VLConfig(
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        text_config=text,
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "num_heads": 2,
            "intermediate_size": 128,
            "patch_size": PATCH,
            "temporal_patch_size": 1,
            "spatial_merge_size": MERGE,
            "window_size": 8 * PATCH * MERGE,
            "fullatt_block_indexes": [0, 1],
            "out_hidden_size": text["hidden_size"],
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=True,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=SPECIAL.index("<bos>"),
        eos_token_id=SPECIAL.index("<eos>"),
        dtype="bfloat16",
    )


def write_files(folder: Path) -> None:
    """Write all but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    make_vision_tokenizer().save_pretrained(folder)
    make_vision_config().save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        temporal_patch_size=1,
        merge_size=MERGE,
        min_pixels=(PATCH * MERGE) ** 2,
        max_pixels=LARGEST_PICTURE,
    ).save_pretrained(folder)


def start_from_tiny(folder: Path) -> None:
    """Write tiny's weights with a random vision part, and tiny's ancestry."""
    write_files(folder)
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(make_vision_config())
    known = load_file(ASSETS / "tiny" / WEIGHTS)
    renamed = {name.replace("model.", "model.language_model.", 1): value for name, value in known.items()}
    unknown = model.load_state_dict(renamed, strict=False)
    assert not unknown.unexpected_keys, unknown.unexpected_keys
    model.to(torch.bfloat16).save_pretrained(folder)
    shutil.copy(ASSETS / "tiny" / ANCESTRY, folder / ANCESTRY)


if __name__ == "__main__":
    match sys.argv[1:]:
        case "--start", place:
            start_from_tiny(Path(place))
        case (run_folder,):
            write_files(ASSETS / NAME)
            take_weights(Path(run_folder), ASSETS / NAME)
        case _:
            sys.exit(__doc__)
