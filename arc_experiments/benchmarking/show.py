"""Show benchmark.json as a Markdown page of tables and as a chart; equal numbers give equal bytes."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from arc_experiments.report.chart_kinds import Bar, bar_chart
from arc_experiments.report.svg import GREY, SERIES, Chart
from arc_experiments.report.wording import NO_VALUE, memory, percent, plural

Values = dict[str, Any]

TITLES = {
    "stream": "Samples on one core: stream[i] against text and tokenizer",
    "loading": "Waiting for data: a consumer that only sleeps, and the real training",
    "training": "Training against a bare loop",
    "generation": "Answers in batches against one at a time",
    "scoring": "Likelihood of candidates: their prompt read once against once per candidate",
}
# Panels of the chart: heading, section of benchmark.json, label of a bar -> key; ours is first.
BARS = (
    ("samples/s on one core", "stream",
     {"stream[i]": "samples_per_second", "text and tokenizer": "text_path_samples_per_second"}),
    ("training, tokens/s", "training",
     {"": "tokens_per_second", "bare loop": "bare_tokens_per_second"}),
    ("answers, tokens/s", "generation",
     {"in batches": "tokens_per_second", "one at a time": "one_at_a_time_tokens_per_second"}),
    ("scored candidates/s", "scoring",
     {"prompt read once": "candidates_per_second", "once a candidate": "plain_candidates_per_second"}),
)  # fmt: skip


def markdown(results: Values) -> str:
    """Return all tables and the machines as a Markdown page."""
    counts = [f"{results['num_measured']} of {plural(results['num_cells'], 'measurement')} made"]
    for name in ("out_of_memory", "failed"):
        if results[f"num_{name}"]:
            counts.append(f"{results[f'num_{name}']} {_words(name)}")
    lines = ["# Benchmark", "", f"{', '.join(counts)}.", ""]
    for machine in results["machines"]:
        packages = [f"{name} {machine['packages'][name]}" for name in ("torch", "transformers", "trl")]
        facts = [machine["device"], machine["system"], f"Python {machine['python']}", *packages]
        lines += [f"Machine: {', '.join(facts)}, commit {machine['commit']}.", ""]
    for name, title in TITLES.items():
        if name in results:
            table = _of_rows if isinstance(results[name], list) else _of_values
            lines += [f"## {title}", "", *table(results[name]), ""]
    return "\n".join(lines)


def _of_rows(rows: Sequence[Values]) -> Iterator[str]:
    """Yield a column for each value that differs between rows, below a sentence with those that do not."""
    keys = [key for key in dict.fromkeys(itertools.chain(*rows)) if not key.endswith("_range")]
    columns = [key for key in keys if _differs(rows, key) or (len(rows) == 1 and _is_figure(key, rows[0]))]
    same = [f"{_words(key)} {_text(key, rows[0])}" for key in keys if key not in columns]
    if same:
        yield from (f"The same in all: {', '.join(same)}.", "")
    yield _line(map(_words, columns))
    yield _line("---" for _ in columns)
    for row in rows:
        yield _line(_text(key, row) for key in columns)


def _of_values(values: Values) -> Iterator[str]:
    """Yield a line for each value, and for each part of a value that has parts."""
    yield from (_line(["what", "median (range)"]), _line(["---", "---"]))
    for key, value in values.items():
        parts = {f"{part} {key}": share for part, share in value.items()} if isinstance(value, dict) else {}
        for name in parts or [key]:
            if not name.endswith("_range"):
                yield _line([_words(name), _text(name, parts or values)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _words(key: str) -> str:
    return key.removesuffix("_bytes").replace("_", " ")


def _differs(rows: Sequence[Values], key: str) -> bool:
    return len({str(row.get(key)) for row in rows}) > 1


def _is_figure(key: str, row: Values) -> bool:
    return isinstance(row[key], float) or key in ("error", "peak_memory_bytes")


def _text(key: str, values: Values) -> str:
    """Return the value with the range of its rounds."""
    value, (low, high) = values.get(key), values.get(f"{key}_range", (None, None))
    if value is None:
        return NO_VALUE
    if key == "error":
        return f"`{str(value).replace('`', chr(39))}`"  # without Markdown in it
    text = _number(key, value)
    return text if low is None else f"{text} ({_number(key, low)} to {_number(key, high)})"


def _number(key: str, value: Any) -> str:
    if isinstance(value, bool | str):
        return str(value)
    if key.endswith("_bytes"):
        return memory(value)
    if key.endswith(("_fraction", "_share", "_utilisation")):
        return percent(value)
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3g}"


def draw(results: Values) -> Chart:
    """Return the picture: a panel of bars for each part that was measured."""
    panels = []
    for heading, place, keys in BARS:
        rows = results.get(place, [])
        bars = list(_bars([rows] if isinstance(rows, dict) else rows, keys))
        if bars:
            panels.append((heading, bars))
    return bar_chart("benchmark", panels)


def _bars(rows: Sequence[Values], keys: dict[str, str]) -> Iterator[Bar]:
    """Yield a bar for each figure; a row's label is what distinguishes it from the others."""
    for row in rows:
        settings = itertools.takewhile(lambda key: key not in (*keys.values(), "error"), row)
        label = ", ".join(f"{_words(key)} {row[key]}" for key in settings if _differs(rows, key))
        for number, (name, key) in enumerate(keys.items()):
            if row.get(key) is not None:
                yield Bar(
                    name=", ".join(filter(None, [label, name])),
                    value=row[key],
                    words=_number("", row[key]),
                    colour=GREY if number and len(keys) == 2 else SERIES[0],
                )
