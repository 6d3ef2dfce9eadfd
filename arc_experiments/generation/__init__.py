"""From a model and tasks without solutions to candidates."""

from arc_experiments.generation.engine import Answer, generate, plan_batches
from arc_experiments.generation.predict import Request, make_requests, predict

__all__ = ["Answer", "Request", "generate", "make_requests", "plan_batches", "predict"]
