"""Generate pairs on all cores into a store: pair n of a task is a function of (seed, task, n).

Pair n differs from all earlier pairs, so that a store of more pairs begins with those of a smaller one.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection

from arc_experiments.sources.pools.generators import VALIDATION, Recipe, generators, package_version
from arc_experiments.sources.pools.pair_store import (
    Packed,
    PairStore,
    StoreWriter,
    open_or_make,
    pack,
    progress,
)
from arc_experiments.tasks.rngs import rng_for
from arc_experiments.tasks.task import Pair

FIRST_TRIES = 100  # for a task's first pair, before the task is assumed to have none
LATER_TRIES = 1000  # the default for each further pair

OneTask = Callable[[str], tuple[Packed, Counter[str]]]

log = logging.getLogger(__name__)


def generated_store(
    recipe: Recipe,
    *,
    num_pairs: int,
    seed: int,
    cache_dir: str | None,
    later_tries: int = LATER_TRIES,
    num_processes: int | None = None,
) -> PairStore:
    """Return the store of `num_pairs` pairs, or all that there are, of each of the 400 generators.

    Its notes have `redrawn`: how many pairs were refused, by reason.

    Args:
        later_tries: tries after which a task with a pair is assumed to have no more.
        num_processes: None: all cores. The pairs do not depend on it.
    """
    key = {
        "generators": package_version(), "validation": VALIDATION, "difficulty": recipe.difficulty,
        "max_side": recipe.max_side, "seed": seed, "num_pairs": num_pairs, "later_tries": later_tries,
    }  # fmt: skip
    one = partial(task_pairs, recipe=recipe, num_pairs=num_pairs, seed=seed, later_tries=later_tries)
    make = partial(_fill, one=one, num_pairs=num_pairs, num_processes=num_processes)
    return open_or_make("re_arc", key, make, cache_dir)


def task_pairs(
    task_id: str, recipe: Recipe, num_pairs: int, seed: int, later_tries: int
) -> tuple[Packed, Counter[str]]:
    """Generate a task's pairs, and count those refused, by reason."""
    pairs: list[Pair] = []
    seen: set[bytes] = set()
    refused: Counter[str] = Counter()
    first_tries = min(FIRST_TRIES, later_tries)
    for number in range(num_pairs):
        rng = rng_for("re_arc cache", seed, task_id, number)
        pair = recipe.next_pair(task_id, rng, seen, refused, later_tries if pairs else first_tries)
        if pair is None:
            break
        pairs.append(pair)
    return pack(pairs), refused


def _fill(writer: StoreWriter, *, one: OneTask, num_pairs: int, num_processes: int | None) -> None:
    processes = num_processes or len(os.sched_getaffinity(0))
    ids = tuple(generators())
    refused: Counter[str] = Counter()
    made = 0
    with progress("making RE-ARC pairs", len(ids) * num_pairs) as advance, _mapping(processes) as mapped:
        for task_id, (packed, again) in zip(ids, mapped(one, ids), strict=True):
            writer.add(task_id, packed)
            refused += again
            made += len(packed[0])
            advance(num_pairs)
    writer.finish({"redrawn": refused})
    log.info("made %d RE-ARC pairs, refused %d: %s", made, refused.total(), dict(refused))


@contextmanager
def _mapping(
    num_processes: int,
) -> Iterator[Callable[[OneTask, Iterable[str]], Iterable[tuple[Packed, Counter[str]]]]]:
    """Yield a `map` over several processes, which end if this one ends or raises."""
    if num_processes == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit this process's locks
    theirs, ours = context.Pipe(duplex=False)
    with ours, theirs:
        pool = ProcessPoolExecutor(num_processes, context, _end_with, (theirs,))
        try:
            yield pool.map
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process that generates pairs died: it ran out of memory, or was started by a script that "
                'runs on import (put its work under `if __name__ == "__main__":`)'
            ) from error
        finally:
            ours.close()  # ends the processes that are still working
            pool.shutdown(cancel_futures=True)


def _end_with(parent: Connection) -> None:
    """End this process when its parent closes its end of the pipe, or dies."""

    def watch() -> None:
        with suppress(EOFError, OSError):
            parent.recv_bytes()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=watch, daemon=True).start()
