"""For notebooks: a model's answers in pictures with their scores, and comparisons of runs.

run = compose(["data=files", "data.path=my_tasks.json"], "outputs/mine")
done = run.execute()              # the whole job as the command does it
answers(done).scores              # of what it has answered
answers(run, done.trained_model())  # pictures of every task with its two attempts, answered anew
compare_runs(run, "outputs/other")
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from arc_experiments.comparison.formats import markdown
from arc_experiments.comparison.result import ComparedRuns, compare
from arc_experiments.comparison.runs import read_result
from arc_experiments.config.plurals import plural
from arc_experiments.report.files import read_run
from arc_experiments.report.gallery import TestCard, task_cards
from arc_experiments.run import Run
from arc_experiments.runs.folder import write_whole
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.tasks.html import row

MOST_LINES = 20  # of test outputs, in a terminal


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

    def __repr__(self) -> str:
        tests = self._tests()
        num_known = sum(test.expected is not None for _, test in tests)
        score = f", {sum(test.solved for _, test in tests)} of {num_known} solved" if num_known else ""
        unknown = f", {len(tests) - num_known} without a solution" if num_known < len(tests) else ""
        lines = [f"{task_id}, {test.heading.lower()}: {_in_words(test)}" for task_id, test in tests]
        more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
        head = f"Answers of {self.run.folder} to {plural(len(tests), 'test output')}{score}{unknown}"
        return "\n  ".join([head, *lines[:MOST_LINES], *more])

    def save_html(self, file: Path | str) -> Path:
        """Write the pictures that a notebook shows into one page, which needs no other file."""
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        title = escape(f"Answers of {self.run.folder}")
        write_whole(
            path, f'<!doctype html>\n<meta charset="utf-8">\n<title>{title}</title>\n{self._repr_html_()}'
        )
        return path

    def _repr_html_(self) -> str:
        return "".join(_test_row(task_id, test) for task_id, test in self._tests())

    def _tests(self) -> list[tuple[str, TestCard]]:
        """Return every test output with the id of its task."""
        tasks = self.run.predicted_tasks()
        cards = task_cards(tasks, self.candidates, len(tasks), self.run.rule)
        return [(card.id, test) for card in cards for test in card.tests]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Runs compared; a notebook shows the tables of the command `compare`.

    Attributes:
        found: its numbers as pandas tables: `found.groups`, `found.differences` and others.
    """

    found: ComparedRuns

    def __repr__(self) -> str:
        return markdown(self.found)

    def _repr_markdown_(self) -> str:
        return markdown(self.found)


def answers(run: Run, model: Any = None) -> Answers:
    """Answer the run's tasks with a model; without one, return what the finished run has answered.

    A float32 adapter is merged into the model. Of a run that has trained, `run.model()` is the untrained
    model, and `run.trained_model()` the trained one.

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


def _in_words(test: TestCard) -> str:
    """`solved`, `not solved` or what the attempts are if that is not known."""
    if not test.attempts:
        return _without_answer(test)
    if test.expected is not None:
        return "solved" if test.solved else "not solved"
    return plural(len(test.attempts), "attempt")


def _without_answer(test: TestCard) -> str:
    return f"no valid answer ({', '.join(name for name, _ in test.reasons)})"


def _test_row(task_id: str, test: TestCard) -> str:
    attempts = [
        (f"attempt {number}: {answer.difference or answer.verdict}, {answer.votes}", answer.grid)
        for number, answer in enumerate(test.attempts, start=1)
    ]
    invalid = "" if test.attempts else f", {_without_answer(test)}"
    sign = "" if test.expected is None else "✓ " if test.solved else "✗ "
    pictures = [("input", test.input), ("expected", test.expected), *attempts]
    return row(pictures, f"{sign}{task_id}, {test.heading.lower()}{invalid}")
