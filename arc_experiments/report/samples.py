"""`inspect.html`: samples of the stream as pictures, text and tokens with their loss, and the counts.

In: samples and counts. Out: a page that needs no other file, like the report.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from arc_experiments.prompts.kinds import PROGRAM_KINDS
from arc_experiments.report.chart_kinds import histogram_chart
from arc_experiments.report.pictures_seen import SeenPicture
from arc_experiments.report.templates import fill, write_page
from arc_experiments.report.wording import NO_VALUE, percent, plural
from arc_experiments.stream.counting import Counted, Lengths, SourceCount, histogram
from arc_experiments.stream.samples import Sample
from arc_experiments.tasks import Pair, Row

EXTREMES = 12  # tasks named as drawn most and least often


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token's text and id; `learnt` if it has a loss; `times` if a picture takes so many in a row."""

    text: str
    id: int
    learnt: bool
    times: int = 1

    @property
    def shown(self) -> str:
        return self.text if self.times == 1 else f"{self.text} x {self.times}"


@dataclass(frozen=True, kw_only=True)
class SampleCard:
    """One sample; `facts` are its names and counts in words. A ready row has no grids, and so no `test`.

    Attributes:
        tokens: those that a picture repeats are one.
    """

    number: str
    task_id: str
    facts: tuple[str, ...]
    demonstrations: tuple[Pair, ...]
    test: Pair | None
    program: str | None  # of the task, in a question about programs
    tokens: tuple[Token, ...]
    pictures: tuple[SeenPicture, ...] = ()

    @property
    def text(self) -> str:
        """What the model reads and writes."""
        return "".join(token.shown for token in self.tokens)


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
        "report/samples.html.j2",
        title=title,
        settings=settings,
        cards=cards,
        rows=[*sources, (*length_row("validation", validation), "", "")],
        visits=[_visits(name, source) for name, source in counted.by_source.items()],
        histogram=histogram_chart(histogram(counted.rows), x_label="tokens of a sample", unit="tokens"),
        num_rows=len(counted.rows),
    )
    return write_page(path, page)


def card(
    sample: Sample,
    number: str,
    source: str,
    decode: Callable[[Sequence[int]], str],
    *,
    several: bool,
    picture_token: str | None = None,
) -> SampleCard:
    """The words, grids and tokens of a sample.

    Args:
        decode: token ids to text.
        several: whether there are several sources, so that the sample's own is worth naming.
        picture_token: of which a picture takes many; None without pictures.
    """
    task, learnt = sample.task, sample.encoded.labels >= 0
    facts = [f"from {source}"] if several else []
    what = "ready row" if isinstance(task, Row) else sample.kind.replace("_", " ")
    facts += [what, " ".join(sample.augmentation) or "not augmented"]
    facts += [f"{plural(len(sample.encoded), 'token')}, {int(learnt.sum()):,} of them with loss"]
    if sample.num_dropped:
        facts.append(f"{plural(sample.num_dropped, 'demonstration')} dropped to fit")
    if sample.num_left_out:
        facts.append(f"{plural(sample.num_left_out, 'augmentation')} left out: its program cannot follow")
    if sample.num_redrawn:
        facts.append(f"{plural(sample.num_redrawn, 'task')} drawn before did not fit")
    return SampleCard(
        number=number,
        task_id=task.id,
        facts=tuple(facts),
        demonstrations=task.train,
        test=None if isinstance(task, Row) else task.test[sample.test_index],
        program=None if task.program is None or sample.kind not in PROGRAM_KINDS else task.program.text,
        tokens=tuple(_tokens(sample, decode, picture_token)),
        pictures=tuple(map(SeenPicture.of, sample.encoded.pictures)),
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


def _tokens(
    sample: Sample, decode: Callable[[Sequence[int]], str], picture_token: str | None
) -> Iterator[Token]:
    ids, labels = sample.encoded.input_ids.tolist(), sample.encoded.labels.tolist()
    for (token, learnt), alike in groupby(zip(ids, (label >= 0 for label in labels), strict=True)):
        text, count = decode([token]), len(list(alike))
        if text == picture_token:
            yield Token(text=text, id=token, learnt=learnt, times=count)
        else:
            yield from [Token(text=text, id=token, learnt=learnt)] * count


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
