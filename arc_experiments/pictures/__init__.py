"""Grids as pictures: drawn from their integers, and what a vision-language model is given of them."""

from arc_experiments.pictures.drawing import Picture, Style

__all__ = ["Picture", "Style"]
