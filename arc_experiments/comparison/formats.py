"""Write a comparison as Markdown, CSV and LaTeX, and show it on the terminal.

In: `ComparedRuns`. Out: text; CSV holds the numbers in full, the others as `tables` writes them.
"""

import re

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arc_experiments.comparison.result import ComparedRuns
from arc_experiments.comparison.tables import sentences, tables

CSV_COLUMNS = [
    "kind", "group", "baseline", "metric", "runs", "task_lists", "value", "deviation",
    "new_seeds_low", "new_seeds_high", "new_seeds_detectable",
    "new_tasks_low", "new_tasks_high", "new_tasks_detectable", "new_tasks_with_seeds",
    "in_pairs_of_seeds", "tasks_won", "tasks_lost", "tasks_same", "sign_test_p", "seconds",
]  # fmt: skip
WHOLE = ("runs", "task_lists", "tasks_won", "tasks_lost", "tasks_same")
SIGNS_IN_LATEX = str.maketrans(
    {"\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--", "<": r"\textless{}", ">": r"\textgreater{}"}
)


def show(compared: ComparedRuns, console: Console) -> None:
    """Print notices, tables and sentences; in a table that is too wide, words go to the next line."""
    for notice in compared.notices:
        console.print(f"[yellow]note[/] {escape(notice)}")
    for title, frame in tables(compared):
        console.print(f"\n[bold]{escape(title)}[/]")
        whole = frame.replace(r"\[(.*), (.*)\]", "[\\1,\N{NO-BREAK SPACE}\\2]", regex=True)
        shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for heading, width in zip(whole, _widths(whole, console.width), strict=True):
            shown.add_column(escape(heading), width=width, overflow="fold")
        for row in whole.itertuples(index=False):
            shown.add_row(*map(escape, row))
        console.print(shown)
    console.print()
    for sentence in sentences(compared):
        console.print(f"- {escape(sentence)}")


def markdown(compared: ComparedRuns) -> str:
    """Tables in GitHub's form, notices as quotations."""
    parts = [f"> {_in_a_cell(notice)}\n" for notice in compared.notices]
    for title, frame in tables(compared):
        parts.append(f"### {title}\n\n{markdown_table(frame)}\n")
    parts.append("\n".join(f"- {sentence}" for sentence in sentences(compared)) + "\n")
    return "\n".join(parts)


def markdown_table(frame: pd.DataFrame) -> str:
    """A table of text in GitHub's form."""
    rows = [frame.columns, ["---"] * frame.shape[1], *frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(map(_in_a_cell, row))} |" for row in rows)


def latex(compared: ComparedRuns) -> str:
    r"""Tables for a paper, with \usepackage{booktabs}; notices and sentences as comments."""
    parts = [f"% {' '.join(words.split())}\n" for words in [*compared.notices, *sentences(compared)]]
    for title, frame in tables(compared):
        caption = re.sub(r"([_%&#$])", r"\\\1", title)
        text = frame.to_latex(index=False, caption=caption, column_format="l" * frame.shape[1], escape=True)
        parts.append(text.translate(SIGNS_IN_LATEX))
    return "\n".join(parts)


def csv_text(compared: ComparedRuns) -> str:
    """A row a group and a row a difference; fractions 0..1, times in seconds."""
    groups = compared.groups.assign(kind="group").astype(object)
    differences = compared.differences.assign(kind="difference").astype(object)
    rows = pd.concat([groups, differences]).assign(metric=compared.metric).reindex(columns=CSV_COLUMNS)
    return str(rows.astype(dict.fromkeys(WHOLE, "Int64")).to_csv(index=False, lineterminator="\n"))


def _widths(frame: pd.DataFrame, room: int) -> list[int]:
    """Widths of columns that fit into `room`, two blanks between them; words are cut only if they must be."""
    columns = [[name, *frame[name]] for name in frame]
    widths = [max(map(len, cells)) for cells in columns]
    least = [max(len(word) for cell in cells for word in cell.split(" ")) for cells in columns]
    while sum(widths) + 2 * (len(widths) - 1) > room:
        wider = [place for place, width in enumerate(widths) if width > least[place]] or range(len(widths))
        widths[max(wider, key=widths.__getitem__)] -= 1
    return widths


def _in_a_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
