"""Compare estimates with what runs took: `python -m tools.check_estimates <folder> [name ...]`.

Each composition runs by the command in a folder of its own, one after another. Its disk is what the file
system holds more than before, looked at a thousand times a second: a checkpoint that is about to go lives for
milliseconds. So the folder should be a file system of its own:

    mkdir /tmp/estimates && mount -t tmpfs none /tmp/estimates

Its time counts from the moment when the estimate is shown. Shows a table.
"""

import json
import os
import re
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
ESTIMATE = re.compile(r"^estimate .*\n", re.MULTILINE)
ABOUT = re.compile(r"about (?:(\d+) h ?)?(?:(\d+) min ?)?(?:(\d+) s)?")  # `about 1 min 5 s` of an estimate
SHORT = ["optim.max_steps=24", "optim.save_steps=8", "optim.eval_steps=null", "tracking=off", "hardware=cpu"]
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
    folder.mkdir(parents=True, exist_ok=True)
    large = _large_model(Path(tempfile.mkdtemp()))
    CONSOLE.print(f"{'':14}" + "".join(f"{what:>10}{'estimated':>20}" for what in ("memory", "disk", "time")))
    for name in names or list(COMPOSITIONS):
        options = [
            part for each in COMPOSITIONS[name] for part in (large if each == "model=large" else [each])
        ]
        run = folder / name.replace(" ", "_")
        on_disk, said, took = _run(run, options)
        estimated = json.loads((run / "environment.json").read_text())["estimated"]
        peak = json.loads((run / "metrics.json").read_text())["peak_memory_bytes"]
        cells = [
            (memory(peak), memory(estimated["memory"]), estimated["memory"] / peak),
            (memory(on_disk), memory(estimated["disk"]), estimated["disk"] / on_disk),
            (f"{took:.0f} s", f"{said:.0f} s", said / took),
        ]
        CONSOLE.print(f"{name:14}" + "".join(f"{a:>10}{b:>12}{ratio - 1:>+8.0%}" for a, b, ratio in cells))


def _run(folder: Path, options: list[str]) -> tuple[int, float, float]:
    """Run a composition; return the most bytes of its folder, and seconds for the rest, said and taken."""
    command = [sys.executable, "-m", "arc_experiments", f"hydra.run.dir={folder}", *options]
    plain = {**os.environ, "COLUMNS": "300", "PYTHONUNBUFFERED": "1"}
    before, most, said, said_at, looks = _used(folder.parent), 0, 0.0, time.monotonic(), 0
    with tempfile.NamedTemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=plain)
        while process.poll() is None:
            most, looks = max(most, _used(folder.parent) - before), looks + 1
            if looks % 100 == 0 and not said and (shown := ESTIMATE.search(Path(output.name).read_text())):
                said, said_at = sum(map(_seconds, ABOUT.findall(shown[0]))), time.monotonic()
            time.sleep(0.001)
        took = time.monotonic() - said_at
        if process.returncode or not said:
            raise SystemExit(f"{' '.join(command)}:\n{Path(output.name).read_text()[-3000:]}")
    return most, said, took


def _seconds(duration: tuple[str, str, str]) -> float:
    hours, minutes, seconds = (int(part or 0) for part in duration)
    return 3600 * hours + 60 * minutes + seconds


def _used(folder: Path) -> int:
    """Return the bytes in use on the file system of a folder."""
    system = os.statvfs(folder)
    return (system.f_blocks - system.f_bfree) * system.f_frsize


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
