"""Likelihoods: shared prompts change no number, and every candidate is seen in the same views."""

import io
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState
from prompt_tools import TINY, make
from quick_compose import compose
from rich.console import Console
from toy_grids import grid
from toy_models import load, make_base, settings
from transformers import AutoTokenizer

from arc_experiments import reselect as select
from arc_experiments.augmentation import draw_views
from arc_experiments.generation import likelihoods
from arc_experiments.generation.batching import TokenBudget
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.likelihoods import log_probabilities
from arc_experiments.generation.predict import OnProgress, Predictor, Way, ignore
from arc_experiments.jobs import evaluate
from arc_experiments.jobs.answering import score_in_training
from arc_experiments.models.adapters import merge
from arc_experiments.prompts import Prompt
from arc_experiments.prompts.tokens import Ids
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks import Pair, Task, TaskSet
from arc_experiments.tasks.grids import Grid

PROMPT = make(AutoTokenizer.from_pretrained(TINY), "prompt=compact")
DEMONSTRATIONS = (
    Pair(input=grid("12"), output=grid("21")),
    Pair(input=grid("345", "670"), output=grid("543", "076")),
)
TASKS = TaskSet(
    [
        Task(id="a", train=DEMONSTRATIONS, test=(Pair(input=grid("89"), output=None),) * 2),
        Task(id="b", train=DEMONSTRATIONS[:1], test=(Pair(input=grid("5", "6"), output=grid("6", "5")),)),
        Task(id="c", train=DEMONSTRATIONS, test=(Pair(input=grid("1"), output=None),)),
    ]
)
CANDIDATES = [
    ("a", 0, grid("98")), ("a", 0, grid("8", "9")), ("a", 0, grid("98")), ("a", 0, None), ("a", 1, grid("1")),
    ("b", 0, grid("65", "56", "11")), ("b", 0, grid("6", "5")),
]  # fmt: skip
NUM_VIEWS = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    torch.set_num_threads(1)
    folder = make_base(tmp_path_factory.mktemp("base") / "tiny", AutoTokenizer.from_pretrained(TINY))
    return load(settings(folder), trainable=False).eval()


def forced(model: torch.nn.Module, prompt: Ids, answer: Ids) -> float:
    """By plain teacher forcing, one answer at a time."""
    ids = torch.tensor([[*prompt.tolist(), *answer.tolist()]])
    with torch.inference_mode():
        steps = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
    return float(steps.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].double().sum())


def flat(groups: list[list[float]]) -> list[float]:
    return [value for group in groups for value in group]


def candidate(number: int, task_id: str, test_index: int, cells: Grid | None) -> Candidate:
    return Candidate(
        task_id=task_id, test_index=test_index, view=number, transforms="", text="", num_tokens=3,
        log_probability=-1.0, grid=cells, reason=None if cells is not None else "ragged",
    )  # fmt: skip


GIVEN = [candidate(number, *one) for number, one in enumerate(CANDIDATES)]


def compared(
    model: torch.nn.Module,
    folder: Path,
    given: list[Candidate] = GIVEN,
    prompt: Prompt = PROMPT,
    tasks: TaskSet = TASKS,
    *,
    num_views: int = NUM_VIEWS,
    batch_tokens: int = 10_000,
    on_progress: OnProgress = ignore,
) -> list[Candidate]:
    predictor = Predictor(
        prompt, Way(engine=Transformers(), max_new_tokens=1), batch_tokens=batch_tokens,
        scoring_views=num_views, seed=1, processes=PartialState(cpu=True), autocast=nullcontext,
    )  # fmt: skip
    return predictor.with_likelihoods(model, tasks, given, folder, on_progress)


def test_shared_prompts_give_the_numbers_of_plain_teacher_forcing(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [PROMPT.encode_prompt(TASKS[place]) for place in (0, 1, 2)]
    rng = np.random.default_rng(0)
    answers = [
        [rng.integers(4, 14, length).astype(np.int32) for length in lengths]
        for lengths in ((1, 9, 30), (4,), (2, 2, 2, 15, 7))
    ]
    expected = [
        [forced(model, prompt, answer) for answer in group]
        for prompt, group in zip(prompts, answers, strict=True)
    ]
    for batch_tokens in (100_000, 200, 1):
        found = log_probabilities(
            model, prompts, answers, pad_id=PROMPT.pad_id, budget=TokenBudget(batch_tokens)
        )
        assert [len(group) for group in found] == [3, 1, 5]
        assert flat(found) == pytest.approx(flat(expected), abs=1e-4)
    monkeypatch.setattr(likelihoods, "MAX_LOGITS", 1)
    found = log_probabilities(model, prompts, answers, pad_id=PROMPT.pad_id, budget=TokenBudget(100_000))
    assert flat(found) == pytest.approx(flat(expected), abs=1e-4)


def test_every_candidate_is_compared_in_the_same_views_of_its_task(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    found = compared(model, tmp_path / "partial")
    assert [one.likelihoods == () for one in found] == [one.grid is None for one in found]
    assert found[0].likelihoods == found[2].likelihoods, "the same grid"
    for one in found:
        if one.grid is None:
            continue
        task = TASKS[one.task_id]
        assert [value.view for value in one.likelihoods] == list(range(NUM_VIEWS))
        for view, value in zip(draw_views(task, NUM_VIEWS, 1), one.likelihoods, strict=True):
            pair = Pair(input=task.test[one.test_index].input, output=one.grid)
            answered = Task(id=task.id, train=task.train, test=(pair,) * len(task.test))
            seen = PROMPT.encode(view.apply(answered), one.test_index)
            prompt, answer = np.split(seen.input_ids, [seen.num_prompt])
            assert value.log_probability == pytest.approx(forced(model, prompt, answer), abs=1e-4)
            assert value.num_tokens == len(answer)


def test_a_killed_comparison_goes_on_and_ends_with_the_same_numbers(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    whole = [one.to_json() for one in compared(model, tmp_path / "partial", batch_tokens=100)]
    (file,) = (tmp_path / "partial").iterdir()
    lines = file.read_text().splitlines()
    assert len(lines) == 1 + 3 * NUM_VIEWS
    file.write_text("\n".join([*lines[:4], lines[4][:60]]))
    seen: list[int] = []
    again = compared(
        model,
        tmp_path / "partial",
        batch_tokens=100,
        on_progress=lambda done, total: seen.append(done),
    )
    assert [one.to_json() for one in again] == whole
    assert (seen[0], seen[-1]) == (3, 3 * NUM_VIEWS)


def test_what_was_kept_for_other_candidates_is_not_taken(model: torch.nn.Module, tmp_path: Path) -> None:
    compared(model, tmp_path / "partial")
    other = compared(model, tmp_path / "partial", [candidate(0, "a", 0, grid("3"))], num_views=1)
    assert len(other[0].likelihoods) == 1
    assert other[0].likelihoods[0].num_tokens == 3


def test_a_view_that_does_not_fit_is_left_out_for_all_candidates(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    short = make(AutoTokenizer.from_pretrained(TINY), "prompt=compact", max_length=16)
    task = Task(id="t", train=DEMONSTRATIONS[:1], test=(Pair(input=grid("12345678"), output=None),))
    lengths = [len(PROMPT.encode_prompt(view.apply(task))) for view in draw_views(task, 8, 1)]
    assert min(lengths) > 16 or max(lengths) <= 16 or len(set(lengths)) > 1
    given = [candidate(0, "t", 0, grid("1")), candidate(1, "t", 0, grid("2"))]
    found = compared(model, tmp_path / "partial", given, short, TaskSet([task]), num_views=8)
    views = [[value.view for value in one.likelihoods] for one in found]
    assert views[0] == views[1] == [view for view, length in enumerate(lengths) if length <= 16]


# From the command line to the page

SCORED = [
    "experiment=smoke", "tracking=off", "data.limit=4", "inference.limit=1", "inference.constrain=grid",
    "inference.max_new_tokens=931", "inference.scoring_views=2", "inference.selection=likelihood_product",
]  # fmt: skip


@pytest.mark.slow
def test_likelihoods_are_computed_stored_and_decide_the_attempts(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run = compose([*SCORED, "job=evaluate", "inference.max_new_tokens=8"], tmp_path / "run")
    printed = io.StringIO()
    small = [candidate(0, "", 0, grid("1")), candidate(1, "", 0, grid("22")), candidate(2, "", 0, grid("1"))]
    given = [
        Candidate.from_record(one.to_record() | {"task": request.task_id})
        for request in run.requests[:1]
        for one in small
    ]
    run.predict = lambda *args, **options: given  # it would answer nothing in eight tokens
    evaluate.main(run, Console(file=printed, width=200))
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [len(line["likelihoods"]) for line in lines] == [2, 2, 2]
    score = run.folder.read_json("metrics.json")["score"]
    assert len(score["by_selection"]) == 9
    assert "likelihood_product (the attempts)" in printed.getvalue()
    totals = [sum(value for _, value, _ in line["likelihoods"]) for line in lines]
    best = [[1]] if totals[0] > totals[1] else [[2, 2]]
    (attempts,) = run.folder.read_json("submission.json").values()
    assert attempts[0]["attempt_1"] == best
    assert_selected_again(run.folder.path, attempts[0]["attempt_1"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "likelihood_<wbr>product<small>gave the attempts</small>" in page
    assert "are not those that were scored" not in page


def assert_selected_again(folder: Path, attempt: list[list[int]]) -> None:
    """The same without the model; by another rule, into another file."""
    before = (folder / "submission.json").read_text()
    for rule, first in (("likelihood_product", attempt), ("majority_vote", [[1]])):
        file = folder.parent / f"{rule}.json"
        assert select.main([str(folder), "--rule", rule, "--submission", str(file)]) == 0
        ((entry,),) = json.loads(file.read_text()).values()
        assert entry["attempt_1"] == first
    assert (folder / "submission.json").read_text() == before


def test_an_adapter_that_was_merged_for_the_answers_counts_once_in_the_likelihoods(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run = compose([*SCORED, "inference.max_new_tokens=4"], tmp_path)
    model = run.model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter += 0.1
    given = [candidate(0, run.requests[0].task_id, 0, grid("12", "34"))]
    (before,) = run.predictor.with_likelihoods(
        model.eval(), run.predicted_tasks(), given, tmp_path / "before"
    )
    run.predict(model)
    (after,) = run.predictor.with_likelihoods(merge(model), run.predicted_tasks(), given, tmp_path / "after")
    for one, other in zip(before.likelihoods, after.likelihoods, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-3)


def test_a_rule_of_likelihoods_can_choose_the_best_weights_in_training(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run = compose([*SCORED, "inference.max_new_tokens=6"], tmp_path)
    model = run.model()
    assert score_in_training(run, model) == {"pass_at_2": 0.0}
    assert model.training
    assert not list(tmp_path.glob(".predictions*"))


def test_selecting_again_needs_candidates_and_likelihoods_where_the_rule_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = compose(["experiment=smoke"], tmp_path / "run")
    assert select.main([str(tmp_path / "nowhere")]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert select.main([str(run.folder)]) == 2
    assert "no predictions.jsonl" in capsys.readouterr().err
    task_id = run.predicted_tasks().ids[0]
    line = candidate(0, task_id, 0, grid("1")).to_json()
    (tmp_path / "run" / "predictions.jsonl").write_text(f"{line}\n")
    assert select.main([str(run.folder), "--rule", "likelihood_min"]) == 2
    assert "inference.scoring_views=8" in capsys.readouterr().err
    assert select.main([str(run.folder)]) == 0
    assert "majority_vote" in capsys.readouterr().out
    assert select.main([str(run.folder), "--rule", "guess"]) == 2
    assert "--rule guess is not one of votes_then_log_probability" in capsys.readouterr().err
