"""Makes the RE-ARC tasks that the package's model is judged by: `python -m arc_experiments.assets.make_re_arc_tasks <cache>`.

    re_arc/held_out.json   40 tasks that it was never trained on, each with four demonstrations and four tests
    re_arc/trained.json    120 tasks that it was trained on, each with four demonstrations and two tests, all new

Grids are at most 10 x 10. Which tasks are held out was drawn by a seed, among those whose generators make such grids and
which no evaluation task of ARC-AGI repeats; they stand in conf/data/base.yaml. The others are of the difficulty that the
model was trained at. No input stands in the pairs that it was trained on, which are read from the cache (or made in it).
"""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from arc_experiments.checking import check
from arc_experiments.composing import compose_config
from arc_experiments.rngs import rng_for
from arc_experiments.sources.pools.generated_store import generated_store
from arc_experiments.sources.pools.generators import Recipe, generators
from arc_experiments.sources.writing import write_file
from arc_experiments.tasks import Pair, Task

HELD_OUT = Recipe(difficulty=(0.0, 0.5), max_side=10)
TRAINED = Recipe(difficulty=(0.0, 0.1), max_side=10)
MAX_TRIES = 100  # for a pair
NUM_TRAINED = 120
NUM_DEMONSTRATIONS, HELD_OUT_TESTS, TRAINED_TESTS = 4, 4, 2
# ARC-AGI-1's evaluation tasks 070dd51e and 50a16a69 are these again, as `job=audit` finds.
REPEATED = {"40853293", "caa06a1f"}
TRAININGS = "base_small", "base"  # the data of the model's trainings, one after the other
MOST_SHOWN = 5  # by a sample there: tasks with fewer pairs are not trained on


def main(cache_dir: str) -> None:
    """Draw the tasks and write them."""
    left_out, seen, trained_on = _of_trainings(cache_dir)
    made = (_task(task_id, HELD_OUT, HELD_OUT_TESTS, set()) for task_id in sorted(left_out - REPEATED))
    held_out = [task for task in made if task is not None]
    trained: dict[str, Task] = {}
    for task_id in rng_for("re_arc trained", 0).permutation(sorted(trained_on)).tolist():
        task = _task(task_id, TRAINED, TRAINED_TESTS, seen[task_id])
        if task is not None and len(trained) < NUM_TRAINED:
            # Under an id of its own, so that the task itself goes on to train. What bears the id of a held-out task
            # trains in no mixture: neither RE-ARC's task of this id nor ARC-AGI's.
            trained[task_id] = replace(task, id=f"{task_id}_trained")
    folder = Path(__file__).parent / "re_arc"
    folder.mkdir(exist_ok=True)
    write_file(held_out, folder / "held_out.json")
    write_file([trained[task_id] for task_id in sorted(trained)], folder / "trained.json")
    Console().print(f"{len(held_out)} tasks are held out, {len(trained_on)} trained on")


def _of_trainings(cache_dir: str) -> tuple[set[str], dict[str, set[bytes]], set[str]]:
    """The tasks that they leave out, the inputs that they can see of each, and the tasks that the last trains on."""
    seen: dict[str, set[bytes]] = {task_id: set() for task_id in generators()}
    for name in TRAININGS:
        source = check(compose_config([f"data={name}"])).data.sources["re_arc"].source
        recipe = Recipe(difficulty=tuple(source["difficulty"]), max_side=source["max_side"])
        store = generated_store(
            recipe,
            num_pairs=source["cache_pairs"],
            seed=source["seed"],
            cache_dir=cache_dir,
            later_tries=source["max_tries"],
        )
        sizes = dict(zip(store.ids, np.diff(store.starts), strict=True))
        for task_id, first, end in zip(store.ids, store.starts, store.starts[1:], strict=False):
            seen[task_id] |= {_key(store.pair(number).input) for number in range(first, end)}
    left_out = set(source["leave_out"])
    trained_on = {task_id for task_id, size in sizes.items() if size >= MOST_SHOWN} - left_out
    return left_out, seen, trained_on


def _key(grid: np.ndarray) -> bytes:
    """As `Recipe.next_pair` knows grids again."""
    return bytes(grid.shape) + grid.tobytes()


def _task(task_id: str, recipe: Recipe, num_tests: int, seen: set[bytes]) -> Task | None:
    """None where the generator makes too few pairs whose inputs are new."""
    pairs: list[Pair] = []
    for number in range(NUM_DEMONSTRATIONS + num_tests):
        rng = rng_for("re_arc judged by", 0, task_id, number)
        pair = recipe.next_pair(task_id, rng, seen, Counter(), MAX_TRIES)
        if pair is None:
            return None
        pairs.append(pair)
    return Task(id=task_id, train=tuple(pairs[:NUM_DEMONSTRATIONS]), test=tuple(pairs[NUM_DEMONSTRATIONS:]))


if __name__ == "__main__":
    main(sys.argv[1])
