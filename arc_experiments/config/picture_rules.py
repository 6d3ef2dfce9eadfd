"""What can be wrong with a prompt that shows pictures."""

import re
from collections.abc import Iterator

from arc_experiments.config.schema import PICTURE_OPTIONS, PICTURES, Benchmark, Config, PromptOptions

NUM_COLOURS = 10


def check_pictures(config: Config) -> Iterator[str]:
    """Check the options of pictures, and what does not go together with them."""
    prompts = {"prompt": config.prompt}
    for name, source in config.data.sources.items():
        if source.prompt is not None:
            prompts[f"data.sources.{name}.prompt"] = source.prompt
    for key, prompt in prompts.items():
        yield from _check_options(prompt, key)
    shown = next((key for key, prompt in prompts.items() if prompt.shows_pictures), None)
    if shown is not None:
        for setting, why in excluded_by_pictures(config):
            yield f"{setting} does not go with the pictures of {shown}: {why}; or take a prompt of text"


def _check_options(prompt: PromptOptions, key: str) -> Iterator[str]:
    default = PromptOptions()
    chosen = [name for name in PICTURE_OPTIONS if getattr(prompt, name) != getattr(default, name)]
    if chosen and not prompt.shows_pictures:
        yield (
            f"{key}.{chosen[0]}={getattr(prompt, chosen[0])}: {prompt.name} shows no pictures, which "
            f"{', '.join(PICTURES)} stand for in its texts: take prompt=picture or prompt=picture_and_text"
        )
    if prompt.palette is not None and (
        len(prompt.palette) != NUM_COLOURS
        or not all(re.fullmatch("#[0-9a-fA-F]{6}", colour) for colour in prompt.palette)
    ):
        yield f'{key}.palette={prompt.palette} is not ten colours of the form "#0074D9"'
    if prompt.cell_pixels is not None and prompt.line_pixels >= prompt.cell_pixels:
        yield f"{key}.line_pixels={prompt.line_pixels} leaves nothing of cell_pixels={prompt.cell_pixels}"


def excluded_by_pictures(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each setting that pictures exclude, as it is typed, and why, with the remedy."""
    engine, hardware = config.inference.engine, config.hardware
    if engine != "transformers":
        yield f"inference.engine={engine}", "it continues prompts of text; take inference.engine=transformers"
    if config.optim.pack_length is not None:
        yield f"optim.pack_length={config.optim.pack_length}", "a row has one sample; take null"
    if config.optim.answer_gap:
        yield f"optim.answer_gap={config.optim.answer_gap}", "the model counts positions itself; take 0"
    if config.model.vocabulary == "arc":
        yield "model.vocabulary=arc", "it keeps the tokens of text; take model.vocabulary=full"
    if config.job.name == "adapt" and config.adapt.together != 1:
        yield f"adapt.together={config.adapt.together}", "adapters train at once on text; take 1"
    if config.job.name == "benchmark":
        yield from _excluded_of_benchmark(config.benchmark)
    if hardware.per_device_batch_size == "auto":
        yield "hardware.per_device_batch_size=auto", "batches of text are tried; name a number"
    if hardware.parallelism == "fsdp":
        yield "hardware.parallelism=fsdp", "vision parts have not been sharded; take split or data"
    if config.model.lora is not None and config.model.lora.initialisation == "eva":
        yield "model.lora.initialisation=eva", "it looks at text alone; take default"


def _excluded_of_benchmark(benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    if "scoring" in benchmark.parts:
        rest = ",".join(part for part in benchmark.parts if part != "scoring")
        yield (
            f"benchmark.parts={benchmark.parts}",
            f"scoring continues prompts of text; take benchmark.parts=[{rest}]",
        )
    if "training" in benchmark.parts and benchmark.lengths:
        yield (
            f"benchmark.lengths={benchmark.lengths}",
            "rows of text are cut to a length; take benchmark.lengths=[] benchmark.input_sizes=[2x6]",
        )
