"""Weights & Biases, kept at arm's length: a tracker that fails is a warning, never the end of a run."""

import logging
import os
import secrets
from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

from arc_experiments.config import Tracking
from arc_experiments.run_folder import RunFolder

log = logging.getLogger(__name__)

ID_FILE = ".wandb_id"


class Tracker:
    """Collects values step by step and sends their means every `log_steps` steps.

    Args:
        folder: the run's; wandb writes into it, and the id kept in it makes a resumed run the same run.
        is_main: of several processes one tracks.
    """

    def __init__(self, tracking: Tracking, folder: RunFolder, *, is_main: bool = True) -> None:
        self._every = tracking.log_steps
        self._waiting: dict[str, list[float]] = {}
        self._run: Any = None
        # Begun with the first values: the first optimizer step need not wait for it.
        is_off = tracking.mode == "off" or not is_main
        self._begin = None if is_off else lambda: self._start(tracking, folder)

    def _start(self, tracking: Tracking, folder: RunFolder) -> None:
        import wandb  # a second, and only where it is used

        mode = tracking.mode
        if mode == "auto":
            has_key = bool(os.environ.get("WANDB_API_KEY")) and os.environ.get("WANDB_MODE") != "offline"
            mode = "online" if has_key else "offline"
        if not (folder / ID_FILE).exists():
            folder.write(ID_FILE, secrets.token_hex(6))
        self._run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            group=tracking.group,
            name=folder.path.name,
            id=(folder / ID_FILE).read_text(),
            resume="allow",
            dir=str(folder.path),
            mode=mode,  # type: ignore[arg-type]
            config=OmegaConf.to_container(folder.read_config()),  # type: ignore[arg-type]
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add one step's values."""
        for name, value in values.items():
            self._waiting.setdefault(name, []).append(value)
        if step % self._every == 0:
            self.flush(step)

    def flush(self, step: int | None = None) -> None:
        """Send the means of what has been collected."""
        means = {name: sum(values) / len(values) for name, values in self._waiting.items()}
        self._waiting.clear()
        if self._begin is not None:
            begin, self._begin = self._begin, None
            self._guarded(begin)
        if means and self._run is not None:
            self._guarded(lambda: self._run.log(means, step=step))

    def finish(self, metrics: dict[str, Any]) -> None:
        """Send what waits and the final metrics, and close."""
        self.flush()
        if self._run is not None:
            self._guarded(lambda: self._run.summary.update(metrics))
        if self._run is not None:
            self._guarded(self._run.finish)

    def _guarded(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 (whatever a tracker raises, the training goes on)
            log.warning("tracking is off from here on: %s: %s", type(error).__name__, error)
            self._run = None
