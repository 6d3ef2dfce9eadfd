"""Prompts: how a task becomes tokens and labels, and how an answer becomes a grid again."""

from arc_experiments.prompts.encoding import IGNORED, Encoded
from arc_experiments.prompts.grid_text import GridText, UnreadableGrid
from arc_experiments.prompts.prompt import Fitted, Prompt
from arc_experiments.prompts.templates import KINDS, MAIN, Kind

__all__ = [
    "IGNORED",
    "KINDS",
    "MAIN",
    "Encoded",
    "Fitted",
    "GridText",
    "Kind",
    "Prompt",
    "UnreadableGrid",
]
