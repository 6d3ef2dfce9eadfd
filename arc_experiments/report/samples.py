"""`inspect.html`: samples of the stream as pictures, text and tokens with their loss, and the counts.

In: samples and counts. Out: a page that stands alone, like the report.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from arc_experiments.report.curves import ticks
from arc_experiments.report.format import NO_VALUE, percent, plural
from arc_experiments.report.page import fill, write_page
from arc_experiments.stream.counting import Counted, Lengths, SourceCount, histogram
from arc_experiments.stream.samples import Sample
from arc_experiments.tasks import Pair, Row

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 860, 220, 60, 40, 10
EXTREMES = 12  # tasks named as drawn most and least often


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token's text and id; `learnt` if it has a loss."""

    text: str
    id: int
    learnt: bool


@dataclass(frozen=True, kw_only=True)
class SampleCard:
    """One sample; `facts` are its names and counts in words. A ready row has no grids, and so no `test`."""

    number: str
    task_id: str
    facts: tuple[str, ...]
    demonstrations: tuple[Pair, ...]
    test: Pair | None
    tokens: tuple[Token, ...]

    @property
    def text(self) -> str:
        """What the model reads and writes."""
        return "".join(token.text for token in self.tokens)


def write_inspection(
    path: Path,
    *,
    title: str,
    settings: Sequence[tuple[str, str]],
    cards: Sequence[SampleCard],
    counted: Counted,
    validation: Lengths,
) -> Path:
    """Write the page and return its path."""
    sources = [source_row(name, source) for name, source in counted.by_source.items()]
    page = fill(
        "samples.html.j2",
        title=title,
        settings=settings,
        cards=cards,
        rows=[*sources, (*length_row("validation", validation), "", "")],
        visits=[_visits(name, source) for name, source in counted.by_source.items()],
        histogram=_bars(counted.rows),
        num_rows=len(counted.rows),
    )
    return write_page(path, page)


def card(
    sample: Sample, number: str, source: str, decode: Callable[[Sequence[int]], str], *, several: bool
) -> SampleCard:
    """The words, grids and tokens of a sample.

    Args:
        decode: token ids to text.
        several: whether there are several sources, so that the sample's own is worth naming.
    """
    learnt = sample.encoded.labels >= 0
    facts = [f"from {source}"] if several else []
    what = "ready row" if isinstance(sample.task, Row) else sample.kind.replace("_", " ")
    facts += [what, " ".join(sample.augmentation) or "not augmented"]
    facts += [f"{plural(len(sample.encoded), 'token')}, {int(learnt.sum()):,} of them with loss"]
    if sample.num_dropped:
        facts.append(f"{plural(sample.num_dropped, 'demonstration')} dropped to fit")
    if sample.num_redrawn:
        facts.append(f"{plural(sample.num_redrawn, 'task')} drawn before did not fit")
    return SampleCard(
        number=number,
        task_id=sample.task.id,
        facts=tuple(facts),
        demonstrations=sample.task.train,
        test=None if isinstance(sample.task, Row) else sample.task.test[sample.test_index],
        tokens=_tokens(sample, decode),
    )


def length_row(name: str, lengths: Lengths) -> tuple[str, ...]:
    """Name, samples, share of tokens with loss, lengths at percentiles 5, 50, 95, 100, shrunk, redrawn."""
    values = lengths.as_json()
    at = values["length_percentiles"]
    return (
        name,
        f"{values['samples']:,}",
        percent(values["tokens_with_loss"] / values["tokens"]) if values["tokens"] else NO_VALUE,
        *(NO_VALUE if at is None else f"{at[key]:,}" for key in ("5", "50", "95", "100")),
        f"{values['samples_shrunk']:,}",
        f"{values['samples_redrawn']:,}",
    )


def source_row(name: str, source: SourceCount) -> tuple[str, ...]:
    """As `length_row`, with the number of tasks drawn and how often each was."""
    tasks = source.as_json()["tasks"]
    drawn = f"{tasks['num_tasks'] - tasks['never_drawn']:,} of {tasks['num_tasks']:,}"
    return (*length_row(name, source), drawn, f"{tasks['fewest']} to {tasks['most']}")


def _tokens(sample: Sample, decode: Callable[[Sequence[int]], str]) -> tuple[Token, ...]:
    ids, labels = sample.encoded.input_ids.tolist(), sample.encoded.labels.tolist()
    return tuple(
        Token(text=decode([token]), id=token, learnt=label >= 0)
        for token, label in zip(ids, labels, strict=True)
    )


def _visits(name: str, source: SourceCount) -> dict[str, Any]:
    """The tasks drawn most and least often, with their counts."""
    by_count = source.visits.most_common()
    same = [(count, len(list(tasks))) for count, tasks in groupby(by_count, key=lambda entry: entry[1])]
    return {
        "name": name,
        "most": by_count[:EXTREMES],
        "least": by_count[: -EXTREMES - 1 : -1],
        "counts": ", ".join(f"{plural(tasks, 'task')} {plural(count, 'time')}" for count, tasks in same),
    }


def _bars(lengths: Sequence[int]) -> Markup:
    """The histogram as SVG, in the colours of the page."""
    bins = histogram(lengths)
    most, first, last = max(count for _, _, count in bins), bins[0][0], bins[-1][1]
    scale = (WIDTH - LEFT - 10) / (last - first)
    bottom = HEIGHT - BOTTOM
    parts = []
    for value in ticks(0, most, 4):
        y = bottom - (bottom - TOP) * value / most
        parts.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - 10}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for start, end, count in bins:
        height = (bottom - TOP) * count / most
        parts.append(
            f'<rect class="column" x="{LEFT + (start - first) * scale + 1:.1f}" y="{bottom - height:.1f}" '
            f'width="{(end - start) * scale - 2:.1f}" height="{height:.1f}"><title>{start} to {end - 1} tokens: '
            f"{count}</title></rect>"
        )
    for value in ticks(first, last, 10):
        x = LEFT + (value - first) * scale
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{value:,.0f}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2:g}" y="{HEIGHT - 4}" text-anchor="middle">tokens</text>')
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="histogram of lengths">'
        f"{''.join(parts)}</svg>"
    )
