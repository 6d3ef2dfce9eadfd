"""What a worker imports before it computes, and what it leaves out."""

import gc
import subprocess
import sys
from dataclasses import replace

import pytest
from transformers import Trainer
from transformers.utils.import_utils import is_bitsandbytes_available
from trl import SFTConfig

from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import check
from arc_experiments.config.schema import OPTIMIZERS, Config
from arc_experiments.launching.quick_imports import quick_imports, uses_bitsandbytes

IMPORT = """
import gc, sys
from arc_experiments.composing.compose import compose_config
from arc_experiments.config.check import check
from arc_experiments.launching.quick_imports import quick_imports

with quick_imports(check(compose_config(["experiment=smoke"]))):
    import arc_experiments.jobs.finetune
assert "trl.trainer.sft_trainer" in sys.modules and "peft.peft_model" in sys.modules
unused = ("bitsandbytes", "wandb", "scipy", "matplotlib")
print(sorted(name for name in sys.modules if name.partition(".")[0] in unused))
assert gc.isenabled() and gc.get_freeze_count() > 100_000
import scipy.special, wandb
wandb.init
"""


@pytest.fixture(scope="module")
def smoke() -> Config:
    return check(compose_config(["experiment=smoke"]))


@pytest.mark.slow
def test_a_training_imports_no_library_that_it_does_not_use_before_its_first_step() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['bitsandbytes']", "the name alone, which stands for none"


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if not name.startswith("adamw_torch_")])
def test_bitsandbytes_is_there_for_the_optimizers_that_need_it(
    name: str, smoke: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("bitsandbytes.")]:
        monkeypatch.delitem(sys.modules, module)  # an earlier test's: they would be found without the package
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    options = SFTConfig(output_dir="unused", optim=name, use_cpu=True, report_to="none")
    try:
        Trainer.get_optimizer_cls_and_kwargs(options)
        is_needed = False
    except (ImportError, ValueError) as error:
        is_needed = "bnb" in str(error) or "bitsandbytes" in str(error)
    finally:
        is_bitsandbytes_available.cache_clear()  # which other tests would be told, too
    assert uses_bitsandbytes(replace(smoke, optim=replace(smoke.optim, name=name))) == is_needed


@pytest.mark.parametrize("quantisation", ["4bit", "8bit"])
def test_a_quantised_model_has_its_library(quantisation: str, smoke: Config) -> None:
    assert not uses_bitsandbytes(smoke)
    assert uses_bitsandbytes(replace(smoke, model=replace(smoke.model, quantisation=quantisation)))


def test_a_library_that_is_imported_already_stays(smoke: Config) -> None:
    import bitsandbytes
    import wandb

    try:
        with quick_imports(smoke):
            assert (sys.modules["bitsandbytes"], sys.modules["wandb"]) == (bitsandbytes, wandb)
            assert not gc.isenabled()
        assert gc.isenabled()
    finally:
        gc.unfreeze()
