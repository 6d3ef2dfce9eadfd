"""Which jobs `launch.command` submits for runs, chains and sweeps, and which of them waits for which.

What a scheduler can do is read from the variables that its template and its command use:

    after       a job waits for the end (in any state) of another: chains, and limits of sweeps
    restarts    the scheduler starts a job again that leaves something to do: chains
    limit       one submission takes several runs (`jobs`), and the scheduler runs so many of them at a time

What it cannot do is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from arc_experiments.config.plurals import plural
from arc_experiments.config.schema import Launch
from arc_experiments.launching.schedulers.scheduler import ClusterError
from arc_experiments.runs.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One call of the submit command.

    Attributes:
        folders: one, or several that start side by side.
        number: which job of the run's chain it is, from 1; or which worker.
        after: the place in the plan of the submission whose end it waits for.
    """

    folders: Sequence[RunFolder]
    number: int = 1
    after: int | None = None


def plan(folders: Sequence[RunFolder], launch: Launch, uses: set[str]) -> list[Submission]:
    """Plan the submissions, in their order.

    A sweep has `launch.max_parallel` lanes of one run after another, unless one submission takes it all.

    Args:
        uses: the variables that the template and the submit command use.

    Raises:
        ClusterError: the scheduler can do no chain, or no limit.
    """
    assert launch.command is not None
    template, workers = launch.command.template, launch.command.workers
    limit, total = launch.max_parallel, launch.chain.total_jobs
    if total > 1 and not uses & {"after", "restarts"}:
        raise ClusterError(
            f"{template} uses neither `after` nor `restarts`, so that its scheduler chains no jobs: "
            f"launch.chain.total_jobs={total} must be 1; the same command resumes what is left"
        )
    if workers > 1:
        return [Submission(folders=folders, number=number + 1) for number in range(workers)]
    per_run = 1 if "restarts" in uses else total
    if len(folders) > 1 and "limit" in uses and per_run == 1:
        return [Submission(folders=folders)]
    if len(folders) > limit and "after" not in uses:
        raise ClusterError(
            f"{template} uses neither `after` nor `limit`, so that its scheduler starts all of "
            f"{plural(len(folders), 'run')}: launch.max_parallel={len(folders)} allows it"
        )
    submissions: list[Submission] = []
    last: dict[int, int] = {}  # the last submission of each lane
    for place, folder in enumerate(folders):
        for number in range(per_run):
            after = last.get(place % limit)
            last[place % limit] = len(submissions)
            submissions.append(Submission(folders=[folder], number=number + 1, after=after))
    return submissions
