"""Augmentations: each draws its parameters from an rng, applies them to a task, and undoes them on a grid."""

from arc_experiments.augmentation.transforms import (
    Colours,
    Geometry,
    Order,
    Step,
    Swap,
    Transform,
    augment,
)
from arc_experiments.augmentation.views import View, draw_views

__all__ = ["Colours", "Geometry", "Order", "Step", "Swap", "Transform", "View", "augment", "draw_views"]
