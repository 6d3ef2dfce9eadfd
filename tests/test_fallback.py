"""Grids behind programs: another run's, or the same model's."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from program_tools import KNOWN, OPTIONS, evaluated, learnt_by_heart
from quick_compose import compose
from toy_models import make_base

from arc_experiments.run import Run

GRIDS = ["prompt=compact"]


@pytest.fixture(scope="module")
def model() -> list[str]:
    return learnt_by_heart()


@pytest.fixture(scope="module")
def grid_model() -> list[str]:
    """A model that knows the outputs of all four drawings."""
    return learnt_by_heart(*GRIDS, number=4)


@pytest.fixture(scope="module")
def of_grids(grid_model: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    run, _ = evaluated(tmp_path_factory.mktemp("of_grids"), *GRIDS, *grid_model, "inference.num_views=2")
    return run


def random_model(folder: Path) -> list[str]:
    return [f"model.path={make_base(folder / 'base')}", "model.lora=null"]


def lines(run: Run) -> list[dict]:
    text = (run.folder / "predictions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_another_runs_grids_stand_behind_verified_programs(
    model: list[str], of_grids: Run, tmp_path: Path
) -> None:
    run, _ = evaluated(tmp_path / "run", *model, f"inference.fallback_run={of_grids.folder}")
    alone, _ = evaluated(tmp_path / "alone", *model)
    written = lines(run)
    assert written[:4] == lines(alone)
    assert [one.pop("origin") for one in written[4:]] == [str(of_grids.folder)] * 8
    assert written[4:] == lines(of_grids)
    attempts, unaided, theirs = (one.folder.read_json("submission.json") for one in (run, alone, of_grids))
    for task_id in run.validation_tasks.ids[:KNOWN]:
        assert attempts[task_id][0]["attempt_1"] == unaided[task_id][0]["attempt_1"]
    (unknown,) = run.validation_tasks.ids[KNOWN:]
    assert attempts[unknown] == theirs[unknown]
    scores = [one.folder.read_json("metrics.json")["score"]["pass_at_1"] for one in (alone, run)]
    assert scores == [KNOWN / 4, 1]
    assert run.folder.read_json("metrics.json")["cost"]["generated_tokens"] == sum(
        one["num_tokens"] for one in lines(alone)
    )
    assert f"view 0: identity ({of_grids.folder})" in (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_that_has_not_answered_all_tasks_is_refused_before_anything_is_asked(
    model: list[str], grid_model: list[str], of_grids: Run, tmp_path: Path
) -> None:
    def refused(folder: str, *overrides: str) -> str:
        with pytest.raises(ValueError, match=r"inference\.fallback_run=") as raised:
            evaluated(tmp_path / folder, *model, *overrides)
        assert not (tmp_path / folder / ".predictions").exists()
        return str(raised.value)

    few, _ = evaluated(tmp_path / "few", *GRIDS, *grid_model, "inference.limit=3")
    message = refused("a", f"inference.fallback_run={few.folder}")
    assert "of the 4 tasks to answer, that run has answered 3 with grids (not draw_k02_0001" in message
    others = ["data.validation_source.seed=5", f"inference.fallback_run={of_grids.folder}"]
    assert "has answered 0 with grids" in refused("b", *others)
    programs, _ = evaluated(tmp_path / "programs", *model)
    assert "has answered 0 with grids" in refused("c", f"inference.fallback_run={programs.folder}")
    begun = compose([*OPTIONS, *GRIDS, *grid_model], tmp_path / "begun")
    assert "it is not finished" in refused("d", f"inference.fallback_run={begun.folder}")
    rule = ["inference.selection=likelihood_mean", f"inference.fallback_run={of_grids.folder}"]
    with pytest.raises(ValueError, match="needs likelihoods, which the answers of"):
        evaluated(tmp_path / "e", *model, *rule)


def test_likelihoods_of_the_other_run_serve_its_rule(
    model: list[str], grid_model: list[str], tmp_path: Path
) -> None:
    scored = ["inference.scoring_views=2", "inference.selection=likelihood_mean"]
    grids, _ = evaluated(tmp_path / "grids", *GRIDS, *grid_model, *scored)
    own = ["inference.selection=likelihood_mean", f"inference.fallback_run={grids.folder}"]
    run, _ = evaluated(tmp_path / "run", *model, *own)
    (unknown,) = run.validation_tasks.ids[KNOWN:]
    attempts, theirs = (one.folder.read_json("submission.json") for one in (run, grids))
    assert attempts[unknown] == theirs[unknown]


def test_the_same_model_is_asked_for_grids_too_and_each_once(tmp_path: Path) -> None:
    both = ["prompt.kinds.output_from_examples=1", "inference.fallback=grid", "inference.scoring_views=2"]
    sampled = ["inference.num_samples=3", "inference.temperature=1", "inference.num_views=2"]
    run, _ = evaluated(tmp_path / "run", *random_model(tmp_path), *both, *sampled)
    written = lines(run)
    assert [(one["sample"], "program" in one) for one in written[:8]] == [
        (0, True), (1, True), (2, True), (0, True), (1, True), (2, True), (0, False), (0, False),
    ]  # fmt: skip
    assert len(written) == 4 * 8
    loaded = run.model(trainable=False)
    later = run.predictor.predict(loaded, run.requests, tmp_path / "later", first_sample=3)
    assert len(later) == 4 * 6
    assert all(one.program is not None for one in later)


def test_grids_of_programs_are_given_no_likelihoods(tmp_path: Path) -> None:
    both = ["prompt.kinds.output_from_examples=1", "inference.fallback=grid", "inference.scoring_views=2"]
    run = compose([*OPTIONS, "job=evaluate", *random_model(tmp_path), *both], tmp_path / "run")
    program, *_ = run.predictor.predict(run.model(trainable=False), run.requests, tmp_path / "kept")
    assert program.program is not None
    assert run.requests[0].seen is not None
    grid = run.requests[0].seen.test[0].input
    given = replace(program, grid=grid, reason=None)
    (after,) = run.predictor.with_likelihoods(
        run.model(trainable=False), run.predicted_tasks(), [given], tmp_path / "likelihoods"
    )
    assert after.likelihoods == ()


BESIDE = "inference.fallback=grid"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prompt=compact", BESIDE], "grids are asked for anyway"),
        (
            ["prompt=compact", "inference.fallback_run=."],
            "another run's grids stand behind verified programs",
        ),
        ([BESIDE], "does not learn to answer grids; set prompt.kinds.output_from_examples=1"),
        ([BESIDE, "inference.engine=vllm"], "programs and grids need an engine each"),
        (["inference.scoring_views=2"], "none are asked for; take 0, or inference.fallback=grid"),
        (["inference.fallback_run=.", "inference.scoring_views=2"], "the likelihoods of its own model"),
        (["inference.fallback_run=nowhere"], "inference.fallback_run=nowhere does not exist"),
    ],
)
def test_what_does_not_go_with_programs_is_refused_with_the_remedy(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compose([*OPTIONS, *overrides], tmp_path / "run")
