"""Work shared through files: each piece done once, and again if its process dies; time limits."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from toy_grids import grid

from arc_experiments.adaptation.task_groups import in_turn, make_bundles, make_task_groups
from arc_experiments.adaptation.time_limits import TimeLimit
from arc_experiments.adaptation.work_queue import WorkQueue
from arc_experiments.runs.environment import seconds_since_start
from arc_experiments.runs.folder import RunFolder
from arc_experiments.tasks import Pair, Task, TaskSet

# Works on one piece for ever, once it has said so.
STUCK = """
import sys, time
from pathlib import Path
from arc_experiments.adaptation.work_queue import WorkQueue

def stuck(name):
    Path(sys.argv[1], "begun").touch()
    time.sleep(60)

WorkQueue(Path(sys.argv[1]), ["a"], str).work(stuck)
"""


def task(task_id: str, num_demonstrations: int) -> Task:
    pairs = tuple(Pair(input=grid(str(n)), output=grid(str(n))) for n in range(num_demonstrations))
    return Task(id=task_id, train=pairs, test=(Pair(input=grid("8"), output=grid("9")),))


def digits(pairs: tuple[Pair, ...]) -> str:
    return "".join(str(pair.input[0, 0]) for pair in pairs)


# What is to be done


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([1], ["12|0", "02|1", "01|2"]),
        ([1, 2], ["12|0", "02|1", "01|2", "2|01", "1|02", "0|12"]),
        ([3], []),
    ],
)
def test_each_demonstration_is_the_test_pair_in_turn(counts: list[int], expected: list[str]) -> None:
    made = in_turn([task("a", 3)], counts)
    assert [f"{digits(one.train)}|{digits(one.test)}" for one in made] == expected
    assert all(pair.output is not None for one in made for pair in one.test)


def test_a_task_with_a_single_demonstration_makes_none() -> None:
    assert len(in_turn([task("a", 1), task("b", 2)], [1])) == 2


def test_groups_are_of_one_size_and_of_units_of_one_length() -> None:
    units = make_task_groups(TaskSet(task(str(n), number) for n, number in enumerate([5, 2, 3, 2, 9])), None)

    def ids(together: int) -> list[str]:
        return ["".join(unit.tasks.ids[0] for unit in one.groups) for one in make_bundles(units, together)]

    assert ids(1) == ["0", "1", "2", "3", "4"]
    assert ids(2) == ["13", "20", "4"]
    assert ids(3) == ["132", "04"]
    assert ids(8) == ["13204"]
    names = [group.name for count in (1, 2, 8) for group in make_bundles(units, count)]
    assert sorted(names[:5]) == sorted(unit.name for unit in units), "one by one as the units themselves"
    assert len(set(names)) == len(names) - 1, "the fifth by itself is the fifth"


@pytest.mark.parametrize(("groups", "sizes"), [(None, [1] * 5), (1, [5]), (2, [3, 2]), (9, [1] * 5)])
def test_units_hold_every_task_once_in_order_without_its_solution(
    groups: int | None, sizes: list[int]
) -> None:
    tasks = TaskSet(task(f"t/{n}", 2) for n in range(5))
    units = make_task_groups(tasks, groups)
    assert [len(unit.tasks) for unit in units] == sizes
    assert [task_id for unit in units for task_id in unit.tasks.ids] == list(tasks.ids)
    assert all(pair.output is None for unit in units for each in unit.tasks for pair in each.test)
    names = [unit.name for unit in units]
    assert len(set(names)) == len(names)
    assert not any("/" in name for name in names)


# Sharing it out


def queue_of(folder: Path, *names: str) -> WorkQueue[Any]:
    return WorkQueue(folder, names, lambda values: values)


def test_everything_is_done_once_however_many_do_it(tmp_path: Path) -> None:
    names, done, counts = [f"p{n}" for n in range(12)], [], []

    def work() -> None:
        def do(name: str) -> dict[str, str]:
            time.sleep(0.01)
            done.append(name)
            return {"of": name}

        queue_of(tmp_path, *names).work(do, counts.append)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(names)
    assert counts[-1] == 12
    assert queue_of(tmp_path, *names).finished == {name: {"of": name} for name in names}


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    queue_of(tmp_path, "a").work(lambda name: 1)
    again: list[str] = []
    queue_of(tmp_path, "a", "b").work(again.append)
    assert again == ["b"]


def test_a_piece_whose_process_is_killed_is_done_by_another(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[1])
    other = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(tmp_path)], env={**os.environ, "PYTHONPATH": root}
    )
    for _ in range(600):
        if (tmp_path / "begun").exists():
            break
        time.sleep(0.05)
    queue, done = queue_of(tmp_path, "a", "b"), []

    def do(name: str) -> None:
        done.append(name)
        other.send_signal(signal.SIGKILL)

    queue.work(do)
    other.wait()
    assert done == ["b", "a"]


def test_a_failure_leaves_the_piece_to_be_done(tmp_path: Path) -> None:
    def fails(name: str) -> None:
        raise RuntimeError("no such thing")

    queue = queue_of(tmp_path, "a")
    with pytest.raises(RuntimeError, match="no such thing"):
        queue.work(fails)
    assert queue.waiting == ["a"]
    queue.work(lambda name: 1)
    assert queue.waiting == []


def test_nothing_is_begun_when_the_results_have_been_collected(tmp_path: Path) -> None:
    answers = iter([False, True])
    queue_of(tmp_path / "gone", "a").work(pytest.fail, is_over=lambda: True)
    queue, begun = queue_of(tmp_path / "q", "a"), []

    def collected(done: int) -> None:
        (tmp_path / "q").rmdir()

    queue.work(begun.append, collected, lambda: next(answers))
    assert begun == []


# The time for all of it


def clock(folder: Path, seconds: float | None, attempt: int = 1) -> TimeLimit:
    return TimeLimit(RunFolder(folder), seconds, attempt)


def test_a_clock_without_budget_never_ends(tmp_path: Path) -> None:
    endless = clock(tmp_path / "c", None)
    endless.start()
    assert not endless.is_over
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(("spent", "is_over"), [(5, False), (1001, True)])
def test_what_an_attempt_has_spent_is_not_there_for_the_next(
    spent: float, is_over: bool, tmp_path: Path
) -> None:
    first = clock(tmp_path, 1000)
    first.start()
    assert not first.is_over
    noted = json.loads((tmp_path / "clock.json").read_text())
    (tmp_path / "clock.json").write_text(json.dumps({**noted, "spent": spent}))
    second = clock(tmp_path, 1000, attempt=2)
    second.start()
    assert second.is_over == is_over
    second.note()
    assert json.loads((tmp_path / "clock.json").read_text())["spent"] > spent


def test_helpers_take_the_end_from_the_process_that_they_help(tmp_path: Path) -> None:
    old = clock(tmp_path, 0.001)
    old.start()
    helper = clock(tmp_path, 100, attempt=2)
    starts = threading.Timer(0.3, clock(tmp_path, 100, attempt=2).start)
    starts.start()
    helper.follow(lambda: False)
    assert not helper.is_over, "the end of an earlier attempt is not theirs"
    clock(tmp_path, 100, attempt=3).follow(lambda: True)  # collected: no waiting


def deadline(folder: Path, attempt: int) -> TimeLimit:
    return TimeLimit(RunFolder(folder), 1000, attempt, "deadline.json", counts_pauses=True)


def noted(folder: Path, **changes: Any) -> None:
    """Change what the first attempt has noted."""
    deadline(folder, 1).start()
    file = folder / "deadline.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "spent": 100.0, **changes}))


def test_a_deadline_does_not_wait_for_the_next_attempt(tmp_path: Path) -> None:
    noted(tmp_path, noted=time.monotonic() - 300)
    second = deadline(tmp_path, 2)
    second.start(already=7)
    assert second.seconds_left == pytest.approx(600, abs=20)
    helper = deadline(tmp_path, 2)
    assert helper.follow(lambda: False)
    assert helper.seconds_left == pytest.approx(second.seconds_left, abs=0.5)


def test_of_a_deadline_on_a_machine_started_anew_only_the_time_at_work_has_gone(tmp_path: Path) -> None:
    noted(tmp_path, boot="another", noted=time.monotonic() - 300)
    second = deadline(tmp_path, 2)
    second.start(already=7)
    assert second.seconds_left == pytest.approx(893, abs=20)


def test_setting_the_time_of_day_moves_no_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = deadline(tmp_path, 1)
    age = seconds_since_start()
    first.start()
    for jump in (-7200, 7200):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.76e9 + jump)
        assert first.seconds_left == pytest.approx(1000, abs=20)
        assert seconds_since_start() == pytest.approx(age, abs=20)
        helper = deadline(tmp_path, 1)
        helper.follow(lambda: False)
        assert helper.seconds_left == pytest.approx(1000, abs=20)
