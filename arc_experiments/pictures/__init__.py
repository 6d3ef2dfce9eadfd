"""Grids as pictures: drawn from their integers, and what a vision-language model is given of them."""

from arc_experiments.pictures.drawing import AnyPicture, Picture, Style

__all__ = ["AnyPicture", "Picture", "Style"]
