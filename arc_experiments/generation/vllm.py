"""Answers by vLLM, the optional engine for GPUs (`pip install 'arc_experiments[vllm]'`).

An adapter is passed to vLLM as files, under a new name each time: vLLM caches prompts by the adapter's name,
and would answer with a second adapter of the same name from the keys and values of the first.
"""

import importlib
import importlib.util
import json
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel

from arc_experiments.generation.engine import Answer, Asked, Key, Limits
from arc_experiments.prompts import Encoded
from arc_experiments.tasks.rngs import rng_for

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the maxima that vLLM can be started with


class Vllm:
    """Greedy answers (temperature 0) or samples, like `Transformers`. Draws depend on (seed, key, s) alone.

    Args:
        temperatures: of the samples in turn.
        base: where vLLM loads the base model from: a folder or a hub id.
        dtype: what it computes in.
        max_length: of a prompt, in tokens.
        memory_share: of a GPU's memory, beside the model that is passed in.
        save: writes an adapter, or a whole model, into a folder.

    Raises:
        ValueError: the package vllm is not installed.
    """

    rows_per_prompt = 1
    num_samples = 1  # vLLM makes batches of its own, of all samples

    def __init__(
        self,
        *,
        base: str,
        dtype: str,
        max_length: int,
        memory_share: float,
        save: Callable[[Any, Path], None],
        num_samples: int = 1,
        temperatures: Sequence[float] = (0.0,),
        top_p: float = 1.0,
        seed: int = 0,
    ) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise ValueError(
                "inference.engine=vllm needs the package vllm: pip install 'arc_experiments[vllm]', or use "
                "inference.engine=transformers"
            )
        self._base, self._dtype, self._max_length = base, dtype, max_length
        self._memory_share, self._save = memory_share, save
        self._num_samples, self._temperatures, self._top_p = num_samples, temperatures, top_p
        self._seed = seed
        self._folder = tempfile.TemporaryDirectory(prefix="vllm-")
        self._model: Any = None  # whose weights vLLM has
        self._llm: Any = None
        self._adapter: Any = None
        self._num_adapters = 0

    def answer(
        self, model: Any, prompts: Sequence[Asked], keys: Sequence[Key], limits: Limits
    ) -> list[list[Answer]]:
        """Answer each prompt; vLLM makes batches of its own."""
        self._load(model, limits)
        params = importlib.import_module("vllm").SamplingParams
        asked, how = [], []
        for prompt, key in zip(prompts, keys, strict=True):
            for sample in range(self._num_samples):
                ids = prompt.input_ids if isinstance(prompt, Encoded) else prompt
                asked.append({"prompt_token_ids": ids.tolist()})
                how.append(
                    params(
                        temperature=self._temperatures[sample % len(self._temperatures)],
                        top_p=self._top_p,
                        seed=int(rng_for("sample", self._seed, *key, sample).integers(2**31)),
                        max_tokens=limits.max_new_tokens,
                        stop_token_ids=list(limits.stop_ids),
                        ignore_eos=True,  # stop_token_ids say where it ends
                        logprobs=0,  # of the chosen token alone
                        detokenize=False,
                    )
                )
        outputs = self._llm.generate(asked, how, lora_request=self._adapter, use_tqdm=False)
        answers = [_answer(output.outputs[0], limits.stop_ids) for output in outputs]
        return [
            answers[start : start + self._num_samples] for start in range(0, len(answers), self._num_samples)
        ]

    def only(self, samples: Sequence[int]) -> "Vllm":
        return self

    def _load(self, model: Any, limits: Limits) -> None:
        """Pass a new model's weights to vLLM: an adapter for the base that it has loaded, or all of them."""
        if model is self._model:
            return
        folder = Path(self._folder.name) / uuid.uuid4().hex
        self._save(model, folder)
        self._adapter = None
        if isinstance(model, PeftModel):
            if self._llm is None or self._num_adapters == 0:
                # The files' rank is twice the model's own if they were converted to fit the published base.
                rank = json.loads((folder / "adapter_config.json").read_text())["r"]
                largest = next((size for size in LORA_RANKS if size >= rank), rank)
                self._llm = self._start(self._base, limits, enable_lora=True, max_lora_rank=largest)
            self._num_adapters += 1
            request = importlib.import_module("vllm.lora.request").LoRARequest
            self._adapter = request(f"adapter-{folder.name}", self._num_adapters, str(folder))
        else:
            self._llm, self._num_adapters = self._start(str(folder), limits), 0
        self._model = model

    def _start(self, path: str, limits: Limits, **options: Any) -> Any:
        return importlib.import_module("vllm").LLM(
            model=path,
            skip_tokenizer_init=True,  # prompts come as ids, answers are read as ids
            dtype=self._dtype,
            max_model_len=self._max_length + limits.max_new_tokens,
            gpu_memory_utilization=self._memory_share,
            **options,
        )


def _answer(output: Any, stop_ids: Sequence[int]) -> Answer:
    ids = list(output.token_ids)
    finished = output.finish_reason == "stop"
    written = tuple(ids[:-1] if finished and ids and ids[-1] in stop_ids else ids)
    return Answer(
        ids=written,
        num_tokens=len(written) + finished,
        log_probability=float(output.cumulative_logprob),
        finished=finished,
    )
