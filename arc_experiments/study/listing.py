"""Show studies on the terminal: which there are, how far they are, and what they have answered."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from arc_experiments.config.check import ConfigError
from arc_experiments.config.user_code.folders import options_of
from arc_experiments.launching.tables import SHOWN_FIRST, plain_table
from arc_experiments.runs.folder import RunFolder, read_object
from arc_experiments.runs.run_state import DONE
from arc_experiments.study.definition import GROUP, read_study
from arc_experiments.study.plan import stages
from arc_experiments.study.record import ANSWER, FILE, PREFIX, StudyRecord, folder_of, read_record


def show_list(console: Console) -> int:
    """Print every study of conf/study with its question, its size and how far it is."""
    table = plain_table("study", "question", "arms", "runs", "state")
    for name in options_of(GROUP):
        try:
            study, begun = read_study(name), read_record(folder_of(name, ()))
        except ConfigError as error:
            table.add_row(name, Text(str(error), style="red"), "", "", "")
            continue
        record = begun or StudyRecord(study=study)
        states = _states(record, folder_of(name, ()))
        state = _counts(list(states.values())) if begun else ""
        table.add_row(name, Text(study.question), str(len(study.arms)), str(len(states)), state)
    console.print(table)
    return 0


def show_status(named: Sequence[str], console: Console) -> int:
    """Print how far the runs of each arm are, and the answer of what is finished.

    Args:
        named: names or folders of studies; none: every study in multirun.

    Raises:
        ConfigError: no study has begun under a name.
    """
    homes = list(_homes(named)) if named else sorted(file.parent for file in _begun("*"))
    if not homes:
        console.print(
            "no study has begun in multirun: python -m arc_experiments.study list shows what there is"
        )
        return 0
    for home in homes:
        record = read_record(home)
        assert record is not None
        _show(home, record, console)
    return 0


def _homes(named: Sequence[str]) -> Iterator[Path]:
    for name in named:
        found = [Path(name)] if (Path(name) / FILE).exists() else sorted(file.parent for file in _begun(name))
        if not found:
            raise ConfigError([f"{name}: no study of that name or folder has begun (looked in multirun)"])
        yield from found


def _begun(name: str) -> Iterator[Path]:
    """study.yaml of a study's folders: with the package's runs, and with typed overrides."""
    yield from Path("multirun").glob(f"{PREFIX}{name}/{FILE}")
    yield from Path("multirun").glob(f"{PREFIX}{name}-*/{FILE}") if name != "*" else ()


def _show(home: Path, record: StudyRecord, console: Console) -> None:
    states = _states(record, home)
    console.print(Text(f"{home}: {record.study.question}", style="bold"))
    table = plain_table("runs", "state")
    for part in dict.fromkeys(part for part, _ in states):  # those that tune an arm, too
        table.add_row(part, _counts([state for (its, _), state in states.items() if its == part]))
    console.print(table)
    for sentence in _answers(read_object(home / ANSWER)):
        console.print(f"- {sentence}", markup=False)


def _answers(answer: dict[str, Any]) -> Iterator[str]:
    yield from (str(each["sentence"]) for each in answer.get("answer", ()))
    yield from map(str, answer.get("notes", ()))


def _states(record: StudyRecord, home: Path) -> dict[tuple[str, str], str]:
    """The state of every run by its part and name."""
    return {
        (run.part, run.name): RunFolder(home / run.name).state.name
        for stage in stages(record.study, record.overrides)
        for run in stage
    }


def _counts(states: Sequence[str]) -> str:
    """`3 of 10 done, 1 running, 6 waiting`."""
    counts = Counter(states)
    others = [f"{counts[name]} {name}" for name in SHOWN_FIRST if name != DONE and counts[name]]
    if counts[DONE] == len(states):
        return f"all {len(states)} done"
    return ", ".join([f"{counts[DONE]} of {len(states)} done", *others])
