"""The files of an exported folder beside its weights, as the base was published."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arc_experiments.config.schema import Config, Model
from arc_experiments.models.hub import files_of
from arc_experiments.models.processor import load_processor, reads_pictures, save_processor
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts.chat import Chat
from arc_experiments.runs.folder import FolderError

# Of tokenizer and processor: the base's own, since saving them anew changes their form with the library.
TOKENIZER = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model",
    "*.tiktoken", "chat_template*", "*processor_config.json",
)  # fmt: skip


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `out` in the end; after an error nothing is left.

    Raises:
        FolderError: `out` exists.
    """
    if out.exists():
        raise FolderError(f"{out} exists: name another folder (--out), or remove it")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.iterdir():  # weights are for the owner alone otherwise
            file.chmod(0o644)
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def copy_tokenizer(model: Model, folder: Path) -> None:
    """Copy the files of a model's tokenizer, and of its processor if it sees pictures."""
    source = files_of(model, TOKENIZER)
    for pattern in TOKENIZER:
        for file in source.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
    if reads_pictures(model):
        processor = load_processor(model)
        if hasattr(processor.image_processor, "do_image_splitting"):  # which was switched off for training
            save_processor(processor, folder)


def end_ids(tokenizer: Any, config: Config, model: Model) -> list[int]:
    """Return the tokens that end an answer: the ends of the turn and of the text, in full ids."""
    placeholder = None
    if config.prompt.shows_pictures:
        placeholder = PictureInputs(load_processor(model)).placeholder
    chat = Chat(
        tokenizer,
        system=config.prompt.system,
        use_template=config.prompt.chat == "auto",
        placeholder=placeholder,
    )
    return sorted({chat.end_id, tokenizer.eos_token_id} - {None})
