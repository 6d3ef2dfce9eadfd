"""From a study to its planned runs: which there are, in which order, and from what they start.

In: a study and what was typed for all its runs. Out: stages of planned runs; a stage can be composed once the
runs of the earlier ones are finished.

    before     the runs that others start from
    tuning     every arm with every value of `tune`, on seeds of their own
    arms       each with the values that were best for it
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from arc_experiments.composing.compose import quoted
from arc_experiments.composing.naming import job_name
from arc_experiments.study.definition import REFERENCE, Study, references

Draw = Mapping[str, int]
"""The seeds of a run by their keys."""
TUNING = "tuning_"  # begins the names of parts that tune an arm


@dataclass(frozen=True, kw_only=True)
class TunedValues:
    """Values that were tried for an arm, and the runs that say how good they are."""

    overrides: tuple[str, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedRun:
    """A run of a study.

    Attributes:
        part: the arm, the name of a run before, or that of a tuning.
        name: of its folder, beside which those lie that its overrides refer to.
        choices: of which the best is added to its overrides.
    """

    part: str
    name: str
    draw: Draw
    overrides: tuple[str, ...]
    choices: tuple[TunedValues, ...] = ()

    def resolved(self, home: Path) -> list[str]:
        """The overrides, in which folders have taken the place of references."""
        return [_resolved(each, self.draw, home) if references([each]) else each for each in self.overrides]


def stages(study: Study, typed: Sequence[str]) -> list[list[PlannedRun]]:
    """The runs in the order in which they can be composed."""
    common = [*study.base, *typed]
    levels: dict[str, int] = {}
    for part, overrides in study.parts.items():
        levels[part] = max((1 + levels[name] for name in references(overrides)), default=0)
    found: list[list[PlannedRun]] = [[] for _ in range(max(levels.values()) + 1)]
    for part, overrides in study.before.items():
        its_draws = map(_trained, (*draws(study), *tuning_draws(study)))
        for draw in {tuple(draw.items()): draw for draw in its_draws}.values():  # each once
            found[levels[part]].append(_planned(part, draw, [*common, *overrides]))
    choices: dict[str, list[TunedValues]] = {}
    for arm, overrides in study.arms.items() if study.tune else ():
        for values in _combinations(study):
            runs = [_tuning(arm, draw, [*common, *overrides], values) for draw in tuning_draws(study)]
            found[-1] += runs
            choice = TunedValues(overrides=tuple(values), runs=tuple(run.name for run in runs))
            choices.setdefault(arm, []).append(choice)
    if choices:
        found.append([])
    for draw in draws(study):
        for arm, overrides in study.arms.items():
            level = -1 if choices else levels[arm]
            run = _planned(arm, draw, [*common, *overrides], tuple(choices.get(arm, ())))
            found[level].append(run)
    return found


def draws(study: Study) -> list[Draw]:
    """The seeds of the runs of each arm."""
    if study.spread:
        same = {"seed": study.seeds[0], "seeds.partition": study.partitions[0]}
        return [
            same | dict(zip(study.spread, values, strict=True)) for values in product(*study.spread.values())
        ]
    return [
        {"seed": seed, "seeds.partition": partition} for partition in study.partitions for seed in study.seeds
    ]


def tuning_draws(study: Study) -> list[Draw]:
    """The seeds of the runs that tune an arm: none that the answer is made of."""
    if not study.tune:
        return []
    return [{"seed": seed, "seeds.partition": study.partitions[0]} for seed in study.tuning_seeds]


def _combinations(study: Study) -> Iterator[list[str]]:
    for values in product(*study.tune.values()):
        yield [f"{key}={value}" for key, value in zip(study.tune, values, strict=True)]


def _planned(
    part: str, draw: Draw, overrides: Sequence[str], choices: tuple[TunedValues, ...] = ()
) -> PlannedRun:
    seeds = _as_overrides(draw)
    return PlannedRun(
        part=part, name=_name(part, seeds), draw=draw, overrides=(*overrides, *seeds), choices=choices
    )


def _tuning(arm: str, draw: Draw, overrides: Sequence[str], values: Sequence[str]) -> PlannedRun:
    part, seeds = f"{TUNING}{arm}", _as_overrides(draw)
    name = _name(part, [*values, *seeds])
    return PlannedRun(part=part, name=name, draw=draw, overrides=(*overrides, *values, *seeds))


def _trained(draw: Draw) -> Draw:
    """The seeds of a run that others start from: how they answer makes no other weights."""
    return {key: seed for key, seed in draw.items() if key != "seeds.inference"}


def _as_overrides(draw: Draw) -> list[str]:
    return [f"{key}={seed}" for key, seed in draw.items()]


def _name(part: str, overrides: list[str]) -> str:
    return f"{part}-{job_name(overrides)}"


def _resolved(override: str, draw: Draw, home: Path) -> str:
    key, _, value = override.partition("=")
    seeds = _as_overrides(_trained(draw))
    return f"{key}={quoted(REFERENCE.sub(lambda found: str(home / _name(found[1], seeds)), value))}"
