"""The checks of the `inference` section: values that need others, or exclude them."""

from collections.abc import Iterator

from arc_experiments.config.rules.exclusions import excluded
from arc_experiments.config.schema import NEED_LIKELIHOODS, Config, Inference


def check_inference(config: Config) -> Iterator[str]:
    """A line for each mistake."""
    inference = config.inference
    if inference.engine == "vllm":
        yield from _check_vllm(config)
    yield from _check_sampling(inference)
    if inference.selection in NEED_LIKELIHOODS and inference.scoring_views == 0:
        yield (
            f"inference.selection={inference.selection} needs likelihoods: set inference.scoring_views (8, say), or "
            "take votes_then_log_probability"
        )


def _check_vllm(config: Config) -> Iterator[str]:
    """What is not handed over to vLLM, or has no room beside it."""
    inference, model, gpus = config.inference, config.model, config.hardware
    why = "change it, or take inference.engine=transformers"
    others = {
        "inference.constrain=grid": inference.constrain == "grid",
        "model.vocabulary=arc": model.vocabulary == "arc",
        f"model.quantisation={model.quantisation}": model.quantisation != "none",
        "model.weights=random": model.weights == "random",
        f"model.path={model.path}": model.path.startswith("package:"),
        f"hardware.num_processes={gpus.num_processes}": gpus.num_processes != 1,
        f"hardware.parallelism={gpus.parallelism}": gpus.parallelism != "data",
        "hardware.device=cpu": gpus.device == "cpu",
        "optim.best_by=pass_at_2": config.optim.best_by == "pass_at_2",
    }
    yield from excluded("inference.engine=vllm", {value: (is_so, why) for value, is_so in others.items()})


def _check_sampling(inference: Inference) -> Iterator[str]:
    for key, engine in (("threshold", "threshold"), ("vllm_memory_share", "vllm")):
        value, default = getattr(inference, key), getattr(Inference, key)
        if value != default and inference.engine != engine:
            yield (
                f"inference.{key}={value} is read by inference.engine={engine} alone: choose that, or leave it at "
                f"{default}"
            )
    if inference.engine == "threshold":
        for key, value, default in (
            ("num_samples", inference.num_samples, 1),
            ("temperature", inference.temperature, 0),
            ("top_p", inference.top_p, 1),
        ):
            if value != default:
                yield (
                    f"inference.{key}={value} is not read by inference.engine=threshold, which draws nothing: "
                    f"leave it out, or take inference.engine=transformers"
                )
        return
    if inference.temperature > 0:
        return
    if inference.num_samples > 1:
        yield (
            f"inference.num_samples={inference.num_samples} greedy answers to a view would all be the same: "
            "set inference.temperature above 0, or take more views (inference.num_views)"
        )
    if inference.top_p < 1:
        yield (
            f"inference.top_p={inference.top_p} is not read by greedy answers: "
            "set inference.temperature above 0, or inference.top_p=1"
        )
