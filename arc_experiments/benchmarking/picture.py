"""benchmark.json as one picture of bars: a self-contained SVG, the same bytes for the same numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import escape

from arc_experiments.report.curves import ticks

WIDTH, LEFT, RIGHT = 860, 270, 110  # of the picture, of the names, of the values
BAR, GAP, HEADING = 16, 6, 44  # heights
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#22252a}.heading{font-weight:650}.quiet{fill:#62676f}"
    ".ours{fill:#2c62a8}.other{fill:#b9bec6}.rule{stroke:#e2e0db}"
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value with its name; `ours`, or what it is compared with."""

    name: str
    value: float
    ours: bool


def draw(results: dict[str, Any]) -> str:
    """The picture as text."""
    parts, y = [], 8
    for heading, bars in _groups(results):
        parts.append(_group(heading, bars, y))
        y += HEADING + len(bars) * (BAR + GAP) + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" '
        f'aria-label="benchmark"><style>{STYLE}</style><rect width="{WIDTH}" height="{y}" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _groups(results: dict[str, Any]) -> Iterator[tuple[str, list[Bar]]]:
    stream, generation, startup = (
        {} if "error" in results.get(name, {}) else results.get(name, {})
        for name in ("stream", "generation", "startup")
    )
    if stream:
        yield (
            "samples/s on one core",
            [
                Bar(name="stream[i]", value=stream["samples_per_second"], ours=True),
                Bar(name="text and tokenizer", value=stream["text_path_samples_per_second"], ours=False),
            ],
        )
    training = list(_training_bars(results.get("training", [])))
    if training:
        yield "training, tokens/s", training
    if generation:
        yield (
            "answers, tokens/s",
            [
                Bar(name="in batches", value=generation["tokens_per_second"], ours=True),
                Bar(name="one at a time", value=generation["one_at_a_time_tokens_per_second"], ours=False),
            ],
        )
    phases = {key: value for key, value in startup.items() if key.endswith("_seconds")}
    if phases:
        yield (
            "from the command to the first step, seconds",
            [
                Bar(name=key.removesuffix("_seconds").replace("_", " "), value=value, ours=True)
                for key, value in phases.items()
            ],
        )


def _training_bars(rows: list[dict[str, Any]]) -> Iterator[Bar]:
    for row in rows:
        if "error" in row:
            continue
        shape = row.get("input_size", f"{row['length']} tokens")
        varied = "".join(f", {row[key]}" for key in row if "." in key)
        name = f"{row['per_device_batch_size']} x {shape}{varied}"
        yield Bar(name=name, value=row["tokens_per_second"], ours=True)
        if row["bare_tokens_per_second"] is not None:
            yield Bar(name="bare loop", value=row["bare_tokens_per_second"], ours=False)


def _group(heading: str, bars: list[Bar], top: int) -> str:
    highest = max(bar.value for bar in bars)
    scale = (WIDTH - LEFT - RIGHT) / highest
    bottom = top + HEADING + len(bars) * (BAR + GAP)
    parts = [f'<text class="heading" x="8" y="{top + 18}">{escape(heading)}</text>']
    for value in ticks(0, highest, 5):
        x = LEFT + value * scale
        parts.append(f'<path class="rule" d="M{x:.1f} {top + HEADING - 6}V{bottom}"/>')
        parts.append(f'<text class="quiet" x="{x:.1f}" y="{top + 34}" text-anchor="middle">{value:,g}</text>')
    for place, bar in enumerate(bars):
        y = top + HEADING + place * (BAR + GAP)
        kind, length = "ours" if bar.ours else "other", bar.value * scale
        parts.append(f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{escape(bar.name)}</text>')
        parts.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}"/>')
        parts.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 13}">{_short(bar.value)}</text>')
    return "".join(parts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
