"""Makes the files of the tiny model: `python -m arc_experiments.assets.make_tiny <folder>`.

A Qwen2 of about one million parameters whose tokenizer knows one token a cell: the ten colours, the end of a
row, `I` and `O` before an input and an output, and the marks for padding, begin, end and unknown. Weights are
not among the files: `model.weights=random` draws them, from a fixed seed.
"""

import sys
from pathlib import Path

from transformers import Qwen2Config, Qwen2Tokenizer

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
NEWLINE = "\u010a"  # how byte-level tokenizers spell "\n" in their vocabulary
SYMBOLS = [NEWLINE, "I", "O", *"0123456789"]
VOCABULARY_SIZE = 32  # some room for symbols to come


def make_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's own tokenizer class (AutoTokenizer takes no other for this architecture), without merges."""
    vocabulary = {token: index for index, token in enumerate(SPECIAL + SYMBOLS)}
    pad, bos, eos, unk = SPECIAL
    return Qwen2Tokenizer(
        vocab=vocabulary, merges=[], pad_token=pad, bos_token=bos, eos_token=eos, unk_token=unk
    )


def make_config() -> Qwen2Config:
    """Three layers of width 160, about a million parameters: few and wide is what a CPU does fastest."""
    return Qwen2Config(
        architectures=["Qwen2ForCausalLM"],
        vocab_size=VOCABULARY_SIZE,
        hidden_size=160,
        num_hidden_layers=3,
        num_attention_heads=5,
        num_key_value_heads=1,
        intermediate_size=560,
        max_position_embeddings=8192,
        initializer_range=0.08,  # with 0.02 and tied embeddings no output could be certain of a token
        tie_word_embeddings=True,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=SPECIAL.index("<bos>"),
        eos_token_id=SPECIAL.index("<eos>"),
    )


def main(folder: Path) -> None:
    """Write tokenizer and config into the folder."""
    make_tokenizer().save_pretrained(folder)
    make_config().save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
