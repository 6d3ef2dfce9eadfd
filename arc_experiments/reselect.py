"""`python -m arc_experiments.reselect <run folder>`: select again, without the model.

Shows the scores of a rule with their intervals, and what every other rule would have scored. `--submission
FILE` writes the attempts of `--rule` in Kaggle's format; the run folder itself is not changed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from arc_experiments.config.schema import NEED_LIKELIHOODS, SELECTIONS
from arc_experiments.config.user_code.functions import is_own
from arc_experiments.report.files import read_run
from arc_experiments.report.wording import lost_sentence, unscored_sentence
from arc_experiments.runs.folder import write_whole
from arc_experiments.scoring.candidates import Candidate
from arc_experiments.scoring.metrics import score
from arc_experiments.scoring.per_output import solved, some
from arc_experiments.scoring.selection import Rule, rule_named
from arc_experiments.scoring.submission import check_submission, submission
from arc_experiments.tasks import TaskSet


def main(arguments: list[str] | None = None) -> int:
    """Show the table, write the submission; return the exit code (2: a mistake of the user)."""
    parser = argparse.ArgumentParser(prog="python -m arc_experiments.reselect", description=__doc__)
    parser.add_argument("folder", type=Path, help="a run folder with predictions.jsonl")
    parser.add_argument(
        "--rule",
        help=f"which rule gives the attempts: {', '.join(SELECTIONS)}, or a function of yours, "
        "<module>.<function>; the run's, if left out",
    )
    parser.add_argument("--submission", type=Path, metavar="FILE", help="write the attempts there")
    options = parser.parse_args(arguments)
    try:
        console = Console(highlight=False, soft_wrap=True)
        select_again(options.folder, options.rule, options.submission, console)
    except (ValueError, OSError) as error:
        print(f"{options.folder}: {error}", file=sys.stderr)  # noqa: T201 (this is a command)
        return 2
    return 0


def select_again(folder: Path, named: str | None, file: Path | None, console: Console) -> dict[str, Any]:
    """Show and return the scores of a run folder's candidates under this rule; {} if no task has solutions.

    Raises:
        ValueError: no run folder, no candidates, candidates of other tasks, or no likelihoods for a rule that
            needs them.
    """
    # Here, because the run object and what jobs show stand over all stages.
    from arc_experiments.jobs.answering import answered
    from arc_experiments.jobs.results import part_asked, score_table, selection_table
    from arc_experiments.run import load_run

    run = read_run(folder)
    if not run.candidates:
        raise ValueError("there is no predictions.jsonl: name a run that has answered (job=evaluate)")
    named = named or str(run.settings["inference"]["selection"])
    inputs = load_run(folder)
    rule = _rule(named, run.candidates)
    began_with = inputs.folder.read_json("environment.json").get("began_with", {})
    if began_with.get("data", inputs.corpus.hash) != inputs.corpus.hash:
        raise ValueError(
            "the tasks have changed since this run answered them, so its scores would be those of others"
        )
    tasks = inputs.predicted_tasks()
    if others := {candidate.task_id for candidate in run.candidates} - set(tasks.ids):
        raise ValueError(
            f"the run answered tasks that its settings no longer ask ({some(sorted(others))}), since another "
            "version chose them (inference.limit): evaluate it again"
        )
    scores: dict[str, Any] = {}
    if len(solved(tasks)):
        scores = score(tasks, run.candidates, rule, inputs.corpus.source_of)
        part = part_asked(answered(inputs, tasks))
        console.print(score_table(scores, part))
        console.print(selection_table(scores, named, part))
        console.print(lost_sentence(scores, part))
    if unscored := unscored_sentence(len(tasks), len(tasks) - len(solved(tasks))):
        console.print(unscored)
    if file is not None:
        _write(file, tasks, run.candidates, rule)
        console.print(str(file), markup=False)
    return scores


def _rule(named: str, candidates: tuple[Candidate, ...]) -> Rule:
    if named not in SELECTIONS and not is_own(named):
        raise ValueError(f"--rule {named} is not one of {', '.join(SELECTIONS)}, nor <module>.<function>")
    if named in NEED_LIKELIHOODS and not any(candidate.likelihoods for candidate in candidates):
        raise ValueError(
            f"--rule {named} needs likelihoods, and these candidates have none: evaluate with "
            "inference.scoring_views=8, say"
        )
    return rule_named(named)


def _write(file: Path, tasks: TaskSet, candidates: tuple[Candidate, ...], rule: Rule) -> None:
    attempts = submission(tasks, candidates, rule)
    check_submission(attempts, tasks)
    write_whole(file, json.dumps(attempts))


if __name__ == "__main__":
    sys.exit(main())
