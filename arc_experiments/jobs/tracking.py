"""Weights & Biases at arm's length: a tracker that fails or hangs is a warning, never the end of a run."""

import functools
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from typing import Any

from rich.console import Console

from arc_experiments.composing.naming import slug
from arc_experiments.config.schema import Config
from arc_experiments.launching.tables import show_line
from arc_experiments.report.gallery import AnswerPicture, answer_pictures
from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring.submission import Submission
from arc_experiments.tasks.task import TaskSet

log = logging.getLogger(__name__)

ID_FILE = ".wandb_id"
INIT_SECONDS = 30  # for the server's answer; wandb's own 90 would delay every start without network
FINISH_SECONDS = 60  # to send the rest; what is not sent stays in the folder for `wandb sync`
PATIENCE_SECONDS = 120  # for any one call: more than wandb's own limits, which end more gently
NAME_LENGTH = 128  # of a run or a group; wandb's limit for projects


class Call:
    """A call under way in a thread of its own, where it may hang or raise without harm.

    Attributes:
        value: what it has returned.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self.value: Any = None
        self._call, self._deadline = call, time.monotonic() + PATIENCE_SECONDS
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is not waited for any longer."""
        return not self._thread.is_alive() or time.monotonic() > self._deadline

    def error(self) -> BaseException | None:
        """Wait for its end; return what it has raised.

        Raises:
            TimeoutError: it took longer than PATIENCE_SECONDS.
        """
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._thread.is_alive():
            raise TimeoutError
        return self._error

    def _work(self) -> None:
        try:
            self.value = self._call()
        except BaseException as error:  # noqa: BLE001 (a tracker must not end the run)
            self._error = error


class Tracker:
    """Sends values to wandb: their means every `tracking.log_steps` steps, then pictures and final metrics.

    Args:
        folder: the run's; wandb writes into it, and an id kept in it lets a resumed run continue there.
        is_main: whether this is the process, of several, that tracks.
    """

    def __init__(self, folder: RunFolder, config: Config, console: Console, *, is_main: bool = True) -> None:
        self._folder, self._config, self._console = folder, config, console
        self._means: dict[str, list[float]] = {}  # values whose means are due
        self._unsent: list[Callable[[Any], Any]] = []  # until wandb has begun
        self._run: Any = None
        # A job that ends before it has anything to send makes no wandb run.
        self._is_to_begin = is_main and self._config.tracking.mode != "off"
        self._beginning: Call | None = None

    def begin(self) -> None:
        """Begin in the background, which takes seconds; values wait until it is done."""
        if self._is_to_begin:
            self._is_to_begin, self._beginning = False, Call(self._begin)

    def settle(self) -> None:
        """Wait until it has begun, and send what has waited for that.

        To be called before processes are forked: they would inherit libraries that are half imported.
        """
        self.begin()
        if self._beginning is not None:
            self._run, self._beginning = self._guarded(self._beginning), None
        unsent, self._unsent = self._unsent, []
        for call in unsent:
            if self._run is not None:
                self._guarded(Call(functools.partial(call, self._run)))

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add one step's values, which are sent as means over `tracking.log_steps` steps."""
        for name, value in values.items():
            self._means.setdefault(name, []).append(value)
        if step % self._config.tracking.log_steps == 0:
            self._flush(step)
            if not self._is_to_begin and (self._beginning is None or self._beginning.is_over):
                self.settle()

    def log_answers(self, tasks: TaskSet, attempts: Submission) -> None:
        """Send a picture for each test output of the first `tracking.num_images` tasks, in one call."""
        self._flush()
        pictures = answer_pictures(list(islice(tasks, self._config.tracking.num_images)), attempts)
        if pictures:
            self._unsent.append(lambda run: run.log({"answers": _images(pictures)}))
        self.settle()

    def finish(self, metrics: dict[str, Any]) -> None:
        """Send what is left and the final metrics, and close."""
        self._flush()
        self._unsent += [lambda run: run.summary.update(metrics), lambda run: run.finish()]
        self.settle()

    def _flush(self, step: int | None = None) -> None:
        means = {name: sum(values) / len(values) for name, values in self._means.items()}
        self._means.clear()
        if means:
            self._unsent.append(lambda run: run.log(means, step=step))

    def _begin(self) -> Any:
        import wandb  # a second, and only where it is used

        mode = _mode(self._config.tracking.mode)
        if mode == "online" and not os.environ.get("WANDB_API_KEY"):
            self._warn("tracking continues offline: WANDB_API_KEY is not set")
            mode = "offline"
        try:
            return self._init(mode)
        except Exception as error:
            if mode != "online":
                raise
            self._warn(f"tracking continues offline: {_words(error)}")
            wandb.teardown()  # else the id counts as in use
            return self._init("offline")

    def _init(self, mode: str) -> Any:
        import wandb

        config = self._config
        data, model = slug(config.data.name), slug(config.model.name)
        if not (self._folder / ID_FILE).exists():
            self._folder.write(ID_FILE, secrets.token_hex(6))
        return wandb.init(
            project=config.tracking.project,
            entity=config.tracking.entity,
            group=(config.tracking.group or f"{data}-{model}")[:NAME_LENGTH],
            name=(config.name or self._folder.path.absolute().name)[:NAME_LENGTH],
            notes=config.note,
            tags=list(dict.fromkeys(filter(None, (data, model, config.job.name)))),
            id=(self._folder / ID_FILE).read_text(),
            resume="allow",
            dir=str(self._folder.path),
            mode=mode,  # type: ignore[arg-type]
            config=asdict(config),
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
            ),
        )

    def _guarded(self, call: Call) -> Any:
        """Return what the call returns; if it raises or hangs, return None and stop tracking."""
        try:
            error = call.error()
        except TimeoutError:
            reason = f"no answer in {PATIENCE_SECONDS} s"
        else:
            if error is None:
                return call.value
            reason = _words(error)
        self._warn(f"tracking is off from here on: {reason}")
        self._run = None
        return None

    def _warn(self, message: str) -> None:
        log.warning("%s", message)
        show_line(self._console, "note", message.partition("\n")[0], "yellow")


def _mode(chosen: str) -> str:
    if chosen != "auto":
        return chosen
    return os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")


def _words(error: BaseException) -> str:
    """The error for logs, without the key: logs are shared."""
    text = f"{type(error).__name__}: {error}"
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, "<WANDB_API_KEY>") if key else text


def _images(pictures: list[AnswerPicture]) -> list[Any]:
    import wandb

    return [wandb.Image(picture.pixels, caption=picture.caption) for picture in pictures]
