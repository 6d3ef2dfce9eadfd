"""The command: compose, check, freeze run.yaml, launch. Imports no torch, so mistakes are answered at once.

python -m arc_experiments data=re_arc model=qwen05
python -m arc_experiments --multirun seed=1,2,3
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from arc_experiments.composing import complete, explain, register
from arc_experiments.config import ConfigError, conf_dir
from arc_experiments.launching import become_worker, run_sweep
from arc_experiments.run_folder import FolderError, RunFolder, freeze

EXIT_MISTAKE = 2


def main() -> int:
    """Returns the exit code; a single run does not return, it becomes the worker."""
    frozen: list[RunFolder] = []
    mistakes: list[str] = []
    sweep: dict[str, Any] = {}

    def freeze_job(node: DictConfig) -> None:
        settings = HydraConfig.get()
        path = Path(settings.runtime.output_dir)
        try:
            overrides = list(settings.overrides.task)
            config = complete(node, overrides)
            frozen.append(freeze(config, path, overrides))
        except (ConfigError, FolderError) as error:
            mistakes.extend(line for line in explain(error).splitlines() if line not in mistakes)
            with contextlib.suppress(OSError):
                path.rmdir()  # Hydra made it; only an empty one goes
            return
        if settings.mode == RunMode.MULTIRUN:
            sweep.update(folder=Path(settings.sweep.dir), max_parallel=config.launch.max_parallel)

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        mistakes.append(
            "started as one of several processes (torchrun, accelerate launch): one process trains"
        )
    register()
    # Hydra's parser takes --multirun before or after all overrides, not between them.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    # Hydra prints its own errors and hides their cause, unless this is set: then they reach us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    command = hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(freeze_job)
    try:
        if not mistakes:
            command()
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
        mistakes.append(explain(error, sys.argv[1:]))
    if mistakes:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print("\n".join(mistakes))
        return EXIT_MISTAKE
    if sweep:
        console = Console(soft_wrap=True, highlight=False)
        return run_sweep(frozen, sweep["folder"], max_parallel=sweep["max_parallel"], console=console)
    if frozen:
        become_worker(frozen[0])
    return 0  # --help, --cfg and their like


if __name__ == "__main__":
    sys.exit(main())
