"""Pages from templates: what all of them may use, and how one is written."""

import functools
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from arc_experiments.report import gallery, wording
from arc_experiments.runs.folder import write_whole
from arc_experiments.tasks import html


def fill(template: str, **values: Any) -> str:
    """Fill a template, which is named by its path in the package: `report/page.html.j2`."""
    return environment().get_template(template).render(values)


@functools.cache  # with the templates that it has compiled
def environment() -> Environment:
    """The templates, each in the room of its page; they escape all that they are given."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= wording.FILTERS
    found.filters |= {
        "svg": lambda grid: Markup(html.picture(grid)),
        "size": gallery.size,
        "breakable": _breakable,
    }
    found.globals["words"] = wording
    return found


def _breakable(value: object) -> Markup:
    """Let names such as `optim.max_steps` go to the next line after a dot or an underscore."""
    return Markup(
        re.sub(r"(?<=[A-Za-z0-9])(_|\.(?=[A-Za-z]))(?=[A-Za-z0-9])", r"\1<wbr>", str(escape(value)))
    )


def write_page(path: Path, page: str) -> Path:
    """Write a page whole or not at all."""
    # A model can write half a surrogate pair, which no file can hold.
    write_whole(path, page, errors="replace")
    return path
