"""Check inside the interpreter what a program returned, so that nothing large or strange leaves it."""

from typing import Any


def checked_result(
    result: Any, type: Any = type, len: Any = len, int: Any = int, list: Any = list, tuple: Any = tuple
) -> Any:
    """Return the rows of a grid, or a text: the reason why there is none, and what the result is.

    The built-in functions are defaults, so that a program cannot put others in their place.
    """
    if type(result) is not tuple and type(result) is not list:
        return f"not_a_grid: the result is {type(result)}, no rows"
    if len(result) > 30:
        return f"too_large: the result has {len(result)} rows"
    for row in result:
        if type(row) is not tuple and type(row) is not list:
            return f"not_a_grid: a row is {type(row)}"
        if len(row) > 30:
            return f"too_large: a row has {len(row)} cells"
        for cell in row:
            if type(cell) is not int:
                return f"not_a_grid: a cell is {type(cell)}"
            if not 0 <= cell <= 9:
                return "not_a_grid: a cell is not 0 to 9"
    return result
