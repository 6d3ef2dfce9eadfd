"""Leaks: what is one pair and what is not, which tasks stand in which, and what a run does about it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from leak_tools import ARC1, ARC2, changed, found, part, random_task, tasks_of, turned

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import check
from arc_experiments.config.paths import local_path
from arc_experiments.corpus import leaks as search
from arc_experiments.corpus.corpus import Corpus
from arc_experiments.corpus.leaks import Finder, keys_to_keep
from arc_experiments.corpus.matches import LeakReport, key, turned_keys
from arc_experiments.corpus.partitions import leave_out
from arc_experiments.sources import Files, ReArc
from arc_experiments.tasks import BadTasks, FixedTasks, Pair, Task, TaskSet
from arc_experiments.tasks.grids import TURNS, Grid


def holders(comparison: LeakReport) -> dict[str, tuple[str, ...]]:
    return {leak.task.id: leak.found_in for leak in comparison.leaks}


# What is known of the published sets


@pytest.fixture(scope="module")
def evaluation() -> Finder:
    return Finder(tasks_of(ARC1, "evaluation"))


def test_arc_agi_2_training_holds_375_of_the_400_evaluation_tasks_of_arc_agi_1(evaluation: Finder) -> None:
    counts = evaluation.compare([part(ARC2, "training")]).counts
    assert (counts["tasks"], counts["whole"], counts["part"]) == (400, 375, 1)
    assert evaluation.compare([part(ARC2, "evaluation")]).counts["leaks"] == 7


def test_arc_agi_2_training_holds_392_of_the_400_training_tasks_of_arc_agi_1() -> None:
    counts = Finder(tasks_of(ARC1, "training")).compare([part(ARC2, "training")]).counts
    assert (counts["whole"], counts["part"]) == (392, 0)


def test_arc_agi_2_holds_94_of_the_100_validation_tasks_of_partition_7() -> None:
    corpus = Corpus(check(compose_config([])).data, partition_seed=7)
    finder = Finder(corpus.validation_tasks)
    training, other = (finder.compare([part(ARC2, split)]) for split in ("training", "evaluation"))
    assert (training.counts["leaks"], training.counts["answers"]) == (91, 91)
    assert (other.counts["whole"], other.counts["answers"]) == (3, 3)
    assert [leak.task.id for leak in other.leaks if leak.extent == "part"] == ["55783887"]
    assert not {leak.task.id for leak in training.leaks} & {leak.task.id for leak in other.leaks}
    assert corpus.leaks.counts["leaks"] == 0, "none stands in the rest of ARC-AGI-1"


def test_the_known_doubles_are_found_under_their_other_ids(evaluation: Finder) -> None:
    within = evaluation.compare([part(ARC1, "training")])
    assert holders(within) == {"070dd51e": ("40853293",), "50a16a69": ("caa06a1f",)}
    double, recoloured = within.leaks
    assert (double.extent, double.how, double.num_answers) == ("whole", "identical", 1)
    assert (recoloured.extent, recoloured.how, recoloured.num_answers) == ("part", "colours", 1)
    changed = evaluation.compare([part(ARC2, "evaluation")])
    assert holders(changed)["55783887"] == ("db695cfb",)
    leak = next(leak for leak in changed.leaks if leak.task.id == "55783887")
    assert (leak.extent, leak.how, leak.num_answers, len(leak.closest)) == ("part", "identical", 0, 5)


@pytest.mark.parametrize("source", [ARC1, ARC2], ids=["arc1", "arc2"])
def test_every_task_is_found_wholly_where_it_is(source: FixedTasks) -> None:
    counts = Finder(source.fixed).compare([part(source)]).counts
    assert counts["whole"] == counts["identical"] == len(source.fixed)


# When two pairs are one


def are_one(one: Pair, other: Pair) -> bool:
    """Try every orientation: each colour of one pair must always meet the same colour of the other."""
    for name in TURNS:
        again = turned(one, name)
        sides = [(again.input, other.input), (again.output, other.output)]
        if all(mine.shape == theirs.shape for mine, theirs in sides):
            both = {(a, b) for mine, theirs in sides for a, b in zip(mine.flat, theirs.flat, strict=True)}
            if len({a for a, _ in both}) == len({b for _, b in both}) == len(both):
                return True
    return False


@st.composite
def grids(draw: st.DrawFn, low: int = 1, high: int = 3, colours: int = 3) -> Grid:
    rows, columns = draw(st.integers(low, high)), draw(st.integers(low, high))
    cells = draw(st.lists(st.integers(0, colours - 1), min_size=rows * columns, max_size=rows * columns))
    return np.array(cells, dtype=np.uint8).reshape(rows, columns)


def pairs(low: int = 1, high: int = 3, colours: int = 3) -> st.SearchStrategy[Pair]:
    return st.builds(Pair, input=grids(low, high, colours), output=grids(low, high, colours))


@given(pairs(), st.sampled_from(sorted(TURNS)), st.permutations(range(10)))
def test_a_turned_and_recoloured_pair_is_the_same(pair: Pair, name: str, colours: list[int]) -> None:
    assert key(turned(pair, name, colours)) in dict(turned_keys(pair)).values()


@given(pairs(high=2, colours=2), pairs(high=2, colours=2))
def test_keys_meet_where_a_turn_and_other_colours_make_one_pair_into_the_other(
    one: Pair, other: Pair
) -> None:
    assert (key(other) in dict(turned_keys(one)).values()) == are_one(one, other)


@given(pairs(low=2, high=4), st.sampled_from(["input", "output"]), st.data())
def test_a_pair_with_one_cell_changed_is_another(pair: Pair, side: str, data: st.DataObject) -> None:
    grid = getattr(pair, side).copy()
    grid.flat[data.draw(st.integers(0, grid.size - 1))] = 9  # a colour that nothing else has
    sides = {"input": pair.input, "output": pair.output, side: grid}
    changed = Pair(**sides)
    assert (key(changed) in dict(turned_keys(pair)).values()) == are_one(pair, changed)


SWAPPED = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("how", "name"),
    [
        (lambda pair: pair, "identical"),
        (lambda pair: turned(pair, "rot90"), "symmetry"),
        (lambda pair: turned(pair, "identity", SWAPPED), "colours"),
        (lambda pair: turned(pair, "transpose", SWAPPED), "symmetry and colours"),
    ],
)
def test_how_a_task_stands_elsewhere_is_told(how: Any, name: str) -> None:
    task = random_task("a", 1)
    [leak] = found([task], [random_task("c", 2), changed(task, "b", how)]).leaks
    assert (leak.task.id, leak.found_in, leak.extent, leak.how) == ("a", ("b",), "whole", name)
    assert leak.to_json() == {
        "task": "a", "extent": "whole", "how": name, "pairs": [4, 4], "answers": [1, 1], "found_in": ["b"],
        "num_found_in": 1
    }  # fmt: skip


def test_pairs_that_are_symmetric_in_themselves_are_found_as_closely_as_they_are() -> None:
    ring = np.pad(np.ones((4, 4), np.uint8), 3)
    task = Task(id="a", train=(Pair(input=ring, output=ring[:5]),), test=(Pair(input=ring, output=1 - ring),))
    [leak] = found([task], [changed(task, "b", lambda pair: pair)]).leaks
    assert leak.how == "identical"


def test_a_task_with_one_pair_of_another_is_told_with_its_answer_or_without() -> None:
    sought, others = random_task("a", 1), random_task("b", 2)
    holds_answer = Task(id="c", train=(*others.train, sought.test[0]), test=others.test)
    holds_demonstration = Task(id="d", train=others.train, test=sought.train[:1])
    [leak] = found([sought], [others, holds_answer]).leaks
    assert (leak.extent, leak.num_answers, leak.found_in) == ("part", 1, ("c",))
    [leak] = found([sought], [others, holds_demonstration]).leaks
    assert (leak.extent, leak.num_answers, leak.found_in) == ("part", 0, ("d",))


def test_the_tasks_that_hold_most_of_it_are_named_first() -> None:
    sought = random_task("a", 1)
    little = Task(id="b", train=sought.train[:1], test=random_task("x", 5).test)
    [leak] = found([sought], [little, changed(sought, "c", lambda pair: pair)]).leaks
    assert leak.found_in == ("c", "b")


def test_what_says_too_little_is_a_coincidence_unless_the_whole_task_does_not() -> None:
    """A pair of 3 x 3 cells that become one says 9 bits; four of them 36."""
    rng = np.random.default_rng(0)
    small = [Pair(input=rng.permutation([0, 0, 0, 0, 0, 1, 1, 1, 1]).reshape(3, 3).astype(np.uint8),
                  output=np.zeros((1, 1), np.uint8)) for _ in range(4)]  # fmt: skip
    sought = Task(id="a", train=tuple(small[:3]), test=(small[3],))
    other = random_task("b", 2)
    once = found([sought], [Task(id="b", train=(*other.train, small[0]), test=other.test)])
    assert (once.leaks, once.num_coincidences) == ((), 1)
    assert found([sought], [changed(sought, "c", lambda pair: pair)]).counts["whole"] == 1


def test_a_test_input_whose_answer_is_not_known_is_found_by_itself() -> None:
    task = random_task("a", 1)
    asked = Task(id="a", train=task.train[:1], test=(Pair(input=task.test[0].input, output=None),))
    [leak] = found([asked], [changed(task, "b", lambda pair: turned(pair, "rot180"))]).leaks
    assert (leak.extent, leak.num_answers) == ("whole", 1)
    assert found([task], [changed(asked, "b", lambda pair: pair)]).leaks[0].num_answers == 0, (
        "an answer that is not there cannot be told"
    )


def test_a_set_compared_with_itself_shows_doubles_only() -> None:
    task = random_task("a", 1)
    tasks = [task, random_task("b", 2), changed(task, "c", lambda pair: pair)]
    assert holders(found(tasks, tasks, is_same_set=True)) == {"a": ("c",), "c": ("a",)}


def test_tasks_made_of_a_sought_one_s_demonstrations_are_no_leak_unless_they_hold_an_answer() -> None:
    sought, other = random_task("a", 1), random_task("b", 2)
    assert found([sought], list(leave_out([sought], 1))).leaks == ()
    assert found([other], [*leave_out([sought], 1), other]).counts["whole"] == 1
    answered = Task(id="a", train=(*sought.train, sought.test[0]), test=sought.test)
    [leak] = found([sought], list(leave_out([answered], 1))).leaks
    assert leak.num_answers == 1


def test_a_task_that_asks_for_what_it_has_shown_is_no_leak_of_its_own_demonstrations() -> None:
    """3979b1a8 of ARC-AGI-1 does: its test pair is one of its demonstrations in other colours."""
    task = random_task("a", 1)
    asked = Task(id="a", train=task.train, test=(turned(task.train[2], "rot90", SWAPPED),))
    assert found([asked], list(leave_out([asked], 1))).leaks == ()


# Tasks that are known by their ids


def test_new_pairs_of_a_rule_that_is_trained_on_are_known_by_its_id() -> None:
    held_out = Files(path=local_path("package:re_arc/held_out.json"), splits=None, text_cells=False).read(
        BadTasks()
    )
    finder = Finder(held_out.fixed)
    assert finder.compare([part(ReArc().read(BadTasks()))]).counts["by_id"] == 40
    assert finder.compare_keys(frozenset(), ("10fcaaa3",), "weights").counts["by_id"] == 1


def test_generators_are_known_by_the_task_that_they_are_named_after(evaluation: Finder) -> None:
    """RE-ARC's pairs are not ARC's: the generator of a task also makes a copy of it with another id."""
    source = ReArc().read(BadTasks())
    made = part(source)
    comparison = Finder(tasks_of(ARC1, "training")).compare([made])
    assert (comparison.counts["by_id"], comparison.num_by_id) == (400, 400)
    assert all(leak.found_in[0] == leak.task.id for leak in comparison.leaks if leak.task.id != "40853293")
    assert holders(evaluation.compare([made])) == {"070dd51e": ("40853293",), "50a16a69": ("caa06a1f",)}


class Drawn:
    """A source whose tasks hold many pairs and are drawn anew at each visit."""

    def __init__(self, task_id: str, num_pairs: int) -> None:
        self.ids, self.fixed, self.num_read = (task_id,), TaskSet([]), 0
        self._num_pairs = num_pairs

    def pairs(self, number: int) -> Any:
        for seed in range(self._num_pairs):
            self.num_read += 1
            yield random_task("", seed).test[0]


def test_a_task_that_is_drawn_is_known_by_its_id_too() -> None:
    comparison = Finder(TaskSet([random_task("mine", 1000)])).compare([part(Drawn("mine", 3))])  # type: ignore[arg-type]
    assert [leak.extent for leak in comparison.leaks] == ["id"]


def test_a_task_that_is_drawn_but_keeps_the_pairs_is_known_by_them() -> None:
    source = Drawn("mine", 60)
    task = Task(id="mine", train=random_task("x", 1000).train, test=random_task("", 49).test)
    [leak] = Finder(TaskSet([task])).compare([part(source)]).leaks  # type: ignore[arg-type]
    assert (leak.extent, leak.num_answers, leak.closest[3].how, leak.closest[0].how) == (
        "part",
        1,
        "identical",
        "id",
    )


def test_of_a_source_with_too_many_pairs_the_first_ones_of_each_task_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "MAX_PAIRS", 50)
    source = Drawn("x", 1000)
    comparison = Finder(TaskSet([random_task("a", 49)])).compare([part(source)])  # type: ignore[arg-type]
    assert (comparison.num_searched_pairs, comparison.num_cut_short) == (50, 1)
    assert source.num_read <= 51
    assert [leak.num_answers for leak in comparison.leaks] == [1], "the last of the fifty is its test pair"


# Keys that travel with weights


def test_the_keys_of_a_set_find_what_the_set_itself_would() -> None:
    task = random_task("a", 1)
    keys, ids = keys_to_keep(
        [part(FixedTasks(TaskSet([changed(task, "b", lambda pair: turned(pair, "rot270"))])))]
    )
    assert (len(keys), ids) == (4, ())
    finder = Finder(TaskSet([task, random_task("c", 2)]))
    [leak] = finder.compare_keys(keys, ids, "weights").leaks
    assert (leak.task.id, leak.extent, leak.how, leak.num_answers, leak.found_in) == (
        "a",
        "whole",
        "equal",
        1,
        (),
    )
    assert finder.compare_keys(frozenset(), ("c",), "weights").counts["by_id"] == 1


def test_of_a_source_with_too_many_pairs_only_the_ids_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_KEPT", 3)
    source = Drawn("x", 1000)
    assert keys_to_keep([part(FixedTasks(TaskSet([random_task("a", 1)]))), part(source)]) == (
        frozenset(),
        ("a", "x"),
    )  # type: ignore[arg-type]
    assert source.num_read <= 4
    keys, ids = keys_to_keep([part(FixedTasks(TaskSet([random_task("a", 1, num_pairs=3)])))])
    assert (len(keys), ids) == (3, ())
