"""Models and tokenizers small enough for a test, of the kinds that people use."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import Lora, Model
from arc_experiments.models.adapters import add_adapter, save_weights
from arc_experiments.models.loading import load_base
from arc_experiments.models.tokenizer import load_tokenizer


def untrained(hidden_size: int = 40, intermediate_size: int = 80) -> list[str]:
    """The overrides for an untrained model with the tokenizer of `tiny`, which trains much faster."""
    folder = Path(tempfile.mkdtemp(prefix="untrained"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in Path(local_path("package:tiny")).glob("tokenizer*.json"):
        shutil.copy(file, folder)
    config = Qwen2Config(
        architectures=["Qwen2ForCausalLM"], vocab_size=32, hidden_size=hidden_size,
        intermediate_size=intermediate_size, num_hidden_layers=3, num_attention_heads=5,
        num_key_value_heads=1,
        initializer_range=0.08,  # with 0.02 and tied embeddings no output could be certain of a token
        tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config.save_pretrained(folder)
    return [f"model.path={folder}", "model.name=untrained", "model.weights=random", "prompt=compact"]


def byte_tokenizer() -> Qwen2Tokenizer:
    """A Qwen2 tokenizer without merges: every byte is a token; with a chat template like Qwen's."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet())]
    tokenizer = Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def joining_tokenizer() -> PreTrainedTokenizerFast:
    """Like Llama 3's: up to three digits are one token, and so are the words of colours, and rows of dots."""
    tokens = ["<|begin|>", "<|end|>", *sorted(ByteLevel.alphabet())]
    tokens += [f"{number:0{length}}" for length in (2, 3) for number in range(10**length)]
    tokens += ["Blue", "Black", "Red", "Input", "Output", *("." * length for length in (2, 3, 4, 8))]
    model = BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[], ignore_merges=True)
    tokenizer = Tokenizer(model)
    digits = Split(Regex(r"\p{N}{1,3}|[^\p{N}]+"), "isolated")
    tokenizer.pre_tokenizer = Sequence([digits, ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = ByteLevelDecoder()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>")


def make_base(
    folder: Path, tokenizer: Any = None, *, kind: str = "qwen2", tied: bool = True, **more: Any
) -> Path:
    """A random model of two layers with its tokenizer, saved in the folder; `more` goes into its config."""
    tokenizer = byte_tokenizer() if tokenizer is None else tokenizer
    options = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "tie_word_embeddings": tied, "initializer_range": 0.1,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    } | more  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (
            Qwen2ForCausalLM(Qwen2Config(**options))
            if kind == "qwen2"
            else LlamaForCausalLM(LlamaConfig(**options))
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# From what a test describes to logits.

IDS = torch.tensor([[5, 40, 41, 7, 40, 60, 3, 90]])


def settings(path: Path, **more: object) -> Model:
    return Model(name="m", path=str(path), **{"lora": Lora(rank=4), **more})


def load(model: Model, *, trainable: bool = True, **more: object) -> torch.nn.Module:
    loaded = load_base(model, dtype=torch.float32, device=torch.device("cpu"), **more)
    return add_adapter(loaded, model, seed=1, trainable=trainable)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS, use_cache=False).logits


def saved_adapter(base: Path, folder: Path) -> Path:
    model = load(settings(base, lora=Lora(rank=4, alpha=8, target_modules=["q_proj", "v_proj"])))
    save_weights(model, load_tokenizer(settings(base)), folder, base=str(base))
    return folder
