"""The links of a chain: one run as several processes in a row, each going on where the one before has stopped.

What a link has come to is read from the run's status, not from exit codes: what starts workers on a cluster passes
those on unreliably.

    done                      the chain is finished
    paused                    the next link goes on
    failed by a mistake       the next would fail alike
    failed, or died           the next goes on from the last checkpoint, unless two die at the same step of the training
"""

import math

from arc_experiments.launching.running import let_go
from arc_experiments.launching.worker import MISTAKE, STOPPED, TAKEN
from arc_experiments.runs.folder import RunFolder

MAX_DEATHS = 2  # at one step


def start_anew(folder: RunFolder) -> None:
    """Forget earlier deaths: someone has typed the command again, and may have cured their cause."""
    if folder.status.get("deaths"):
        folder.update_status(deaths=[])


def begin(folder: RunFolder) -> bool:
    """Whether a link is to run: not if the run is done or given up. A death that nobody saw is entered first."""
    with folder.locked() as is_free:
        if is_free and folder.status.get("state") == "running":
            _enter_death(folder, "its process has died unseen")
    return not folder.is_done and not is_given_up(folder)


def end(folder: RunFolder, code: int) -> bool:
    """Whether the next link is to go on, after a worker has ended with an exit code (negative: by a signal)."""
    if code == TAKEN or folder.is_done:
        return False
    with let_go(folder) as is_ours:
        if not is_ours:  # another works on it, and this one has helped
            return False
        status = folder.status
        state = status.get("state", "running")
        if code == MISTAKE and state == "failed":
            return False
        if code == STOPPED and state == "running":  # it was told to, and was ended before it could say so
            folder.end("paused")
        elif state == "running":
            _enter_death(folder, f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}")
        elif state == "failed":
            _enter_death(folder, str(status.get("error") or "failed"))
    return not is_given_up(folder)


def is_given_up(folder: RunFolder) -> bool:
    """Whether it has died so often at one step that another link would, too."""
    deaths = folder.status.get("deaths", [])
    return any(deaths.count(step) >= MAX_DEATHS for step in deaths)


def _enter_death(folder: RunFolder, reason: str) -> None:
    status = folder.status
    step = status.get("step")
    # Answering makes progress that no step tells of.
    if step is not None and step < status.get("max_steps", math.inf):
        folder.update_status(deaths=[*status.get("deaths", []), step])
    if is_given_up(folder):
        reason = f"{reason}; {MAX_DEATHS} times at step {step}, so the chain ends here"
    folder.end("failed", reason)
