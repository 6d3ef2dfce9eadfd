"""Numbers and scores in words, for the terminal, the report and the comparison alike."""

from typing import Any

NO_VALUE = "\N{EN DASH}"

KAGGLE = "Kaggle's and ARC Prize's rule: mean over tasks of the share of right test outputs"
# What each score says, by its name in metrics.json. These follow Kaggle's and ARC Prize's rule:
BY_KAGGLE = {
    "pass_at_1": "first attempt right",
    "pass_at_2": "one of the two attempts right: the headline, as on Kaggle",
    "pass_at_n": "some candidate right, chosen or not",
    "vote_1": "the most voted grid right",
    "vote_2": "one of the two most voted grids right",
}
# These are means over all test outputs:
BY_OUTPUT = {
    "accuracy": "share of candidates that are right",
    "correct_pixels": "share of right cells, mean over candidates",
    "max_correct_pixels": "share of right cells of the best candidate",
    "correct_size": "share of candidates of the right size",
    "any_correct_size": "some candidate of the right size",
    "unanswered": "no valid candidate",
}
# pass_at_2 by the three rules in use:
BY_RULE = {
    "task_fraction": KAGGLE,
    "test_output": "right test outputs / all test outputs",
    "task_strict": "share of tasks with every test output right",
}


def label(name: str) -> str:
    """pass_at_2 -> "pass@2", vote_1 -> "vote@1", correct_size -> "correct size"."""
    if name in BY_KAGGLE:
        return name.replace("_at_", "@").replace("vote_", "vote@")
    return name.replace("_", " ")


def rules_sentence(score: dict[str, Any]) -> str:
    """Two attempts by the three rules in use."""
    values = {name: percent(value) for name, value in score["by_rule"].items()}
    return (
        f"two attempts: {values['task_fraction']} by {KAGGLE} (pass@2); {values['test_output']} of all test outputs "
        f"right; {values['task_strict']} of tasks with every test output right"
    )


def number(value: float, num_digits: int) -> str:
    """1.5 -> "1.500" for three digits, with a true minus sign."""
    return f"{value:.{num_digits}f}".replace("-", "\N{MINUS SIGN}")


def times(num_rows: int, num_columns: int) -> str:
    """(3, 9) -> "3x9" with a true multiplication sign."""
    return f"{num_rows}\N{MULTIPLICATION SIGN}{num_columns}"


def percent(fraction: float) -> str:
    """0.125 -> "12.5%"."""
    return f"{100 * fraction:.1f}%"


def plural(count: int, noun: str) -> str:
    """(1, "task") -> "1 task", (1200, "task") -> "1,200 tasks"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent_range(low: float, high: float) -> str:
    """(0.1, 0.25) -> "10.0-25.0%" with a true dash."""
    return f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f}%"


def duration(seconds: float) -> str:
    """3.21 -> "3.2 s", 192 -> "3 min 12 s", 7500 -> "2 h 5 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def unscored_sentence(num_tasks: int, num_unsolved: int) -> str:
    """Which tasks are answered and not scored, "" for none."""
    if not num_unsolved:
        return ""
    if num_unsolved == num_tasks:
        return f"no score: none of the {plural(num_tasks, 'task')} has solutions; their answers are in submission.json"
    return (
        f"{num_unsolved} of {plural(num_tasks, 'task')} have no solutions: their answers are in submission.json, "
        f"and the scores are over the other {num_tasks - num_unsolved}"
    )


def cost_sentence(cost: dict[str, Any]) -> str:
    """What the answers have cost, a task and at the peak."""
    kinds = ("prompt", "generated", "compared", "training")
    tokens = [f"{cost[f'{kind}_tokens']:,} {kind}" for kind in kinds if cost.get(f"{kind}_tokens")]
    per_task = f"{cost['device_seconds_per_task']:.3g}"
    return (
        f"{per_task} s a task on {cost['device']} ({duration(cost['device_seconds'])} in all attempts and processes), "
        f"{', '.join(tokens)} tokens, memory at its peak {memory(cost['peak_memory_bytes'])}"
    )


def memory(num_bytes: float) -> str:
    """1_500_000_000 -> "1.5 GB"."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
