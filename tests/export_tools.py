"""Runs whose weights have changed, and a look at exported folders with nothing but the libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from quick_compose import compose
from toy_models import make_base

from arc_experiments.run import Run

OPTIONS = [
    "experiment=smoke", "prompt=compact", "tracking=off", "data.limit=4", "prompt.max_length=1500",
    "optim.max_steps=2", "model=custom", "model.dtype=float32", "model.lora.rank=4", "hardware=cpu",
]  # fmt: skip
IDS = [5, 40, 41, 7, 40, 60, 3, 90]
# Takes the looks as JSON, writes the largest difference of the logits of each.
LOOK = """
import json, sys, torch
import transformers
from peft import PeftModel
from transformers import BitsAndBytesConfig

def load(kind, path, bits=None, adapter=None):
    options = {}
    if bits == 4:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32)
    if bits == 8:
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    model, told = getattr(transformers, kind).from_pretrained(
        path, dtype=torch.float32, output_loading_info=True, **options)
    assert not told["missing_keys"], told
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # its products of 4 bits are in bfloat16
            module.support_avx512bf16_for_cpu = False
    return (model if adapter is None else PeftModel.from_pretrained(model, adapter)).eval()

def logits(model, ids, more):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False, **more).logits[0]

found = {}
for name, look in json.load(sys.stdin).items():
    kind, ids = look.get("kind", "AutoModelForCausalLM"), look["ids"]
    more = {key: torch.tensor(value) for key, value in look.get("arrays", {}).items()}
    trained = load(kind, look["base"], look.get("bits"), look.get("adapter"))
    exported = load(kind, look["exported"], adapter=look.get("exported_adapter"))
    kept = look.get("kept")
    theirs = logits(exported, ids if kept is None else [kept[each] for each in ids], more)
    ours = logits(trained, ids, more)
    found[name] = float((ours - (theirs if kept is None else theirs[:, kept])).abs().max())
    assert ours.abs().max() > 0.1
assert not any(module.startswith("arc_experiments") for module in sys.modules)
print(json.dumps(found))
"""


def trained_run(folder: Path, *overrides: str) -> Run:
    """A run that has saved weights, which are not those that it began with."""
    run = compose([*OPTIONS, *overrides], folder)
    model = run.model()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn(weight.shape, generator=generator)
    run.save_weights(model)
    return run


def toy_run(folder: Path, *overrides: str, **base: Any) -> Run:
    """The same on a random base."""
    return trained_run(folder / "run", f"model.path={make_base(folder / 'base', **base)}", *overrides)


def look(looks: dict[str, dict[str, Any]], cwd: Path) -> dict[str, float]:
    """Compare logits in a process without this package."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        input=json.dumps(looks), capture_output=True, text=True, cwd=cwd, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))
