"""Fills Jinja templates: files that a scheduler reads, and commands that talk to it.

A mistake in one is answered with the dotted key, the file and the line. Jinja itself is imported when it is
needed, since most commands do without.
"""

import shlex
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arc_experiments.launching.schedulers.scheduler import ClusterError

if TYPE_CHECKING:
    from jinja2 import Environment

ENDING = ".j2"


def render_file(key: str, path: Path, variables: Mapping[str, Any]) -> str:
    """Fill the template in a file; `{{ text|quote }}` in it quotes for a shell.

    Args:
        key: of the composition, for messages.

    Raises:
        ClusterError: the file is not there, or has a mistake.
    """
    with _explaining(key, path, variables):
        return _environment(path.parent).get_template(path.name).render(variables)


def render_command(key: str, text: str, variables: Mapping[str, Any]) -> list[str]:
    """Fill a command and split it into words as a shell does; what a variable holds is never split.

    Raises:
        ClusterError: it has a mistake, or is empty.
    """
    with _explaining(key, None, variables):
        filled = _environment(None, finalize=lambda value: shlex.quote(str(value))).from_string(text)
        words = shlex.split(filled.render(variables))
    if not words:
        raise ClusterError(f"{key} is an empty command")
    return words


def variables_in(key: str, *sources: Path | str) -> set[str]:
    """The names of the variables that templates use.

    Args:
        sources: files, and the texts of commands.

    Raises:
        ClusterError: one cannot be read, or has a mistake.
    """
    from jinja2 import meta

    found: set[str] = set()
    for source in sources:
        path = source if isinstance(source, Path) else None
        with _explaining(key, path, {}):
            text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
            found |= meta.find_undeclared_variables(_environment(None).parse(text))
    return found


def _environment(folder: Path | None, **options: Any) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        loader=None if folder is None else FileSystemLoader(folder),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters["quote"] = lambda text: shlex.quote(str(text))
    return environment


@contextmanager
def _explaining(key: str, path: Path | None, variables: Mapping[str, Any]) -> Iterator[None]:
    """Turn what Jinja raises into a ClusterError that says where; a template is code of the user's."""
    from jinja2 import TemplateNotFound, TemplateSyntaxError, UndefinedError

    where = key if path is None else f"{key}: {path}"
    try:
        yield
    except OSError as error:  # TemplateNotFound, too
        reason = (
            f"there is no template {error.name}" if isinstance(error, TemplateNotFound) else error.strerror
        )
        raise ClusterError(f"{where}: {reason}") from error
    except TemplateSyntaxError as error:
        raise ClusterError(f"{where}, line {error.lineno}: {error.message}") from error
    except UndefinedError as error:
        raise ClusterError(
            f"{where}{_line(path, error)}: {error.message}. There are {', '.join(sorted(variables))}; "
            "+launch.command.options.<name>=... adds {{ options.<name> }}"
        ) from error
    except Exception as error:
        raise ClusterError(f"{where}{_line(path, error)}: {type(error).__name__}: {error}") from error


def _line(path: Path | None, error: Exception) -> str:
    """`, line 3`: the innermost line of the template that was being filled."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if path is not None and Path(frame.filename) == path]
    return f", line {lines[-1]}" if lines else ""
