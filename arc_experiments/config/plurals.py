"""Numbers of things in words, for every message and page."""


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """(1, "task") -> "1 task", (1200, "task") -> "1,200 tasks"; `nouns`: a plural without a plain s."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def of_all(count: int, total: int, noun: str) -> str:
    """(2, 14, "task") -> "2 of 14 tasks", (1, 1, "task") -> "1 of 1 task"."""
    return f"{count:,} of {plural(total, noun)}"


def have(count: int) -> str:
    """1 -> "has", 2 -> "have"."""
    return "has" if count == 1 else "have"
