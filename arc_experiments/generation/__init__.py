"""From a model and tasks without solutions to candidates."""

from arc_experiments.generation.constraint import Constraint, grid_constraint
from arc_experiments.generation.decoding import Transformers, generate
from arc_experiments.generation.engine import Answer, Engine, Limits, plan_batches
from arc_experiments.generation.likelihood import log_probabilities, with_likelihoods
from arc_experiments.generation.predict import Request, make_requests, predict, unanswered
from arc_experiments.generation.room import NoRoom, Room
from arc_experiments.generation.threshold import Threshold

__all__ = [
    "Answer",
    "Constraint",
    "Engine",
    "Limits",
    "NoRoom",
    "Request",
    "Room",
    "Threshold",
    "Transformers",
    "generate",
    "grid_constraint",
    "log_probabilities",
    "make_requests",
    "plan_batches",
    "predict",
    "unanswered",
    "with_likelihoods",
]
