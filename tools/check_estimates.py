"""Compare estimates with what runs took: `python -m tools.check_estimates <folder> [name ...]`.

Each composition runs by the command in a folder of its own, one after another; its disk is looked at twenty
times a second. Shows a table.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from transformers import Qwen2Config

from arc_experiments.config.paths import local_path
from arc_experiments.report.wording import memory

CONSOLE = Console(highlight=False)
SHORT = ["optim.max_steps=12", "optim.save_steps=4", "optim.eval_steps=null", "tracking=off", "hardware=cpu"]
QUICK = [*SHORT, "inference.limit=8", "inference.max_new_tokens=64"]
COMPOSITIONS = {
    "default": [*QUICK],
    "eight rows": [*QUICK, "hardware.per_device_batch_size=8", "inference.limit=1"],
    "all weights": [*QUICK, "model=large", "model.lora=null", "optim.batch_size=2", "inference.limit=1"],
    "recomputed": [
        *QUICK, "model=large", "model.gradient_checkpointing=true", "optim.batch_size=2", "inference.limit=1",
        "model.lora.rank=128",
    ],
    "pictures": [*QUICK, "data=see", "model=tiny_vision", "augmentation=none", "optim.batch_size=16",
                 "hardware.per_device_batch_size=16"],
    "answers": ["job=evaluate", "tracking=off", "hardware=cpu", "model=large", "inference.limit=4",
                "inference.num_samples=4", "inference.temperature=1.0", "inference.max_new_tokens=40"],
}  # fmt: skip


def main(folder: Path, names: list[str]) -> None:
    """Run the compositions, all if none is named, and print what they took."""
    large = _large_model(Path(tempfile.mkdtemp()))
    CONSOLE.print(f"{'':14}{'memory':>10}{'estimated':>12}{'':8}{'disk':>10}{'estimated':>12}")
    for name in names or list(COMPOSITIONS):
        options = [
            part for each in COMPOSITIONS[name] for part in (large if each == "model=large" else [each])
        ]
        run = folder / name.replace(" ", "_")
        on_disk = _run(run, options)
        estimated = json.loads((run / "environment.json").read_text())["estimated"]
        peak = json.loads((run / "metrics.json").read_text())["peak_memory_bytes"]
        pairs = ((peak, estimated["memory"]), (on_disk, estimated["disk"]))
        CONSOLE.print(
            f"{name:14}" + "".join(f"{memory(a):>10}{memory(b):>12}{b / a - 1:>+8.0%}" for a, b in pairs)
        )


def _run(folder: Path, options: list[str]) -> int:
    """Run a composition; return the most bytes that its folder had."""
    command = [sys.executable, "-m", "arc_experiments", f"hydra.run.dir={folder}", *options]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        most = 0
        while process.poll() is None:
            most = max(most, _size(folder))
            time.sleep(0.05)
        output.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{output.read()[-3000:]}")
    return max(most, _size(folder))


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:  # removed meanwhile
            continue
    return total


def _large_model(folder: Path) -> list[str]:
    """Options for a random model of 57 million parameters with the tokenizer of `tiny`."""
    for file in Path(local_path("package:tiny")).glob("tokenizer*.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    Qwen2Config(
        architectures=["Qwen2ForCausalLM"], vocab_size=32, hidden_size=768, intermediate_size=2048,
        num_hidden_layers=8, num_attention_heads=12, num_key_value_heads=4, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, max_position_embeddings=8192,
    ).save_pretrained(folder)  # fmt: skip
    return [f"model.path={folder}", "model.name=large", "model.weights=random"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
