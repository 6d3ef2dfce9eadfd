"""Make the files of a model of the package: `python -m tools.make_models tiny|tiny_program [<run folder>]`.

`python -m tools.make_models tiny_program --start <folder>` makes what the training of `tiny_program` starts
from: `tiny` with further tokens.

Both are a Qwen2 whose tokenizer has one token per cell: the ten colours, the padding of a frame, the end of a
row, `I` and `O` before an input and an output, and tokens for padding, begin, end and unknown. The tokenizer
of `tiny_program` has the words of the languages draw and dsl besides, one token each. The weights come from
a finished run of the last stage of the model's training: `experiment=pretrain_wide` for `tiny`,
`experiment=pretrain_programs` for `tiny_program`.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import Qwen2Config, Qwen2Tokenizer

from arc_experiments.models.ancestry import FILE as ANCESTRY
from arc_experiments.programs.languages import draw
from arc_experiments.programs.re_arc import constants, functions
from arc_experiments.tasks.grids import MAX_SIDE

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
NEWLINE = "\u010a"  # how byte-level tokenizers spell "\n" in their vocabulary
SYMBOLS = [NEWLINE, "I", "O", *"0123456789", "."]
# What only programs need: `D` and `L` for the languages, characters of variables and brackets.
PROGRAM_SYMBOLS = ["D", "L", "T", "F", "x", "(", ")", ",", "\u0120", "="]  # \u0120 is a space
NUM_VARIABLES = 30  # with a token of their own; x31 takes two
VOCABULARY_SIZES = {"tiny": 32, "tiny_program": 352}  # leave room for further symbols
WEIGHTS = "model.safetensors"
ASSETS = Path(__file__).parents[1] / "arc_experiments/assets"


def make_tokenizer(name: str) -> Qwen2Tokenizer:
    """Make a tokenizer without merges in Qwen2's class, the only one that AutoTokenizer accepts here."""
    symbols = SYMBOLS + (PROGRAM_SYMBOLS if name == "tiny_program" else [])
    vocabulary = {token: index for index, token in enumerate(SPECIAL + symbols)}
    pad, bos, eos, unk = SPECIAL
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=[], pad_token=pad, bos_token=bos, eos_token=eos, unk_token=unk
    )
    if name == "tiny_program":
        tokenizer.add_tokens([AddedToken(word, normalized=False) for word in program_words()])
    return tokenizer


def program_words() -> list[str]:
    r"""List the words of programs that are one token each: `rect(`, `,12`, `)\\n`, `crop`, `x7`, ` = `."""
    shapes = [f"{shape}(" for shape in draw.SHAPES]
    places = [f",{place}" for place in range(MAX_SIDE)]
    names = sorted({*functions(), *constants()} - set(PROGRAM_SYMBOLS))
    variables = [f"x{number}" for number in range(1, NUM_VARIABLES + 1)]
    return [*shapes, *places, ")\n", ", ", " = ", *names, *variables]


# Trains as fast as width 160 in 5 heads of 32, which has a third fewer parameters: wide heads suit the
# kernels.
def make_config(name: str) -> Qwen2Config:
    """Make the shape of a model."""
    return Qwen2Config(
        architectures=["Qwen2ForCausalLM"],
        vocab_size=VOCABULARY_SIZES[name],
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=3,
        num_key_value_heads=3,
        intermediate_size=512,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=SPECIAL.index("<bos>"),
        eos_token_id=SPECIAL.index("<eos>"),
        dtype="bfloat16",
    )


def take_weights(run_folder: Path, folder: Path) -> None:
    """Copy a run's weights in bfloat16, with their ancestry."""
    trained = load_file(run_folder / "model" / WEIGHTS)
    save_file(
        {name: value.to(torch.bfloat16) for name, value in trained.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    (folder / WEIGHTS).chmod(0o644)  # save_file makes it readable for its owner only
    shutil.copy(run_folder / "model" / ANCESTRY, folder / ANCESTRY)


def start_from_tiny(folder: Path) -> None:
    """Write the weights of `tiny`, with random embeddings of further tokens, and its ancestry."""
    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer("tiny_program").save_pretrained(folder)
    make_config("tiny_program").save_pretrained(folder)
    weights, name = load_file(ASSETS / "tiny" / WEIGHTS), "model.embed_tokens.weight"
    num_known = len(SPECIAL + SYMBOLS)
    known = weights[name][:num_known].float()
    rows = VOCABULARY_SIZES["tiny_program"], known.shape[1]
    embeddings = torch.randn(rows, generator=torch.Generator().manual_seed(0)) * known.std()
    embeddings[:num_known] = known
    weights[name] = embeddings.to(torch.bfloat16)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copy(ASSETS / "tiny" / ANCESTRY, folder / ANCESTRY)


def main(name: str, run_folder: str | None = None) -> None:
    """Write tokenizer, config and, if a run is given, its weights into the package's folder of the model."""
    folder = ASSETS / name
    make_tokenizer(name).save_pretrained(folder)
    make_config(name).save_pretrained(folder)
    if run_folder is not None:
        take_weights(Path(run_folder), folder)


if __name__ == "__main__":
    match sys.argv[1:]:
        case "tiny_program", "--start", place:
            start_from_tiny(Path(place))
        case arguments:
            main(*arguments)
