"""One thing is not "1 things": every message counts through one helper."""

import re
from pathlib import Path

import arc_experiments
from arc_experiments.config.plurals import of_all, plural

COUNTED = re.compile(
    r"\{(?:len|sum)\([^{}]*\)(?::,)?\} (?:\w+ )?(?:tasks|jobs|runs|steps|samples|rows|pairs|prompts|seeds)\b"
)


def test_one_thing_is_singular_and_others_are_not() -> None:
    assert [plural(count, "task") for count in (0, 1, 2, 1200)] == [
        "0 tasks",
        "1 task",
        "2 tasks",
        "1,200 tasks",
    ]
    assert plural(1, "process", "processes") == "1 process"
    assert plural(2, "process", "processes") == "2 processes"


def test_the_noun_of_a_part_follows_the_whole() -> None:
    assert of_all(1, 14, "task") == "1 of 14 tasks"
    assert of_all(1, 1, "task") == "1 of 1 task"


def test_no_message_counts_without_the_helper() -> None:
    package = Path(arc_experiments.__file__).parent
    files = [
        file for end in ("py", "j2") for file in package.rglob(f"*.{end}") if "preludes" not in file.parts
    ]
    lines = [(file.relative_to(package), line) for file in files for line in file.read_text().splitlines()]
    assert not [
        f"{file}: {line.strip()}" for file, line in lines if COUNTED.search(line) and 'f"<' not in line
    ]
