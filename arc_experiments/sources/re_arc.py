"""RE-ARC: new pairs for the 400 ARC-AGI-1 training tasks.

data=re_arc                                  generated on every visit
data=re_arc data.source.cache_pairs=1000     generated once on all cores, 1000 per task, and stored on disk
data=re_arc data.path=re_arc.zip             the published pairs, tasks/<id>.json, a list of {input, output}
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from arc_experiments.config.plurals import have, of_all, plural
from arc_experiments.programs.languages.dsl import solution
from arc_experiments.sources.archive import File
from arc_experiments.sources.files import BESIDE_TASKS
from arc_experiments.sources.parsing import load_json
from arc_experiments.sources.pools.generated_store import FIRST_TRIES, LATER_TRIES, generated_store
from arc_experiments.sources.pools.generators import GeneratedTasks, Recipe, generators
from arc_experiments.sources.pools.importing import RawTask, converted
from arc_experiments.sources.pools.pair_store import PairStore
from arc_experiments.sources.pools.pooled import (
    PooledTasks,
    check_demonstrations,
    check_max_side,
    check_only_generated,
    pooled,
    without,
)
from arc_experiments.tasks.grids import MAX_SIDE
from arc_experiments.tasks.source import BadTasks


@dataclass(frozen=True, kw_only=True)
class ReArc:
    """400 tasks with other pairs on every visit.

    Attributes:
        path: the published archive or its folder; None: the generators.
        difficulty: range, within 0..1, from which each parameter of a generated pair is drawn.
        num_demonstrations: minimum and maximum of demonstration pairs; one test pair is added.
        cache_pairs: number of pairs per task to generate once and store; None: generate on every visit.
        cache_dir: folder for the stored pairs; None: `default_cache_dir()`.
        seed: of the stored pairs.
        max_tries: most tries for each stored pair; a task whose generator needs more gets no further pairs.
        max_side: most rows and columns of a grid; larger pairs are not drawn. None: no limit.
        leave_out: ids of tasks that are never drawn.
    """

    path: str | None = None
    difficulty: list[float] = field(default_factory=lambda: [0.0, 1.0])
    num_demonstrations: list[int] = field(default_factory=lambda: [3, 5])
    cache_pairs: int | None = None
    cache_dir: str | None = None
    seed: int = 0
    max_tries: int = LATER_TRIES
    max_side: int | None = None
    leave_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.difficulty) != 2 or not 0 <= self.difficulty[0] <= self.difficulty[1] <= 1:
            raise ValueError(f"difficulty={self.difficulty} is not [low, high] within 0..1")
        check_demonstrations(self.num_demonstrations)
        check_max_side(self.max_side)
        if self.max_tries < 1:
            raise ValueError(f"max_tries={self.max_tries} is not at least 1")
        check_only_generated(self, difficulty=[0.0, 1.0], cache_pairs=None, seed=0, max_tries=LATER_TRIES)
        most = self.num_demonstrations[1]
        if self.cache_pairs is None and self.seed:
            raise ValueError(
                f"seed={self.seed} needs cache_pairs: pairs in the stream depend on seeds.stream"
            )
        if self.cache_pairs is None and self.max_tries != LATER_TRIES:
            raise ValueError(f"max_tries={self.max_tries} needs cache_pairs: it applies to stored pairs only")
        if self.cache_pairs is not None and self.cache_pairs <= most:
            raise ValueError(
                f"cache_pairs={self.cache_pairs} is fewer than a visit may show: at least {most + 1}"
            )

    def read(self, bad_tasks: BadTasks) -> GeneratedTasks | PooledTasks:
        """Read the tasks; raise ValueError if reasoning-gym is missing or the archive is invalid."""
        recipe = Recipe(
            difficulty=(self.difficulty[0], self.difficulty[1]), max_side=self.max_side or MAX_SIDE
        )
        if self.path is not None:
            store = converted(self.path, "re_arc", _raw_tasks, bad_tasks=bad_tasks, cache_dir=self.cache_dir)
            return self._pooled(store, bad_tasks)
        if self.cache_pairs is not None:
            store = generated_store(
                recipe,
                num_pairs=self.cache_pairs,
                seed=self.seed,
                cache_dir=self.cache_dir,
                later_tries=self.max_tries,
            )
            tasks = self._pooled(store, bad_tasks)
            counts = np.diff(store.starts)
            if counts.min() < self.cache_pairs:
                few = int((counts < self.cache_pairs).sum())
                bad_tasks.notes.append(
                    f"{of_all(few, len(counts), 'task')} {have(few)} fewer than "
                    f"{self.cache_pairs} different pairs; {plural(len(store), 'pair')} stored in total"
                )
            return tasks
        return GeneratedTasks(
            recipe=recipe,
            num_demonstrations=(self.num_demonstrations[0], self.num_demonstrations[1]),
            ids=self._generating(recipe, bad_tasks),
        )

    def _generating(self, recipe: Recipe, bad_tasks: BadTasks) -> tuple[str, ...]:
        """Return the ids of the tasks whose generators make enough such pairs; all do by default."""
        if recipe == Recipe():
            return without(generators(), self.leave_out)
        most = self.num_demonstrations[1]
        tried = generated_store(
            recipe, num_pairs=most + 1, seed=0, cache_dir=self.cache_dir, later_tries=FIRST_TRIES
        )
        return self._pooled(tried, bad_tasks, least=most).ids

    def _pooled(self, store: PairStore, bad_tasks: BadTasks, least: int | None = None) -> PooledTasks:
        low, high = self.num_demonstrations
        return pooled(
            store,
            bad_tasks,
            split="re_arc",
            num_demonstrations=(least or low, high),
            max_side=self.max_side,
            leave_out=self.leave_out,
            generated=self.path is None,
            program_of=solution,
        )


def _raw_tasks(files: Sequence[File]) -> list[RawTask]:
    """Find the task files: those in a folder named tasks, or without such a folder those at the top."""
    found = [file for file in files if file.name.suffix == ".json" and file.name.name not in BESIDE_TASKS]
    chosen = [file for file in found if file.name.parent.name == "tasks"]
    chosen = chosen or [file for file in found if len(file.name.parts) == 1]
    if not chosen:
        raise ValueError("it has no tasks/<id>.json, as in RE-ARC's archive")
    return [(file.name.stem, file.shown, partial(_read_task, file)) for file in chosen]


def _read_task(file: File) -> tuple[list[Any], str]:
    items = load_json(file.read(), file.shown)
    if not isinstance(items, list) or not items:
        raise ValueError(f"{file.shown}: not a list of pairs, as in RE-ARC's task files")
    return items, ""
