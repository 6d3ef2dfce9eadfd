"""A run's adapter folder is whole: PEFT loads it without this package, and a card says what it is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

from arc_experiments import compose
from arc_experiments.jobs import finetune
from arc_experiments.models.adapters import save_weights
from arc_experiments.report.model_card import write_card
from arc_experiments.run import Run

TINY = [
    "experiment=smoke", "model=tiny", "optim.max_steps=1", "optim.batch_size=1", "optim.eval_steps=null",
    "optim.save_steps=1", "inference.num_views=1", "inference.limit=1", "inference.max_new_tokens=4",
    "tracking=off", "hardware=cpu", "data=see", "data.validation_source.num_tasks=1",
]  # fmt: skip
LOAD = """
import json, sys, torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
text = sys.stdin.read()
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
with torch.no_grad():
    logits = model(ids).logits[0, -1]
assert "arc_experiments" not in sys.modules
print(json.dumps({"ids": ids[0].tolist(), "logits": logits.tolist()}))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = compose(TINY, tmp_path_factory.mktemp("outside") / "run")
    finetune.main(run, Console(quiet=True))
    return run


@pytest.mark.slow
def test_the_adapter_loads_without_this_package_and_computes_the_same(finished: Run, tmp_path: Path) -> None:
    request = finished.requests[0]
    assert request.ids is not None
    text = finished.prompt.decode(request.ids)
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, str(finished.folder / "adapter")],
        input=text, capture_output=True, text=True, cwd=tmp_path, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stderr
    outside = json.loads(loaded.stdout.splitlines()[-1])
    assert outside["ids"] == list(request.ids)
    model = finished.trained_model().eval()
    with torch.no_grad():
        logits = model(torch.tensor([outside["ids"]])).logits[0, -1]
    torch.testing.assert_close(torch.tensor(outside["logits"]), logits, rtol=1e-3, atol=1e-4)


def test_the_card_says_what_the_adapter_is_and_nothing_that_varies(finished: Run) -> None:
    adapter = finished.folder / "adapter"
    card = (adapter / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert (
        head["base_model"]
        == json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    )
    assert (Path(head["base_model"]) / "config.json").is_file(), "package:tiny, as others find it"
    assert head["library_name"] == "peft"
    for text in (
        "# tiny on see",
        "rank 32",
        "| pass_at_2 | 0.0% |",
        "1 task (1 of",
        "`optim.max_steps` | 1 |",
    ):
        assert text in card
    assert finished.prompt.decode(finished.requests[0].ids).strip() in card
    assert str(finished.folder) not in card
    assert "\n\n\n" not in card


def test_the_code_of_the_card_answers_with_a_base_that_has_moved(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = shutil.copytree(finished.folder / "adapter", tmp_path / "adapter")
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text())
    base = shutil.copytree(config["base_model_name_or_path"], tmp_path / "base")
    file.write_text(json.dumps(config | {"base_model_name_or_path": "/where/it/was"}))
    card = (adapter / "README.md").read_text()
    assert "must come along" in card
    assert "--merge` makes one folder that needs no base" in card
    request = finished.requests[0]
    code = card.split("```python\n")[1].split("```")[0].replace("max_new_tokens=1024", "max_new_tokens=4")
    code = code.replace("<base folder>", str(base)).replace("<this folder>", str(adapter))
    question = json.dumps(finished.prompt.decode(request.ids))
    exec(code.replace('"<a prompt of the form below>"', question), {})
    answered = json.loads((finished.folder / "predictions.jsonl").read_text().splitlines()[0])
    assert answered["text"] == capsys.readouterr().out.strip()


def test_a_card_without_answers_has_no_scores(finished: Run, tmp_path: Path) -> None:
    adapter = shutil.copytree(finished.folder / "adapter", tmp_path / "adapter")
    write_card(finished.folder.path, adapter, {}, question=None, shows_pictures=False)
    bare = (adapter / "README.md").read_text()
    assert "## Scores" not in bare
    assert "## Training" in bare


@pytest.mark.parametrize("base", ["Qwen/Qwen2.5-0.5B-Instruct", "models/mine"])
def test_a_base_keeps_its_hub_id_and_a_folder_becomes_absolute(
    base: str, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    save_weights(finished.trained_model(), finished.tokenizer, tmp_path / "adapter", base=base, revision="v1")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    expected = base if base.startswith("Qwen") else str(tmp_path / base)
    assert (config["base_model_name_or_path"], config["revision"]) == (expected, "v1")
