"""Makes the RE-ARC tasks that the package's model is judged by: `python -m arc_experiments.assets.make_re_arc_tasks <cache>`.

    re_arc/held_out.json   40 tasks that it was never trained on, each with four demonstrations and four tests
    re_arc/trained.json    120 tasks that it was trained on, each with four demonstrations and two tests, all new

Grids are at most 10 x 10. Which tasks are held out is drawn once, among those whose generators make such grids and
which no evaluation task of ARC-AGI repeats. No input stands in the pairs that the model is trained on, which are read
from the cache (or made in it).
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console

from arc_experiments.rngs import rng_for
from arc_experiments.sources.pools.generated_store import generated_store
from arc_experiments.sources.pools.generators import Recipe, generators
from arc_experiments.sources.writing import write_file
from arc_experiments.tasks import Pair, Task

RECIPE = Recipe(difficulty=(0.0, 0.5), max_side=10)
MAX_TRIES = 100  # for a pair
NUM_HELD_OUT, NUM_TRAINED = 40, 120
NUM_DEMONSTRATIONS, HELD_OUT_TESTS, TRAINED_TESTS = 4, 4, 2
# ARC-AGI-1's evaluation tasks 070dd51e and 50a16a69 are these again, as `job=audit` finds.
REPEATED = {"40853293", "caa06a1f"}
TRAINED_ON = 600  # pairs of each task, as in conf/data/base.yaml
MOST_SHOWN = 4  # by a sample there: tasks with fewer pairs are not trained on


def main(cache_dir: str) -> None:
    """Draw the tasks and write them."""
    seen = _trained_inputs(cache_dir)
    trained_on = {task_id for task_id, inputs in seen.items() if len(inputs) >= MOST_SHOWN}
    tasks = {task.id: task for task in _tasks(seen)}
    order = rng_for("re_arc held out", 0).permutation(sorted(tasks))
    held_out = order[:NUM_HELD_OUT]
    trained = [task_id for task_id in order[NUM_HELD_OUT:] if task_id in trained_on][:NUM_TRAINED]
    folder = Path(__file__).parent / "re_arc"
    folder.mkdir(exist_ok=True)
    # What bears the id of a held-out task trains in no mixture: neither RE-ARC's task of this id nor ARC-AGI's.
    write_file([tasks[i] for i in sorted(held_out)], folder / "held_out.json")
    write_file([_examples(tasks[i]) for i in sorted(trained)], folder / "trained.json")
    Console().print(f"{len(tasks)} tasks have such pairs; held out: {', '.join(sorted(held_out))}")


def _trained_inputs(cache_dir: str) -> dict[str, set[bytes]]:
    seen: dict[str, set[bytes]] = {task_id: set() for task_id in generators()}
    store = generated_store(RECIPE, num_pairs=TRAINED_ON, seed=0, cache_dir=cache_dir, later_tries=MAX_TRIES)
    for task_id, first, end in zip(store.ids, store.starts, store.starts[1:], strict=False):
        seen[task_id] |= {_key(store.pair(number).input) for number in range(first, end)}
    return seen


def _key(grid: np.ndarray) -> bytes:
    """As `Recipe.next_pair` knows grids again."""
    return bytes(grid.shape) + grid.tobytes()


def _tasks(seen: dict[str, set[bytes]]) -> Iterator[Task]:
    """All that can be had, with as many tests as any needs."""
    for task_id in sorted(generators()):
        pairs: list[Pair] = []
        for number in range(NUM_DEMONSTRATIONS + HELD_OUT_TESTS):
            rng = rng_for("re_arc judged by", 0, task_id, number)
            pair = RECIPE.next_pair(task_id, rng, seen[task_id], Counter(), MAX_TRIES)
            if pair is None:
                break
            pairs.append(pair)
        else:
            if task_id not in REPEATED:
                yield Task(
                    id=task_id,
                    train=tuple(pairs[:NUM_DEMONSTRATIONS]),
                    test=tuple(pairs[NUM_DEMONSTRATIONS:]),
                )


def _examples(task: Task) -> Task:
    """Under an id of its own, so that the task itself goes on to train."""
    return Task(id=f"{task.id}_trained", train=task.train, test=task.test[:TRAINED_TESTS])


if __name__ == "__main__":
    main(sys.argv[1])
