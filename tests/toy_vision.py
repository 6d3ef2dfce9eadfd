"""Vision-language models small enough for a test, each family with its processor and form of chat."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 8192, "initializer_range": 0.1,
}  # fmt: skip
PARTS = (
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}IMAGE{% else %}{{ part.text TRIM}}{% endif %}{% endfor %}{% endif %}"
)
QWEN_CHAT = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message.role }}\n"
    + PARTS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>").replace(" TRIM", "")
    + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Meta's template refuses a system text beside pictures.
MLLAMA_CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('Prompting with images is incompatible with system "
    "messages.') }}{% endif %}"
    "<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    + PARTS.replace("IMAGE", "<|image|>").replace(" TRIM", "")
    + "<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
IDEFICS_CHAT = (  # takes lists of parts alone
    "{{ bos_token }}{% for message in messages %}{{ message.role.capitalize() }}"
    "{% if message.content[0].type == 'image' %}:{% else %}: {% endif %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% elif part.type == 'image' %}<image>{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
GEMMA_CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n"
    + PARTS.replace("IMAGE", "<start_of_image>").replace("TRIM", "| trim ")
    + "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def _tokenizer(special: list[str], chat: str, **named: Any) -> PreTrainedTokenizerFast:
    """These tokens and one for each byte; the last of these comes after the bytes."""
    tokens = [*special[:-1], *sorted(ByteLevel.alphabet()), special[-1]]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=chat, **named)


def _ids(tokenizer: Any) -> dict[str, int | None]:
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def _mllama() -> tuple[Any, tuple[Any, ...]]:
    special = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    special += ["<|finetune_right_pad_id|>", "<|python_tag|>", "<|image|>"]
    tokenizer = _tokenizer(
        special, MLLAMA_CHAT, bos_token=special[0], eos_token=special[1], pad_token=special[4]
    )
    images = MllamaImageProcessorPil(size={"height": 56, "width": 56}, max_image_tiles=4)
    config = MllamaConfig(
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_global_layers": 1,
            "attention_heads": 2, "image_size": 56, "patch_size": 14, "intermediate_layers_indices": [0],
            "vision_output_dim": 32, "max_num_tiles": 4,
            "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
        },
        text_config={
            **TEXT, **_ids(tokenizer), "num_hidden_layers": 3,
            "vocab_size": len(tokenizer) - 1,  # as in the real one, pictures cannot be predicted
            "cross_attention_layers": [1], "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        image_token_index=len(tokenizer) - 1,
    )  # fmt: skip
    model = MllamaForConditionalGeneration(config)
    for name, value in model.named_parameters():
        if "gate" in name:  # zero in a new one, which would not see pictures
            torch.nn.init.constant_(value, 0.7)
    return model, (MllamaProcessor(images, tokenizer, chat_template=MLLAMA_CHAT),)


def _qwen_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>"]
    return _tokenizer(special, QWEN_CHAT, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _qwen(kind: Callable[..., Any], config: Callable[..., Any], **vision: Any) -> tuple[Any, tuple[Any, ...]]:
    tokenizer = _qwen_tokenizer()
    places = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in (("image", "image_pad"), ("video", "video_pad"))
    } | {
        f"vision_{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|vision_{name}|>")
        for name in ("start", "end")
    }
    model = kind(
        config(
            text_config={
                **TEXT, **_ids(tokenizer), "vocab_size": len(tokenizer), "head_dim": 8,
                "rope_parameters": {
                    "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1],
                    **({"mrope_interleaved": True} if kind is Qwen3VLForConditionalGeneration else {}),
                },
            },
            vision_config={
                "depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2,
                "out_hidden_size": 32, "spatial_merge_size": 2, **vision,
            },
            tie_word_embeddings=False,
            **places,
        )
    )  # fmt: skip
    images = Qwen2VLImageProcessorPil(
        patch_size=vision["patch_size"],
        merge_size=2,
        size={"shortest_edge": 4 * (2 * vision["patch_size"]) ** 2, "longest_edge": 28 * 28 * 16384},
    )
    return model, (images, tokenizer)


def _qwen2_5_vl() -> tuple[Any, tuple[Any, ...]]:
    return _qwen(
        Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig,
        patch_size=14, window_size=56, fullatt_block_indexes=[1],
    )  # fmt: skip


def _qwen3_vl() -> tuple[Any, tuple[Any, ...]]:
    return _qwen(
        Qwen3VLForConditionalGeneration, Qwen3VLConfig,
        patch_size=16, deepstack_visual_indexes=[0], num_position_embeddings=64,
    )  # fmt: skip


def _idefics3() -> tuple[Any, tuple[Any, ...]]:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<end_of_utterance>", "<image>"]
    special += ["<fake_token_around_image>", "<global-img>"]
    special += [f"<row_{row + 1}_col_{column + 1}>" for row in range(6) for column in range(6)]
    tokenizer = _tokenizer(
        special, IDEFICS_CHAT, bos_token=special[0], eos_token=special[3], pad_token=special[2]
    )
    # As the published ones, which cut a picture into many: that must be switched off.
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 4 * 64}, max_image_size={"longest_edge": 64}, do_image_splitting=True
    )
    config = Idefics3Config(
        text_config={**TEXT, **_ids(tokenizer), "model_type": "llama", "vocab_size": len(tokenizer)},
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 8,
        },
        scale_factor=4,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=IDEFICS_CHAT)
    return Idefics3ForConditionalGeneration(config), (processor,)


def _gemma3() -> tuple[Any, tuple[Any, ...]]:
    special = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    special += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    tokenizer = _tokenizer(
        special, GEMMA_CHAT, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        extra_special_tokens={"boi_token": special[5], "eoi_token": special[6], "image_token": special[7]},
    )  # fmt: skip
    config = Gemma3Config(
        text_config={
            **TEXT, **_ids(tokenizer), "vocab_size": len(tokenizer), "head_dim": 8, "sliding_window": 64,
            "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 8,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 8,
        },
        mm_tokens_per_image=4,
        boi_token_index=5, eoi_token_index=6, image_token_index=len(tokenizer) - 1,
    )  # fmt: skip
    images = Gemma3ImageProcessorPil(size={"height": 64, "width": 64})
    processor = Gemma3Processor(images, tokenizer, chat_template=GEMMA_CHAT, image_seq_length=4)
    return Gemma3ForConditionalGeneration(config), (processor,)


FAMILIES: dict[str, Callable[[], tuple[Any, tuple[Any, ...]]]] = {
    "mllama": _mllama,
    "qwen2_5_vl": _qwen2_5_vl,
    "idefics3": _idefics3,
    "qwen3_vl": _qwen3_vl,
    "gemma3": _gemma3,
}
TRAINED = ("mllama", "qwen2_5_vl", "idefics3")  # the families that go the whole way in tests


@functools.cache
def vision_model(family: str) -> Path:
    """The folder of a random model of this family, made once for all tests of a process."""
    folder = Path(_folders().name) / family
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, parts = FAMILIES[family]()
    for part in (model, *parts):
        part.save_pretrained(folder)
    return folder


@functools.cache
def _folders() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="toy_vision")
