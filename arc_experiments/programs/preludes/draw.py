"""The language `draw`: shapes that are painted on a canvas, one after the other.

Rows and columns count from 0 at the upper left; cells outside of the canvas are not painted. Numpy is not
available where this runs; `arc_experiments.programs.canvases` paints the same on arrays.
"""

canvas: list[list[int]] = []


def start(grid: list[list[int]]) -> None:
    """Put a copy of the grid on the canvas."""
    canvas[:] = [list(row) for row in grid]


def pixel(colour: int, row: int, column: int) -> None:
    """Paint one cell."""
    if 0 <= row < len(canvas) and 0 <= column < len(canvas[0]):
        canvas[row][column] = colour


def line(colour: int, row: int, column: int, last_row: int, last_column: int) -> None:
    """Paint a horizontal, vertical or diagonal line with these two ends; none between others."""
    height, width = last_row - row, last_column - column
    if height and width and abs(height) != abs(width):
        return
    length = max(abs(height), abs(width))
    for step in range(length + 1):
        pixel(colour, row + step * _sign(height), column + step * _sign(width))


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def rect(colour: int, top: int, left: int, bottom: int, right: int) -> None:
    """Paint a filled rectangle with these two opposite corners."""
    top, bottom = min(top, bottom), max(top, bottom)
    left, right = min(left, right), max(left, right)
    for row in range(max(top, 0), min(bottom + 1, len(canvas))):
        for column in range(max(left, 0), min(right + 1, len(canvas[0]))):
            canvas[row][column] = colour


def box(colour: int, top: int, left: int, bottom: int, right: int) -> None:
    """Paint the outline of the rectangle."""
    for row in (top, bottom):
        rect(colour, row, left, row, right)
    for column in (left, right):
        rect(colour, top, column, bottom, column)


def flood(colour: int, row: int, column: int) -> None:
    """Paint a cell and all cells of its colour that connect to it by their sides."""
    if not (0 <= row < len(canvas) and 0 <= column < len(canvas[0])):
        return
    ground = canvas[row][column]
    pixel(colour, row, column)
    reached = [(row, column)] if ground != colour else []
    while reached:
        row, column = reached.pop()
        for i, j in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= i < len(canvas) and 0 <= j < len(canvas[0]) and canvas[i][j] == ground:
                canvas[i][j] = colour
                reached.append((i, j))
