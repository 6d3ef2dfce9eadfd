"""Scoring: candidates and solutions become every metric; candidates become a submission, and a submission candidates."""

from arc_experiments.scoring.by_number import by_num_predictions
from arc_experiments.scoring.intervals import intervals
from arc_experiments.scoring.marks import HEADLINES, marks_by_task, solved
from arc_experiments.scoring.metrics import score
from arc_experiments.scoring.submission import (
    ATTEMPTS,
    Submission,
    attempted,
    check_submission,
    find_mistakes,
    read_submission,
    score_attempts,
    submission,
)

__all__ = [
    "ATTEMPTS",
    "HEADLINES",
    "Submission",
    "attempted",
    "by_num_predictions",
    "check_submission",
    "find_mistakes",
    "intervals",
    "marks_by_task",
    "read_submission",
    "score",
    "score_attempts",
    "solved",
    "submission",
]
