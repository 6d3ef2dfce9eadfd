"""Augmentations: draw parameters from an rng, apply them to a task, and undo them on a grid."""

from arc_experiments.augmentation.augmentations import (
    Augmented,
    Colours,
    Geometry,
    Order,
    Swap,
    Tile,
    Transform,
    Translate,
    Upscale,
    augment,
)
from arc_experiments.augmentation.compose import Compose
from arc_experiments.augmentation.steps import NotInImage, Reversible, Step
from arc_experiments.augmentation.views import View, draw_views

__all__ = [
    "Augmented", "Colours", "Compose", "Geometry", "NotInImage", "Order", "Reversible", "Step", "Swap",
    "Tile", "Transform", "Translate", "Upscale", "View", "augment", "draw_views",
]  # fmt: skip
