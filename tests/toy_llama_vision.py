"""A random Llama-3.2-Vision small enough for a test, with the ids of Llama 3's own special tokens.

Files made for llama-cookbook name these ids, as its own data sets do.
"""

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import TemplateProcessing
from transformers import (
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

BEGIN, ASSISTANT_HEADER, END_OF_TURN, PAD, IMAGE = 128000, [128006, 78191, 128007], 128009, 128004, 128256
SPECIAL = {
    BEGIN: "<|begin_of_text|>", 128001: "<|end_of_text|>", PAD: "<|finetune_right_pad_id|>",
    128006: "<|start_header_id|>", 128007: "<|end_header_id|>", END_OF_TURN: "<|eot_id|>",
    128010: "<|python_tag|>", IMAGE: "<|image|>",
}  # fmt: skip
WORDS = {271: "ĊĊ", 882: "user", 9125: "system", 78191: "assistant"}
PIECES = (  # Llama 3's
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT = (  # what Meta's writes for turns without tools
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('Prompting with images is incompatible with system "
    "messages.') }}{% endif %}"
    "<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|image|>{% else %}{{ part.text | trim }}{% endif %}{% endfor %}{% endif %}"
    "<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, a few words and the special tokens, all with Llama 3's ids but the bytes, which are 0 to 255."""
    names = [f"<unused_{number}>" for number in range(IMAGE + 1)]
    names[:256] = sorted(ByteLevel.alphabet())
    for number, name in {**WORDS, **SPECIAL}.items():
        names[number] = name
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = Sequence(
        [Split(Regex(PIECES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in SPECIAL.values()]
    )
    tokenizer.post_processor = TemplateProcessing(
        single=f"{SPECIAL[BEGIN]} $A", special_tokens=[(SPECIAL[BEGIN], BEGIN)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=CHAT,
        bos_token=SPECIAL[BEGIN], eos_token=SPECIAL[END_OF_TURN], pad_token=SPECIAL[PAD],
    )  # fmt: skip


def llama_processor() -> MllamaProcessor:
    images = MllamaImageProcessorPil(size={"height": 30, "width": 30}, max_image_tiles=4)
    return MllamaProcessor(images, llama_tokenizer(), chat_template=CHAT)


@functools.cache
def llama_vision() -> Path:
    """The folder of model and processor, made once for all tests of a process."""
    folder = Path(_folder().name)
    config = MllamaConfig(
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_global_layers": 1,
            "attention_heads": 2, "image_size": 30, "patch_size": 2, "intermediate_layers_indices": [0],
            "vision_output_dim": 32, "max_num_tiles": 4,
            "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
        },
        text_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.1,
            "vocab_size": IMAGE,  # images cannot be predicted
            "cross_attention_layers": [0], "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "bos_token_id": BEGIN, "eos_token_id": END_OF_TURN, "pad_token_id": PAD,
        },
        image_token_index=IMAGE,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MllamaForConditionalGeneration(config)
    for name, value in model.named_parameters():
        if "gate" in name:  # zero in a new one, which would not see images
            torch.nn.init.constant_(value, 0.7)
    for part in (model, llama_processor()):
        part.save_pretrained(folder)
    return folder


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="toy_llama_vision")


def photograph(seed: int, height: int = 20, width: int = 24) -> Any:
    """An image of Pillow that no two seeds share."""
    import numpy as np
    import PIL.Image

    return PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
