"""A model's files, from a hub, a local folder, or `assets/` (`package:<name>`)."""

import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
from safetensors import SafetensorError

from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import Model
from arc_experiments.models.errors import ModelError


def loader(kind: Any, model: Model, **options: Any) -> Callable[[bool], Any]:
    """What loads this kind of thing, for `reached`."""

    def load(local_files_only: bool) -> Any:
        return kind.from_pretrained(
            local_path(model.path), revision=model.revision, local_files_only=local_files_only, **options
        )

    return load


def reached(model: Model, load: Callable[[bool], Any]) -> Any:
    """What `load(local_files_only)` gives, or one message that says what was tried and how to go on.

    Raises:
        ModelError: it cannot be had.
    """
    is_folder = Path(local_path(model.path)).is_dir()
    hub_answers = is_folder or _hub_answers()  # asked first: the hub's client would retry for a minute
    if not hub_answers:
        huggingface_hub.constants.HF_HUB_OFFLINE = True  # PEFT asks the hub at each save, too
    try:
        return load(is_folder or not hub_answers)
    except SafetensorError as error:
        raise ModelError(
            f"model.path={model.path}: a weights file is torn or not in safetensors' format ({error}): copy or "
            "download the model again"
        ) from error
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        tried = (
            "the folder"
            if is_folder
            else f"the local cache and the hub{'' if hub_answers else ' (which is out of reach)'}"
        )
        raise ModelError(
            f"model.path={model.path} could not be loaded. Tried: {tried}: {reason[:300]} "
            "Point to a local folder with the model's files (model.path=/folder), or go on with model=tiny."
        ) from error


@functools.cache
def _hub_answers() -> bool:
    """Whether the hub's name can be resolved (behind a proxy that is the proxy's business)."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
