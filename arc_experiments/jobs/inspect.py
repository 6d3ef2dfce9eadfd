"""Inspect: what the model gets of a composition, as pictures, text and tokens; counted and shown."""

from rich.columns import Columns
from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from arc_experiments.jobs.terminal import count_tasks, progress
from arc_experiments.launching.tables import plain_table, show_line
from arc_experiments.report.samples import SampleCard, card, length_row, source_row, write_inspection
from arc_experiments.report.wording import plural
from arc_experiments.run import Run
from arc_experiments.stream.counting import Counted, Lengths, count, count_validation, histogram
from arc_experiments.stream.samples import Sample, SampleStream
from arc_experiments.tasks.grids import Grid, to_rich

PAGE, COUNTS = "inspect.html", "inspect.json"
SHOWN = 2  # samples in the terminal; the page has all
BAR = 40  # characters of the longest bar
MOST_TOKENS = 1500  # of a sample in the terminal
LENGTHS = ("samples", "with loss", "5%", "median", "95%", "longest", "shrunk", "redrawn", "tasks", "each")


def main(run: Run, console: Console) -> None:
    """Count and show the stream and the validation tasks, every time anew: it takes seconds, no weights."""
    folder, options, stream = run.folder, run.config.inspect, run.stream()
    settings = _settings(run)
    for name, text in settings:
        show_line(console, name, text)
    with progress(console, "counting", options.num_counted) as bar:
        counted = count(stream, options.num_counted, bar.update)
    validation = count_validation(run.validation_tasks, run.prompt)
    _show_lengths(counted, validation, console)
    shown = [
        (number, sample)
        for index in range(options.first, options.first + options.num_samples)
        for number, sample in _numbered(stream, index)
    ]
    cards = [_card(run, stream, number, sample) for number, sample in shown]
    for (_, sample), one in list(zip(shown, cards, strict=True))[:SHOWN]:
        _show_sample(sample, one, console)
    by_source = {name: source.as_json() for name, source in counted.by_source.items()}
    folder.write_json(COUNTS, {"train": by_source, "validation": validation.as_json()})
    page = write_inspection(
        folder / PAGE,
        title=folder.path.name,
        settings=settings,
        cards=cards,
        counted=counted,
        validation=validation,
    )
    console.print(f"{plural(len(cards), 'sample')} and all counts: {page}", markup=False)
    console.print(str(folder), markup=False)


def _settings(run: Run) -> list[tuple[str, str]]:
    config, tasks = run.config, run.validation_tasks
    packed = f", rows of {config.optim.pack_length} tokens" if config.optim.pack_length else ""
    settings = [
        (
            "data",
            f"{config.data.name}: {count_tasks(run, run.partition.train)} train, "
            f"{count_tasks(run, tasks.ids)} validate "
            f"({tasks.num_test_outputs} test outputs), partition {run.partition.hash}",
        ),
        ("augmentation", ", ".join(config.augmentation) or "none"),
        ("prompt", f"{config.prompt.name}, at most {config.prompt.max_length} tokens{packed}"),
        ("model", config.model.path),
        ("seed", f"{config.seeds.stream} (partition {config.seeds.partition})"),
    ]
    skipped = sum(map(len, run.corpus.skipped.values()))
    left_out = ("left out", plural(skipped, "task or row", "tasks or rows"))
    return [*settings, left_out] if skipped else settings


def _numbered(stream: SampleStream, index: int) -> list[tuple[str, Sample]]:
    """The samples of a row, each with its number."""
    row = stream.row(index)
    if stream.pack_length is None:
        return [(str(index), row[0])]
    return [(f"row {index}, {place} of {len(row)}", sample) for place, sample in enumerate(row, start=1)]


def _card(run: Run, stream: SampleStream, number: str, sample: Sample) -> SampleCard:
    name = stream.parts[sample.part].name
    return card(
        sample,
        number,
        name,
        run.prompt.decode,
        several=len(stream.parts) > 1,
        picture_token=run.picture_token,
    )


def _show_lengths(counted: Counted, validation: Lengths, console: Console) -> None:
    """Show a table of the sources and a histogram of the rows."""
    table = plain_table("source", *LENGTHS, box=None, padding=(0, 1, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, source in counted.by_source.items():
        table.add_row(*source_row(name, source))
    table.add_row(*length_row("validation", validation))
    console.print(table)
    bins = histogram(counted.rows)
    most = max(number for _, _, number in bins)
    console.print(f"lengths of {plural(len(counted.rows), 'row')} in tokens")
    for start, end, number in bins:
        console.print(f"  {start:>6} to {end - 1:<6} {'█' * round(BAR * number / most):{BAR}} {number}")


def _show_sample(sample: Sample, one: SampleCard, console: Console) -> None:
    """Show pictures in the official colours, and the tokens: those with loss in green."""
    console.print(f"[bold]sample {one.number}[/] ", end="")
    console.print(f"{one.task_id} · {' · '.join(one.facts)}", markup=False)
    if console.is_terminal:
        console.print(Padding(_pictures(sample), (0, 0, 1, 2)))
    if one.program is not None:
        console.print(Padding(Text(one.program), (0, 0, 1, 2)))
    tokens, cut = one.tokens, Text()
    if len(tokens) > MOST_TOKENS:
        tokens, cut = (
            tokens[-MOST_TOKENS:],
            Text(f"... {len(tokens) - MOST_TOKENS} tokens ...\n", style="dim"),
        )
    styles = ("dim", "dim on grey15"), ("bold green", "bold green on grey15")
    # The background shows where a token ends.
    styled = [(token.shown, styles[token.learnt][place % 2]) for place, token in enumerate(tokens)]
    console.print(Padding(Text.assemble(cut, *styled), (0, 0, 1, 2)), soft_wrap=False)


def _pictures(sample: Sample) -> Columns:
    pairs = [
        (f"{number} in", f"{number} out", pair) for number, pair in enumerate(sample.task.train, start=1)
    ]
    if sample.task.test:
        pairs.append(("test in", "test out", sample.task.test[sample.test_index]))
    pictures = [
        _titled(title, grid)
        for before, after, pair in pairs
        for title, grid in ((before, pair.input), (after, pair.output))
        if grid is not None
    ]
    return Columns(pictures, padding=(1, 3))


def _titled(title: str, grid: Grid) -> Group:
    return Group(Text(title, style="dim"), to_rich(grid))
