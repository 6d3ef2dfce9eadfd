"""Studies: what is refused before anything runs, what is resumed and extended, and how the answer follows."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_tools import VALUES, place, write_study
from test_compare import make_run

from arc_experiments.config.check import ConfigError
from arc_experiments.config.schema import conf_dir
from arc_experiments.launching import pool
from arc_experiments.runs.folder import RunFolder
from arc_experiments.study.__main__ import main
from arc_experiments.study.answer import StudyAnswer, answer_study
from arc_experiments.study.definition import Study, mistakes_in, read_study, typed_study
from arc_experiments.study.freezing import check_later, compose_runs
from arc_experiments.study.page import as_json, render
from arc_experiments.study.plan import PlannedRun, stages
from arc_experiments.study.record import (
    Addition,
    StudyRecord,
    begin_or_extend,
    folder_of,
    read_record,
    write_record,
)
from arc_experiments.study.section import charts, section

__all__ = ["place"]

# What a study's runs run here instead of the real worker: the score is the rank, and a bit of the seed.
QUICK_WORKER = """
import os, pathlib, sys
from arc_experiments.runs.folder import RunFolder
folder = RunFolder(pathlib.Path(sys.argv[1]))
with folder.worked_on():
    config = folder.read_config()
    if os.environ.get("FAILS") == folder.path.name:
        folder.end("failed", "it broke")
        sys.exit(2)
    share = config.model.lora.rank / 16 + config.seed % 10 / 100
    folder.write_json("metrics.json", {
        "score": {"pass_at_2": share, "version": 2}, "seconds": {"total": os.getpid() + 0.5},
    })
    (folder.path / "adapter").mkdir(exist_ok=True)
    folder.end("done")
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real sweeps in real processes, but for the work itself."""
    monkeypatch.setattr(
        pool, "worker_command", lambda folder: [sys.executable, "-c", QUICK_WORKER, str(folder.path)]
    )


def study_of(**changes: Any) -> Study:
    return typed_study({**VALUES, **changes}, Path("mine.yaml"))


def attempts(home: Path) -> dict[str, int]:
    return {file.parent.name: RunFolder(file.parent).status["attempt"] for file in home.glob("*/status.json")}


# What is in conf/study


def shipped() -> list[str]:
    return sorted(file.stem for file in (conf_dir() / "study").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_every_run_of_every_study_composes_as_far_as_it_can_be_known_before(name: str, place: Path) -> None:
    (place / "ConceptARC" / "corpus").mkdir(parents=True)  # which is to be cloned
    study = read_study(name)
    check_later([[run for run in stage if run.part in study.parts] for stage in stages(study, ())])
    assert len(study.seeds) >= 5
    assert study.question.endswith("?")


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {}}, "arms: a study compares at least two, and this one has 0"),
        ({"arms": {"one": []}}, "arms: a study compares at least two, and this one has 1"),
        ({"seeds": [1]}, r"seeds: \[1\] says nothing about other seeds"),
        ({"seeds": [1, 2, 2]}, "seeds: 2 is named twice"),
        ({"seeds": [1, -2]}, "seeds: each must be from 0"),
        ({"partitions": []}, "partitions: name at least one"),
        ({"question": " "}, "question: a study asks one"),
        ({"decide": {}}, "decide: needs either `matters`"),
        ({"decide": {"matters": 0.1, "exact": True}}, "decide: needs either `matters`"),
        ({"decide": {"matters": -1}}, "must be above 0"),
        ({"decide": {"matters": 1, "interval": "new"}}, "is not one of: new_seeds, new_tasks"),
        ({"arms": {"a": [], "b-c": []}}, "b-c: name it by letters, digits and _"),
        ({"arms": {"a": [], "b": ["from_run=<trained>"]}}, "<trained> is not one of the runs in `before`"),
        ({"before": {"a": ["from_run=<b>"], "b": []}}, "before.a: <b> is no run before it"),
        ({"before": {"small": []}}, "arms.small: there is a run of that name"),
        ({"contrasts": [["small", "huge"]]}, "must be two of the arms"),
        ({"base": ["seed=3"]}, r"base: seed=3: .* cannot set seed \(seeds: \[...\] or --seeds\)"),
        ({"base": ["sweep=rank"]}, "cannot set sweep"),
        ({"tune": {"optim.learning_rate": [1]}}, "leaves nothing to choose"),
        ({"tune": {"model.lora.rank": [1, 2]}}, "tune.model.lora.rank: small sets it, too"),
        ({"tune": {"optim.max_grad_norm": [1, 2]}, "tuning_seeds": [2]}, r"\[2\] tune the arms"),
        (
            {"scale": {"of": "tasks", "sizes": {"small": 1, "large": 2}}},
            "four arms of different sizes at least",
        ),
        ({"scale": {"of": "tasks", "sizes": {"huge": 1}}}, "scale.sizes.huge is not one of the arms"),
        ({"spread": {"seeds.stream": [1]}}, r"spread.seeds.stream: \[1\] does not vary"),
        ({"spread": {"seed": [1, 2]}}, "spread.seed is not one of: seeds.partition, seeds.stream"),
        ({"spread": {"seeds.init": [1, 2]}, "decide": {"matters": 2}}, "a share of the variance"),
    ],
)
def test_a_study_that_cannot_be_answered_is_refused(changes: dict[str, Any], message: str) -> None:
    found = "\n".join(mistakes_in(study_of(**changes)))
    assert re.search(message, found), found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decision": {}}, "decision"),
        ({"seeds": ["x"]}, "seeds"),
        ({"arms": {"a": None, "b": []}}, "arms.a"),
        ({"question": "???"}, "question is needed and has no value"),
    ],
)
def test_a_file_of_another_form_is_told_by_its_name_and_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^mine\.yaml: ") as raised:
        study_of(**changes)
    assert message in str(raised.value)


def test_an_unknown_study_is_told_what_it_could_have_been(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["moment"]) == 2
    assert "moment is not a study. Did you mean: moments? Available studies: " in capsys.readouterr().out


def test_an_unknown_key_of_an_arm_is_told_before_anything_is_written(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {"small": [], "large": ["model.lora.rnk=8"]}
    assert main(write_study(place, arms=arms)) == 2
    shown = capsys.readouterr().out
    assert "large: model.lora.rnk" in shown
    assert "Did you mean: model.lora.rank" in shown
    assert not (place / "multirun").exists()


def test_a_mistake_in_runs_that_start_later_is_told_at_once(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {"small": [], "large": ["from_run=<first>", "job=evaluate", "inference.num_view=3"]}
    assert main(write_study(place, before={"first": []}, arms=arms)) == 2
    assert "large: inference.num_view" in capsys.readouterr().out
    assert not (place / "multirun").exists()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("model.lora.rank=3", "small of this study sets model.lora.rank itself"),
        ("seed=9", "cannot set seed (seeds: [...] or --seeds)"),
        ("resume=false", "--folder names a fresh one"),
        ("from_run=<first>", "only the study itself can refer to its runs"),
        ("--seeds=4", "says nothing about other seeds"),
    ],
)
def test_what_only_the_study_may_set_cannot_be_typed(
    place: Path, capsys: pytest.CaptureFixture[str], typed: str, message: str
) -> None:
    assert main([*write_study(place), typed]) == 2
    assert message in capsys.readouterr().out.replace("large of", "small of")
    assert not (place / "multirun").exists()


# Plans


def test_runs_start_from_those_of_the_same_seeds_and_wait_for_them(tmp_path: Path) -> None:
    study = study_of(
        before={"first": [], "second": ["model.adapter=<first>/adapter"]},
        arms={"small": [], "large": ["from_run=<second>"]},
        partitions=[7, 8],
    )
    planned = stages(study, ["optim.max_steps=9"])
    assert [[run.name for run in stage if "seed_2" in run.name] for stage in planned] == [
        ["first-seed_2-partition_7", "first-seed_2-partition_8",
         "small-seed_2-partition_7", "small-seed_2-partition_8"],
        ["second-seed_2-partition_7", "second-seed_2-partition_8"],
        ["large-seed_2-partition_7", "large-seed_2-partition_8"],
    ]  # fmt: skip
    last = planned[2][-1]
    assert last.resolved(tmp_path) == [
        "experiment=smoke", "tracking=off", "optim.max_steps=9",
        f"from_run='{tmp_path}/second-seed_2-partition_8'", "seed=2", "seeds.partition=8",
    ]  # fmt: skip


def test_each_arm_is_tuned_on_seeds_that_are_not_in_the_answer(tmp_path: Path) -> None:
    study = study_of(tune={"optim.learning_rate": ["1e-3", "1e-2"]}, tuning_seeds=[11, 12])
    tuning, arms = stages(study, ())
    assert len(tuning) == 8
    assert {run.draw["seed"] for run in tuning} == {11, 12}
    assert {run.draw["seed"] for run in arms} == {1, 2}
    losses = {"small": {"0.001": 0.5, "0.01": 0.4}, "large": {"0.001": 0.3, "0.01": 0.6}}
    for run in tuning:
        arm = run.part.removeprefix("tuning_")
        rate = next(str(float(text.split("=")[1])) for text in run.overrides if "learning_rate" in text)
        make_run(tmp_path / run.name, validation={"loss": {"token_mean": losses[arm][rate]}})
    found = compose_runs(arms, "validation.loss.token_mean", tmp_path)
    rates = {name.partition("-")[0]: config.optim.learning_rate for name, (_, config) in found.items()}
    assert rates == {"small": 0.01, "large": 0.001}


# Runs


@pytest.mark.slow
def test_a_study_runs_answers_and_grows(
    place: Path, quick: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    command = [*write_study(place), "launch.max_parallel=4"]
    home = place / "multirun" / "study-mine"
    assert main(command) == 0
    found = json.loads((home / "study.json").read_text())
    (answer,) = found["answer"]
    assert (answer["arm"], answer["baseline"], answer["verdict"]) == ("large", "small", "better")
    assert answer["difference"]["value"] == pytest.approx(0.25)
    assert "large is better than small: +25.0 points in score.pass_at_2" in (home / "study.html").read_text()
    told = (home / "study.md").read_text()
    assert told.startswith("## Does a larger rank help?\n\n```bash\npython -m arc_experiments.study mine")
    assert "| large | +25.0 | seeds |" in told
    assert all((home / file).is_file() for file in re.findall(r"\]\((.*?)\)", told)), "its figures are there"
    assert main([*command, "--seeds=3"]) == 0
    assert attempts(home) == {
        f"{arm}-seed_{seed}-partition_7": 1 for arm in ("small", "large") for seed in (1, 2, 3)
    }, "what is finished stays"
    found = json.loads((home / "study.json").read_text())
    assert found["definition"]["seeds"] == [1, 2, 3]
    assert any(note.startswith("Added when 4 runs had finished: seeds 3.") for note in found["notes"])
    capsys.readouterr()
    assert main(["status", "mine"]) == 0
    shown = capsys.readouterr().out
    assert "all 3 done" in shown
    assert "large is better than small" in shown
    assert main(["list", command[1]]) == 0
    assert "Does a larger rank help?" in capsys.readouterr().out


@pytest.mark.parametrize("typed", ["10-6", "one", "1-", "1,,2"])
def test_seeds_that_are_no_range_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    with pytest.raises(SystemExit):
        main([*write_study(place), f"--seeds={typed}"])
    assert "is no seed and no range of seeds, such as 1-5,8" in capsys.readouterr().err


def test_seeds_that_a_study_has_been_given_stay_whatever_is_asked_later(tmp_path: Path) -> None:
    (tmp_path / "small-seed_1").mkdir()
    (tmp_path / "small-seed_1" / "run.yaml").touch()
    write_record(tmp_path, StudyRecord(study=study_of(seeds=[1, 2, 3])))
    fewer = begin_or_extend(StudyRecord(study=study_of(seeds=[2, 1])), tmp_path, 1)
    assert (fewer.study.seeds, fewer.added) == ([1, 2, 3], ())
    more = begin_or_extend(StudyRecord(study=study_of(seeds=[1, 9], partitions=[7, 8])), tmp_path, 5)
    assert (more.study.seeds, more.study.partitions) == ([1, 2, 3, 9], [7, 8])
    assert more.added == (Addition(seeds=(9,), partitions=(8,), finished=5),)
    write_record(tmp_path, more)
    assert read_record(tmp_path) == more


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"decide": {"matters": 0.2}}, "decide.matters: 0.01 -> 0.2"),
        ({"arms": {"large": ["model.lora.rank=8"], "small": ["model.lora.rank=4"]}}, "order of arms: "),
        ({"metric": "score.pass_at_1"}, "metric: score.pass_at_2 -> score.pass_at_1"),
        ({"base": []}, "base: "),
    ],
)
def test_an_edited_study_is_refused_once_its_runs_have_begun(
    place: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], line: str
) -> None:
    home = place / "multirun" / "study-mine"
    write_record(home, StudyRecord(study=study_of()))
    (home / "small-seed_1-partition_7").mkdir()
    (home / "small-seed_1-partition_7" / "run.yaml").touch()
    before = (home / "study.yaml").read_text()
    assert main(write_study(place, **changes)) == 2
    shown = capsys.readouterr().out
    assert line in shown
    assert "copy the file under another name" in shown
    assert (home / "study.yaml").read_text() == before


def test_other_overrides_make_another_folder_and_other_circumstances_do_not() -> None:
    plain = folder_of("mine", ())
    assert folder_of("mine", ["launch.max_parallel=2", "hardware=cpu", "tracking=off"]) == plain
    assert folder_of("mine", ["optim.max_steps=9"]) != plain
    assert folder_of("mine", ["optim.max_steps=9", "seeds.train=1"]) == folder_of(
        "mine", ["seeds.train=1", "optim.max_steps=9", "launch=slurm"]
    )


@pytest.mark.slow
def test_a_study_with_a_failed_run_has_no_answer_until_that_is_done(
    place: Path, quick: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*write_study(place), "launch.max_parallel=4"]
    monkeypatch.setenv("FAILS", "large-seed_2-partition_7")
    assert main(command) == 1
    found = json.loads((place / "multirun/study-mine/study.json").read_text())
    assert found["answer"][0]["verdict"] is None
    assert found["runs"] == {"planned": 4, "not_finished": {"large-seed_2-partition_7": "failed"}}
    assert "what is shown is not the answer" in capsys.readouterr().out
    monkeypatch.delenv("FAILS")
    assert main(command) == 0
    assert json.loads((place / "multirun/study-mine/study.json").read_text())["answer"][0]["verdict"]


# Answers


def finished(home: Path, study: Study, marks: dict[str, list[str]], **metrics: Any) -> StudyAnswer:
    """The answer of a study whose arms have these marks by seed: a digit a task, 1 if it is right."""
    for stage in stages(study, ()):
        for run in stage:
            number = study.seeds.index(run.draw["seed"])
            make_run(home / run.name, marks[run.part][number], settings={"seed": run.draw["seed"]}, **metrics)
    write_record(home, StudyRecord(study=study))
    found = answer_study(StudyRecord(study=study), home)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("large", "matters", "verdict", "opening"),
    [
        (["1110", "1111", "1111"], 0.01, "better", "large is better than small: +33.3 points"),
        (["0000", "0000", "1000"], 0.01, "worse", "large is worse than small: "),
        (["1111", "0000", "1100"], 0.01, "cannot tell", "These runs cannot tell whether large or"),
        (["1100", "1100", "1000"], 0.5, "no difference that matters", "large and small make no difference"),
    ],
)  # fmt: skip
def test_the_rule_makes_the_answer(
    tmp_path: Path, large: list[str], matters: float, verdict: str, opening: str
) -> None:
    study = study_of(seeds=[1, 2, 3], decide={"matters": matters})
    found = finished(tmp_path, study, {"small": ["1100", "1100", "1110"], "large": large})
    (contrast,) = found.contrasts
    assert contrast.verdict == verdict
    assert contrast.sentence.startswith(opening)
    assert "for new seeds, 3 runs against 3" in contrast.sentence
    assert "would have been seen in 80 of 100 such studies" in contrast.sentence
    assert f"within {100 * matters:.1f} points of 0" in found.rule


def test_an_effect_that_is_sure_but_too_small_to_matter_says_so(tmp_path: Path) -> None:
    study = study_of(seeds=[1, 2, 3], decide={"matters": 0.9})
    marks = {"small": ["1100", "1100", "1110"], "large": ["1110", "1111", "1111"]}
    sentence = finished(tmp_path, study, marks).contrasts[0].sentence
    assert sentence.startswith("large is better than small, by less than the 90.0 points that matter: ")


def test_contrasts_name_their_own_baselines(tmp_path: Path) -> None:
    arms = {"neither": [], "training": [], "both": []}
    study = study_of(arms=arms, seeds=[1, 2], contrasts=[["training", "neither"], ["both", "training"]])
    marks = {"neither": ["1000", "1000"], "training": ["1100", "1110"], "both": ["1110", "1111"]}
    found = finished(tmp_path, study, marks)
    assert [(each.arm, each.baseline) for each in found.contrasts] == [
        ("training", "neither"), ("both", "training")
    ]  # fmt: skip
    assert [each.numbers["value"] for each in found.contrasts] == pytest.approx([0.375, 0.25])


def test_runs_of_the_same_seeds_are_paired_if_the_study_says_so(tmp_path: Path) -> None:
    study = study_of(seeds=[1, 2, 3], decide={"matters": 0.01, "paired": True})
    marks = {"small": ["1000", "1100", "1110"], "large": ["1100", "1110", "1110"]}
    found = finished(tmp_path, study, marks)
    assert found.contrasts[0].numbers["in_pairs_of_seeds"]
    assert "3 pairs of runs" in found.contrasts[0].sentence


def test_arms_that_must_agree_exactly_are_compared_number_by_number(tmp_path: Path) -> None:
    study = study_of(decide={"exact": True})
    same = finished(tmp_path / "a", study, {"small": ["1100", "1000"], "large": ["1100", "1000"]})
    assert same.contrasts[0].verdict == "identical"
    assert same.contrasts[0].sentence == "large and small are identical in all 2 pairs of runs."
    other = finished(tmp_path / "b", study, {"small": ["1100", "1000"], "large": ["1100", "0100"]})
    assert other.contrasts[0].verdict == "not identical"
    assert (
        "1 of 2 pairs of runs differ, in score.by_task.t0, score.by_task.t1." in other.contrasts[0].sentence
    )


def with_losses(home: Path, study: Study, loss: Callable[[PlannedRun], float]) -> StudyAnswer:
    """The answer of a study whose runs end with these validation losses."""
    for stage in stages(study, ()):
        for run in stage:
            make_run(home / run.name, validation={"loss": {"token_mean": loss(run)}})
    found = answer_study(StudyRecord(study=study), home)
    assert found is not None
    return found


def test_a_study_of_sizes_says_what_twice_as_much_would_give(tmp_path: Path) -> None:
    sizes = {f"tasks_{size}": float(size) for size in (2, 4, 8, 16, 32)}
    study = study_of(
        arms={arm: [] for arm in sizes}, seeds=[1, 2, 3, 4], metric="validation.loss.token_mean",
        scale={"of": "tasks", "sizes": sizes},
    )  # fmt: skip
    noise = {1: 0.004, 2: -0.003, 3: -0.002, 4: 0.001}
    found = with_losses(tmp_path, study, lambda run: 0.2 + sizes[run.part] ** -0.5 + noise[run.draw["seed"]])
    assert found.scaling is not None
    assert found.scaling.ahead is not None
    assert found.scaling.ahead.value == pytest.approx(0.2 + 64**-0.5, abs=0.01)
    (sentence,) = (each for each in found.sentences if each.startswith("With 2 times the tasks (64)"))
    assert sentence in render("mine", found)
    law = json.loads(as_json("mine", found))["law"]
    assert law["law"]["exponent"]["value"] == pytest.approx(0.5, abs=0.1)
    assert next(iter(charts(found))) == "law"
    assert "![validation.loss.token_mean of mine](figures/law.svg)" in section("mine", found)
    assert "power law with floor" in render("mine", found), "the chart is on the page"


def test_a_study_of_the_spread_says_which_seed_makes_it(tmp_path: Path) -> None:
    study = study_of(
        arms={"runs": ["from_run=<trained>"]}, before={"trained": []}, decide={"matters": 0.3},
        metric="validation.loss.token_mean",
        spread={"seeds.stream": [1, 2, 3, 4], "seeds.inference": [1, 2, 3, 4]},
    )  # fmt: skip
    first, last = stages(study, ())
    assert (len(first), len(last)) == (4, 16), "how a model answers makes no other model"
    found = with_losses(
        tmp_path, study,
        lambda run: 0.1 * run.draw["seeds.stream"] + 0.0001 * run.draw.get("seeds.inference", 0),
    )  # fmt: skip
    assert found.contrasts == []
    assert any(each.startswith("seeds.stream matters: ") for each in found.sentences)
    assert any(each.startswith("seeds.inference does not matter: ") for each in found.sentences)
    assert "share of the variance" in found.rule
    assert "seeds.stream 1, 2, 3, 4 x seeds.inference 1, 2, 3, 4" in render("mine", found)
    assert all(each.replace("&", "&amp;") in render("mine", found) for each in found.answers)
    assert json.loads(as_json("mine", found))["spread"]["runs"]["num_runs"] == 16


def test_the_page_has_the_question_the_arms_the_rule_and_the_answer(tmp_path: Path) -> None:
    study = study_of(question="Is <b>this</b> & that safe?", seeds=[1, 2, 3])
    marks = {"small": ["1100", "1100", "1110"], "large": ["1110", "1111", "1111"]}
    found = finished(tmp_path, study, marks)
    page = render("mine", found)
    assert "Is &lt;b&gt;this&lt;/b&gt; &amp; that safe?" in page
    for text in (found.rule, *found.sentences, "model.lora.rank=8", "seeds 1, 2, 3; partitions 7"):
        assert text in page
    for outside in ("<script", 'http-equiv="refresh', 'src="http', 'href="http'):
        assert outside not in page
    values = json.loads(as_json("mine", found))
    assert values["gains_by_task"]["large"] == {
        "t0": 0.0,
        "t1": 0.0,
        "t2": pytest.approx(2 / 3),
        "t3": pytest.approx(2 / 3),
    }
    assert [arm["group"] for arm in values["arms"]] == ["small", "large"]


def test_a_study_of_another_version_is_told_by_its_file(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    home = place / "multirun" / "study-mine"
    write_record(home, StudyRecord(study=study_of()))
    (home / "study.yaml").write_text((home / "study.yaml").read_text().replace("question:", "asked:"))
    assert main(["status"]) == 2
    assert "study-mine/study.yaml: " in capsys.readouterr().out.replace("\n", "")
    (home / "study.yaml").write_text("study: {}\n")
    assert main(["list", write_study(place)[1]]) == 0
    assert "is not that of a study" in capsys.readouterr().out
