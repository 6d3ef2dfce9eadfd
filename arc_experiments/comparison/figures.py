"""Pictures of a comparison as SVG text: scores with intervals, scores against time, losses, tasks by group.

In: scored groups. Out: SVG elements; group number i takes its colour from class `g<i>` of the page, whose numbers
start again where there are more groups than colours.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from arc_experiments.comparison.contrasts import Scored
from arc_experiments.comparison.runs import RunResult
from arc_experiments.comparison.tables import Unit
from arc_experiments.report.curves import read_points
from arc_experiments.report.format import duration, percent

NUM_COLOURS = 8
WIDTH, RIGHT, TOP, BOTTOM = 860, 20, 12, 42
LEFT, NAMES = 80, 190  # margin for numbers, margin for names
ROW = 34  # pixels of a group's row
LETTER = 7.2  # pixels, about


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Values on a line of pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) * (self.end - self.start) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        return ticks(self.low, self.high, most)


def colour(number: int) -> str:
    """The class of a group's colour."""
    return f"g{number % NUM_COLOURS}"


def scores_figure(groups: Sequence[Scored], unit: Unit) -> Markup:
    """A row a group: its runs as dots, its mean, the interval for new seeds thick and the one for new tasks thin."""
    intervals = [
        i for one in groups for i in (one.estimate.new_seeds, one.estimate.new_tasks) if i is not None
    ]
    ends = [end for interval in intervals for end in (interval.low, interval.high)]
    values = [*ends, *(value for one in groups for value in one.values)]
    height = TOP + ROW * len(groups) + BOTTOM
    x = _scale(values, NAMES, WIDTH - RIGHT, unit)
    parts = [_x_axis(x, height, unit.value, unit.metric)]
    for number, one in enumerate(groups):
        y = TOP + ROW * (number + 0.5)
        parts.append(_name(one.name, y))
        for interval, style in ((one.estimate.new_tasks, "thin"), (one.estimate.new_seeds, "thick")):
            if interval is not None:
                low, high = max(interval.low, x.low), min(interval.high, x.high)
                parts.append(
                    f'<path class="{style} {colour(number)}" d="M{x(low):.1f} {y:.1f}H{x(high):.1f}"/>'
                )
        parts += [
            _dot(x(value), y + 8, 3, number, f"{run.name}: {unit.value(value)}", "run")
            for run, value in zip(one.group.runs, one.values, strict=True)
        ]
        parts.append(
            _dot(x(one.estimate.value), y, 5.5, number, f"{one.name}: mean {unit.value(one.estimate.value)}")
        )
    return _svg(parts, height, f"{unit.metric} of each group with its intervals")


def cost_figure(groups: Sequence[Scored], unit: Unit) -> Markup | None:
    """Runs and means of groups by what they took and what they score; None where no run knows its time."""
    known = [
        [
            (run.seconds, value)
            for run, value in zip(one.group.runs, one.values, strict=True)
            if run.seconds is not None
        ]
        for one in groups
    ]
    points = [point for group in known for point in group]
    if not points:
        return None
    height, (size, name) = 300, _time_unit(max(seconds for seconds, _ in points))
    x = _scale([*(seconds / size for seconds, _ in points), 0.0], LEFT, WIDTH - RIGHT, None)
    y = _scale([value for _, value in points], height - BOTTOM, TOP, unit)
    label = f"time a run, {name}"
    parts = [_x_axis(x, height, lambda value: f"{value:g}", label), _y_axis(y, unit.value, unit.metric)]
    for number, (one, group) in enumerate(zip(groups, known, strict=True)):
        parts += [
            _dot(x(seconds / size), y(value), 3, number, f"{one.name}: {unit.value(value)}", "run")
            for seconds, value in group
        ]
        if group:
            seconds, value = (sum(numbers) / len(group) for numbers in zip(*group, strict=True))
            words = f"{one.name}: mean {unit.value(value)}, {duration(seconds)}"
            parts.append(_dot(x(seconds / size), y(value), 6, number, words))
    return _svg(parts, height, f"{unit.metric} against time")


def losses_figure(groups: Sequence[Scored]) -> Markup | None:
    """Validation loss over steps: the mean of each group's runs in a band from the lowest to the highest.

    None where no group has two steps that all of its runs know.
    """
    curves = {number: _curve(one.group.runs) for number, one in enumerate(groups)}
    curves = {number: curve for number, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    height = 300
    steps = [step for curve in curves.values() for step in curve]
    values = [value for curve in curves.values() for losses in curve.values() for value in losses]
    x, y = _scale([*steps, 0.0], LEFT, WIDTH - RIGHT, None), _scale(values, height - BOTTOM, TOP, None)
    parts = [
        _x_axis(x, height, lambda value: f"{value:g}", "step"),
        _y_axis(y, lambda value: f"{value:.4g}", "validation loss (token mean)"),
    ]
    for number, curve in curves.items():
        above = [f"{x(step):.1f} {y(max(losses)):.1f}" for step, losses in curve.items()]
        below = [f"{x(step):.1f} {y(min(losses)):.1f}" for step, losses in reversed(curve.items())]
        parts.append(f'<path class="band {colour(number)}" d="M{"L".join([*above, *below])}Z"/>')
    for number, curve in curves.items():
        means = {step: sum(losses) / len(losses) for step, losses in curve.items()}
        line = "L".join(f"{x(step):.1f} {y(mean):.1f}" for step, mean in means.items())
        parts.append(f'<path class="mean {colour(number)}" d="M{line}"/>')
        parts += [
            _dot(x(step), y(mean), 3, number, f"{groups[number].name}, step {step:g}: {mean:.4f}")
            for step, mean in means.items()
        ]
    return _svg(parts, height, "validation loss of each group over steps")


def tasks_figure(groups: Sequence[Scored]) -> Markup | None:
    """A column a task, the easiest first, and a row a group: the fuller a cell, the more of its runs have it right.

    None where scores by task are not known, or no task was ever right.
    """
    shares = [_mean_shares(one) for one in groups]
    if any(one is None for one in shares):
        return None
    known: list[dict[str, float]] = [one for one in shares if one is not None]
    totals: dict[str, float] = defaultdict(float)
    for by_task in known:
        for task, share in by_task.items():
            totals[task] += share
    tasks = sorted(
        (task for task, total in totals.items() if total > 0), key=lambda task: (-totals[task], task)
    )
    if not tasks:
        return None
    side = min(16.0, (WIDTH - NAMES - RIGHT) / len(tasks))
    height, parts = TOP + 20 * len(groups), []
    for number, (one, by_task) in enumerate(zip(groups, known, strict=True)):
        y = TOP + 20 * number
        parts.append(_name(one.name, y + 8))
        for column, task in enumerate(tasks):
            if task in by_task:
                words = f"{task}, {one.name}: {percent(by_task[task])}"
                parts.append(
                    f'<rect class="cell {colour(number)}" x="{NAMES + side * column:.1f}" y="{y}" width="{side - 1:.1f}" '
                    f'height="16" fill-opacity="{0.07 + 0.93 * by_task[task]:.2f}"><title>{escape(words)}</title></rect>'
                )
    return _svg(parts, height, "right answers by task and group")


def _time_unit(longest: float) -> tuple[float, str]:
    """Its seconds and its name."""
    return (1.0, "s") if longest < 300 else (60.0, "min") if longest < 5 * 3600 else (3600.0, "h")


def _curve(runs: Sequence[RunResult]) -> dict[float, list[float]]:
    """The losses of all runs at the steps that all of them know."""
    curves = [dict(read_points(run.log, "validation_loss")) for run in runs]
    steps = sorted(set(curves[0]).intersection(*curves))
    return {step: [curve[step] for curve in curves] for step in steps}


def _mean_shares(one: Scored) -> dict[str, float] | None:
    by_task: dict[str, list[float]] = defaultdict(list)
    for tasks, shares in one.shares.items():
        if shares is None:
            return None
        for task, share in zip(sorted(tasks), shares.mean(axis=0), strict=True):
            by_task[task].append(float(share))
    return {task: sum(found) / len(found) for task, found in by_task.items()}


def _scale(values: Iterable[float], start: float, end: float, unit: Unit | None) -> Scale:
    """With a margin; a share does not leave 0..1, and what begins at 0 begins there."""
    low, high = min(values := list(values)), max(values)
    pad = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    bottom = low if low == 0 else low - pad
    if unit is not None and unit.is_share:
        return Scale(low=max(0.0, bottom), high=min(1.0, high + pad), start=start, end=end)
    return Scale(low=bottom, high=high + pad, start=start, end=end)


def _x_axis(x: Scale, height: float, word: Callable[[float], str], label: str) -> str:
    bottom = height - BOTTOM
    parts = [f'<path class="axis" d="M{x.start} {bottom}H{x.end}"/>']
    for value in x.ticks(7):
        parts.append(f'<path class="rule" d="M{x(value):.1f} {TOP}V{bottom}"/>')
        parts.append(
            f'<text x="{x(value):.1f}" y="{bottom + 17}" text-anchor="middle">{escape(word(value))}</text>'
        )
    middle = (x.start + x.end) / 2
    return "".join(
        [*parts, f'<text x="{middle:g}" y="{height - 5}" text-anchor="middle">{escape(label)}</text>']
    )


def _y_axis(y: Scale, word: Callable[[float], str], label: str) -> str:
    parts = []
    for value in y.ticks(6):
        parts.append(f'<path class="rule" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{escape(word(value))}</text>'
        )
    turned = f"translate(13 {(y.start + y.end) / 2:g}) rotate(-90)"
    return "".join([*parts, f'<text transform="{turned}" text-anchor="middle">{escape(label)}</text>'])


def _name(name: str, y: float) -> str:
    most = int((NAMES - 16) / LETTER)
    shown = name if len(name) <= most else f"{name[: most - 1]}…"
    return f'<text x="{NAMES - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(shown)}<title>{escape(name)}</title></text>'


def _dot(x: float, y: float, radius: float, number: int, words: str, style: str = "average") -> str:
    return (
        f'<circle class="{style} {colour(number)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{escape(words)}</title>'
        "</circle>"
    )


def _svg(parts: Sequence[str], height: float, label: str) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within low..high, at most about `most`."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]
