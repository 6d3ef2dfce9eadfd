"""Prompts: convert a task to tokens and labels, and an answer back to a grid."""

from arc_experiments.prompts.encoding import IGNORED, Encoded
from arc_experiments.prompts.grid_text import GridText, UnreadableGrid
from arc_experiments.prompts.kinds import KINDS, QUESTIONS, Asked, Kind
from arc_experiments.prompts.prompt import Fitted, Prompt

__all__ = [
    "IGNORED",
    "KINDS",
    "QUESTIONS",
    "Asked",
    "Encoded",
    "Fitted",
    "GridText",
    "Kind",
    "Prompt",
    "UnreadableGrid",
]
