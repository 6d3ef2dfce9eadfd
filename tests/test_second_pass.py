"""The second pass, its order and what it adds; fair shares of the time."""

from pathlib import Path
from typing import Any

import pytest
from adapt_tools import METHODS, adapt_run, adapted, make_tasks, predictions
from toy_grids import grid

from arc_experiments.adaptation.plan import AdaptationPlan
from arc_experiments.adaptation.results import Before
from arc_experiments.adaptation.second_pass import FIRST_SAMPLE, again, least_certain_first
from arc_experiments.adaptation.task_groups import make_bundles, make_task_groups
from arc_experiments.runs.cores_and_gpus import NUM_SHARING
from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.selection import votes_then_log_probability
from arc_experiments.tasks import Pair, Task, TaskSet


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tasks(tmp_path_factory.mktemp("tasks"), 3)


def answers(task_id: str, cells: str, log_probability: float = -1.0) -> list[Candidate]:
    """One candidate per character; `x`: it is no grid."""
    return [
        Candidate(
            task_id=task_id, test_index=0, view=view, transforms="", text="", num_tokens=1,
            log_probability=log_probability, grid=None if cell == "x" else grid(cell),
            reason="empty" if cell == "x" else None,
        )
        for view, cell in enumerate(cells)
    ]  # fmt: skip


def test_unanswered_tasks_come_first_then_those_whose_answers_agree_least() -> None:
    pair = Pair(input=grid("1"), output=grid("2"))
    named = TaskSet(Task(id=name, train=(pair, pair), test=(pair,)) for name in "abcdef")
    found = [
        *answers("a", "1111"), *answers("b", "1122"), *answers("c", "1112"), *answers("d", "xxxx"),
        *answers("e", "1122", log_probability=-2.0), *answers("f", "111x"),
    ]  # fmt: skip
    bundles = make_bundles([again(group) for group in make_task_groups(named, None)], 1)
    ordered = least_certain_first(bundles, found, votes_then_log_probability)
    assert "".join(bundle.groups[0].tasks.ids[0] for bundle in ordered) == "debcfa"


def without_times(run: Any, name: str) -> list[dict[str, Any]]:
    varying = ("seconds", "worker", "peak_memory_bytes")
    return [
        {key: value for key, value in line.items() if key not in varying} for line in predictions(run, name)
    ]


@pytest.mark.slow
def test_both_passes_answer_together_each_from_samples_of_its_own(tasks: Path, tmp_path: Path) -> None:
    once, _ = adapted(tmp_path / "once", tasks)
    twice, printed = adapted(tmp_path / "twice", tasks, "adapt.second_pass=true")
    same, _ = adapted(tmp_path / "same", tasks, "adapt.second_pass=true")
    assert predictions(twice) == predictions(same)
    first, second = without_times(twice, "adaptation.jsonl"), without_times(twice, "second_pass.jsonl")
    assert first == without_times(once, "adaptation.jsonl"), "the first pass is what it is without a second"
    assert [line["task_ids"] for line in second] == [line["task_ids"] for line in first]
    assert all(a["training"]["loss"] != b["training"]["loss"] for a, b in zip(first, second, strict=True))
    found = predictions(twice)
    assert [line for line in found if line["sample"] < FIRST_SAMPLE] == predictions(once)
    assert len(found) == 2 * len(predictions(once))
    metrics = twice.folder.read_json("metrics.json")
    assert [stage["name"] for stage in metrics["stages"]] == ["before", "adaptation", "second_pass"]
    assert metrics["stages"][-1]["pass_at_2"] == metrics["score"]["pass_at_2"]
    assert metrics["second_pass"]["outcomes"]["whole"] == 3
    assert "second pass" in printed
    assert "second pass" in (twice.folder / "report.html").read_text()


def test_before_a_deadline_each_task_has_its_share_of_all_processes_time(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NUM_SHARING, "4")
    run = adapt_run(tmp_path / "run", tasks, "adapt.deadline_hours=1", "adapt.reserve_seconds=0")
    work = AdaptationPlan(run, METHODS, lambda: False)
    work.start()
    folder = RunFolder(run.folder.path / ".adapt")
    for name in work._before.names:
        folder.write_json(f"{name}.json", Before(candidates=(), seconds=30.0).to_json())
    assert work._fair_share() == pytest.approx(work.seconds_left * 4 / 3 - 30, abs=20)
    folder.write_json(f"{work._after.names[0]}.json", [])
    assert work._fair_share() == pytest.approx(work.seconds_left * 4 / 2 - 30, abs=20)
