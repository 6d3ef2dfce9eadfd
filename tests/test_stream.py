"""The stream: sample i is a function of (seed, i), whatever was asked for before."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from arc_experiments.augmentation import Colours, Geometry, Order, Swap, Transform
from arc_experiments.augmentation.steps import SYMMETRIES
from arc_experiments.prompts import GridText, Kind, Prompt
from arc_experiments.stream.samples import MAX_REDRAWS, Sample, SampleStream, StreamPart
from arc_experiments.tasks import FixedTasks, Pair, Task, TaskSet
from arc_experiments.training.dataset import COUNTED, make_row

TINY = Path(__file__).parents[1] / "arc_experiments" / "assets" / "tiny"
TRANSFORMS: list[Transform] = [Geometry(), Colours(), Order(), Swap()]

# sha256 of ids and labels of samples 0, 1, 19, 20, 12345 and a million: a change here changes every training.
GOLDEN = "f5d261c464e4cfb8d6ac5a3e860e55d64e85c16511285bd5349ceaac70711af6"


def square(side: int, colour: int) -> Pair:
    cells = (np.arange(side * side).reshape(side, side) % 9 + colour) % 10
    return Pair(input=cells.astype(np.uint8), output=cells[::-1].astype(np.uint8))


def toy_tasks(num_tasks: int = 20) -> TaskSet:
    """Task n: three demonstrations and two tests, squares of side n % 5 + 1."""
    pairs = {n: tuple(square(n % 5 + 1, n + shift) for shift in range(5)) for n in range(num_tasks)}
    return TaskSet(Task(id=f"t{n:02}", train=made[:3], test=made[3:]) for n, made in pairs.items())


def make(
    *,
    seed: int = 1,
    tasks: TaskSet | None = None,
    task_ids: Sequence[str] | None = None,
    transforms: Sequence[Transform] = TRANSFORMS,
    max_length: int = 2048,
    kinds: dict[Kind, float] | None = None,
) -> SampleStream:
    prompt = Prompt(
        tokenizer=AutoTokenizer.from_pretrained(TINY), grid=GridText(), system=None, introduction="",
        demonstration="I{input}O{output}", question="I{input}O", answer="{output}", loss_on="all_outputs",
        chat=False, max_length=max_length, kinds=kinds,
        input_from_inputs={"introduction": "", "demonstration": "I{input}", "question": "I",
                           "answer": "{input}"},
    )  # fmt: skip
    tasks = tasks or toy_tasks()
    prompt.verify(tasks)
    source = FixedTasks(tasks)
    part = StreamPart(name="toy", source=source, task_ids=task_ids or source.ids, transforms=transforms)
    return SampleStream([part], prompt, seed=seed)


def digest(*samples: Sample) -> str:
    hashed = hashlib.sha256()
    for sample in samples:
        hashed.update(sample.encoded.input_ids.astype("<i4").tobytes())
        hashed.update(sample.encoded.labels.astype("<i4").tobytes())
    return hashed.hexdigest()


def test_a_sample_is_the_same_in_a_fresh_stream_and_after_other_accesses() -> None:
    order = [0, 1, 2, 3, 25, 47, 1000]
    stream = make()
    in_order = {index: digest(stream[index]) for index in order}
    backwards = {index: digest(stream[index]) for index in reversed(order)}
    assert backwards == in_order
    assert {index: digest(make()[index]) for index in order} == in_order
    assert len(set(in_order.values())) == len(order)


def test_other_seeds_give_other_samples() -> None:
    assert len({digest(make(seed=seed)[0]) for seed in range(10)}) == 10


def test_the_samples_are_those_of_earlier_versions() -> None:
    stream = make()
    assert digest(*(stream[index] for index in (0, 1, 19, 20, 12345, 1_000_000))) == GOLDEN


def test_every_pass_visits_every_task_once_each_in_its_own_order() -> None:
    stream = make()
    passes = [[stream[20 * number + place].task.id for place in range(20)] for number in range(4)]
    for visited in passes:
        assert Counter(visited) == Counter(toy_tasks().ids)
    assert len(set(map(tuple, passes))) == 4


def test_only_the_tasks_that_train_are_drawn() -> None:
    stream = make(task_ids=["t03", "t11"])
    assert {stream[index].task.id for index in range(20)} == {"t03", "t11"}


def test_a_task_comes_back_with_another_augmentation() -> None:
    stream = make(task_ids=["t04"])
    assert len({digest(stream[index]) for index in range(30)}) == 30


def test_a_sample_tells_its_augmentation() -> None:
    names = make()[0].augmentation
    assert names[0] in SYMMETRIES
    assert re.fullmatch("colours_[0-9]{10}", names[1])
    assert names[2:] == ("order", "swap")
    assert make(transforms=[])[0].augmentation == ()


def test_without_augmentation_a_sample_is_its_task() -> None:
    tasks = toy_tasks()
    stream = make(transforms=[], tasks=tasks)
    asked = set()
    for index in range(40):
        sample = stream[index]
        task = tasks[sample.task.id]
        assert (sample.task.train, sample.task.test) == (task.train, task.test)
        assert (sample.num_dropped, sample.num_redrawn) == (0, 0)
        asked.add(sample.test_index)
    assert asked == {0, 1}, "each test pair is asked for"


def test_the_encoding_is_the_prompts() -> None:
    stream = make()
    for index in range(10):
        sample = stream[index]
        expected = stream._prompt.encode(sample.task, sample.test_index)
        assert np.array_equal(sample.encoded.input_ids, expected.input_ids)
        assert np.array_equal(sample.encoded.labels, expected.labels)


def test_a_sample_says_which_kind_of_question_it_is() -> None:
    stream = make(kinds={"output_from_examples": 1, "input_from_inputs": 1})
    samples = [stream[index] for index in range(40)]
    assert {sample.kind for sample in samples} == {"output_from_examples", "input_from_inputs"}
    for sample in samples:
        assert sample.encoded.equals(stream._prompt.encode(sample.task, sample.test_index, kind=sample.kind))
    assert {make()[index].kind for index in range(20)} == {"output_from_examples"}


def test_what_is_too_long_is_shrunk_and_says_so() -> None:
    # Side 5 takes 8 grids of 30 tokens, and marks; 200 holds two demonstrations of it.
    stream = make(task_ids=["t04"], max_length=200)
    for index in range(10):
        sample = stream[index]
        assert len(sample.encoded) <= 200
        assert sample.num_dropped == 1
        assert len(sample.task.train) == 2
        assert sample.num_redrawn == 0


def test_what_cannot_be_shrunk_enough_is_redrawn_and_says_so() -> None:
    # Side 5 needs 126 tokens with one demonstration, side 1 needs 14.
    stream = make(task_ids=["t04", "t00"], max_length=100)
    samples = [stream[index] for index in range(40)]
    assert {sample.task.id for sample in samples} == {"t00"}
    assert Counter(sample.num_redrawn > 0 for sample in samples) == {True: 20, False: 20}
    assert [digest(make(task_ids=["t04", "t00"], max_length=100)[index]) for index in range(5)] == [
        digest(sample) for sample in samples[:5]
    ]


def test_a_sample_counts_the_pairs_drawn_again_for_all_tasks_that_were_drawn() -> None:
    tasks = TaskSet(replace(task, refused=Counter(error=1, oversize=2)) for task in toy_tasks(5))
    stream = make(tasks=tasks, task_ids=["t04", "t00"], max_length=100)
    samples = [stream[index] for index in range(20)]
    for sample in samples:
        drawn = 1 + sample.num_redrawn
        assert sample.refused_pairs == {"error": drawn, "oversize": 2 * drawn}
    marks = make_row(stream, 0)["marks"].tolist()
    drawn = 1 + samples[0].num_redrawn
    assert marks[len(COUNTED) - 1 :] == [3 * drawn, drawn, 0, 2 * drawn, 0, 0, 0, 0, 1], (
        "the sum, each, the part"
    )


def test_a_length_that_no_task_fits_into_is_an_error_with_the_key() -> None:
    stream = make(task_ids=["t04"], max_length=100)
    with pytest.raises(
        ValueError, match=rf"prompt\.max_length=100 is too short: none of the {MAX_REDRAWS} tasks"
    ) as raised:
        stream[3]
    assert "sample 3" in str(raised.value)
    assert "The shortest needs 126 tokens with one demonstration: set prompt.max_length=126" in str(
        raised.value
    )
    assert make(task_ids=["t04"], max_length=126)[3].task.id == "t04"


def test_a_far_sample_costs_what_the_first_costs() -> None:
    assert make()[10**12].task.id in toy_tasks().ids


def mixture(*weights: float, pack_length: int | None = None, seed: int = 1) -> SampleStream:
    """Parts a, b, ... of the toy tasks, five tasks each."""
    prompt, source = make()._prompt, FixedTasks(toy_tasks())
    parts = [
        StreamPart(
            name="abcd"[number],
            source=source,
            task_ids=source.ids[5 * number : 5 * number + 5],
            transforms=TRANSFORMS,
            weight=weight,
        )
        for number, weight in enumerate(weights)
    ]
    return SampleStream(parts, prompt, seed=seed, pack_length=pack_length)


def test_every_thousand_samples_of_a_mixture_hold_its_shares_exactly() -> None:
    stream = mixture(3, 1, 2)
    for block in (0, 7):
        parts = [stream[index].part for index in range(1000 * block, 1000 * block + 1000)]
        assert Counter(parts) == {0: 500, 1: 167, 2: 333}
        assert len(set(parts[:20])) > 1, "shuffled, not in turn"


def test_each_source_of_a_mixture_visits_its_tasks_evenly() -> None:
    stream = mixture(1, 1)
    visits = Counter(stream[index].task.id for index in range(2000))
    assert set(visits) == {f"t{n:02}" for n in range(10)}
    assert set(visits.values()) == {200}


def test_a_sample_of_a_mixture_does_not_depend_on_what_was_asked_for_before() -> None:
    order = [5, 1999, 3, 1000, 4]
    assert [digest(mixture(1, 2)[index]) for index in order] == [
        digest(sample) for sample in map(mixture(1, 2).__getitem__, order)
    ]


def test_a_share_below_one_in_a_thousand_is_refused_with_its_key() -> None:
    with pytest.raises(ValueError, match=r"data\.weights\.b=0\.0001 is less than one sample in 1000"):
        mixture(1, 0.0001)


def test_without_packing_a_row_is_its_sample() -> None:
    stream = make()
    assert [digest(*stream.row(index)) for index in range(5)] == [digest(make()[index]) for index in range(5)]


def test_packed_rows_are_filled_to_the_length_and_not_beyond() -> None:
    stream = mixture(1, 1, pack_length=1000)
    lengths = [[len(sample.encoded) for sample in stream.row(index)] for index in range(20)]
    assert all(len(row) > 1 for row in lengths)
    assert max(map(sum, lengths)) <= 1000
    assert np.mean([sum(row) for row in lengths]) > 850


def test_a_packed_row_is_a_function_of_its_number_and_shares_no_sample() -> None:
    order = [0, 3, 1, 10**9]
    rows = {index: digest(*mixture(1, 2, pack_length=600).row(index)) for index in order}
    stream = mixture(1, 2, pack_length=600)
    assert {index: digest(*stream.row(index)) for index in reversed(order)} == rows
    samples = [digest(sample) for index in range(30) for sample in stream.row(index)]
    assert len(set(samples)) == len(samples)
