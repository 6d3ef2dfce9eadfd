"""Numbers and scores in words, for the terminal, the report and the comparison alike."""

from collections.abc import Callable, Iterator, Sequence
from itertools import starmap
from typing import Any

from arc_experiments.config.plurals import plural as plural
from arc_experiments.runs import run_state

NO_VALUE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

KAGGLE = "Kaggle's and ARC Prize's rule: mean over tasks of the share of right test outputs"
# What each score says, by its name in metrics.json. These follow Kaggle's and ARC Prize's rule:
BY_KAGGLE = {
    "pass_at_1": "first attempt right",
    "pass_at_2": "one of the two attempts right: the headline, as on Kaggle",
    "pass_at_n": "some candidate right, chosen or not",
    "vote_1": "the most voted grid right",
    "vote_2": "one of the two most voted grids right",
}
RIGHT = {"pass_at_2": "right in two attempts", "pass_at_1": "right in one attempt"}  # in short
# These are means over all test outputs:
BY_OUTPUT = {
    "accuracy": "share of candidates that are right",
    "correct_pixels": "share of right cells, mean over candidates",
    "max_correct_pixels": "share of right cells of the best candidate",
    "correct_size": "share of candidates of the right size",
    "any_correct_size": "some candidate of the right size",
    "unanswered": "no valid candidate",
}
# Why an output was not right in two attempts, by its name in `score.lost`:
LOST = {
    "not_chosen": "a candidate was right, but not chosen",
    "never_proposed": "no candidate was right",
}
# Why an answer is no grid; those of programs are in docs/programs.md.
REASONS = {
    "unfinished": "cut off by inference.max_new_tokens",
    "empty": "no text",
    "no_grid": "no beginning of a grid",
    "unclosed": "no end of a grid",
    "bad_row_number": "a wrong row number",
    "bad_cell": "a cell that is no colour",
    "ragged": "rows of different lengths",
    "too_large": "more than 30 rows or columns",
    "bad_frame": "wrong padding",
    "wrong_shape": "another size than it states",
}
# pass_at_2 by the three rules in use:
BY_RULE = {
    "task_fraction": KAGGLE,
    "test_output": "right test outputs / all test outputs",
    "task_strict": "share of tasks with every test output right",
}
# What the rows of `score.programs.by_num_sampled` say:
PROGRAMS = (
    "means over tasks: valid and distinct are numbers of programs, verified and right shares of tasks with "
    "at least one (unbiased pass@n)"
)
# What `score.by_group` groups by.
KINDS = {
    "output_cells": "cells of the test output",
    "demonstrations": "number of demonstrations",
    "concept": "concept (folder)",
    "source": "source",
}
# Where the answers of test-time fine-tuning come from, stage after stage.
STAGES = {
    "before": "before adaptation",
    "adaptation": "adaptation",
    "second_pass": "second pass",
    "fallback_run": "another run's answers",
}
STAGE_HEADINGS = (
    "answers",
    "tasks that it answered",
    "tasks answered by then",
    "pass@2 by then",
    "won",
    "lost",
)
# Which tokens `cost` counts.
TOKENS = {
    "prompt": "of prompts",
    "generated": "generated",
    "compared": "of answers compared",
    "training": "trained on",
}
# What test-time fine-tuning came to for a task, by the name in `adaptation.outcomes`.
OUTCOMES = {
    "whole": "trained to the end",
    "stopped_by_time": "answered with what there was when the time was over",
    "not_begun_in_time": "not adapted: the time was over",
    "too_few_demonstrations": "not adapted: too few demonstrations to leave one out",
    "too_long": "not adapted: too long for prompt.max_length even with one demonstration",
    "diverged": "not adapted to the end: a guard stopped it (see run.log)",
    "out_of_memory": "not adapted to the end: out of memory (see run.log)",
    "cut_off_by_deadline": "not adapted: not finished by the deadline",
}


def number(value: float, num_digits: int) -> str:
    """1.5 -> "1.500" for three digits, with a true minus sign."""
    return f"{value:.{num_digits}f}".replace("-", MINUS)


def times(num_rows: int, num_columns: int) -> str:
    """(3, 9) -> "3x9" with a true multiplication sign."""
    return f"{num_rows}\N{MULTIPLICATION SIGN}{num_columns}"


def percent(fraction: float) -> str:
    """0.125 -> "12.5%"."""
    return f"{100 * fraction:.1f}%"


def percent_range(bounds: Sequence[float] | None) -> str:
    """[0.1, 0.25] -> "10.0-25.0%" with a true dash; a dash for None."""
    return NO_VALUE if bounds is None else f"{100 * bounds[0]:.1f}\N{EN DASH}{100 * bounds[1]:.1f}%"


def points(difference: float) -> str:
    """Percentage points of a difference of fractions: 0.125 -> "+12.5", 0 -> "0.0"."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def points_range(bounds: Sequence[float] | None) -> str:
    """[-0.01, 0.25] -> "-1.0 to +25.0"; a dash for None."""
    return NO_VALUE if bounds is None else " to ".join(map(points, bounds))


def duration(seconds: float) -> str:
    """0.0421 -> "0.042 s", 3.21 -> "3.2 s", 192 -> "3 min 12 s", 7500 -> "2 h 5 min"."""
    if seconds < 0.95:
        return f"{seconds:.2g} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return run_state.duration(seconds)


def memory(num_bytes: float) -> str:
    """1_500_000_000 -> "1.5 GB", 20_000 -> "under 1 MB"."""
    if 0 < num_bytes < 1e6:
        return "under 1 MB"
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def about(num_bytes: float) -> str:
    """1_500_000_000 -> "about 1.5 GB", 20_000 -> "under 1 MB"."""
    words = memory(num_bytes)
    return words if words.startswith("under") else f"about {words}"


# What templates use as filters.
FILTERS: dict[str, Callable[..., str]] = {
    one.__name__: one
    for one in (number, plural, percent, percent_range, points, points_range, duration, memory)
}


def label(name: str) -> str:
    """pass_at_2 -> "pass@2", vote_1 -> "vote@1", correct_size -> "correct size"."""
    if name in BY_KAGGLE:
        return name.replace("_at_", "@").replace("vote_", "vote@")
    return name.replace("_", " ")


def rules_sentence(score: dict[str, Any], part: str) -> str:
    """Two attempts by the three rules in use; `part` says of which tasks, if not of all."""
    values = {name: percent(value) for name, value in score["by_rule"].items()}
    return (
        f"two attempts{part}: {values['task_fraction']} by {KAGGLE} (pass@2); {values['test_output']} of all "
        f"test outputs right; {values['task_strict']} of tasks with every test output right"
    )


def lost_sentence(score: dict[str, Any], part: str) -> str:
    """What two attempts lost, and whether the right outputs were proposed; `part` as for `rules_sentence`."""
    lost = score["lost"]
    parts = []
    for name, words in LOST.items():
        bounds = lost["interval"][name]
        interval = "" if bounds is None else f"; 95% interval {percent_range(bounds)}"
        parts.append(f"{percent(lost[name])} ({words}{interval})")
    return f"not right in two attempts{part}: {percent(1 - score['pass_at_2'])} = {' + '.join(parts)}"


def invalid_sentence(counts: dict[str, int]) -> str:
    """How many answers were invalid, by reason, the most frequent first; "" for none."""
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    parts = (f"{n:,} {name}" + (f" ({REASONS[name]})" if name in REASONS else "") for name, n in ordered)
    return f"invalid answers: {', '.join(parts)}"


def unscored_sentence(num_tasks: int, num_unsolved: int) -> str:
    """Say which tasks are answered and not scored; "" for none."""
    if not num_unsolved:
        return ""
    if num_unsolved == num_tasks:
        tasks = plural(num_tasks, "task")
        return f"no score: none of the {tasks} has solutions; their answers are in submission.json"
    return (
        f"{num_unsolved} of {plural(num_tasks, 'task')} have no solutions: their answers are in "
        f"submission.json, and the scores are over the other {num_tasks - num_unsolved}"
    )


def verified_sentence(answered: dict[str, Any]) -> str:
    """Say how many tasks have a verified program; "" if programs were not asked for."""
    if "num_tasks_verified" not in answered:
        return ""
    verified, tasks = answered["num_tasks_verified"], plural(answered["num_tasks"], "task")
    return f"{verified:,} of {tasks} have a program that gives the output of every demonstration"


def cost_sentence(cost: dict[str, Any]) -> str:
    """What the answers cost, per task and at the peak."""
    tokens = [
        f"{cost[f'{kind}_tokens']:,} {words}" for kind, words in TOKENS.items() if cost.get(f"{kind}_tokens")
    ]
    return (
        f"{duration(cost['device_seconds_per_task'])} a task on {cost['device']} "
        f"({duration(cost['device_seconds'])} in all attempts and processes); tokens: {', '.join(tokens)}; "
        f"memory at its peak {memory(cost['peak_memory_bytes'])}"
    )


def pictures_sentence(others: dict[str, Any]) -> str:
    """What the loss with others' pictures is (`validation.loss_with_others_pictures` of metrics.json)."""
    return f"with the pictures of other tasks {others['token_mean']:.4f}; {_change(others)}"


def pictures_warning(others: dict[str, Any]) -> str | None:
    """What must be known if a model's own pictures are not seen to help it."""
    if others["interval"] is not None and others["interval"][0] > 0:
        return None
    return f"nothing shows that the pictures help: with those of other tasks the loss is {_change(others)}"


def _change(others: dict[str, Any]) -> str:
    bounds = others["interval"]
    interval = f"95% interval {_signed(bounds[0])} to {_signed(bounds[1])}, " if bounds else ""
    tasks = plural(others["num_tasks"], "task")
    return f"{_signed(others['difference'])} in the mean of a task ({interval}{tasks})"


def _signed(nats: float) -> str:
    return f"{nats:+.4f}".replace("-", MINUS)


def adaptation_sentences(adaptation: dict[str, Any]) -> Iterator[str]:
    """What test-time fine-tuning came to for the tasks, what it trained on, and how the loss fell."""
    outcomes = [(OUTCOMES[name], count) for name, count in adaptation["outcomes"].items() if count]
    yield "; ".join(f"{plural(count, 'task')} {words}" for words, count in outcomes)
    yield from starmap(round_sentence, enumerate(adaptation.get("rounds", []), 1))
    if not adaptation["samples"]:
        return
    loss = ""
    if "final_loss" in adaptation:
        loss = f", loss {adaptation['initial_loss']:.3f} to {adaptation['final_loss']:.3f}"
    yield f"{plural(adaptation['samples'], 'sample')} in {plural(adaptation['steps'], 'step')}{loss}"
    if adaptation["samples_shrunk"]:
        yield f"{plural(adaptation['samples_shrunk'], 'sample')} lost demonstrations to fit prompt.max_length"
    if adaptation["samples_redrawn"]:
        redrawn = plural(adaptation["samples_redrawn"], "sample")
        yield f"{redrawn} replaced others that did not fit at all"


def stage_rows(stages: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A row of `STAGE_HEADINGS` for each stage of test-time fine-tuning, as metrics.json has them."""
    for stage in stages:
        row = (STAGES[stage["name"]], str(stage["num_tasks"]), str(stage["num_answered"]))
        if "pass_at_2" in stage:
            yield (*row, percent(stage["pass_at_2"]), f"{len(stage['won'])}", f"{len(stage['lost'])}")
        else:
            yield (*row, *3 * (NO_VALUE,))


def round_sentence(number: int, found: dict[str, Any]) -> str:
    """What all rounds of search and learn up to this one have written and solved."""
    learnt = ""
    if found["relabelled"]:
        learnt = f"trained on {plural(found['relabelled'], 'relabelled program')} in {found['steps']} steps, "
    return (
        f"round {number}: {learnt}{plural(found['programs'], 'program')} so far, "
        f"{plural(found['solved'], 'task')} with a verified one, "
        f"best programs with {found['right_cells']:.1%} of cells right"
    )
