"""240 tasks in four processes that are killed, while the clock jumps; and the ready notebook."""

from pathlib import Path

import pytest
from kaggle_simulation import COMPETE, NUM_PIECES, NUM_TASKS, Simulation, make_inputs, same_where_finished

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "kaggle.ipynb"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("kaggle"))


def test_nothing_is_lost_and_the_submission_is_that_of_an_undisturbed_run(
    inputs: Path, tmp_path: Path
) -> None:
    killed = Simulation(inputs, tmp_path / "killed", seconds=1800, reserve=300)
    killed.run(num_kills=4)
    assert len(killed.kills) == 4
    assert len(killed.finished) == NUM_PIECES, "every piece was seen, and stayed as it was first written"
    undisturbed = Simulation(inputs, tmp_path / "undisturbed", seconds=1800, reserve=300)
    undisturbed.run(num_kills=0)
    assert killed.submission == undisturbed.submission
    assert same_where_finished(killed, undisturbed) == (NUM_TASKS, NUM_TASKS)
    before, adapted, twice = (stage["pass_at_2"] for stage in killed.metrics["stages"])
    assert before < 0.2 < adapted <= twice
    assert "each is trained for all of 3 steps, about 100% of the tasks twice" in undisturbed.printed


@pytest.mark.parametrize("form", ["competitions", ""])
def test_the_notebook_runs_on_what_is_mounted(
    form: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    mounted, working = tmp_path / "input", tmp_path / "working"
    (mounted / form).mkdir(parents=True)
    working.mkdir()
    (mounted / form / "arc-prize-2026").symlink_to(inputs / "competitions" / "arc-prize-2026")
    (mounted / "bundle").symlink_to(inputs / "bundle")
    (mounted / "arc_experiments").mkdir()
    for name in ("arc_experiments", "conf"):
        (mounted / "arc_experiments" / name).symlink_to(ROOT / name)
    monkeypatch.setenv("KAGGLE_INPUT", str(mounted))
    monkeypatch.setenv("KAGGLE_WORKING", str(working))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    [parameters] = [cell for cell in notebook.cells if "OPTIONS = []" in cell.source]
    options = [*COMPETE[1:], "hardware.num_processes=1", "inference.limit=3"]
    parameters.source = parameters.source.replace("OPTIONS = []", f"OPTIONS = {options}")
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(working)}}).execute()
    assert notebook.cells[-1].outputs[0].text == "3 of 3 tasks answered\n"
    assert (working / "submission.json").exists()
