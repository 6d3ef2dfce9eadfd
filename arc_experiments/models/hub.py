"""A model's files: from a hub, a local folder, or `assets/` (`package:<name>`)."""

import functools
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
from safetensors import SafetensorError

from arc_experiments.config.paths import local_path
from arc_experiments.config.schema import Model


class ModelError(ValueError):
    """A model that cannot be loaded or used as described; the message names the key and the remedy."""


def load(kind: Any, model: Model, **options: Any) -> Any:
    """Load `kind` (an Auto class of transformers) from `model.path`.

    Raises:
        ModelError: it cannot be loaded; the message says what was tried and what to do.
    """
    path = local_path(model.path)
    is_folder = Path(path).is_dir()
    is_hub_reachable = is_folder or _resolves_hub()  # the hub's client would retry for a minute
    if not is_hub_reachable:
        huggingface_hub.constants.HF_HUB_OFFLINE = True  # PEFT asks the hub at each save, too
    is_local = is_folder or not is_hub_reachable
    try:
        return kind.from_pretrained(path, revision=model.revision, local_files_only=is_local, **options)
    except SafetensorError as error:
        raise ModelError(
            f"model.path={model.path}: a weights file is torn or not in safetensors' format ({error}): copy "
            "or download the model again"
        ) from error
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hub = "the hub" if is_hub_reachable else "the hub (which is out of reach)"
        tried = "the folder" if is_folder else f"the local cache and {hub}"
        raise ModelError(
            f"model.path={model.path} could not be loaded. Tried: {tried}: {reason[:300]} "
            "Point to a local folder with the model's files (model.path=/folder), or use model=tiny."
        ) from error


def files_of(model: Model, patterns: Sequence[str]) -> Path:
    """Return a folder with a model's files of these names: its own, or the one in the hub's cache.

    Raises:
        ModelError: the hub is out of reach, and the model was never loaded on this machine.
    """
    path = local_path(model.path)
    if Path(path).is_dir():
        return Path(path)
    if _resolves_hub():
        found = huggingface_hub.snapshot_download(
            path, revision=model.revision, allow_patterns=list(patterns)
        )
        return Path(found)
    cached = huggingface_hub.try_to_load_from_cache(path, "config.json", revision=model.revision)
    if not isinstance(cached, str):
        raise ModelError(f"model.path={model.path} is not in the local cache, and the hub is out of reach")
    return Path(cached).parent


@functools.cache
def _resolves_hub() -> bool:
    """Whether the hub's name can be resolved; assumed behind a proxy, which does that itself."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
