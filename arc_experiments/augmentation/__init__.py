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
from arc_experiments.augmentation.steps import ColourMap, GridStep, NotInImage, Reversible, Step, Symmetry
from arc_experiments.augmentation.views import View, draw_views

__all__ = [
    "Augmented", "ColourMap", "Colours", "Compose", "Geometry", "GridStep", "NotInImage", "Order",
    "Reversible", "Step", "Swap", "Symmetry", "Tile", "Transform", "Translate", "Upscale", "View", "augment",
    "draw_views",
]  # fmt: skip
