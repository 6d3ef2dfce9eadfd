"""benchmark.json as a Markdown page of tables, and as one picture of bars; the same bytes for the same numbers."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from markupsafe import escape

from arc_experiments.report.format import NO_VALUE, memory, percent, plural

Values = dict[str, Any]

TITLES = {
    "stream": "Samples on one core, stream[i] against text and tokenizer",
    "loading": "Waiting for data: of a consumer that only sleeps, and of the real training",
    "training": "Training against a bare loop",
    "generation": "Answers in batches against one at a time",
    "scoring": "Likelihood of candidates, their prompt read once against once a candidate",
    "startup": "From the command to the first step",
}
# What the picture shows: heading, place in benchmark.json, name of a bar -> key; the first is ours.
BARS = (
    ("samples/s on one core", "stream",
     {"stream[i]": "samples_per_second", "text and tokenizer": "text_path_samples_per_second"}),
    ("training, tokens/s", "training",
     {"": "tokens_per_second", "bare loop": "bare_tokens_per_second"}),
    ("answers, tokens/s", "generation",
     {"in batches": "tokens_per_second", "one at a time": "one_at_a_time_tokens_per_second"}),
    ("scored candidates/s", "scoring",
     {"prompt read once": "candidates_per_second", "once a candidate": "plain_candidates_per_second"}),
    ("from the command to the first step, seconds", "startup",
     {"compose": "compose_seconds", "imports": "imports_seconds", "data": "data_seconds", "model": "model_seconds",
      "preparation": "preparation_seconds", "first validation": "first_validation_seconds",
      "first step": "first_step_seconds", "total": "total_seconds"}),
)  # fmt: skip
WIDTH, LEFT, RIGHT = 960, 400, 90  # of the picture, of the names, of the values
BAR, GAP, HEADING = 16, 6, 30  # heights
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#22252a}.heading{font-weight:650}"
    ".ours{fill:#2c62a8}.other{fill:#b9bec6}"
)


def markdown(results: Values) -> str:
    """All tables and the machines, as a Markdown page."""
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
    """A column for what differs between rows; what does not is told above."""
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
    """A line for each value, and for each part of a value that has parts."""
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
    """The value, with the range of its rounds."""
    value, (low, high) = values.get(key), values.get(f"{key}_range", (None, None))
    if value is None:
        return NO_VALUE
    if key == "error":
        return f"`{str(value).replace('`', chr(39))}`"  # shown as it is
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


def draw(results: Values) -> str:
    """The picture as SVG text, which fetches nothing."""
    parts, y = [], 8
    for heading, place, keys in BARS:
        rows = results.get(place, [])
        bars = list(_bars([rows] if isinstance(rows, dict) else rows, keys))
        if bars:
            parts.append(f'<text class="heading" x="8" y="{y + 18}">{escape(heading)}</text>')
            parts += _drawn(bars, y + HEADING)
            y += HEADING + len(bars) * (BAR + GAP) + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" '
        f'aria-label="benchmark"><style>{STYLE}</style><rect width="{WIDTH}" height="{y}" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _bars(rows: Sequence[Values], keys: dict[str, str]) -> Iterator[tuple[str, float, str]]:
    """Name, value and class of each figure that is there. A row is named by what tells it from others."""
    for row in rows:
        told = itertools.takewhile(lambda key: key not in (*keys.values(), "error"), row)
        label = ", ".join(f"{_words(key)} {row[key]}" for key in told if _differs(rows, key))
        for number, (name, key) in enumerate(keys.items()):
            if row.get(key) is not None:
                kind = "other" if number and len(keys) == 2 else "ours"
                yield ", ".join(filter(None, [label, name])), row[key], kind


def _drawn(bars: Sequence[tuple[str, float, str]], top: int) -> Iterator[str]:
    scale = (WIDTH - LEFT - RIGHT) / max(value for _, value, _ in bars)
    for place, (name, value, kind) in enumerate(bars):
        y, length = top + place * (BAR + GAP), value * scale
        yield f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}"/>'
        yield f'<text x="{LEFT + length + 6:.1f}" y="{y + 13}">{_number("", value)}</text>'
