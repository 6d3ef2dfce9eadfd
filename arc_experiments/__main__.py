"""The command: compose, check, freeze run.yaml, launch. Imports no torch, so mistakes are answered at once.

arc-experiments data=re_arc model=qwen05      or python -m arc_experiments ...
arc-experiments --multirun seed=1,2,3
arc-experiments status                        the same as python -m arc_experiments.status
"""

import contextlib
import functools
import os
import runpy
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from arc_experiments.composing.completion import is_query, print_completions
from arc_experiments.composing.compose import check_typed, complete, dropped_section, quote_labels, register
from arc_experiments.composing.freezing import freeze, frozen_by_the_first, stop_of
from arc_experiments.composing.help import help_text
from arc_experiments.composing.mistakes import explain, typed_as_flags
from arc_experiments.composing.words import COMMANDS
from arc_experiments.config.check import ConfigError
from arc_experiments.config.rules import rung_steps
from arc_experiments.config.schema import conf_dir
from arc_experiments.halving.rungs import Rungs, run_halving
from arc_experiments.launching.chain import run_here
from arc_experiments.launching.commands import become_worker
from arc_experiments.launching.lasting_output import lasting_console
from arc_experiments.launching.pool import Pool, run_sweep
from arc_experiments.launching.schedulers.known import section_of, submit
from arc_experiments.launching.schedulers.scheduler import ClusterError
from arc_experiments.runs.folder import FolderError, RunFolder

PROGRAM = "arc-experiments"
EXIT_MISTAKE = 2


@dataclass(kw_only=True)
class Frozen:
    """What composing resulted in: folders ready to run, or mistakes; notes; for a sweep its folder, too."""

    folders: list[RunFolder] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sweep_folder: Path | None = None
    config: DictConfig | None = None  # of the last job: read for what is the same in all


def main() -> int:
    """Return the exit code; a single run does not return, it becomes the worker, nor do other commands."""
    # A script's path is its own folder: the user's modules are found as by -m.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        command = sys.argv.pop(1)
        runpy.run_module(f"arc_experiments.{command}", run_name="__main__", alter_sys=True)
    if is_query(sys.argv[1:]):
        print_completions(compose_and_freeze)
        return 0
    frozen = compose_and_freeze()
    if frozen.mistakes:
        return _refuse("\n".join(frozen.mistakes))
    for note in [*frozen.notes, *_notes_on_place(frozen.folders)]:
        sys.stderr.write(f"{note}\n")
    if frozen.config is None:
        return 0  # --help, --cfg and their like
    return launch(frozen, frozen.config)


def _notes_on_place(folders: list[RunFolder]) -> Iterator[str]:
    """Say where runs are written that were typed in the folder of another run."""
    here = Path.cwd()
    inside = [path for path in (folder.path.absolute() for folder in folders) if here in path.parents]
    if inside and (here / "run.yaml").is_file():
        yield (
            "note: this directory is the folder of a run, so the new one is written inside it, to "
            f"{inside[0]}. To have it elsewhere: hydra.run.dir=<folder>, or type the command there, with "
            f"from_run={here}"
        )


def compose_and_freeze() -> Frozen:
    """Let Hydra read the command line, and freeze every job that it composes."""
    frozen = Frozen()
    sys.argv[1:] = quote_labels(sys.argv[1:])
    frozen.mistakes += typed_as_flags(sys.argv[1:])
    if frozen.mistakes:
        return frozen
    try:
        register(sys.argv[1:])
    except ValueError as error:
        frozen.mistakes.append(str(error))
        return frozen
    # Hydra's parser takes --multirun before or after all overrides, not between them.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    # Hydra prints its own errors and hides their cause, unless this is set: then they reach us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv[0] = PROGRAM  # of which Hydra makes the script for tab completion
    freeze_job = functools.partial(_freeze_job, frozen=frozen)
    try:
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(help_text(), flush=True)  # noqa: T201 (this is a command)
            return frozen
        hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(freeze_job)()
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError, OSError) as error:
        frozen.mistakes.append(explain(error, sys.argv[1:]))
    _drop_repeated(frozen)
    return frozen


def _drop_repeated(frozen: Frozen) -> None:
    """Keep each job of a sweep once, and note which ones its values name several times (`seed=1,1`)."""
    counts = Counter(folder.path for folder in frozen.folders)
    repeated = [path.name for path, count in counts.items() if count > 1]
    if repeated:
        frozen.folders = list({folder.path: folder for folder in frozen.folders}.values())
        frozen.notes.append(
            f"note: named more than once, runs once: {', '.join(repeated)} (resume=false repeats a run "
            "in a folder of its own)"
        )


def launch(frozen: Frozen, config: DictConfig) -> int:
    """Submit to a cluster, run a sweep, a chain, or become the worker of a single run."""
    console = lasting_console()
    if section_of(config.launch) is not None:
        try:
            home = frozen.sweep_folder or frozen.folders[0].path
            return submit(frozen.folders, home, config.launch, console)
        except ClusterError as error:
            return _refuse(str(error))
    if frozen.sweep_folder is not None:
        return _run_jobs(frozen.folders, frozen.sweep_folder, config, console)
    folder, total_jobs = frozen.folders[0], config.launch.chain.total_jobs
    if total_jobs > 1 and not folder.is_done:
        return run_here(folder, total_jobs)
    become_worker(folder)  # which shows the table of a finished run


def _freeze_job(node: DictConfig, *, frozen: Frozen) -> None:
    """What Hydra calls with each composition: complete, check and freeze it."""
    settings = HydraConfig.get()
    path, overrides = Path(settings.runtime.output_dir), list(settings.overrides.task)
    try:
        config = complete(node, overrides)
        section = dropped_section(node, overrides)
        if section is not None:
            note = f"note: launch=local leaves out the experiment's launch.{section}, which is for a cluster"
            frozen.notes = [note]
        check_typed(config, overrides)
        if settings.mode == RunMode.MULTIRUN and config.tracking.group is None:
            config.tracking.group = Path(settings.sweep.dir).name  # a job alone cannot tell that it is one
        if config.halving.rungs:
            if settings.mode != RunMode.MULTIRUN:
                raise ConfigError(
                    ["halving.rungs needs a sweep of several configurations: sweep=halving, or --multirun"]
                )
            config.optim.stop_after = stop_of(path, rung_steps(config.halving, config.optim)[0])
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _check_start(config, settings.mode)
        is_first = os.environ.get("RANK", "0") == "0"
        frozen.folders.append(
            freeze(config, path, overrides) if is_first else frozen_by_the_first(config, path)
        )
    except (ConfigError, FolderError) as error:
        frozen.mistakes += [line for line in explain(error).splitlines() if line not in frozen.mistakes]
        with contextlib.suppress(OSError):
            path.rmdir()  # Hydra made it; only an empty one goes
        return
    frozen.config = config
    if settings.mode == RunMode.MULTIRUN:
        frozen.sweep_folder = Path(settings.sweep.dir)


def _check_start(config: DictConfig, mode: RunMode | None) -> None:
    """Raise ConfigError for what several processes cannot agree on if others have started them."""
    launched = config.launch.name != "local" or config.launch.chain.total_jobs > 1
    if mode == RunMode.MULTIRUN or not config.resume or launched:
        raise ConfigError(
            [
                "started as one of several processes (torchrun, accelerate launch): --multirun, "
                "resume=false, chains and clusters need the plain command, with "
                "hardware.num_processes=..."
            ]
        )


def _run_jobs(folders: list[RunFolder], sweep_folder: Path, config: DictConfig, console: Console) -> int:
    pool = Pool.of(config.launch, console)
    if not config.halving.rungs:
        return run_sweep(folders, sweep_folder, pool, console)
    rungs = Rungs(
        steps=rung_steps(config.halving, config.optim),
        keep=config.halving.keep,
        metric=config.halving.metric,
        max_steps=config.optim.max_steps,
    )
    try:
        return run_halving(folders, sweep_folder, pool, console, rungs)
    except (FolderError, OSError) as error:
        return _refuse(str(error))


def _refuse(message: str) -> int:
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(message)
    return EXIT_MISTAKE


if __name__ == "__main__":
    sys.exit(main())
