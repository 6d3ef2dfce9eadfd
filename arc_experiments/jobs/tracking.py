"""Weights & Biases at arm's length: a tracker that fails or hangs is a warning, never the end of a run."""

import logging
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from typing import Any

from rich.console import Console

from arc_experiments.composing.naming import slug
from arc_experiments.config.schema import Config
from arc_experiments.report.gallery import Picture, answer_pictures
from arc_experiments.runs.folder import RunFolder
from arc_experiments.scoring.submission import Submission
from arc_experiments.tasks.task import TaskSet

log = logging.getLogger(__name__)

ID_FILE = ".wandb_id"
INIT_SECONDS = 30  # for the server's answer; wandb's own 90 would delay every start without network
FINISH_SECONDS = 60  # to send the rest; what is not sent stays in the folder for `wandb sync`
PATIENCE_SECONDS = 120  # for any one call: more than wandb's own limits, which end more gently
NAME_LENGTH = 128  # of a run or a group; wandb's limit for projects


class Tracker:
    """Sends values to wandb: their means every `tracking.log_steps` steps, then pictures and final metrics.

    Args:
        folder: the run's; wandb writes into it, and an id kept in it lets a resumed run continue there.
        is_main: whether this is the process, of several, that tracks.
    """

    def __init__(self, folder: RunFolder, config: Config, console: Console, *, is_main: bool = True) -> None:
        self._folder, self._config, self._console = folder, config, console
        self._waiting: dict[str, list[float]] = {}
        self._run: Any = None
        # The first values begin it: a job that ends before it has any makes no wandb run.
        self._is_to_begin = is_main and self._config.tracking.mode != "off"

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add one step's values, which are sent as means over `tracking.log_steps` steps."""
        for name, value in values.items():
            self._waiting.setdefault(name, []).append(value)
        if step % self._config.tracking.log_steps == 0:
            self._flush(step)

    def log_answers(self, tasks: TaskSet, attempts: Submission) -> None:
        """Send a picture for each test output of the first `tracking.num_images` tasks, in one call."""
        self._flush()
        pictures = answer_pictures(list(islice(tasks, self._config.tracking.num_images)), attempts)
        if pictures:
            self._send(lambda run: run.log({"answers": _images(pictures)}))

    def finish(self, metrics: dict[str, Any]) -> None:
        """Send what is left and the final metrics, and close."""
        self._flush()
        self._send(lambda run: run.summary.update(metrics))
        self._send(lambda run: run.finish())

    def _flush(self, step: int | None = None) -> None:
        means = {name: sum(values) / len(values) for name, values in self._waiting.items()}
        self._waiting.clear()
        if self._is_to_begin:
            self._is_to_begin = False
            self._run = self._guarded(self._begin)
        if means:
            self._send(lambda run: run.log(means, step=step))

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
            name=self._folder.path.absolute().name[:NAME_LENGTH],
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

    def _send(self, call: Callable[[Any], Any]) -> None:
        run = self._run
        if run is not None:
            self._guarded(lambda: call(run))

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Return what the call returns; if it raises or hangs, return None and stop tracking."""
        results: list[Any] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 (a tracker must not end the run)
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(PATIENCE_SECONDS)
        if results:
            return results[0]
        reason = _words(errors[0]) if errors else f"no answer in {PATIENCE_SECONDS} s"
        self._warn(f"tracking is off from here on: {reason}")
        self._run = None
        return None

    def _warn(self, message: str) -> None:
        log.warning("%s", message)
        self._console.print("[yellow]note[/]         ", end="")
        self._console.print(message.partition("\n")[0], markup=False)


def _mode(chosen: str) -> str:
    if chosen != "auto":
        return chosen
    return os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")


def _words(error: BaseException) -> str:
    """The error for logs, without the key: logs are shared."""
    text = f"{type(error).__name__}: {error}"
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, "<WANDB_API_KEY>") if key else text


def _images(pictures: list[Picture]) -> list[Any]:
    import wandb

    return [wandb.Image(picture.pixels, caption=picture.caption) for picture in pictures]
