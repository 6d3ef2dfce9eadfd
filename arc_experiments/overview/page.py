"""The list of runs as one page that needs no other file: search, sort, and two runs side by side.

The page's one script (page.js) is named by its hash, so that nothing else can run in it, whatever a
name or a note holds. Without scripts it is a plain table.
"""

import base64
import hashlib
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from arc_experiments.launching.tables import SHOWN_FIRST, progress_cells
from arc_experiments.overview.listed import ListedRun
from arc_experiments.report.summary import without_use
from arc_experiments.report.templates import fill
from arc_experiments.report.thumbnail import FILE as PICTURE
from arc_experiments.runs.run_state import DONE

SCRIPT = Path(__file__).with_name("page.js")

FOLLOWERS = ("seeds.stream", "seeds.init", "seeds.train", "seeds.inference")  # of the master seed


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A run as the page shows it; `text` is what a search looks through."""

    run: ListedRun
    text: str
    progress: str
    error: str
    report: str | None
    picture: tuple[str, str] | None


def render(runs: Sequence[ListedRun], folder: Path, *, refresh_seconds: float | None = None) -> str:
    """The page as text.

    Args:
        folder: where the page will lie, for its links.
        refresh_seconds: after how long the page reads itself again; None: never.
    """
    script = SCRIPT.read_text(encoding="utf-8")
    counts = Counter(run.state.name for run in runs)
    return fill(
        "overview/page.html.j2",
        rows=[_row(run, folder) for run in runs],
        counts=[(name, counts[name]) for name in SHOWN_FIRST if counts[name]],
        made=f"{datetime.now():%Y-%m-%d %H:%M}",
        refresh=refresh_seconds,
        # As Markup: both are made here, and JSON is escaped below.
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(_as_json(compared_values(runs))),
    )


def compared_values(runs: Sequence[ListedRun]) -> list[dict[str, Any]]:
    """What the page knows of each run to put two side by side: only settings that differ among all runs."""
    settings = [_settings(run) for run in runs]
    keys = dict.fromkeys(key for one in settings for key in one)
    varying = [key for key in keys if len({one.get(key) for one in settings}) > 1]
    return [
        {
            "title": run.title,
            "folder": str(run.folder),
            "quoted": shlex.quote(str(run.folder)),
            "numbers": run.numbers,
            "scores": _scores(run),
            "settings": {key: one[key] for key in varying if key in one},
            "unused": _unused(run, varying),
            "tasks": hashlib.sha256(json.dumps(run.tasks).encode()).hexdigest()[:8] if run.tasks else None,
            "answered": (run.folder / "predictions.jsonl").exists(),
        }
        for run, one in zip(runs, settings, strict=True)
    ]


def _settings(run: ListedRun) -> dict[str, str]:
    """Its settings as the command line writes them, and the order of its augmentations.

    Seeds that follow the master seed are left out.
    """
    words = {
        key: value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in run.settings.items()
        if key not in FOLLOWERS or value != run.settings.get("seed")
    }
    order = dict.fromkeys(key.split(".")[1] for key in words if key.startswith("augmentation."))
    return {"augmentation": f"[{','.join(order)}]"} | words if order else words


def _unused(run: ListedRun, keys: Sequence[str]) -> list[str]:
    """Those of the keys that say nothing about a run, such as the steps of a training about an evaluation."""
    beginnings = without_use(run.settings.get, has_trained="train" in run.metrics)
    # The one seed that says which tasks were asked, whoever answered them.
    return [key for key in keys if key.startswith(beginnings) and key != "seeds.partition"]


def _scores(run: ListedRun) -> dict[str, str]:
    """Date, state, scores and cost in words."""
    scores = {"date": f"{run.date:%Y-%m-%d %H:%M}", "state": run.state.name}
    if run.score:
        scores["95% interval of pass@2"] = run.interval or "not known"
    if run.asked:
        scores["tasks"] = run.asked
    return {**scores, **run.cost}


def _row(run: ListedRun, folder: Path) -> TableRow:
    error = run.state.headline
    step, _, left = progress_cells(run.state)
    progress = [] if run.state.name == DONE else [step, f"{left} left" if left else ""]
    said = (run.title, run.labels.note, str(run.folder), *run.options, run.state.name, error, *run.problems)
    return TableRow(
        run=run,
        text=" ".join(said).lower(),
        progress=", ".join(filter(None, progress)),
        error=error,
        report=_link(run.folder / "report.html", folder),
        picture=_picture(run.folder / PICTURE),
    )


def _link(file: Path, folder: Path) -> str | None:
    """The file's address from a page in `folder`; None if there is no such file."""
    return quote(os.path.relpath(file.absolute(), folder.absolute())) if file.is_file() else None


def _picture(file: Path) -> tuple[str, str] | None:
    """The picture as an address that holds it, and its title; as an image, in which no script can run."""
    try:
        svg = file.read_bytes()
    except OSError:
        return None
    title = re.search(r"<title>(.*?)</title>", svg.decode("utf-8", "replace"))
    address = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
    return address, unescape(title[1]) if title else "an answered task"


def _as_json(values: object) -> str:
    """JSON that no text in it can end, inside a script element."""
    return json.dumps(values).replace("<", "\\u003c")
