"""A user's pipeline on llama-cookbook for Llama-3.2-Vision: YAML, data set, collator, model."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toy_llama_vision import llama_vision

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = """
dataset: {name: custom_dataset, file: synthetic_dataset.py, test_split: validation, split_ratio: 0.9}
model:
  name: meta-llama/Llama-3.2-11B-Vision-Instruct
  peft: true
  peft_method: lora
  checkpoint_dir: runs/vision
training: {batch_size: 1, lr: 1e-3, epochs_per_job: 1, total_jobs: 2, gradient_accumulation: 2}
slurm: {partition: main, time: 04:00:00, nodes: 1, gpu_id: 0}
"""


@contextmanager
def vision_pipeline(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Fill a folder as the user has it; gives the YAML's name, and overrides for a small copy of the model.

    The experiment that is imported is removed in the end.
    """
    name = f"imported_by_a_test_{os.getpid()}"
    (folder / f"{name}.yaml").write_text(PIPELINE)
    shutil.copy(ROOT / "tests" / "synthetic_dataset.py", folder)
    model = folder / "Llama-3.2-11B-Vision-Instruct"
    shutil.copytree(llama_vision(), model)
    try:
        yield name, [f"model.path={model}", "model.dtype=float32", "tracking=off", "hardware.threads=1"]
    finally:
        (ROOT / "conf" / "experiment" / f"{name}.yaml").unlink(missing_ok=True)
