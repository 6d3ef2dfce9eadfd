"""The submission as the work stands, on disk from the beginning on: whole and valid whenever anybody looks.

[[0]] where nothing is known yet, then the answers before adaptation, then those after it, task by task.
"""

import time
from collections.abc import Callable, Sequence

from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring.selection import Candidate, Rule
from arc_experiments.scoring.submission import check_submission, submission
from arc_experiments.tasks import TaskSet

FILE = "submission.json"
MOST_TIME = 0.05  # of all the time, for writing it again and again


class Standing:
    """Writes what the candidates are worth by now.

    Args:
        tasks: all that are to be answered; solutions are neither needed nor looked at.
        candidates: those that there are now.
    """

    def __init__(
        self, folder: RunFolder, tasks: TaskSet, rule: Rule, candidates: Callable[[], Sequence[Candidate]]
    ) -> None:
        self._folder, self._tasks, self._rule, self._candidates = folder, tasks, rule, candidates
        self._due = float("-inf")

    def write(self) -> None:
        """Put it on disk, unless that has just been done; a reader finds the old one or the new one."""
        start = time.monotonic()
        if start < self._due or self._folder.read_only:
            return
        attempts = submission(self._tasks, self._candidates(), self._rule)
        check_submission(attempts, self._tasks)
        self._folder.write_json(FILE, attempts)
        end = time.monotonic()
        self._due = end + (end - start) / MOST_TIME
