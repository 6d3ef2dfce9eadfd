"""Prompts: how a task becomes tokens and labels, and how an answer becomes a grid again."""

from arc_experiments.prompts.grid_text import GridText, UnreadableGrid
from arc_experiments.prompts.prompt import Encoded, Prompt

__all__ = ["Encoded", "GridText", "Prompt", "UnreadableGrid"]
