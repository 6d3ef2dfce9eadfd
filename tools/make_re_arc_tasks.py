"""Make the RE-ARC tasks that evaluate the package's models: `python -m tools.make_re_arc_tasks <cache>`.

    re_arc/held_out.json   40 tasks that it was never trained on, each with four demonstrations and four tests
    re_arc/trained.json    120 tasks that it was trained on, each with four new demonstrations and two tests
    re_arc/short.json      30 tasks whose programs the program model was trained on, the same in 6 x 6

Grids of the first two are at most 10 x 10. The held-out tasks were drawn with a seed among those whose
generators make such grids and which no evaluation task of ARC-AGI repeats; conf/data/base.yaml lists them.
The others belong to data=base or data=draw_and_re_arc, and have their difficulty. No input occurs in the
pairs that were trained on, which are read from the cache (or made in it). The first two files were first
drawn without the verifiers; the 14 pairs that these reject (of 1,040, in seven tasks) were redrawn.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import check
from arc_experiments.sources.pools.generated_store import generated_store
from arc_experiments.sources.pools.generators import Recipe, generators
from arc_experiments.sources.writing import write_file
from arc_experiments.tasks import Pair, Task
from arc_experiments.tasks.rngs import rng_for

HELD_OUT = Recipe(difficulty=(0.0, 0.5), max_side=10)
TRAINED = Recipe(difficulty=(0.0, 0.1), max_side=10)
SHORT = Recipe(difficulty=(0.0, 0.1), max_side=6)
MAX_TRIES = 100  # per pair
NUM_HELD_OUT, NUM_TRAINED = 40, 120
NUM_DEMONSTRATIONS, HELD_OUT_TESTS, TRAINED_TESTS = 4, 4, 2
# ARC-AGI-1's evaluation tasks 070dd51e and 50a16a69 repeat these, as `job=audit` finds.
REPEATED = {"40853293", "caa06a1f"}
# The data of each stage of the model's training, with its source of generated pairs.
TRAININGS = ("base_small", "re_arc"), ("base", "re_arc"), ("base_wide", "harder")
MOST_SHOWN = 5  # pairs in a training sample: tasks with fewer pairs are not trained on


def main(cache_dir: str) -> None:
    """Draw the tasks and write them."""
    left_out, seen, trained_on = _of_trainings(cache_dir)
    # No mixture trains on a task with the id of a held-out one, neither RE-ARC's nor ARC-AGI's.
    held_out = list(_tasks(sorted(left_out - REPEATED), HELD_OUT, HELD_OUT_TESTS, {}))
    if len(held_out) != NUM_HELD_OUT:
        raise ValueError(f"only {len(held_out)} of the tasks held out in conf/data/base.yaml can be made")
    order = rng_for("re_arc trained", 0).permutation(sorted(trained_on)).tolist()
    drawn = islice(_tasks(order, TRAINED, TRAINED_TESTS, seen), NUM_TRAINED)
    # New ids, so that the original tasks may still train.
    trained = [replace(task, id=f"{task.id}_trained") for task in drawn]
    short = list(_tasks(_of_programs(), SHORT, TRAINED_TESTS, seen))
    short = [replace(task, id=f"{task.id}_short") for task in short]
    folder = Path(__file__).parents[1] / "arc_experiments/assets/re_arc"
    folder.mkdir(exist_ok=True)
    write_file(held_out, folder / "held_out.json")
    write_file(sorted(trained, key=lambda task: task.id), folder / "trained.json")
    write_file(short, folder / "short.json")
    Console().print(f"{len(held_out)} tasks are held out, {len(trained_on)} trained on")


def _of_trainings(cache_dir: str) -> tuple[set[str], dict[str, set[bytes]], set[str]]:
    """Return the tasks left out of training, the inputs seen of each, and the tasks trained on as TRAINED."""
    seen: dict[str, set[bytes]] = {task_id: set() for task_id in generators()}
    trained_on = set[str]()
    for data, name in TRAININGS:
        source = check(compose_config([f"data={data}"])).data.sources[name].source
        recipe = Recipe(difficulty=tuple(source["difficulty"]), max_side=source["max_side"])
        store = generated_store(
            recipe,
            num_pairs=source["cache_pairs"],
            seed=source["seed"],
            cache_dir=cache_dir,
            later_tries=source["max_tries"],
        )
        for task_id, first, end in zip(store.ids, store.starts, store.starts[1:], strict=False):
            seen[task_id] |= {_key(store.pair(number).input) for number in range(first, end)}
            if recipe == TRAINED and end - first >= MOST_SHOWN:
                trained_on.add(task_id)
    left_out = set(source["leave_out"])
    return left_out, seen, trained_on - left_out


def _of_programs() -> list[str]:
    """List the tasks whose programs the program model was trained on, in pairs of data=base_small."""
    return sorted(check(compose_config(["data=draw_and_re_arc"])).data.sources["re_arc"].tasks)


def _key(grid: np.ndarray) -> bytes:
    """Identify a grid as `Recipe.next_pair` does."""
    return bytes(grid.shape) + grid.tobytes()


def _tasks(
    task_ids: Iterable[str], recipe: Recipe, num_tests: int, seen: Mapping[str, set[bytes]]
) -> Iterator[Task]:
    """Yield tasks in this order, skipping those whose generators make too few pairs with unseen inputs."""
    num_pairs = NUM_DEMONSTRATIONS + num_tests
    for task_id in task_ids:
        known, pairs = set(seen.get(task_id, ())), list[Pair]()
        for number in range(num_pairs):
            rng = rng_for("re_arc judged by", 0, task_id, number)
            pair = recipe.next_pair(task_id, rng, known, Counter(), MAX_TRIES)
            if pair is None:
                break
            pairs.append(pair)
        if len(pairs) == num_pairs:
            demonstrations, tests = pairs[:NUM_DEMONSTRATIONS], pairs[NUM_DEMONSTRATIONS:]
            yield Task(id=task_id, train=tuple(demonstrations), test=tuple(tests))


if __name__ == "__main__":
    main(sys.argv[1])
