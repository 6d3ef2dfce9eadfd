"""What `--help` prints: the purpose, examples, every group with its options, and the other commands."""

import textwrap

from arc_experiments.composing.words import COMMANDS, GROUPS
from arc_experiments.config.user_code.folders import options_of

EXAMPLES = {
    "experiment=smoke": "everything once, in seconds",
    "data=re_arc model=qwen05 optim.learning_rate=5e-4": "options of groups, and a value by its key",
    "--multirun seed=1,2,3 model.lora.rank=8,32": "a sweep: six jobs, a table at the end",
    "job=evaluate from_run=outputs/<run> inference.num_views=16": "score a finished run again",
    "data=arc2 --cfg job": "show the composition, every key with its value; run nothing",
}
WIDTH, COLUMN = 80, 16


def help_text() -> str:
    """The whole text; no line is longer than a terminal of 80 columns."""
    lines = [
        "Fine-tune language models on ARC: compose an experiment from small config files,",
        "train, answer held-out tasks, and get an adapter, its scores and a page of",
        "pictures. The same command resumes an unfinished run.",
        "",
        "arc-experiments [<group>=<option> ...] [<key>=<value> ...] [--multirun]",
        "arc-experiments <command> ...",
        "(python -m arc_experiments is the same.)",
        "\nExamples",
    ]
    for typed, purpose in EXAMPLES.items():
        lines += [f"  arc-experiments {typed}", f"      {purpose}"]
    lines.append("\nGroups, and the options of each (files in conf/<group>/)")
    for group, purpose in GROUPS.items():
        lines += [_row(group, purpose), _row("", " ".join(options_of(group)))]
    lines.append("\nOther commands (<command> --help says more)")
    lines += [_row(name, purpose) for name, purpose in COMMANDS.items()]
    lines += [
        "\nTab completion",
        '  eval "$(arc-experiments -sc install=bash)"',
        "\n--hydra-help lists the other flags; docs/configuration.md explains the keys.",
    ]
    return "\n".join(lines)


def _row(name: str, text: str) -> str:
    wrapped = textwrap.wrap(text, WIDTH - COLUMN, break_long_words=False, break_on_hyphens=False)
    return f"  {name:<{COLUMN - 2}}" + f"\n{' ' * COLUMN}".join(wrapped)
