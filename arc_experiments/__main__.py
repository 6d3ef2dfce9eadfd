"""The command: compose, check, freeze run.yaml, launch. Imports no torch, so mistakes are answered at once.

python -m arc_experiments data=re_arc model=qwen05
python -m arc_experiments --multirun seed=1,2,3
"""

import contextlib
import functools
import gc
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from arc_experiments.composing.compose import complete, explain, register
from arc_experiments.composing.freezing import freeze, stop_of
from arc_experiments.composing.sweeps import share_compositions
from arc_experiments.config.check import ConfigError
from arc_experiments.config.rules.halving import rung_steps
from arc_experiments.config.schema import Launch, conf_dir
from arc_experiments.halving.rungs import Rungs, run_halving
from arc_experiments.launching.chain import run_here
from arc_experiments.launching.commands import become_worker
from arc_experiments.launching.pool import Pool, run_sweep
from arc_experiments.launching.slurm import ClusterError, submit
from arc_experiments.launching.tables import lasting_console
from arc_experiments.runs.folder import FolderError, RunFolder

EXIT_MISTAKE = 2
PATIENCE_SECONDS = 120  # with another process that composes the same


@dataclass(kw_only=True)
class Frozen:
    """What composing has come to: folders ready to run, or mistakes; for a sweep its folder, too."""

    folders: list[RunFolder] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    sweep_folder: Path | None = None
    config: DictConfig | None = None  # of the last job: what is the same for all
    launch: Launch = field(default_factory=Launch)


def main() -> int:
    """Returns the exit code; a single run does not return, it becomes the worker."""
    frozen = compose_and_freeze()
    if frozen.mistakes:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print("\n".join(frozen.mistakes))
        return EXIT_MISTAKE
    if not frozen.folders:
        return 0  # --help, --cfg and their like
    console = lasting_console()
    if frozen.launch.name == "slurm":
        return _submit(frozen, console)
    if frozen.sweep_folder is not None:
        return _run_jobs(frozen, frozen.sweep_folder, console)
    if frozen.launch.chain.total_jobs > 1:
        return run_here(frozen.folders[0], frozen.launch.chain.total_jobs)
    become_worker(frozen.folders[0])


def _submit(frozen: Frozen, console: Console) -> int:
    home = frozen.sweep_folder or frozen.folders[0].path
    try:
        return submit(frozen.folders, home, frozen.launch, console)
    except ClusterError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(str(error), markup=False)
        return EXIT_MISTAKE


def _run_jobs(frozen: Frozen, sweep_folder: Path, console: Console) -> int:
    assert frozen.config is not None
    launch, halving = frozen.launch, frozen.config.halving
    pool = Pool(
        max_parallel=launch.max_parallel,
        retries=launch.retries,
        fail_fast=launch.fail_fast,
        total_jobs=launch.chain.total_jobs,
        console=console,
    )
    if not halving.rungs:
        return run_sweep(frozen.folders, sweep_folder, pool, console)
    try:
        rungs = Rungs(
            steps=rung_steps(halving, frozen.config.optim),
            keep=halving.keep,
            metric=halving.metric,
            max_steps=frozen.config.optim.max_steps,
        )
        return run_halving(frozen.folders, sweep_folder, pool, console, rungs)
    except (FolderError, OSError) as error:
        console.print(str(error), markup=False)
        return EXIT_MISTAKE


def compose_and_freeze() -> Frozen:
    """Let Hydra read the command line and freeze every job that it composes."""
    frozen = Frozen()
    register(sys.argv[1:])
    share_compositions()
    # Hydra's parser takes --multirun before or after all overrides, not between them.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    # Hydra prints its own errors and hides their cause, unless this is set: then they reach us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    task = functools.partial(_freeze_job, frozen=frozen)
    gc.disable()  # a sweep's compositions are many small objects that stay: looking through them took a fifth of the time
    try:
        hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(task)()
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError, OSError) as error:
        frozen.mistakes.append(explain(error, sys.argv[1:]))
    finally:
        gc.enable()
    return frozen


def _freeze_job(node: DictConfig, *, frozen: Frozen) -> None:
    """What Hydra calls with each composition."""
    settings = HydraConfig.get()
    path, overrides = Path(settings.runtime.output_dir), list(settings.overrides.task)
    try:
        config = complete(node, overrides)
        if settings.mode == RunMode.MULTIRUN and config.tracking.group is None:
            config.tracking.group = Path(settings.sweep.dir).name  # a job alone cannot tell that it is one
        if config.halving.rungs:
            _check_halving(settings.mode)
            config.optim.stop_after = stop_of(path, rung_steps(config.halving, config.optim)[0])
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _check_start(config, settings.mode)
        if os.environ.get("RANK", "0") != "0":
            frozen.folders.append(_frozen_by_the_first(path))
            return
        frozen.folders.append(freeze(config, path, overrides))
    except (ConfigError, FolderError) as error:
        frozen.mistakes += [line for line in explain(error).splitlines() if line not in frozen.mistakes]
        with contextlib.suppress(OSError):
            path.rmdir()  # Hydra made it; only an empty one goes
        return
    frozen.launch, frozen.config = config.launch, config
    if settings.mode == RunMode.MULTIRUN:
        frozen.sweep_folder = Path(settings.sweep.dir)


def _check_halving(mode: RunMode | None) -> None:
    if mode != RunMode.MULTIRUN:
        raise ConfigError(
            ["halving.rungs needs a sweep of several configurations: sweep=halving, or --multirun"]
        )


def _check_start(config: DictConfig, mode: RunMode | None) -> None:
    """Raises ConfigError for what several processes cannot agree on when others have started them."""
    launched = config.launch.name != "local" or config.launch.chain.total_jobs > 1
    if mode == RunMode.MULTIRUN or not config.resume or launched:
        raise ConfigError(
            [
                "started as one of several processes (torchrun, accelerate launch): --multirun, resume=false, chains and "
                "launch=slurm need the plain command, with hardware.num_processes=..."
            ]
        )


def _frozen_by_the_first(path: Path) -> RunFolder:
    """The folder that the first of several processes freezes; it may take a moment."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (path / "run.yaml").exists():
        if time.monotonic() > deadline:
            raise FolderError(
                f"{path}/run.yaml: the first process has not written it in {PATIENCE_SECONDS} s"
            )
        time.sleep(0.1)
    return RunFolder(path)


if __name__ == "__main__":
    sys.exit(main())
