"""Test-time fine-tuning: a model adapted to a task's own demonstrations, which then answers it; task after task.

validation tasks without their test outputs ──units──> queue ──worker: adapt, answer, restore──> a file a unit
"""

from arc_experiments.adaptation.queue import Queue
from arc_experiments.adaptation.results import Adapted, Outcome, merged, totals
from arc_experiments.adaptation.tuner import Tuner
from arc_experiments.adaptation.units import Unit, in_turn, make_units
from arc_experiments.adaptation.work import Work

__all__ = [
    "Adapted",
    "Outcome",
    "Queue",
    "Tuner",
    "Unit",
    "Work",
    "in_turn",
    "make_units",
    "merged",
    "totals",
]
