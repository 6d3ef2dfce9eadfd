"""Work that is left where it stands when its time is over, whatever it is at: reading weights, a step, an answer."""

import signal
from collections.abc import Callable
from types import FrameType

SOONEST_SECONDS = 0.001  # 0 would switch the alarm off
AGAIN_SECONDS = 1.0  # where a library has swallowed the first alarm


class TimeOver(BaseException):
    """The deadline has come. Like a Ctrl-C it is nobody's to catch who catches errors."""


def done_within(seconds: float, work: Callable[[], None]) -> bool:
    """Do the work, in the main thread; False where it was cut off after so many seconds (infinity: never)."""
    if seconds == float("inf"):
        work()
        return True
    before = signal.signal(signal.SIGALRM, _ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(SOONEST_SECONDS, seconds), AGAIN_SECONDS)
        work()
    except TimeOver:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return True


def _ring(number: int, frame: FrameType | None) -> None:
    raise TimeOver
