"""The checks of `prompt`: templates hold the grids that they need."""

from collections.abc import Iterator

from arc_experiments.config.schema import Prompt, Template


def check_templates(prompt: Prompt, key: str = "prompt") -> Iterator[str]:
    """A line for each mistake in the texts of a prompt's kinds of question; `key` is where the prompt stands."""
    places = {"demonstration": ["input", "output"], "question": ["input"], "answer": ["output"]}
    yield from _check_places(prompt, key, {"introduction": [], **places})
    for kind, side in (("input_from_inputs", "input"), ("output_from_outputs", "output")):
        template, weight = getattr(prompt, kind), getattr(prompt.kinds, kind)
        if template is not None:
            places = {"introduction": [], "demonstration": [side], "question": [], "answer": [side]}
            yield from _check_places(template, f"{key}.{kind}", places)
        elif weight > 0:
            yield (
                f"{key}.kinds.{kind}={weight} needs a template: {prompt.name} has no {key}.{kind}; "
                "write one, or take a prompt that has it (prompt=arc24)"
            )


def _check_places(template: Prompt | Template, prefix: str, places: dict[str, list[str]]) -> Iterator[str]:
    """Each text holds the grids that it needs once, and no others."""
    for name, sides in places.items():
        text = getattr(template, name)
        for side in ("input", "output"):
            if text.count(f"{{{side}}}") != (side in sides):
                needed = " and ".join(f"{{{side}}}" for side in sides)
                rule = f"must hold {needed} once" if side in sides else f"must not hold {{{side}}}"
                yield f"{prefix}.{name} {rule}: {text!r}"
                break
        for place in ("number", "end"):
            if name != "demonstration" and f"{{{place}}}" in text:
                yield f"{prefix}.{name} must not hold {{{place}}}, which only demonstrations have: {text!r}"
