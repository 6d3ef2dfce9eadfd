"""A comparison as Markdown, CSV, LaTeX, and on the terminal.

In: a `Comparison`. Out: text; CSV holds the numbers in full, the others as `wording` writes them.
"""

import csv
import io
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from arc_experiments.comparison.result import Comparison
from arc_experiments.comparison.tables import Table, sentences, tables
from arc_experiments.scoring.uncertainty import Estimate, Interval

CSV_COLUMNS = (
    "kind", "group", "baseline", "metric", "runs", "task_lists", "value", "deviation",
    "new_seeds_low", "new_seeds_high", "new_seeds_detectable",
    "new_tasks_low", "new_tasks_high", "new_tasks_detectable", "new_tasks_with_seeds",
    "in_pairs_of_seeds", "tasks_won", "tasks_lost", "tasks_same", "sign_test_p", "seconds",
)  # fmt: skip
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def show(comparison: Comparison, console: Console) -> None:
    """Notices, tables, sentences."""
    for notice in comparison.notices:
        console.print(f"[yellow]note[/] {escape(notice)}")
    for table in tables(comparison):
        console.print(f"\n[bold]{escape(table.title)}[/]")
        shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in table.headings:
            shown.add_column(escape(heading), overflow="fold")
        for row in table.rows:
            shown.add_row(*map(escape, row))
        console.print(shown)
    for sentence in sentences(comparison):
        console.print(f"- {escape(sentence)}")


def markdown(comparison: Comparison) -> str:
    """Tables in GitHub's form, notices as quotations."""
    parts = [f"> {_in_a_cell(notice)}\n" for notice in comparison.notices]
    for table in tables(comparison):
        rows = [table.headings, ("---",) * len(table.headings), *table.rows]
        lines = (f"| {' | '.join(_in_a_cell(cell) for cell in row)} |" for row in rows)
        parts.append(f"### {table.title}\n\n" + "\n".join(lines) + "\n")
    parts.append("\n".join(f"- {sentence}" for sentence in sentences(comparison)) + "\n")
    return "\n".join(parts)


def latex(comparison: Comparison) -> str:
    r"""Tables for a paper, with \usepackage{booktabs}; notices and sentences as comments."""
    said = [*comparison.notices, *sentences(comparison)]
    parts = [f"% {' '.join(sentence.split())}\n" for sentence in said]
    return "".join([*parts, *(_latex_table(table) for table in tables(comparison))])


def csv_text(comparison: Comparison) -> str:
    """A row a group and a row a difference; fractions 0..1, times in seconds."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_rows(comparison))
    return text.getvalue()


def _csv_rows(comparison: Comparison) -> Iterator[dict[str, object]]:
    for one in comparison.groups:
        counts = {"runs": len(one.values), "task_lists": len(one.blocks), "seconds": _plain(one.seconds)}
        names = {"kind": "group", "group": one.name, "metric": comparison.metric}
        yield names | counts | _csv_estimate(one.estimate)
    for contrast in comparison.contrasts:
        names = {"kind": "difference", "group": contrast.second.name, "baseline": contrast.baseline.name}
        yield (
            names
            | {"metric": comparison.metric, "in_pairs_of_seeds": contrast.by_seed}
            | _csv_estimate(contrast.estimate)
            | {
                "tasks_won": len(contrast.won) if contrast.gains is not None else "",
                "tasks_lost": len(contrast.lost) if contrast.gains is not None else "",
                "tasks_same": len(contrast.gains) - len(contrast.won) - len(contrast.lost)
                if contrast.gains is not None
                else "",
                "sign_test_p": _plain(contrast.p_value),
            }
        )


def _csv_estimate(estimate: Estimate) -> dict[str, object]:
    return {
        "value": estimate.value,
        "deviation": _plain(estimate.deviation),
        **_csv_interval("new_seeds", estimate.new_seeds),
        **_csv_interval("new_tasks", estimate.new_tasks),
        "new_tasks_with_seeds": estimate.with_seeds if estimate.new_tasks else "",
    }


def _csv_interval(name: str, interval: Interval | None) -> dict[str, object]:
    if interval is None:
        return {}
    return {f"{name}_{part}": getattr(interval, part) for part in ("low", "high", "detectable")}


def _plain(value: float | None) -> object:
    return "" if value is None else value


def _in_a_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _latex_table(table: Table) -> str:
    def line(row: tuple[str, ...]) -> str:
        return " & ".join("".join(LATEX.get(sign, sign) for sign in cell) for cell in row) + r" \\"

    title = "".join(LATEX.get(sign, sign) for sign in table.title)
    return "\n".join(
        [
            "",
            r"\begin{table}",
            rf"\caption{{{title}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.headings)}}}",
            r"\toprule",
            line(table.headings),
            r"\midrule",
            *(line(row) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
