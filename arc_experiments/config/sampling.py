"""How many answers are sampled at which temperatures: `inference.num_samples` and `inference.temperature`.

num_samples=64 temperature=0.9              64 samples
num_samples=[8,128] temperature=[0.1,0.9]   samples 0 to 7 at 0.1, samples 8 to 135 at 0.9
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from arc_experiments.config.schema import Config, Inference


def temperatures(inference: Inference) -> tuple[float, ...]:
    """Return the temperature of each answer to a prompt."""
    numbers, values = _as_list(inference.num_samples), _as_list(inference.temperature)
    return tuple(float(value) for number, value in zip(numbers, values, strict=True) for _ in range(number))


def check_sampling(inference: Inference) -> Iterator[str]:
    """Check that both keys are numbers, or lists of one length."""
    number, value = inference.num_samples, inference.temperature
    numbers, values = _as_list(number), _as_list(value)
    both = f"inference.num_samples={number} inference.temperature={value}"
    if not numbers or any(type(one) is not int or one < 1 for one in numbers):
        yield (
            f"inference.num_samples={number} is neither a number of answers, from 1, nor a list of such, one "
            "for each temperature"
        )
    if not values or any(type(one) not in (int, float) or one < 0 for one in values):
        yield f"inference.temperature={value} is neither a number from 0, nor a list of such"
    elif len(values) > 1 and 0 in values:
        yield (
            f"inference.temperature={value}: temperature 0 gives the same answer each time and does not go "
            "with others: take a low one, such as 0.05"
        )
    if isinstance(number, list) != isinstance(value, list) or len(numbers) != len(values):
        yield f"{both} must be two numbers, or two lists of one length, such as [8,128] and [0.1,0.9]"


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def with_samples_of_programs(config: Config) -> Config:
    """Replace `adapt.programs` by the `inference.num_samples` that each round of it writes for a view."""
    adapt, inference = config.adapt, config.inference
    if config.job.name != "adapt" or adapt.method != "search_and_learn" or adapt.programs is None:
        return config
    num_samples = adapt.programs // (adapt.rounds * inference.num_views)
    return replace(config, inference=replace(inference, num_samples=num_samples))
