"""Comparing finished runs: what makes a group, what is refused, what the tables and the page say."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf
from rich.console import Console
from small_training import SMALL

from arc_experiments import compose
from arc_experiments.compare import main
from arc_experiments.comparison.contrasts import NotComparable, changed
from arc_experiments.comparison.formats import csv_text, latex, markdown, show
from arc_experiments.comparison.groups import differing
from arc_experiments.comparison.page import render
from arc_experiments.comparison.result import ComparedRuns, compare
from arc_experiments.comparison.runs import find_folders, read_result
from arc_experiments.comparison.tables import MINUS, MetricFormat
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import score as score_of

Tree = dict[str, Any]


def make_run(
    folder: Path, marks: str = "1100", *, settings: Tree | None = None, state: str = "done", **metrics: Any
) -> Path:
    """A run folder with a test output a task: 1 right, 0 wrong. `settings` by dotted key."""
    values = OmegaConf.create(
        {
            "job": {"name": "finetune"}, "data": {"name": "arc1", "leaks": "warn", "fold": 0},
            "model": {"name": "tiny", "path": "package:tiny", "adapter": None, "lora": {"rank": 8}},
            "prompt": {"name": "compact"}, "optim": {"max_steps": 5, "stop_after": None},
            "augmentation": {}, "seed": 1, "seeds": {"partition": 7}, "from_run": None,
        }
    )  # fmt: skip
    for key, value in (settings or {}).items():
        OmegaConf.update(values, key, value)
    folder.mkdir(parents=True)
    OmegaConf.save(values, folder / "run.yaml")
    write(
        folder, "status.json", {"state": state, "error": None if state == "done" else "it broke\nsomewhere"}
    )
    if state == "done":
        write(
            folder,
            "metrics.json",
            {"score": score(marks), "seconds": {"total": 90.0}, "leaked_tasks": [], **metrics},
        )
    return folder


def score(marks: str, first: int = 0) -> Tree:
    """The part of metrics.json, for tasks t<first>, t<first + 1>, ..."""
    by_task = {f"t{first + number}": float(mark) for number, mark in enumerate(marks)}
    share = sum(by_task.values()) / len(by_task)
    return {
        "pass_at_2": share, "num_tasks": len(marks), "num_test_outputs": len(marks), "by_task": by_task,
        "by_rule": {"test_output": share, "task_fraction": share, "task_strict": share},
    }  # fmt: skip


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value))


def change(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    write(folder, name, {**(json.loads(path.read_text()) if path.exists() else {}), **changes})


def compared(folder: Path, metric: str = "score.pass_at_2", **options: Any) -> ComparedRuns:
    return compare([read_result(path) for path in find_folders([str(folder)])], metric=metric, **options)


def sweep(folder: Path, **marks: list[str]) -> Path:
    """`r8=["1100", "1000"]`: rank 8, a run a seed."""
    for name, runs in marks.items():
        for seed, row in enumerate(runs, start=1):
            make_run(
                folder / f"{name}-seed_{seed}", row, settings={"model.lora.rank": int(name[1:]), "seed": seed}
            )
    return folder


def test_a_very_small_change_is_written_as_one() -> None:
    words = MetricFormat(metric="validation.loss.task_mean")
    assert words.change(-7.263e-10) == f"{MINUS}7.263e{MINUS}10"
    assert words.change(0.0) == "0"


def test_runs_of_other_seeds_are_one_group_and_what_differs_names_it(tmp_path: Path) -> None:
    found = compared(sweep(tmp_path, r8=["1100", "1000"], r16=["1110", "1111"]))
    assert list(found.groups.group) == ["rank=8", "rank=16"]
    assert list(found.groups.value) == pytest.approx([0.375, 0.875])
    assert list(found.groups.runs) == [2, 2]
    assert list(found.settings.setting) == ["model.lora.rank"]
    (difference,) = found.differences.itertuples()
    assert difference.value == pytest.approx(0.5)
    assert (difference.tasks_won, difference.tasks_lost, difference.tasks_same) == (3, 0, 1)
    assert list(changed(found.gains, "rank=16", 1).index) == ["t2", "t1", "t3"]
    assert difference.sign_test_p == pytest.approx(0.25)


def test_scores_of_a_part_of_the_tasks_say_so(tmp_path: Path) -> None:
    part = {"answered": {"num_tasks": 4, "num_validation_tasks": 100}}
    for seed in (1, 2):
        make_run(tmp_path / f"small-{seed}", "1100", settings={"seed": seed}, **part)
        make_run(tmp_path / f"large-{seed}", "1110", settings={"seed": seed, "model.lora.rank": 16}, **part)
    found = compared(tmp_path)
    text, page = markdown(found), render(found)
    assert "### score.pass_at_2 (more is better, 4 of 100 tasks asked)" in text
    assert "on the same tasks (4 of 100 tasks asked)" in text
    assert "2 groups · 4 of 100 tasks asked" in page
    whole = markdown(compared(tmp_path, "seconds.total"))
    assert "tasks asked" not in whole, "times are not scores"


def test_settings_that_change_together_are_one_difference(tmp_path: Path) -> None:
    for name, path in (("tiny", "package:tiny"), ("qwen", "Qwen/Qwen2.5")):
        make_run(tmp_path / name, settings={"model.name": name, "model.path": path})
    (setting,) = compared(tmp_path).settings.itertuples(index=False)
    assert tuple(setting) == ("model.name", ["qwen", "tiny"], ["model.path"])
    assert compared(tmp_path, baseline="model=tiny").groups.group[0] == "model=tiny"


def test_a_group_is_named_by_what_tells_more_than_an_amount(tmp_path: Path) -> None:
    for rank, steps in ((8, 40), (16, 80)):
        settings = {"model.lora.rank": rank, "optim.max_steps": steps, "inference.limit": steps}
        make_run(tmp_path / str(rank), settings=settings)
    found = compared(tmp_path)
    assert list(found.groups.group) == ["rank=8", "rank=16"]
    (setting,) = found.settings.itertuples(index=False)
    assert setting[2] == ["inference.limit", "optim.max_steps"]


def test_where_a_run_stopped_makes_it_another_config(tmp_path: Path) -> None:
    make_run(tmp_path / "whole")
    make_run(tmp_path / "half", settings={"optim.stop_after": 2})
    assert list(compared(tmp_path).groups.group) == ["stop_after=null", "stop_after=2"]


@pytest.mark.parametrize(("best_by", "groups"), [("none", 1), ("validation_loss", 2)])
def test_how_often_a_run_looks_and_saves_makes_no_group_unless_it_decides_which_weights_are_kept(
    tmp_path: Path, best_by: str, groups: int
) -> None:
    for seed, steps in ((1, 25), (2, 50)):
        often = {f"optim.{name}_steps": steps for name in ("log", "eval", "save")}
        make_run(tmp_path / str(seed), settings={"seed": seed, "optim.best_by": best_by, **often})
    assert len(compared(tmp_path).groups) == groups


def test_hardware_makes_no_group(tmp_path: Path) -> None:
    for seed, threads in ((1, 1), (2, 8)):
        folder = make_run(tmp_path / str(seed), settings={"seed": seed})
        OmegaConf.save(
            OmegaConf.merge(OmegaConf.load(folder / "run.yaml"), {"hardware": {"threads": threads}}),
            folder / "run.yaml",
        )
    assert list(compared(tmp_path).groups.group) == ["all runs"]


def test_the_baseline_can_be_named(tmp_path: Path) -> None:
    sweep(tmp_path, r8=["1100"], r16=["1110"], r32=["1111"])
    for name in ("rank=16", "model.lora.rank=16"):
        found = compared(tmp_path, baseline=name)
        assert list(found.groups.group) == ["rank=16", "rank=8", "rank=32"]
        assert list(found.differences.baseline) == ["rank=16", "rank=16"]
    with pytest.raises(ValueError, match="must name one of: rank=8; rank=16; rank=32"):
        compared(tmp_path, baseline="rank=64")


def test_unfinished_and_failed_runs_are_listed_and_not_averaged(tmp_path: Path) -> None:
    sweep(tmp_path, r8=["1100", "1100"])
    for state in ("failed", "running", "paused"):
        # One that died after its metrics were written has no finished numbers either.
        broken = make_run(tmp_path / state, state=state, settings={"seed": 3})
        write(broken, "metrics.json", {"score": score("1111")})
    dead = make_run(tmp_path / "dead", state="running", settings={"seed": 5})
    os.utime(dead / "status.json", (0, 0))  # its last heartbeat
    make_run(tmp_path / "torn", settings={"seed": 4})
    (tmp_path / "torn" / "metrics.json").unlink()
    found = compared(tmp_path)
    assert found.groups.value[0] == 0.5
    assert dict(zip(found.unfinished.run, found.unfinished.state, strict=True)) == {
        "failed": "failed", "running": "running", "paused": "paused",
        "dead": "died", "torn": "without metrics.json",
    }  # fmt: skip
    assert "| failed | failed | it broke |" in markdown(found)


def test_nothing_finished_is_a_mistake(tmp_path: Path) -> None:
    make_run(tmp_path / "one", state="failed")
    with pytest.raises(ValueError, match="none of 1 run is finished: one failed"):
        compared(tmp_path)


def test_the_same_config_and_seed_counts_once(tmp_path: Path) -> None:
    sweep(tmp_path, r8=["1100", "1000"])
    shutil.copytree(tmp_path / "r8-seed_1", tmp_path / "r8-seed_1-2")
    found = compared(tmp_path)
    assert found.groups.runs[0] == 2
    assert any("r8-seed_1-2 left out" in notice for notice in found.notices)


def test_a_partition_seed_that_changes_nothing_is_no_other_run(tmp_path: Path) -> None:
    for seed in (7, 8):
        folder = make_run(tmp_path / str(seed), settings={"seeds.partition": seed})
        write(folder, "partition.json", {"validation": ["t0", "t1", "t2", "t3"], "hash": "same"})
    assert compared(tmp_path).groups.runs[0] == 1


def test_a_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    for seed, loss in ((1, 0.5), (2, float("nan"))):
        make_run(tmp_path / str(seed), settings={"seed": seed}, validation={"loss": {"token_mean": loss}})
    found = compared(tmp_path, "validation.loss.token_mean")
    assert list(found.runs.value) == [0.5]
    assert any("missing or not a finite number: 2" in notice for notice in found.notices)


def test_counts_are_no_percentages(tmp_path: Path) -> None:
    for seed, count in ((1, 1), (2, 4)):
        make_run(
            tmp_path / str(seed),
            settings={"seed": seed},
            score={**score("1100"), "invalid": {"ragged": count}},
        )
    assert "| all runs | 2 | 2.5 |" in markdown(compared(tmp_path, "score.invalid.ragged"))


def test_one_seed_gives_no_interval_for_new_seeds_and_says_so(tmp_path: Path) -> None:
    found = compared(sweep(tmp_path, r8=["110000"], r16=["111100"]))
    assert pd.concat([found.groups, found.differences]).new_seeds_low.isna().all()
    assert "(tasks only)" in markdown(found)
    assert "says nothing about other seeds (rank=8, rank=16)" in markdown(found)


def test_ties_alone_have_no_interval(tmp_path: Path) -> None:
    found = compared(sweep(tmp_path, r8=["1100", "1100"], r16=["1100", "1100"]))
    assert found.differences[["value", "tasks_won", "tasks_lost", "sign_test_p"]].to_numpy().tolist() == [
        [0, 0, 0, 1]
    ]
    assert found.differences[["new_seeds_low", "new_tasks_low"]].isna().all(axis=None)
    assert "| rank=16 | 0.0 |" in markdown(found)
    assert "too little varies to tell" in markdown(found)


def test_other_partitions_of_a_config_are_blocks_of_one_group(tmp_path: Path) -> None:
    for partition, first in ((7, 0), (8, 2)):
        for seed, marks in ((1, "1100"), (2, "1000")):
            folder = tmp_path / f"p{partition}-s{seed}"
            make_run(
                folder, settings={"seeds.partition": partition, "seed": seed}, score=score(marks, first=first)
            )
    found = compared(tmp_path)
    assert list(found.runs.task_list) == [0, 1, 0, 1]
    assert [list(row.dropna().index) for _, row in found.shares.iloc[:2].iterrows()] == [
        ["t0", "t1", "t2", "t3"],
        ["t2", "t3", "t4", "t5"],
    ]
    assert found.groups.value[0] == pytest.approx(0.375)
    assert pd.notna(found.groups.new_tasks_low[0])
    assert "4 on 2 task lists" in markdown(found)


def test_groups_on_other_partitions_are_compared_where_both_ran(tmp_path: Path) -> None:
    make_run(tmp_path / "a7", "1100")
    make_run(tmp_path / "a8", settings={"seeds.partition": 8}, score=score("1111", first=9))
    make_run(tmp_path / "b7", "1110", settings={"model.lora.rank": 16})
    found = compared(tmp_path)
    assert found.differences.value[0] == pytest.approx(0.25)
    assert any("ran on different partitions" in notice for notice in found.notices)


def test_groups_without_a_common_partition_have_no_difference(tmp_path: Path) -> None:
    make_run(tmp_path / "a7", "1100")
    make_run(
        tmp_path / "b8",
        settings={"seeds.partition": 8, "model.lora.rank": 16},
        score=score("1111", first=9),
    )
    found = compared(tmp_path)
    assert found.differences.empty
    assert any("no task list in common" in notice for notice in found.notices)


def test_other_task_lists_are_refused_with_the_tasks_that_some_lack(tmp_path: Path) -> None:
    sweep(tmp_path, r8=["1100"], r16=["110"])
    with pytest.raises(
        NotComparable, match=r"3 tasks in r16-seed_1; 4 tasks in r8-seed_1\. Not in all: t3"
    ) as refused:
        compared(tmp_path)
    assert "--anyway" in str(refused.value)


def test_anyway_compares_on_the_tasks_that_all_have(tmp_path: Path) -> None:
    found = compared(sweep(tmp_path, r8=["1101"], r16=["100"]), anyway=True)
    assert list(found.groups.value) == pytest.approx([2 / 3, 1 / 3])
    assert any(notice.startswith("Compared all the same: other task lists") for notice in found.notices)


def test_what_is_not_known_by_task_is_refused_on_other_task_lists_in_any_case(tmp_path: Path) -> None:
    for rank, marks in ((8, "1101"), (16, "100")):
        all_scores = {**score(marks), "pass_at_1": 0.25}
        make_run(tmp_path / f"r{rank}", settings={"model.lora.rank": rank}, score=all_scores)
    with pytest.raises(
        NotComparable, match=r"pass_at_1 is not known by task, and r8 had more than the 3 tasks"
    ):
        compared(tmp_path, "score.pass_at_1", anyway=True)
    change(tmp_path / "r16", "metrics.json", score={**score("1001"), "pass_at_1": 0.5})
    assert compared(tmp_path, "score.pass_at_1").differences.value[0] == pytest.approx(0.25)


def test_outputs_that_cannot_be_counted_by_task_are_refused_on_other_task_lists(tmp_path: Path) -> None:
    sweep(tmp_path, r8=["1101"], r16=["100"])
    two_outputs = {**score("1101"), "num_test_outputs": 5}  # of which task, predictions.jsonl would say
    change(tmp_path / "r8-seed_1", "metrics.json", score=two_outputs)
    with pytest.raises(NotComparable, match=r"take --metric score\.pass_at_2"):
        compared(tmp_path, "score.by_rule.test_output", anyway=True)
    found = compared(tmp_path, anyway=True)
    assert list(found.groups.value) == pytest.approx([2 / 3, 1 / 3])


def test_runs_without_a_task_in_common_are_refused_in_any_case(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "11")
    make_run(tmp_path / "b", settings={"model.lora.rank": 16}, score=score("11", first=5))
    with pytest.raises(NotComparable, match="share no task"):
        compared(tmp_path, anyway=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"score": {**score("1100"), "version": 3}},
            "metrics of other versions: version 3 in other; version 2 in r8-seed_1",
        ),
        (
            {"leaked_tasks": ["t1", "strange"]},
            "tasks that leaked into training: 1 task in other; 0 tasks in r8-seed_1. Not in all: t1$",
        ),
    ],
)
def test_numbers_that_stand_for_something_else_are_refused(
    tmp_path: Path, changes: Tree, reason: str
) -> None:
    sweep(tmp_path, r8=["1100"])
    change(make_run(tmp_path / "other", settings={"model.lora.rank": 16}), "metrics.json", **changes)
    with pytest.raises(NotComparable) as refused:
        compared(tmp_path)
    assert re.search(reason, str(refused.value), re.MULTILINE)


def test_other_leak_settings_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "warn")
    make_run(tmp_path / "ignore", settings={"data.leaks": "ignore"})
    with pytest.raises(NotComparable, match=r"data\.leaks=ignore in ignore; data.leaks=warn in warn"):
        compared(tmp_path)
    assert len(compared(tmp_path, anyway=True).differences) == 1


def test_other_ancestry_and_code_and_shared_leaks_are_said(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", settings={"model.lora.rank": 16})
    for folder in (first, second):
        change(folder, "metrics.json", leaked_tasks=["t0"])
    write(second, "leaks.json", {"policy": "warn", "ancestry": {"counts": {"leaks": 1}}})
    write(first, "environment.json", {"commit": "abc"})
    said = " ".join(compared(tmp_path).notices)
    assert "Weights of another ancestry: none known in a; 1 validation task in it in b" in said
    assert "commit abc in a" in said
    assert "1 task stood in training, whole or in part" in said


def test_losses_of_other_prompts_are_said(tmp_path: Path) -> None:
    for name in ("compact", "rows"):
        make_run(tmp_path / name, settings={"prompt.name": name}, validation={"loss": {"token_mean": 0.5}})
    found = compared(tmp_path, "validation.loss.token_mean")
    assert any(notice.startswith("Losses a token of other prompts") for notice in found.notices)
    assert not any("Losses" in notice for notice in compared(tmp_path).notices)


def test_a_metric_that_no_run_has_is_answered_with_those_there_are(tmp_path: Path) -> None:
    sweep(tmp_path, r8=["1100"])
    with pytest.raises(
        ValueError, match=r"--metric score\.pass_at_3.*score\.by_rule\.task_fraction, .*seconds\.total"
    ):
        compared(tmp_path, "score.pass_at_3")


def test_a_run_without_the_metric_is_named(tmp_path: Path) -> None:
    sweep(tmp_path, r8=["1100", "1000"])
    change(tmp_path / "r8-seed_2", "metrics.json", score={})
    found = compared(tmp_path)
    assert found.groups.runs[0] == 1
    assert any("finite number: r8-seed_2" in notice for notice in found.notices)


def test_a_loss_by_task_gives_both_intervals_and_less_is_better(tmp_path: Path) -> None:
    for rank, losses in ((8, (0.5, 0.7, 0.9)), (16, (0.3, 0.5, 0.7))):
        for seed in (1, 2):
            by_task = {f"t{n}": loss + seed / 100 * (n + 1) for n, loss in enumerate(losses)}
            mean = sum(by_task.values()) / 3
            make_run(
                tmp_path / f"{rank}-{seed}",
                settings={"model.lora.rank": rank, "seed": seed},
                validation={"loss": {"task_mean": mean, "token_mean": mean, "by_task": by_task}},
            )
    found = compared(tmp_path, "validation.loss.task_mean")
    (difference,) = found.differences.itertuples()
    assert difference.value == pytest.approx(-0.2)
    assert difference.tasks_won == 3
    assert pd.notna(difference.new_tasks_low)
    assert "| better |" in markdown(found)
    (by_token,) = compared(tmp_path, "validation.loss.token_mean").differences.itertuples()
    assert pd.isna(by_token.new_tasks_low)
    assert pd.notna(by_token.new_seeds_low)


def test_tasks_count_alike_by_kaggles_rule_and_by_their_outputs_in_the_share_of_right_outputs(
    tmp_path: Path,
) -> None:
    """The folders are of metrics.json's first version, whose pass_at_2 was the share of right outputs."""
    for seed, share in ((1, 0.5), (2, 1.0)):
        folder = make_run(
            tmp_path / str(seed),
            settings={"seed": seed},
            score={
                "pass_at_2": 2 * share / 3, "num_tasks": 2, "num_test_outputs": 3,
                "by_task": {"one": 0.0, "two": share},
                "by_rule": {"test_output": 2 * share / 3, "task_fraction": share / 2, "task_strict": 0.0},
            },
        )  # fmt: skip
        lines = [
            {"task": "one", "test_index": 0},
            {"task": "two", "test_index": 0},
            {"task": "two", "test_index": 1},
        ]
        (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(compared(tmp_path).runs.value) == [0.25, 0.5]
    assert list(compared(tmp_path, "score.by_rule.test_output").runs.value) == pytest.approx((1 / 3, 2 / 3))
    assert list(compared(tmp_path, "score.by_rule.task_strict").runs.value) == [0.0, 0.5]
    for seed in (1, 2):  # nobody knows any more how many test outputs the tasks have
        (tmp_path / str(seed) / "predictions.jsonl").unlink()
    found = compared(tmp_path, "score.by_rule.test_output")
    assert list(found.runs.value) == pytest.approx((1 / 3, 2 / 3))
    assert pd.isna(found.groups.new_tasks_low[0])
    assert pd.notna(found.groups.new_seeds_low[0])


def evaluations(folder: Path) -> None:
    """Two weights, each answered with 8 and with 16 views."""
    for seed in (1, 2):
        source = make_run(folder / "trained" / f"seed_{seed}", settings={"seed": seed})
        for views, marks in ((8, "1100"), (16, "1110")):
            make_run(
                folder / "answered" / f"views_{views}-from_{seed}",
                marks if seed == 1 else marks[::-1],
                settings={
                    "job.name": "evaluate", "from_run": str(source), "model.adapter": str(source / "adapter"),
                    "inference": {"num_views": views},
                },
            )  # fmt: skip


def test_evaluations_of_runs_with_other_seeds_are_one_group(tmp_path: Path) -> None:
    evaluations(tmp_path)
    found = compared(tmp_path / "answered")
    assert list(found.groups.group) == ["num_views=8", "num_views=16"]
    assert list(found.groups.runs) == [2, 2]


def test_second_stages_from_the_moments_of_other_seeds_are_one_group(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        first = make_run(tmp_path / "first" / f"seed_{seed}", settings={"seed": seed})
        weights = {"seed": seed, "model.adapter": str(first / "adapter")}
        make_run(tmp_path / "second" / f"without-{seed}", settings=weights | {"optim.load_state": None})
        make_run(tmp_path / "second" / f"with-{seed}", settings=weights | {"optim.load_state": str(first)})
    found = compared(tmp_path / "second")
    assert list(found.groups.group) == ["load_state=null", "load_state=from_run"]
    assert list(found.groups.runs) == [3, 3]


def test_the_package_s_model_comes_from_no_run_even_inside_a_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(tmp_path, r8=["1100"], r16=["1110"])
    monkeypatch.chdir(tmp_path / "r8-seed_1")
    results = [read_result(path) for path in find_folders([".", "../r16-seed_1"])]
    assert [result.weights_from for result in results] == [None, None]
    assert {result.settings["model.path"] for result in results} == {"package:tiny"}


@pytest.mark.parametrize("place", ["adapter", "."])
def test_a_run_is_not_the_source_of_its_own_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(make_run(tmp_path / "run", settings={"model.adapter": place}))
    assert read_result(Path()).weights_from is None


def test_the_same_weights_answered_twice_are_taken_in_pairs(tmp_path: Path) -> None:
    evaluations(tmp_path)
    assert compared(tmp_path / "answered").differences.in_pairs_of_seeds[0]
    assert "were paired" in markdown(compared(tmp_path / "answered"))


def test_runs_of_the_same_seeds_are_taken_in_pairs_where_asked(tmp_path: Path) -> None:
    sweep(tmp_path, r8=["1100", "1000"], r16=["1110", "1001", "1111"])
    assert not compared(tmp_path).differences.in_pairs_of_seeds[0]
    (difference,) = compared(tmp_path, by_seed=True).differences.itertuples()
    assert difference.in_pairs_of_seeds
    assert difference.value == pytest.approx(0.25), "the third seed has no partner"


def test_runs_without_a_partner_are_not_taken_in_pairs_silently(tmp_path: Path) -> None:
    for seed in (1, 2):
        make_run(tmp_path / f"a{seed}", settings={"seed": seed})
        make_run(tmp_path / f"b{seed}", settings={"seed": seed + 2, "model.lora.rank": 16})
    found = compared(tmp_path, by_seed=True)
    assert not found.differences.in_pairs_of_seeds[0]
    assert any("rank=16 and rank=8 share no seeds" in notice for notice in found.notices)


def test_folders_are_found_by_name_and_pattern_once(tmp_path: Path) -> None:
    sweep(tmp_path / "sweeps" / "x", r8=["1100"], r16=["1100"])
    (tmp_path / "sweeps" / "x" / "sweep.csv").write_text("job\n")
    one = tmp_path / "sweeps" / "x" / "r8-seed_1"
    found = find_folders([str(one), str(tmp_path / "sweeps" / "*"), str(tmp_path / "**" / "r16*")])
    assert [path.name for path in found] == ["r8-seed_1", "r16-seed_1"]
    with pytest.raises(ValueError, match="no run folder"):
        find_folders([str(tmp_path / "nowhere" / "*")])


def test_a_torn_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(tmp_path, r8=["1100"])
    (tmp_path / "r8-seed_1" / "metrics.json").write_text('{"score": ')
    assert main([str(tmp_path)]) == 2
    assert "r8-seed_1/metrics.json is not whole JSON" in capsys.readouterr().err


def test_a_foreign_run_yaml_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("[1, 2]")
    assert main([str(tmp_path)]) == 2
    assert "run.yaml is not that of a run" in capsys.readouterr().err


def test_markdown_and_latex_hold_the_same_numbers(tmp_path: Path) -> None:
    found = compared(sweep(tmp_path, r8=["110000", "100000"], r16=["111000", "111100"]))
    assert "| rank=16 | 2 | 58.3% | 11.8 |" in markdown(found)
    assert r"rank=16 & 2 & 58.3\% & 11.8 &" in latex(found)
    assert latex(found).count(r"\begin{tabular}") == latex(found).count(r"\end{tabular}") == 4
    assert r"score.pass\_at\_2 (more is better)" in latex(found)


def test_a_table_on_a_narrow_terminal_keeps_words_and_intervals_whole(tmp_path: Path) -> None:
    for rank in (8, 16):
        for seed, marks in ((1, "110000"), (2, "100000")):
            settings = {"model.lora.rank": rank, "optim.learning_rate": 0.001 * rank, "seed": seed}
            make_run(tmp_path / f"{rank}-{seed}", marks, settings=settings | {"data.limit": rank})
    shown = compared(tmp_path)
    shown.groups.loc[:, "group"] = ["learning_rate=0.001, a=1", "learning_rate=0.002, a=1"]
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    show(shown, console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "learning_rate=0.001" in text
    assert "[0.0,\N{NO-BREAK SPACE}100.0]" in text


def test_csv_holds_the_numbers_in_full(tmp_path: Path) -> None:
    found = compared(sweep(tmp_path, r8=["110000", "100000"], r16=["111000", "111100"]))
    first, second, difference = csv.DictReader(io.StringIO(csv_text(found)))
    assert (first["kind"], first["group"], first["runs"]) == ("group", "rank=8", "2")
    assert float(second["value"]) == pytest.approx(3.5 / 6)
    assert (difference["kind"], difference["baseline"], difference["tasks_won"]) == (
        "difference",
        "rank=8",
        "3",
    )
    for column in ("new_tasks_low", "new_tasks_detectable"):
        assert float(difference[column]) == found.differences[column][0]
    assert (first["tasks_won"], first["seconds"], difference["new_tasks_with_seeds"]) == ("", "90.0", "True")


def test_what_differs_in_names_only_is_not_run_together(tmp_path: Path) -> None:
    make_run(tmp_path / "a", settings={"model.lora.rank": 8, "optim.rank": 1})
    make_run(tmp_path / "b", settings={"model.lora.rank": 16, "optim.rank": 1})
    make_run(tmp_path / "c", settings={"model.lora.rank": 8, "optim.rank": 2})
    assert list(compared(tmp_path).groups.group) == [
        "model.lora.rank=8, optim.rank=1", "model.lora.rank=8, optim.rank=2",
        "model.lora.rank=16, optim.rank=1",
    ]  # fmt: skip
    assert differing([read_result(tmp_path / "a")])[0].empty


@pytest.mark.slow
def test_the_page_stands_alone_and_shows_every_group(tmp_path: Path) -> None:
    sweep(tmp_path, r8=["1100", "1000"], r16=["1110", "1111"])
    for folder in tmp_path.iterdir():
        lines = [{"step": step, "validation_loss": 1 / (step + 1)} for step in (0, 5, 10)]
        (folder / "train_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = render(compared(tmp_path))
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    for part in (
        "Scores with 95% intervals",
        "Score against time",
        "Validation loss",
        "Task by task",
        "rank=16 against rank=8",
    ):
        assert part in page
    assert page.count("fill-opacity: 0.16") == 2 * 2, "a band a group, on wide and on narrow screens"
    assert "Without pictures" in page, "there are no tasks of these names any more"
    assert page == render(compared(tmp_path))


def test_the_command_writes_what_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(tmp_path / "runs", r8=["1100", "1000"], r16=["1110", "1111"])
    names = ("html", "markdown", "csv", "latex")
    options = [option for name in names for option in (f"--{name}", str(tmp_path / f"out.{name}"))]
    assert main([str(tmp_path / "runs"), *options]) == 0
    assert all((tmp_path / f"out.{name}").stat().st_size > 100 for name in names)
    shown = capsys.readouterr().out
    assert "Differences from rank=8" in shown
    assert str(tmp_path / "out.html") in shown.replace("\n", "")


def answered(folder: Path, rank: int, right: bool) -> None:
    """A real composition with made-up answers to two tasks of ARC-AGI-1; `right` decides the first."""
    run = compose([*SMALL, "inference.limit=2", f"model.lora.rank={rank}"], folder)
    tasks = run.predicted_tasks()
    grids = [tasks[0].test[0].output if right else tasks[0].test[0].input, tasks[1].test[0].input]
    answers = [
        Candidate(
            task_id=task.id, test_index=0, view=0, transforms="identity", text="", num_tokens=1,
            log_probability=-1.0, grid=grid, reason=None,
        )
        for task, grid in zip(tasks, grids, strict=True)
    ]  # fmt: skip
    run.folder.write("predictions.jsonl", "".join(f"{answer.to_json()}\n" for answer in answers))
    run.folder.write_json("metrics.json", {"score": score_of(tasks, answers)})
    run.folder.write_json("status.json", {"state": "done"})


@pytest.mark.slow
def test_the_page_shows_the_answers_to_a_task_that_was_won(tmp_path: Path) -> None:
    answered(tmp_path / "small", 4, right=False)
    answered(tmp_path / "large", 8, right=True)
    found = compared(tmp_path)
    (won,) = changed(found.gains, "rank=8", 1).index
    page = render(found)
    assert f"<summary>{won} (+100)</summary>" in page
    assert page.count("✗ wrong</strong>") == page.count("✓ right</strong>") == 1
    assert "Without pictures" not in page


@pytest.mark.slow
def test_a_sweep_is_compared_as_it_was_left(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "arc_experiments"]
    options = [*SMALL, "model.lora.rank=4,8", "optim.max_steps=2", f"hydra.sweep.dir={tmp_path}"]
    subprocess.run([*command, "--multirun", *options], check=True, capture_output=True)
    command[-1] += ".compare"
    for metric in ("score.pass_at_2", "validation.loss.task_mean"):
        shown = subprocess.run(
            [*command, str(tmp_path), "--metric", metric, "--html", str(tmp_path / "page.html")],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        assert "rank=4" in shown
        assert "rank=8" in shown
        assert "Validation loss" in (tmp_path / "page.html").read_text()
