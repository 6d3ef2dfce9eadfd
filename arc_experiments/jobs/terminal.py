"""What a job shows in the terminal before and while it works: plan, notes, leaks, first sample, progress."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from arc_experiments.generation.requests import longest_left_out
from arc_experiments.jobs.beginning import Leaks, from_run_note, leaks_text
from arc_experiments.launching.tables import show_line
from arc_experiments.pictures.inputs import folded
from arc_experiments.report.wording import plural, unscored_sentence
from arc_experiments.run import Run
from arc_experiments.runs.run_state import duration
from arc_experiments.scoring.per_output import solved
from arc_experiments.stream.building import program_notes
from arc_experiments.stream.samples import Sample

SHOWN_LINES = 14  # of the first sample's text, at its beginning and at its end


def show_plan(run: Run, model: Any, console: Console) -> None:
    """Show what this run is made of, a line a part, and what should be known about it."""
    # Takes long to import, and job=inspect has no use for it.
    from arc_experiments.runs.environment import device_name

    config, validation = run.config, run.validation_tasks
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    num_outputs, num_asked = validation.num_test_outputs, len(run.predicted_tasks())
    is_part = 0 < num_asked < len(run.corpus.arc_tasks)
    lines = {
        config.job.name: str(run.folder),
        "data": f"{config.data.name}: {count_tasks(run, run.partition.train)} train, "
        f"{count_tasks(run, validation.ids)} validate"
        + (f" ({plural(num_outputs, 'test output')})" if num_outputs else "")
        + (f"; {plural(num_asked, 'task is', 'tasks are')} asked (inference.limit)" if is_part else ""),
        "model": f"{config.model.path}: {_millions(total)} parameters, {_millions(trained)} of them trained, "
        f"{str(run.dtype).removeprefix('torch.')} on {device_name(run.device)}",
        **({"augmentation": ", ".join(config.augmentation) or "none"} if trained else {}),
        "prompt": f"{config.prompt.name}, at most {config.prompt.max_length} tokens",
        **({"batch": _batch(run)} if trained else {}),
    }
    for name, text in lines.items():
        show_line(console, name, text)
    for title, text in _notes(run, trains=trained > 0):
        show_line(console, title, text, "yellow")


def _notes(run: Run, *, trains: bool) -> Iterator[tuple[str, str]]:
    """What should be known about the data, the model and the prompt: a title and a sentence each."""
    from arc_experiments.models.notes import notes

    skipped = [message for messages in run.corpus.skipped.values() for message in messages]
    if skipped:
        left_out = plural(len(skipped), "task or row", "tasks or rows")
        more = f" ... and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        yield "skipped", f"{left_out} left out (skipped_tasks.json): {skipped[0]}{more}"
    if warning := from_run_note(run):
        yield "warning", warning
    for name, found in run.corpus.notes.items():
        for note in found:
            yield "note", f"data {name}: {note}"
    about_model = notes(run.config.model, dtype=run.dtype, device=run.device, trainable=trains)
    for note in filter(None, [*about_model, run.weights.prompt_note()]):
        yield "note", note
    yield from (("note", note) for note in _data_notes(run, trains=trains))
    asked = run.predicted_tasks()
    if unsolved := unscored_sentence(len(asked), len(asked) - len(solved(asked))):
        yield "note", unsolved
    if run.prompt.table_refused is not None:
        yield "note", f"slower text path for each sample: {run.prompt.table_refused}"


def _data_notes(run: Run, *, trains: bool) -> Iterator[str]:
    """What cannot be measured on this data, or not be asked about it."""
    if run.validation_tasks.num_test_outputs == 0:
        yield "only ready rows are held out: their loss is measured, and nothing is answered or scored"
    elif not run.can_validate:
        what = "solutions" if run.prompt.asks == "grid" else "a program"
        yield f"no validation loss: no validation task has {what}"
    if trains:
        yield from program_notes(run.config.prompt, run.corpus.shares)
        if copies := run.corpus.copies:
            first = " = ".join(copies[0])
            yield f"{plural(len(copies), 'training task')} with copies under other names: {first}"


def count_tasks(run: Run, ids: Sequence[str]) -> str:
    """`7 tasks and 20 rows`."""
    num_rows = sum(task_id in run.corpus.rows for task_id in ids)
    counts = {"task": len(ids) - num_rows, "row": num_rows}
    return " and ".join(plural(count, noun) for noun, count in counts.items() if count) or "0 tasks"


def _batch(run: Run) -> str:
    """How the samples of one optimizer step are divided among processes and batches."""
    size, rows = run.config.optim.batch_size, run.per_device_batch_size
    processes, length = run.processes.num_processes, run.config.optim.pack_length
    row = "sample" if length is None else f"row of {length} tokens"
    if size > 1:
        row = row.replace("sample", "samples").replace("row", "rows", 1)
    shared = plural(processes, "process", "processes")
    return f"{size} {row} a step: {shared} x {rows} at once x {plural(size // (processes * rows), 'time')}"


def show_leaks(leaks: Leaks, console: Console) -> None:
    """Show which held-out tasks are among those trained on, if any, and what can be done about it."""
    if text := leaks_text(leaks):
        show_line(console, "leaks", text, "yellow")


def show_shrunk(run: Run, console: Console) -> None:
    """Show how many prompts are not whole, if any."""
    dropped = sum(request.num_dropped > 0 for request in run.requests)
    too_long = sum(request.ids is None for request in run.requests)
    if dropped or too_long:
        parts = [f"{dropped:,} lost demonstrations to fit prompt.max_length"] if dropped else []
        if too_long:
            longest = longest_left_out(run.requests, run.predicted_tasks(), run.prompt)
            parts.append(
                f"{too_long:,} cannot be asked, being longer than prompt.max_length even with a single one "
                f"(up to {longest:,} tokens)"
            )
        console.print(
            f"[yellow]note[/]         of {plural(len(run.requests), 'prompt')} {' and '.join(parts)}"
        )


def show_sample(sample: Sample, run: Run, console: Console) -> None:
    """Show the first training sample as the model reads it, cut in the middle if long."""
    text = run.prompt.decode(sample.encoded.input_ids)
    if run.picture_token is not None:
        text = folded(text, run.picture_token)
    lines = text.splitlines()
    num_labels = int((sample.encoded.labels >= 0).sum())
    if len(lines) > 2 * SHOWN_LINES:
        cut = [f"... ({len(lines) - 2 * SHOWN_LINES} more lines) ..."]
        lines = lines[:SHOWN_LINES] + cut + lines[-SHOWN_LINES:]
    length = len(sample.encoded)
    console.print(f"[bold]first sample[/] {sample.task.id}: {length} tokens, {num_labels} of them with loss")
    for line in lines:
        console.print(f"  {line}", markup=False, style="dim")


@contextmanager
def progress(console: Console, title: str, total: int) -> Iterator["ProgressBar"]:
    """Show progress: a live line in a terminal, elsewhere (a log, a pipe) a plain line at every tenth."""
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
        yield ProgressBar(console, live, title, total)


class ProgressBar:
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
            self.tell(self._title, done, text)

    def tell(self, what: str, done: int, text: str) -> None:
        """Print a line that stays: something beside the phase that has happened at this place of it."""
        self._console.print(f"{what:13}{done}/{self._total} {text}", markup=False)


def timed(bar: ProgressBar) -> Callable[[int, int], None]:
    """What moves the bar, with the speed of this attempt."""
    start, earlier = time.perf_counter(), None

    def show(done: int, total: int) -> None:
        nonlocal earlier
        if earlier is None:  # by an attempt that was killed
            earlier = done
        if done > earlier:
            speed = (done - earlier) / (time.perf_counter() - start)
            left = f", {duration((total - done) / speed)} left" if done < total else ""
            bar.update(done, f"{speed:.1f} prompts/s{left}")

    return show


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
