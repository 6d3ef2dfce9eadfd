"""Pictures in one prompt's style, and the tokens that stand for them in its text."""

from arc_experiments.pictures.drawing import Picture, Style
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.tasks.grids import Grid


class PictureWriter:
    """Makes the pictures of a prompt and writes what stands for them in its text."""

    def __init__(self, style: Style, inputs: PictureInputs) -> None:
        self.style, self.inputs = style, inputs

    @property
    def placeholder(self) -> str:
        return self.inputs.placeholder

    def make(self, rows: tuple[tuple[Grid, ...], ...]) -> Picture:
        """Make a picture of these grids; nothing is drawn yet."""
        return Picture(rows, self.style)

    def text(self, picture: Picture) -> str:
        """Return a picture's tokens as text."""
        return self.inputs.text(picture)
