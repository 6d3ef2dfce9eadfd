"""A progress bar for what is made once and kept: live in a terminal, elsewhere a line; and one in the log at the end."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Gives what is called with each number of things done; `total` is None where it is not known.

    On stderr, since what is asked for may be printed on stdout.
    """
    from rich.console import Console  # only here: the command imports this module to check a composition
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console, start = Console(stderr=True), time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
    if not console.is_terminal:
        console.print(f"{title}: once, later starts find them", markup=False, soft_wrap=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as live:
        task = live.add_task(title, total=total)
        yield lambda number: live.update(task, advance=number)
        done = live.tasks[task].completed
    text = f"{title}: {done:.0f} in {time.perf_counter() - start:.1f} s"
    console.print(text, markup=False, soft_wrap=True)
    log.info(text)
