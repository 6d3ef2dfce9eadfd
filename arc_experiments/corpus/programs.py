"""Verify training programs: each is run once on the stored pairs of its task, and what was found is kept.

~/.cache/arc_experiments/programs/<digest>.json    {"task id": "pair 2 (from 0): raised: ValueError: ..."}

Sources that make their pairs when a task is drawn make them with the task's program (drawings), or keep only
those that it solves (RE-ARC's generators), so they have no stored pairs and nothing to verify.
"""

import fcntl
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from arc_experiments.corpus.corpus import Share
from arc_experiments.programs.languages import language
from arc_experiments.programs.sandbox import Outcome, Sandbox
from arc_experiments.programs.verification import Verdict, verify
from arc_experiments.sources.pools.pair_store import default_cache_dir
from arc_experiments.tasks import Pair, Program, Task
from arc_experiments.tasks.rngs import rng_for

MAX_PAIRS = 8  # of a task on which its program is run
AT_ONCE = 2000  # programs between two lines of the log

Work = tuple[Task, Program]

log = logging.getLogger(__name__)


def wrong_programs(share: Share, sandbox: Callable[[], Sandbox], settings: str = "") -> dict[str, str]:
    """Return what is wrong with programs that do not solve the stored pairs of their tasks, by task id.

    If several processes call this, one runs the programs while the others wait.

    Args:
        sandbox: opens the sandbox, if what it would find is not known.
        settings: of the sandbox, on which this depends.

    Raises:
        ValueError: the cache cannot be written.
    """
    work = list(_with_stored_pairs(share))
    if not work:
        return {}
    folder = default_cache_dir() / "programs"
    file = folder / f"{_digest(work, settings)}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                found = _verified(work, sandbox())
                unfinished = file.with_suffix(".unfinished")
                unfinished.write_text(json.dumps(found, indent=1), encoding="utf-8")
                unfinished.rename(file)
    except OSError as error:
        raise ValueError(f"the cache of verified programs, {file}, cannot be made: {error}") from error
    wrong: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return wrong


def _with_stored_pairs(share: Share) -> Iterator[Work]:
    """Yield the tasks that have a program and stored pairs, these as demonstrations."""
    source = share.source
    for number in share.numbers:
        if source.language(number) is None:
            continue
        stored = (pair for pair in source.pairs(number) if pair.output is not None)
        pairs = tuple(islice(stored, MAX_PAIRS))
        program = source.draw(number, rng_for("programs", 0, number)).program if pairs else None
        if program is not None:
            yield Task(id=source.ids[number], train=pairs, test=()), program


def _verified(work: Sequence[Work], sandbox: Sandbox) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(work), AT_ONCE):
        part = work[start : start + AT_ONCE]
        for (task, _), verdict in zip(part, verify(sandbox, part), strict=True):
            if not verdict.verified:
                found[task.id] = _mistake(task.train, verdict)
        log.info("programs verified: %d of %d, %d wrong", start + len(part), len(work), len(found))
    return found


def _mistake(pairs: Sequence[Pair], verdict: Verdict) -> str:
    """Return what the program did with the first pair that it does not solve."""
    number = verdict.demonstrations.index(False)
    return f"pair {number} (from 0): {_deed(verdict.outcomes[number], pairs[number])}"


def _deed(outcome: Outcome, pair: Pair) -> str:
    if outcome.grid is None:
        return f"{outcome.reason}{': ' if outcome.message else ''}{outcome.message[:200]}"
    assert pair.output is not None
    if outcome.grid.shape != pair.output.shape:
        return "it gives a grid of another shape"
    return f"it gives {np.count_nonzero(outcome.grid != pair.output)} wrong cells"


def _digest(work: Sequence[Work], settings: str) -> str:
    """Return a digest of the programs, their pairs, and what the languages mean."""
    digest = hashlib.blake2b(settings.encode(), digest_size=16)
    for name in sorted({program.language for _, program in work}):
        digest.update(f"{name}\0{language(name).prelude}\0".encode())
    for task, program in work:
        digest.update(f"{task.id}\0{program.language}\0{program.text}\0".encode())
        for pair in task.train:
            for grid in (pair.input, pair.output):
                assert grid is not None
                digest.update(bytes(grid.shape) + grid.tobytes())
    return digest.hexdigest()
