"""Test environment: no network, no account, no telemetry; what this machine cannot run is skipped."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from arc_experiments.runs.cores_and_gpus import NUM_PLACES

# Set before any test module imports the libraries, which read these once.
os.environ.update(
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",  # small products are slower in several threads
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="offline",
)
# The runs that tests start share out the cores with those of other test processes (`pytest -n 2`).
os.environ[NUM_PLACES] = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")

# A busy machine is slow now and then, which says nothing about the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, so that plain `pytest` passes anywhere."""
    if item.get_closest_marker("slurm") and not shutil.which("sbatch"):
        pytest.skip("no sbatch here")
    if item.get_closest_marker("gridengine") and "SGE_ROOT" not in os.environ:
        pytest.skip("no Grid Engine here: make test-gridengine")
    if item.get_closest_marker("gpu") and os.environ.get("ARC_EXPERIMENTS_GPU_TESTS_ON") != "cpu":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device here")


@pytest.fixture(autouse=True)
def _very_small_numbers() -> Iterator[None]:
    """Numbers that a run takes for zero are numbers again in the next test."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random base model."""
    from toy_models import make_base

    return make_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def see_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a vision-language model: `tiny` as its language part, a random vision part."""
    from tools.make_vision_model import start_from_tiny

    folder = tmp_path_factory.mktemp("models") / "see_start"
    start_from_tiny(folder)
    return folder
