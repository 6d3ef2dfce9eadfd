"""benchmark.json as tables: for the terminal and as Markdown. Ranges are those of the rounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table as RichTable

from arc_experiments.report.words import NO_VALUE, memory, percent

Results = dict[str, Any]
# What tells one training from another, beside the keys that benchmark.vary names.
IDENTITY = ("per_device_batch_size", "length", "input_size", "packing", "vocabulary", "num_processes")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Texts in rows of equal length."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def make_tables(results: Results) -> list[Table]:
    """The tables of the parts that are there."""
    tables = []
    for name, make in MAKERS.items():
        result = results.get(name)
        if result is None:
            continue
        if "error" in result:
            tables.append(Table(title=name, columns=("not measured",), rows=((result["error"],),)))
        else:
            tables.append(make(result))
    return tables


def rich_table(table: Table) -> RichTable:
    """The table for a terminal."""
    shown = RichTable(*table.columns, title=table.title, title_justify="left")
    for row in table.rows:
        shown.add_row(*map(escape, row))
    return shown


def markdown(results: Results) -> str:
    """All tables and the machines, as a Markdown page."""
    lines = ["# Benchmark", "", f"{results['num_measured']} of {results['num_cells']} measurements made.", ""]
    for machine in results["machines"]:
        packages = ", ".join(
            f"{name} {machine['packages'][name]}" for name in ("torch", "transformers", "trl")
        )
        lines += [
            f"Machine: {machine['device']}, {machine['threads']} threads, {machine['system']}, "
            f"Python {machine['python']}, {packages}, commit {machine['commit']}.",
            "",
        ]
    for table in make_tables(results):
        lines += [f"## {table.title}", "", _line(table.columns), _line(["---"] * len(table.columns))]
        lines += [*map(_line, table.rows), ""]
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _stream(stream: Results) -> Table:
    stages = stream["stage_seconds"]
    together = sum(stages.values())
    rows = [
        ("stream, samples/s", _ranged(stream, "samples_per_second")),
        ("stream, tokens/s", _ranged(stream, "tokens_per_second")),
        ("text and tokenizer, samples/s", _ranged(stream, "text_path_samples_per_second")),
        ("stream / text and tokenizer", _ranged(stream, "speedup", ".1f")),
    ]
    rows += [
        (f"stage: {name}", f"{percent(value / together)} ({1e3 * value:.3f} ms)")
        for name, value in stages.items()
    ]
    title = f"Samples on one core, {stream['tokens_per_sample']:,.0f} tokens each"
    return Table(title=title, columns=("what", "median (range)"), rows=tuple(rows))


def _loading(loading: Results) -> Table:
    rows = (
        (
            str(row["num_workers"]),
            f"{row['samples_per_second']:,.0f}",
            f"{row['tokens_per_second']:,.0f}",
            percent(row["data_wait_fraction"]),
        )
        for row in loading["workers"]
    )
    waiting = f"waited for at {loading['consumer_tokens_per_second']:,.0f} tokens/s"
    title = f"DataLoader, batches of {loading['per_device_batch_size']}"
    return Table(title=title, columns=("workers", "samples/s", "tokens/s", waiting), rows=tuple(rows))


def _waiting(waiting: Results) -> Table:
    rows = (
        (str(row["num_workers"]), percent(row["data_wait_fraction"]), f"{row['tokens_per_second']:,.0f}")
        for row in waiting["workers"]
    )
    columns = ("workers", "of the time waited for data", "tokens/s")
    return Table(title="Training on the stream", columns=columns, rows=tuple(rows))


def _training(rows: Sequence[Results]) -> Table:
    varied = [key for key in rows[0] if "." in key]
    told = [key for key in (*IDENTITY, *varied) if len({str(row.get(key)) for row in rows}) > 1]
    same = [f"{key} {rows[0][key]}" for key in (*IDENTITY, *varied) if key not in told and key in rows[0]]
    return Table(
        title=", ".join(["Training", *same]).replace("_", " "),
        columns=(
            *(key.replace("_", " ") for key in told),
            *("tokens/s", "bare loop", "ratio (range)", "peak memory", "FLOPs used"),
        ),
        rows=tuple((*(str(row.get(key, NO_VALUE)) for key in told), *_training_values(row)) for row in rows),
    )


def _training_values(row: Results) -> tuple[str, ...]:
    if "error" in row:
        return (row["error"], NO_VALUE, NO_VALUE, NO_VALUE, NO_VALUE)
    bare, used = row["bare_tokens_per_second"], row["flops_utilisation"]
    return (
        f"{row['tokens_per_second']:,.0f}",
        NO_VALUE if bare is None else f"{bare:,.0f}",
        _ranged(row, "relative_speed", ".2f"),
        memory(row["peak_memory_bytes"]),
        NO_VALUE if used is None else percent(used),
    )


def _generation(generation: Results) -> Table:
    rows = (
        ("in batches, tokens/s", _ranged(generation, "tokens_per_second")),
        ("one at a time, tokens/s", _ranged(generation, "one_at_a_time_tokens_per_second")),
        ("ratio", _ranged(generation, "speedup", ".1f")),
    )
    title = f"{generation['num_prompts']} answers of at most {generation['new_tokens']} tokens"
    return Table(title=title, columns=("what", "median (range)"), rows=rows)


def _startup(startup: Results) -> Table:
    names = [key for key in startup if key.endswith("_seconds")]
    rows = tuple(
        (key.removesuffix("_seconds").replace("_", " "), _ranged(startup, key, ".1f")) for key in names
    )
    return Table(title="From the command to the first step", columns=("phase", "seconds"), rows=rows)


def _ranged(values: Results, name: str, form: str = ",.0f") -> str:
    """The median and the range of its rounds."""
    if values[name] is None:
        return NO_VALUE
    low, high = values[f"{name}_range"]
    return f"{values[name]:{form}} ({low:{form}} to {high:{form}})"


MAKERS: dict[str, Callable[[Any], Table]] = {
    "stream": _stream,
    "loading": _loading,
    "waiting": _waiting,
    "training": _training,
    "generation": _generation,
    "startup": _startup,
}
