"""`python -m arc_experiments.study <name> [overrides]`: run a study and answer its question.

python -m arc_experiments.study list                         the studies, and how far they are
python -m arc_experiments.study moments                      run or resume one, and answer it
python -m arc_experiments.study moments --seeds 6-10         more seeds; what is finished stays
python -m arc_experiments.study moments model=qwen05 launch=slurm launch.slurm.time=04:00:00
python -m arc_experiments.study status                       progress and answers
python -m arc_experiments.study repeat outputs/<run>         what changes its score
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from arc_experiments.config.check import ConfigError
from arc_experiments.config.user_code.folders import take_config_dir
from arc_experiments.launching.lasting_output import lasting_console
from arc_experiments.study.definition import mistakes_in, mistakes_in_typed, read_study
from arc_experiments.study.listing import show_list, show_status
from arc_experiments.study.record import StudyRecord, begin_or_extend, folder_of
from arc_experiments.study.repeat import repeat
from arc_experiments.study.running import run_study

EXIT_MISTAKE = 2


def main(arguments: Sequence[str]) -> int:
    """Run a study, or show some; returns the exit code (2: a mistake of the user)."""
    options = _parser().parse_intermixed_args(arguments)
    console = Console(highlight=False)
    try:
        take_config_dir(arguments)
        if options.what == "list":
            return show_list(console)
        if options.what == "status":
            return show_status(options.more, console)
        if options.what == "repeat":
            return _repeat(options)
        return _run(options)
    except (ValueError, OSError) as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return EXIT_MISTAKE


def _run(options: argparse.Namespace) -> int:
    study, typed = read_study(options.what), tuple(options.more)
    asked = replace(
        study,
        seeds=options.seeds or study.seeds,
        partitions=options.partitions or study.partitions,
    )
    home = options.folder or folder_of(options.what, typed)
    record = StudyRecord(study=asked, overrides=typed)
    mistakes = [*mistakes_in_typed(study, typed), *mistakes_in(begin_or_extend(record, home, 0).study)]
    if study.spread and (options.seeds or options.partitions):
        mistakes.append("--seeds, --partitions: the seeds of this study are those of its `spread`")
    if mistakes:
        raise ConfigError(mistakes)
    return run_study(options.what, record, home, lasting_console())


def _repeat(options: argparse.Namespace) -> int:
    if not options.more:
        raise ValueError("study repeat needs the folder of a finished run")
    source, *changes = options.more
    return repeat(Path(source), changes, options.times, options.folder, lasting_console())


def _numbers(text: str) -> list[int]:
    """`1-3,8` -> [1, 2, 3, 8]."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last))):
            raise argparse.ArgumentTypeError(f"{part!r} is no seed and no range of seeds, such as 1-5,8")
        found += range(int(first), int(last or first) + 1)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m arc_experiments.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", help="the name of a study (a file of conf/study), or list, status, repeat")
    parser.add_argument(
        "more",
        nargs="*",
        metavar="override",
        help="of all runs, as for python -m arc_experiments; after status: names or folders of studies; "
        "after repeat: a run folder and changes such as hardware.threads=1, each of which is tried alone",
    )
    for name, purpose in (("seeds", "seeds"), ("partitions", "seeds of the partition")):
        parser.add_argument(
            f"--{name}",
            type=_numbers,
            metavar="1-5,8",
            help=f"{purpose} of a study that begins, or to be added to one that has begun",
        )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the runs and the answer are written (default: multirun/study-<name>)",
    )
    parser.add_argument(
        "--times",
        type=int,
        default=3,
        help="repeat: how often a run is evaluated unchanged (default: %(default)s)",
    )
    parser.add_argument("--config-dir", metavar="DIR", help="option files of your own, in DIR/study")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
