"""What a study is: the typed form of `conf/study/<name>.yaml`, and what can be wrong with one.

question: Does a second stage that starts with the first one's optimizer moments reach a lower loss?
base: [data=demo, optim.max_steps=100]         # overrides of every run
before:                                        # runs that others start from, one for each seed
  first: [optim.learning_rate=1e-3]
arms:                                          # the first is the baseline
  fresh: [model.adapter=<first>/adapter]       # <first>: the folder of that run with the same seeds
  moments: [model.adapter=<first>/adapter, optim.load_state=<first>]
seeds: [1, 2, 3, 4, 5]
metric: validation.loss.task_mean
decide: {matters: 0.005}
"""

import dataclasses
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from arc_experiments.composing.mistakes import explain
from arc_experiments.composing.naming import key_of
from arc_experiments.config.check import ConfigError
from arc_experiments.config.schema import MAX_SEED, Seeds
from arc_experiments.config.user_code.folders import option_file, options_of

GROUP = "study"  # of option files
COMMANDS = ("list", "status", "repeat")  # which no study can be called
REFERENCE = re.compile(r"<(\w+)>")  # in an override: the folder of a run that this one starts from
NAME = re.compile(r"[A-Za-z0-9_]+")
# Keys that a study sets itself, or that would change what a folder of it is.
OWN_KEYS = ("seed", "seeds.partition", "sweep", "halving", "resume", "hydra", "name", "note")
FACTORS = tuple(f"seeds.{entry.name}" for entry in dataclasses.fields(Seeds))
INTERVALS = {"new_seeds": "new seeds", "new_tasks": "new seeds and tasks"}


@dataclass
class Decision:
    """How the answer follows from the numbers.

    Attributes:
        matters: the smallest difference in the metric that would matter (of a score: 0.01 is a point).
        interval: whether the answer is about other seeds on these tasks, or on other tasks as well.
        paired: pair runs of the same seeds, which share their samples.
        exact: the arms must agree in every number but times, run by run; `matters` is not needed then.
    """

    matters: float | None = None
    interval: str = "new_seeds"
    paired: bool = False
    exact: bool = False


@dataclass
class Scale:
    """Sizes of arms, to which a law is fitted.

    Attributes:
        of: what there is more of, such as "training tasks".
        sizes: by arm.
        beyond: how far to extrapolate, as a multiple of the largest size.
    """

    of: str = MISSING
    sizes: dict[str, float] = field(default_factory=dict)
    beyond: float = 2.0


@dataclass
class Study:
    """A question, its runs and its rule.

    Attributes:
        base: overrides of every run.
        before: runs that others start from, by the name that stands for their folder.
        arms: the overrides of each; the first is the baseline.
        tune: keys with values to choose from, for each arm the best; chosen by runs with `tuning_seeds`.
        contrasts: pairs of an arm and its baseline; empty: every other arm with the first.
        scale: fits a law to arms of several sizes.
        spread: values of seeds, all of whose combinations are run instead of `seeds` and `partitions`, to see
            which seed makes the spread; `decide.matters` is then a share of the variance.
        anyway: compare arms though their numbers differ in meaning, with a notice.
    """

    question: str = MISSING
    base: list[str] = field(default_factory=list)
    before: dict[str, list[str]] = field(default_factory=dict)
    arms: dict[str, list[str]] = field(default_factory=dict)
    tune: dict[str, list[Any]] = field(default_factory=dict)
    tuning_seeds: list[int] = field(default_factory=lambda: [101, 102])
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5])
    partitions: list[int] = field(default_factory=lambda: [7])
    metric: str = "score.pass_at_2"
    contrasts: list[list[str]] = field(default_factory=list)
    decide: Decision = field(default_factory=Decision)
    scale: Scale | None = None
    spread: dict[str, list[int]] = field(default_factory=dict)
    anyway: bool = False

    @property
    def compared(self) -> list[tuple[str, str]]:
        """Arm and baseline of each difference that the study asks for."""
        if self.spread:
            return []
        if self.contrasts:
            return [(arm, baseline) for arm, baseline in self.contrasts]
        first, *others = self.arms
        return [(arm, first) for arm in others]

    @property
    def parts(self) -> dict[str, list[str]]:
        """The overrides of all kinds of runs: those before, then the arms."""
        return {**self.before, **self.arms}


def read_study(name: str) -> Study:
    """Read and check `conf/study/<name>.yaml`, the package's or the user's (--config-dir).

    Raises:
        ConfigError: there is no such study, or all that is wrong with it.
    """
    file = option_file(GROUP, name)
    if file is None:
        known = options_of(GROUP)
        close = difflib.get_close_matches(name, [*known, *COMMANDS])
        meant = f" Did you mean: {' or '.join(close)}?" if close else ""
        raise ConfigError([f"{name} is not a study.{meant} Available studies: {', '.join(known)}"])
    study = typed_study(OmegaConf.load(file), file)
    mistakes = list(mistakes_in(study))
    if name in COMMANDS:
        mistakes.append(f"a study cannot be called {name}, which is a command of its own: rename the file")
    if mistakes:
        raise ConfigError([f"{file}: {line}" for line in mistakes])
    return study


def typed_study(values: Any, place: Path) -> Study:
    """Put what a YAML file holds on the form of a study.

    Raises:
        ConfigError: unknown keys, missing ones or wrong types; names the file.
    """
    try:
        node = OmegaConf.merge(OmegaConf.structured(Study), values)
        missing = sorted(OmegaConf.missing_keys(node))
        if missing:
            raise ConfigError([f"{place}: {key} is needed and has no value" for key in missing])
        study: Study = OmegaConf.to_object(node)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError([f"{place}: {explain(error)}"]) from error
    return study


def mistakes_in(study: Study) -> Iterator[str]:
    """Yield what is wrong with a study, before any of its runs is composed."""
    if not study.question.strip():
        yield "question: a study asks one, in a sentence"
    if len(study.arms) < (1 if study.spread else 2):
        yield f"arms: a study compares at least two, and this one has {len(study.arms)}"
    yield from _mistakes_in_names(study)
    for part, overrides in {"base": study.base, **study.parts}.items():
        yield from (f"{part}: {line}" for line in _mistakes_in_overrides(overrides))
    yield from _mistakes_in_draws(study.seeds, study.partitions)
    for contrast in study.contrasts:
        if len(contrast) != 2 or len(set(contrast)) < 2 or not set(contrast) <= set(study.arms):
            yield f"contrasts: {contrast} must be two of the arms, the second being the baseline"
    yield from _mistakes_in_tuning(study)
    yield from _mistakes_in_decision(study.decide)
    yield from _mistakes_in_scale(study)
    yield from _mistakes_in_spread(study)


def mistakes_in_typed(study: Study, typed: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the overrides that were typed for all runs of a study."""
    yield from _mistakes_in_overrides(typed)
    taken = {key_of(override): part for part, each in study.parts.items() for override in each}
    taken |= dict.fromkeys(study.tune, "the tuning")
    for override in typed:
        if REFERENCE.search(override):
            yield f"{override}: only the study itself can refer to its runs"
        if (part := taken.get(key_of(override))) is not None:
            yield (
                f"{override}: {part} of this study sets {key_of(override)} itself; copy the study under "
                "another name to change that"
            )


def references(overrides: Sequence[str]) -> set[str]:
    """The names of the runs whose folders some overrides stand for."""
    return {name for override in overrides for name in REFERENCE.findall(override)}


def _mistakes_in_names(study: Study) -> Iterator[str]:
    seen: set[str] = set()
    for part, overrides in study.before.items():
        for name in sorted(references(overrides) - seen):
            yield f"before.{part}: <{name}> is no run before it"
        seen.add(part)
    for arm, overrides in study.arms.items():
        if arm in study.before:
            yield f"arms.{arm}: there is a run of that name in `before`"
        for name in sorted(references(overrides) - seen):
            yield f"arms.{arm}: <{name}> is not one of the runs in `before` ({', '.join(seen) or 'none'})"
    for name in study.parts:
        if not NAME.fullmatch(name):
            yield f"{name}: name it by letters, digits and _, since folders are named after it"


def _mistakes_in_overrides(overrides: Sequence[str]) -> Iterator[str]:
    for override in overrides:
        key = key_of(override)
        if any(key == own or key.startswith(f"{own}.") for own in OWN_KEYS):
            yield f"{override}: a study's runs cannot set {key} ({_instead_of(key)})"


def _instead_of(key: str) -> str:
    return {
        "seed": "seeds: [...] or --seeds",
        "seeds.partition": "partitions: [...] or --partitions",
        "resume": "--folder names a fresh one",
    }.get(key, "leave it out")


def _mistakes_in_draws(seeds: Sequence[int], partitions: Sequence[int]) -> Iterator[str]:
    if len(set(seeds)) < 2:
        yield f"seeds: {list(seeds)} says nothing about other seeds; name at least two, better five"
    if not partitions:
        yield "partitions: name at least one seed of the partition (7 is the published one)"
    for name, numbers in (("seeds", seeds), ("partitions", partitions)):
        yield from _mistakes_in_values(name, numbers)


def _mistakes_in_values(name: str, numbers: Sequence[int]) -> Iterator[str]:
    twice = [number for number, count in Counter(numbers).items() if count > 1]
    if twice:
        yield f"{name}: {', '.join(map(str, twice))} is named twice"
    if any(not 0 <= number <= MAX_SEED for number in numbers):
        yield f"{name}: each must be from 0 to {MAX_SEED}"


def _mistakes_in_tuning(study: Study) -> Iterator[str]:
    for key, values in study.tune.items():
        yield from (f"tune: {line}" for line in _mistakes_in_overrides([key]))
        if len(values) < 2:
            yield f"tune.{key}: {values} leaves nothing to choose; name at least two values"
        for part, overrides in {"base": study.base, **study.parts}.items():
            if part not in study.before and key in map(key_of, overrides):
                yield f"tune.{key}: {part} sets it, too"
    both = sorted(set(study.seeds) & set(study.tuning_seeds)) if study.tune else []
    if both:
        yield f"seeds: {both} tune the arms (tuning_seeds), so they cannot be part of the answer"
    if study.tune and not study.tuning_seeds:
        yield "tuning_seeds: name at least one"


def _mistakes_in_decision(decide: Decision) -> Iterator[str]:
    if decide.interval not in INTERVALS:
        yield f"decide.interval={decide.interval} is not one of: {', '.join(INTERVALS)}"
    if decide.exact != (decide.matters is None):
        yield "decide: needs either `matters`, the smallest difference that would matter, or `exact: true`"
    elif decide.matters is not None and decide.matters <= 0:
        yield f"decide.matters={decide.matters} must be above 0"


def _mistakes_in_scale(study: Study) -> Iterator[str]:
    if study.scale is None:
        return
    if not study.scale.of.strip():
        yield "scale.of: say what there is more of, such as training tasks"
    for arm, size in study.scale.sizes.items():
        if arm not in study.arms:
            yield f"scale.sizes.{arm} is not one of the arms: {', '.join(study.arms)}"
        if size <= 0:
            yield f"scale.sizes.{arm}={size:g} must be above 0"
    if len(set(study.scale.sizes.values())) < 4:
        yield "scale.sizes: a law needs four arms of different sizes at least, better five"
    if study.scale.beyond <= 1:
        yield f"scale.beyond={study.scale.beyond:g} must be above 1: it is a multiple of the largest size"


def _mistakes_in_spread(study: Study) -> Iterator[str]:
    if not study.spread:
        return
    for key, values in study.spread.items():
        if key not in FACTORS:
            yield f"spread.{key} is not one of: {', '.join(FACTORS)}"
        yield from _mistakes_in_values(f"spread.{key}", values)
        if len(set(values)) < 2:
            yield f"spread.{key}: {values} does not vary; name at least two values"
    for name, given in (("contrasts", study.contrasts), ("scale", study.scale), ("tune", study.tune)):
        if given:
            yield f"{name}: a study of the spread compares no arms; make it another study"
    if study.decide.exact or not (study.decide.matters or 0) < 1:
        yield "decide: a study of the spread needs `matters`, a share of the variance between 0 and 1"
