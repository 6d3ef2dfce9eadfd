"""Weights & Biases, kept at arm's length: a tracker that fails is a warning, never the end of a run."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arc_experiments.config import Tracking

log = logging.getLogger(__name__)


class Tracker:
    """Collects values step by step and sends their means every `log_steps` steps.

    Args:
        folder: where wandb writes; the run's id is the folder's name, so that a resumed run is the same run.
        config: what is shown as the run's configuration.
    """

    def __init__(self, tracking: Tracking, folder: Path, config: dict[str, Any]) -> None:
        self._every = tracking.log_steps
        self._waiting: dict[str, list[float]] = {}
        self._run: Any = None
        # Begun with the first values: the first optimizer step need not wait for it.
        self._begin = None if tracking.mode == "off" else lambda: self._start(tracking, folder, config)

    def _start(self, tracking: Tracking, folder: Path, config: dict[str, Any]) -> None:
        import wandb  # a second, and only where it is used

        mode = tracking.mode
        if mode == "auto":
            has_key = bool(os.environ.get("WANDB_API_KEY")) and os.environ.get("WANDB_MODE") != "offline"
            mode = "online" if has_key else "offline"
        self._run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            group=tracking.group,
            name=folder.name,
            id=folder.name,
            resume="allow",
            dir=str(folder),
            mode=mode,  # type: ignore[arg-type]
            config=config,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add one step's values."""
        for name, value in values.items():
            self._waiting.setdefault(name, []).append(value)
        if step % self._every == 0:
            self.flush(step)

    def flush(self, step: int) -> None:
        means = {name: sum(values) / len(values) for name, values in self._waiting.items()}
        self._waiting.clear()
        if self._begin is not None:
            begin, self._begin = self._begin, None
            self._guarded(begin)
        if means and self._run is not None:
            self._guarded(lambda: self._run.log(means, step=step))

    def finish(self, summary: dict[str, Any]) -> None:
        """Send what waits and the final scores, and close."""
        if self._run is None:
            return

        def close() -> None:
            self._run.summary.update(summary)
            self._run.finish()

        self._guarded(close)

    def _guarded(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 (whatever a tracker raises, the training goes on)
            log.warning("tracking is off from here on: %s: %s", type(error).__name__, error)
            self._run = None
