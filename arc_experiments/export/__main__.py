"""`python -m arc_experiments.export <run folder> --merge`: what a run has trained, as a folder for others.

--merge        one model, for transformers and vLLM
--adapter      the adapter alone, for PEFT and vLLM beside its base
--gguf-ready   one model that llama.cpp's converter takes
"""

import argparse
import json
import os
import shlex
import sys
import warnings
from pathlib import Path

KINDS = {"merge": "merged", "adapter": "adapter", "gguf_ready": "gguf-ready"}
OUTTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
EXPORTS = "exports"  # in the run folder


def main(arguments: list[str] | None = None) -> int:
    """Write the folder and say what can be done with it; returns the exit code (2: a mistake of the user)."""
    options = _options(arguments)
    # Here, because they import torch.
    from arc_experiments.config.paths import path_outside
    from arc_experiments.launching.quick_imports import hide_bitsandbytes
    from arc_experiments.run import load_run

    _quieten()
    kind = next(name for name in KINDS if getattr(options, name))
    out = options.out or options.folder / EXPORTS / KINDS[kind]
    try:
        run = load_run(options.folder)
        hide_bitsandbytes(run.config)  # before PEFT imports it: it warns of what it lacks
        from arc_experiments.export.writing import export_adapter, export_whole

        if kind == "adapter":
            exported = export_adapter(run, out, options.dtype)
        else:
            exported = export_whole(run, out, options.dtype, for_llama_cpp=kind == "gguf_ready")
    except (ValueError, OSError) as error:
        print(f"{options.folder}: {error}", file=sys.stderr)  # noqa: T201 (this is a command)
        return 2
    lines = [*exported.notes, *([f"Checked: {exported.checked}."] if exported.checked else []), ""]
    lines += _commands(kind, out, run.folder.path.resolve().name, path_outside(run.config.model.path))
    print("\n".join([*lines, str(out)]))  # noqa: T201
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m arc_experiments.export",
        description="Write what a run has trained as a plain folder, with a card, for other programs.",
    )
    parser.add_argument("folder", type=Path, help="a run folder with adapter/ or model/")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--merge", action="store_true", help="one model, for transformers and vLLM")
    kind.add_argument("--adapter", action="store_true", help="the adapter alone, for PEFT and vLLM")
    kind.add_argument("--gguf-ready", action="store_true", help="one model that llama.cpp's converter takes")
    parser.add_argument(
        "--dtype", choices=sorted(OUTTYPES), help="of the weights (default: as trained; an adapter's own)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help=f"a new folder (default: <run>/{EXPORTS}/<kind>)"
    )
    return parser.parse_args(arguments)


def _commands(kind: str, out: Path, name: str, base: str) -> list[str]:
    """What to type next, with what for."""
    folder = shlex.quote(str(out))
    lines = [f"hf upload YOUR_NAME/{name} {folder}   # publish it; --private for yourself alone"]
    if kind == "merge":
        lines.append(f"vllm serve {folder}   # serve it")
    if kind == "adapter":
        rank = json.loads((out / "adapter_config.json").read_text())["r"]
        most = max(16, 1 << (rank - 1).bit_length())  # vLLM takes powers of two
        lines.append(
            f"vllm serve {shlex.quote(base)} --enable-lora --max-lora-rank {most} "
            f"--lora-modules {name}={folder}   # serve it"
        )
    if kind == "gguf_ready":
        lines.append(
            f"python convert_hf_to_gguf.py {folder} --outfile {name}.gguf   # in a clone of llama.cpp"
        )
    return lines


def _quieten() -> None:
    """Leave out what libraries say of their own steps."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    warnings.simplefilter("ignore", FutureWarning)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
