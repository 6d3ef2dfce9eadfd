"""Tab completion: Hydra completes groups, options and keys; the rest of a command line is added here.

A shell that has run `eval "$(arc-experiments -sc install=bash)"` starts `arc-experiments -sc query=bash` at
each Tab, with what has been typed so far in COMP_LINE, and reads words from its output.
"""

import contextlib
import io
import os
import re
from collections.abc import Callable
from glob import escape, glob

from arc_experiments.composing.words import COMMANDS
from arc_experiments.config.user_code.folders import options_of, take_config_dir

FLAGS = ("--cfg", "--help", "--hydra-help", "--multirun")
# The last parts of keys whose values are files or folders.
PATHS = (
    "adapter", "barc_library", "dir", "fallback_run", "file", "from_run", "load_state", "partition_file",
    "path", "submission",
)  # fmt: skip
SEVERAL = re.compile(r"(?P<begin>(?P<group>[\w/]+)=\[?(?:\w+,)*)\w*")


def is_query(arguments: list[str]) -> bool:
    """Whether a shell asks for completions."""
    return bool({"-sc", "--shell-completion"} & set(arguments)) and any(
        text.startswith("query=") for text in arguments
    )


def print_completions(ask_hydra: Callable[[], object]) -> None:
    """Print the words that may stand where COMP_LINE ends; a mistake earlier in the line prints nothing.

    Args:
        ask_hydra: prints Hydra's.
    """
    words, are_all = completions(os.environ.get("COMP_LINE", ""))
    if words:
        print("\n".join(words))  # noqa: T201 (the shell reads it)
    if not are_all:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
            ask_hydra()


def completions(line: str) -> tuple[list[str], bool]:
    """Our own words that complete a command line, and whether Hydra has nothing to add to them.

    "arc-experiments co"                     ["compare"]; Hydra may know a group that begins like this
    "arc-experiments augmentation=[order,g"  ["augmentation=[order,geometry"], and that is all
    """
    words = f"{line}|".split()[1:]  # the mark keeps an empty last word
    *earlier, last = (word.removesuffix("|") for word in words or ["|"])
    with contextlib.suppress(ValueError):  # said when the line is run
        take_config_dir(earlier)
    if earlier and earlier[0] in COMMANDS:
        return [], True  # the shell's own completion of file names follows
    if last.startswith("-"):
        return [flag for flag in FLAGS if flag.startswith(last)], True
    key, has_value, value = last.partition("=")
    if has_value and key.rpartition(".")[2] in PATHS:
        found = sorted(glob(f"{escape(value)}*"))
        return [f"{key}={path}{'/' if os.path.isdir(path) else ''}" for path in found], True
    match = SEVERAL.fullmatch(last)
    if match and match["begin"][-1] in "[,":
        whole = [f"{match['begin']}{option}" for option in options_of(match["group"])]
        return [text for text in whole if text.startswith(last)], True
    return [] if earlier else [name for name in COMMANDS if name.startswith(last)], False
