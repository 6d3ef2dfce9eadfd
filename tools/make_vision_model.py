"""Make the files of the package's vision model: `python -m tools.make_vision_model <run folder>`.

It is an Idefics3 whose language part is the package's small model `tiny`, as a Llama with tokens for
pictures, and whose vision part is as small. A picture has 7 x 7 cells of 8 pixels, a vision token each: a
grid of up to 6 x 6 and a column and a row of paper, so that its tokens are as far apart as the answer's,
whose rows end with a newline. The weights come from a finished run of `experiment=pretrain_see`, which starts
from tiny's weights and a random vision part: `python -m tools.make_vision_model --start <folder>` writes
them.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from arc_experiments.models.ancestry import FILE as ANCESTRY
from tools.make_models import ASSETS, SPECIAL, WEIGHTS, make_config, make_tokenizer, take_weights

NAME = "tiny_vision"
CELL, CELLS = 8, 7  # pixels a side of a cell, cells a side of a picture
PICTURE_TOKENS = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]


def make_processor() -> Idefics3Processor:
    """Make tiny's tokenizer with the tokens of pictures after its own, and what makes pixels numbers."""
    tokenizer = make_tokenizer("tiny")
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in PICTURE_TOKENS])
    side = {"longest_edge": CELL * CELLS}
    images = Idefics3ImageProcessorPil(size=side, max_image_size=side, do_image_splitting=False)
    return Idefics3Processor(images, tokenizer, image_seq_len=CELLS**2)


def make_vision_config() -> Idefics3Config:
    """Make the shape: tiny, and a vision part of two layers that sees a cell at a time."""
    text: dict[str, Any] = make_config("tiny").to_dict()
    for name in ("architectures", "model_type", "transformers_version", "dtype", "layer_types"):
        text.pop(name, None)
    # Qwen2 has biases on queries, keys and values, Llama on all four or none.
    text |= {"model_type": "llama", "attention_bias": True}
    return Idefics3Config(
        architectures=["Idefics3ForConditionalGeneration"],
        text_config=text,
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": CELL * CELLS,
            "patch_size": CELL,
        },
        scale_factor=1,
        image_token_id=make_processor().image_token_id,
        tie_word_embeddings=True,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=SPECIAL.index("<bos>"),
        eos_token_id=SPECIAL.index("<eos>"),
        dtype="bfloat16",
    )


def write_files(folder: Path) -> None:
    """Write all but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    make_processor().save_pretrained(folder)
    make_vision_config().save_pretrained(folder)


def start_from_tiny(folder: Path) -> None:
    """Write tiny's weights with a random vision part, and tiny's ancestry."""
    write_files(folder)
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(make_vision_config())
    known = load_file(ASSETS / "tiny" / WEIGHTS)
    renamed = {name.replace("model.", "model.text_model.", 1): value for name, value in known.items()}
    left = model.load_state_dict(renamed, strict=False)
    assert not left.unexpected_keys, left.unexpected_keys
    for layer in model.model.text_model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.bias)
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
