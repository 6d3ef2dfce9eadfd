"""From a composition's `inference` section to the engine that it names."""

from typing import TYPE_CHECKING, Any

from arc_experiments.config.paths import local_path
from arc_experiments.config.sampling import temperatures
from arc_experiments.config.schema import Config
from arc_experiments.generation.constraint import grid_constraint, program_constraint
from arc_experiments.generation.decoding import Transformers
from arc_experiments.generation.engine import Engine
from arc_experiments.generation.threshold_search import Threshold
from arc_experiments.prompts import Prompt

if TYPE_CHECKING:
    import torch

CONSTRAINTS = {"none": None, "grid": grid_constraint, "program": program_constraint}


def make_engine(config: Config, prompt: Prompt, tokenizer: Any, dtype: "torch.dtype") -> Engine:
    """Build the engine of a composition.

    Args:
        tokenizer, dtype: what vLLM loads and computes with.

    Raises:
        ValueError: `inference.constrain` with a tokenizer whose tokens are not whole characters, or for
            programs in Python; `inference.engine=vllm` without the package.
    """
    options = config.inference
    make_constraint = CONSTRAINTS[options.constrain]
    constraint = None if make_constraint is None else make_constraint(prompt)
    if options.engine == "threshold":
        return Threshold(threshold=options.threshold, constraint=constraint)
    sampling: dict[str, Any] = {
        "num_samples": len(temperatures(options)),
        "temperatures": temperatures(options),
        "top_p": options.top_p,
        "seed": config.seeds.inference,
    }
    if options.engine == "transformers":
        pictures = None if prompt.pictures is None else prompt.pictures.inputs
        return Transformers(constraint=constraint, pictures=pictures, **sampling)
    from arc_experiments.generation.vllm import Vllm
    from arc_experiments.models.adapters import save_weights

    base = local_path(config.model.path)
    return Vllm(
        base=base,
        dtype=str(dtype).removeprefix("torch."),
        max_length=config.prompt.max_length,
        memory_share=options.vllm_memory_share,
        save=lambda model, folder: save_weights(model, tokenizer, folder, base=base),
        **sampling,
    )
