"""What a job shows in the terminal: what is going to happen, and how far it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from arc_experiments.inputs import Inputs
from arc_experiments.report.format import unscored_sentence
from arc_experiments.run import Run
from arc_experiments.runs.run_state import duration as duration  # one of the words that jobs show
from arc_experiments.scoring.per_output import solved
from arc_experiments.stream.samples import Sample

SHOWN_LINES = 14  # of the first sample's text, at its beginning and at its end


def show_plan(run: Run, model: Any, console: Console) -> None:
    """What this run is made of, a line a part."""
    from arc_experiments.models.notes import notes
    from arc_experiments.runs.environment import device_name

    config, validation = run.config, run.validation_tasks
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    dtype = str(run.dtype).removeprefix("torch.")
    lines = {
        config.job.name: str(run.folder),
        "data": f"{config.data.name}: {things(run, run.partition.train)} train, "
        f"{things(run, validation.ids)} validate"
        + (f" ({validation.num_test_outputs} test outputs)" if validation.num_test_outputs else ""),
        "model": f"{config.model.path}: {_millions(total)} parameters, {_millions(trained)} of them trained, "
        f"{dtype} on {device_name(run.device)}",
        "augmentation": ", ".join(config.augmentation) or "none",
        "prompt": f"{config.prompt.name}, at most {config.prompt.max_length} tokens",
        "batch": _batch(run),
    }
    for name, text in lines.items():
        console.print(f"[bold]{name:13}[/]", end="")
        console.print(text, markup=False)
    skipped = [message for messages in run.corpus.skipped.values() for message in messages]
    if skipped:
        console.print(
            f"[yellow]skipped[/]      {len(skipped)} tasks or rows left out (skipped_tasks.json): ", end=""
        )
        console.print(skipped[0], markup=False)
    for name, found in run.corpus.notes.items():
        for note in found:
            console.print(f"[yellow]note[/]         data {name}: ", end="")
            console.print(note, markup=False)
    trains = trained > 0
    about_model = notes(config.model, dtype=run.dtype, device=run.device, trainable=trains)
    for note in filter(None, [*about_model, run.weights.prompt_note()]):
        console.print(f"[yellow]note[/]         {note}")
    if validation.num_test_outputs == 0:
        console.print(
            "[yellow]note[/]         only ready rows are held out: their loss is measured, and nothing is answered or scored"
        )
    elif not run.can_validate:
        console.print("[yellow]note[/]         no validation loss: no validation task has solutions")
    asked = run.predicted_tasks()
    if unsolved := unscored_sentence(len(asked), len(asked) - len(solved(asked))):
        console.print(f"[yellow]note[/]         {unsolved}")
    if run.prompt.table_refused is not None:
        console.print(f"[yellow]note[/]         slower text path for each sample: {run.prompt.table_refused}")


def things(inputs: Inputs, ids: Sequence[str]) -> str:
    """`7 tasks and 20 rows`."""
    num_rows = sum(task_id in inputs.corpus.rows for task_id in ids)
    counts = {"tasks": len(ids) - num_rows, "rows": num_rows}
    return " and ".join(f"{count} {name}" for name, count in counts.items() if count) or "0 tasks"


def _batch(run: Run) -> str:
    """How the samples of one optimizer step are shared out."""
    size, rows = run.config.optim.batch_size, run.per_device_batch_size
    processes = run.processes.num_processes
    row = (
        "samples"
        if run.config.optim.pack_length is None
        else f"rows of {run.config.optim.pack_length} tokens"
    )
    return f"{size} {row} a step: {processes} process{'es' if processes > 1 else ''} x {rows} x {size // (processes * rows)}"


def show_sample(sample: Sample, run: Run, console: Console) -> None:
    """The first training sample as the model reads it, cut in the middle if long."""
    lines = run.prompt.decode(sample.encoded.input_ids).splitlines()
    num_labels = int((sample.encoded.labels >= 0).sum())
    if len(lines) > 2 * SHOWN_LINES:
        cut = [f"... ({len(lines) - 2 * SHOWN_LINES} more lines) ..."]
        lines = lines[:SHOWN_LINES] + cut + lines[-SHOWN_LINES:]
    length = len(sample.encoded)
    console.print(f"[bold]first sample[/] {sample.task.id}: {length} tokens, {num_labels} of them with loss")
    for line in lines:
        console.print(f"  {line}", markup=False, style="dim")


@contextmanager
def progress(console: Console, title: str, total: int) -> Iterator["Bar"]:
    """A live line in a terminal; elsewhere (a log, a pipe) a plain line at every tenth."""
    with Progress(
        TextColumn("[bold]{task.description:13}"),
        BarColumn(30),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as live:
        yield Bar(console, live, title, total)


class Bar:
    """How far a phase is."""

    def __init__(self, console: Console, live: Progress, title: str, total: int) -> None:
        self._console, self._live, self._title, self._total = console, live, title, total
        self._task = live.add_task(title, total=total, text="")
        self._tenth = 0

    def update(self, done: int, text: str = "") -> None:
        self._live.update(self._task, completed=done, text=text)
        tenth = 10 * done // max(1, self._total)
        if not self._console.is_terminal and tenth > self._tenth:
            self._tenth = tenth
            self._console.print(f"{self._title:13}{done}/{self._total} {text}", markup=False)


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
