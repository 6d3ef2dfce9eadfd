"""The checks of `audit`: sets that are there."""

from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from arc_experiments.config.schema import OWN_SETS, Config, conf_dir


def check_audit(config: Config) -> Iterator[str]:
    """A line for each mistake."""
    if config.job.name != "audit":
        return
    options = {file.stem: file for file in (conf_dir() / "data").glob("*.yaml")}
    for key in ("tasks", "against"):
        names = getattr(config.audit, key)
        if not names:
            yield f"audit.{key}=[] leaves nothing to compare: name a set at least"
        for name in names:
            if name in options and OmegaConf.is_missing(OmegaConf.load(options[name]), "path"):
                yield f"audit.{key}: data={name} needs a path: name that path instead of {name}"
            elif name not in OWN_SETS and name not in options and not Path(name).expanduser().exists():
                yield (
                    f"audit.{key}: {name} is neither one of this run's sets ({', '.join(OWN_SETS)}), nor an option of data "
                    f"({', '.join(sorted(options))}), nor a path (looked in {Path.cwd()})"
                )
