"""For notebooks: a model's answers in pictures with their scores, and comparisons of runs.

run = compose(["data=files", "data.path=my_tasks.json"], "outputs/mine")
answers(run, run.model())         # pictures of every task with its two attempts
answers(run.execute()).scores     # the whole job as the command does it, and what it has answered
compare_runs(run, "outputs/other")
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from arc_experiments.comparison.formats import markdown
from arc_experiments.comparison.result import ComparedRuns, compare
from arc_experiments.comparison.runs import read_result
from arc_experiments.report.files import read_run
from arc_experiments.report.gallery import TestCard, task_cards
from arc_experiments.run import Run
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks.html import row


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a run's tasks were answered with; a notebook shows pictures of it.

    Attributes:
        candidates: every answer under every view.
    """

    run: Run
    candidates: Sequence[Candidate]

    @cached_property
    def scores(self) -> dict[str, Any]:
        """As in metrics.json: `scores["pass_at_2"]` and all others.

        Raises:
            ValueError: no task has solutions.
        """
        return self.run.score(self.candidates)

    def _repr_html_(self) -> str:
        tasks = self.run.predicted_tasks()
        cards = task_cards(tasks, self.candidates, len(tasks), self.run.rule)
        return "".join(_test_row(card.id, test) for card in cards for test in card.tests)


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Runs compared; a notebook shows the tables of the command `compare`.

    Attributes:
        found: its numbers as pandas tables: `found.groups`, `found.differences` and others.
    """

    found: ComparedRuns

    def _repr_markdown_(self) -> str:
        return markdown(self.found)


def answers(run: Run, model: Any = None) -> Answers:
    """Answer the run's tasks with a model; without one, return what the finished run has answered.

    A float32 adapter is merged into the model.

    Raises:
        ValueError: without a model, the run has no answers yet.
    """
    if model is not None:
        return Answers(run=run, candidates=run.predict(model))
    candidates = read_run(run.folder.path).candidates
    if not candidates:
        raise ValueError(f"{run.folder} has no answers yet: run.execute(), or answers(run, model)")
    return Answers(run=run, candidates=candidates)


def compare_runs(*runs: Run | Path | str, metric: str = "score.pass_at_2") -> Comparison:
    """Compare finished runs, as the command `compare` does; the first is the baseline.

    Raises:
        ValueError: they are not finished, or cannot be compared.
    """
    folders = [each.folder.path if isinstance(each, Run) else Path(each) for each in runs]
    results = [read_result(folder) for folder in folders]
    found = compare(results, metric=metric)
    first = [row.group for row in found.runs.itertuples() if row.result is results[0]]
    return Comparison(found=compare(results, metric=metric, baseline=first[0]) if first else found)


def _test_row(task_id: str, test: TestCard) -> str:
    attempts = [
        (f"attempt {number}: {answer.difference or answer.verdict}, {answer.votes}", answer.grid)
        for number, answer in enumerate(test.attempts, start=1)
    ]
    invalid = "" if test.attempts else f", no valid answer ({', '.join(name for name, _ in test.reasons)})"
    sign = "" if test.expected is None else "✓ " if test.solved else "✗ "
    pictures = [("input", test.input), ("expected", test.expected), *attempts]
    return row(pictures, f"{sign}{task_id}, {test.heading.lower()}{invalid}")
