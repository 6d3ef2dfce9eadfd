"""job=audit: any sets compared by one line, without a model; table, leaks.json, pictures."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from leak_tools import ARC1, ARC2, changed, found, part, random_task, tasks_of, turned, write_task
from rich.console import Console

from arc_experiments import compose, load_run
from arc_experiments.composing import compose as composing
from arc_experiments.composing import mistakes
from arc_experiments.composing.compose import compose_config, compose_data
from arc_experiments.config.check import ConfigError
from arc_experiments.config.user_code import folders
from arc_experiments.corpus.leaks import Finder
from arc_experiments.jobs.audit import main
from arc_experiments.report.audit import render_audit
from arc_experiments.tasks import TaskSet

WITHOUT_TORCH = """
import sys
from rich.console import Console
from arc_experiments.jobs.audit import main
from arc_experiments.run import load_run
main(load_run(sys.argv[1]), Console(width=100, soft_wrap=True))
assert "torch" not in sys.modules, "an audit needs no torch"
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment,
    )


def audit(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "arc_experiments", "job=audit", *overrides, f"hydra.run.dir={folder}")


def audited(folder: Path, *overrides: str) -> str:
    """What the job prints, in this process."""
    shown = io.StringIO()
    main(compose(["job=audit", *overrides], folder), Console(file=shown, width=100))
    return shown.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("audit") / "run"
    done = audit(folder, "data.partition=official", "audit.against=[train,arc2]")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_command_says_which_tasks_stand_where(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    results = json.loads((folder / "leaks.json").read_text())["comparisons"]
    assert [(one["searched"], one["counts"]["whole"], one["counts"]["leaks"]) for one in results] == [
        ("training tasks of arc1", 1, 2), ("arc2 training tasks", 375, 376), ("arc2 evaluation tasks", 6, 7)
    ]  # fmt: skip
    assert max(map(len, printed.splitlines())) <= 100
    for words in ("070dd51e", "40853293", "db695cfb", "recoloured", "374 tasks wholly, cell for cell"):
        assert words in printed, words
    assert printed.splitlines()[-1] == str(folder)
    assert json.loads((folder / "status.json").read_text())["state"] == "done"


def test_the_page_shows_the_pairs_and_how_many_of_them(finished: tuple[Path, str]) -> None:
    page = (finished[0] / "audit.html").read_text()
    assert "Pictures of 40 of the 385 tasks found" in page
    assert page.count("<article>") == 40
    assert 40 * 4 <= page.count("<svg") <= 40 * 8
    assert page.index("070dd51e, test pair 1") < page.index("00576224, test pair 1"), "the less obvious first"
    assert "http" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "").replace("http-equiv", "")
    assert len(page) < 1_000_000


def test_the_same_command_again_shows_it_at_once_without_torch(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    before = (folder / "audit.html").stat().st_mtime_ns
    again = run("-c", WITHOUT_TORCH, str(folder))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "This audit is finished" in again.stdout
    assert again.stdout.splitlines()[1:-2] == printed.splitlines()[1:-2]
    assert (folder / "audit.html").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_folder_is_compared_by_its_path_and_anew_when_a_file_has_changed(tmp_path: Path) -> None:
    task = random_task("mine", 1)
    write_task(tmp_path / "it's mine" / "mine.json", task)
    write_task(
        tmp_path / "theirs" / "theirs.json", changed(task, "theirs", lambda pair: turned(pair, "rot180"))
    )
    folder = tmp_path / "run"
    overrides = [f"audit.tasks=['{tmp_path}/it\\'s mine']", f"audit.against=[{tmp_path}/theirs]"]
    assert "turned or reflected" in audited(folder, *overrides)
    [one] = json.loads((folder / "leaks.json").read_text())["comparisons"]
    assert one["tasks"][0]["found_in"] == ["theirs"]
    write_task(tmp_path / "theirs" / "theirs.json", random_task("theirs", 2))
    again = audited(folder, *overrides)
    assert json.loads((folder / "leaks.json").read_text())["comparisons"][0]["tasks"] == []
    assert "Nothing was found" in (folder / "audit.html").read_text(), again


@pytest.mark.slow
def test_an_option_of_data_is_compared_anew_when_its_files_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, tasks = tmp_path / "conf", tmp_path / "tasks"
    shutil.copytree(composing.conf_dir(), conf)
    (conf / "data" / "mine.yaml").write_text(f"defaults: [files, _self_]\nname: mine\npath: {tasks}\n")
    for module in (composing, mistakes, folders):
        monkeypatch.setattr(module, "conf_dir", lambda: conf)
    write_task(tasks / "one.json", random_task("one", 1))
    folder = compose(
        ["job=audit", "audit.tasks=[mine]", "audit.against=[mine]"], tmp_path / "run"
    ).folder.path

    def audit_again() -> str:
        with io.StringIO() as shown:
            main(load_run(folder), Console(file=shown, width=100))
            return shown.getvalue()

    assert "This audit is finished" not in audit_again()
    assert "This audit is finished" in audit_again()
    write_task(tasks / "two.json", random_task("one", 1))
    assert "This audit is finished" not in audit_again()
    assert len(json.loads((folder / "leaks.json").read_text())["comparisons"][0]["tasks"]) == 2


@pytest.mark.slow
def test_generators_are_compared_by_id_and_cannot_be_looked_for(tmp_path: Path) -> None:
    audited(tmp_path / "a", "audit.tasks=[arc1]", "audit.against=[re_arc]")
    results = json.loads((tmp_path / "a" / "leaks.json").read_text())["comparisons"]
    assert [one["counts"]["by_id"] for one in results] == [400, 2]
    with pytest.raises(ValueError, match=r"audit\.tasks: re_arc tasks has no task that stays the same"):
        audited(tmp_path / "b", "audit.tasks=[re_arc]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("audit.against=[arc9]", "audit.against: arc9 is neither one of this run's sets (validation, train)"),
        ("audit.tasks=[]", "audit.tasks=[] leaves nothing to compare"),
        ("audit.pictures=-1", "audit.pictures=-1 is too small"),
    ],
)
def test_a_mistake_is_answered_with_its_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_config(["job=audit", override])
    assert message in str(raised.value)


def test_what_is_compared_makes_the_folder_s_name_of_an_audit_only() -> None:
    from arc_experiments.composing.naming import composition_hash

    def name(*overrides: str) -> str:
        return composition_hash(compose_config(list(overrides)))

    assert name("job=audit") != name("job=audit", "audit.against=[arc2]")
    assert name() == name("audit.against=[arc2]")


def test_a_set_is_named_as_an_option_of_data_or_as_a_path(tmp_path: Path) -> None:
    assert compose_data("arc2").name == "arc2"
    assert compose_data(str(tmp_path)).path == str(tmp_path)


def test_a_page_without_pictures_and_one_of_ids_say_so() -> None:
    one = found([random_task("a", 1)], [changed(random_task("a", 1), "b", lambda pair: pair)])
    assert "No pictures were asked for" in render_audit([one], title="t", num_pictures=0)
    page = render_audit([one], title="<t>", num_pictures=9)
    assert "Pictures of all 1 task found" in page
    assert "&lt;t&gt;" in page
    by_id = Finder(TaskSet(tasks_of(ARC1, "training"))).compare_keys(frozenset(), ["007bbfb7"], "weights")
    assert "by its id" in render_audit([by_id], title="t", num_pictures=9)


def test_the_page_is_the_same_every_time() -> None:
    comparison = Finder(tasks_of(ARC1, "evaluation")).compare([part(ARC2, "evaluation")])
    pages = {render_audit([comparison], title="t", num_pictures=40) for _ in range(2)}
    assert len(pages) == 1


def test_an_audit_of_the_held_out_tasks_says_how_to_look_for_all(tmp_path: Path) -> None:
    for number in range(14):
        write_task(tmp_path / f"tasks/task{number:02}.json", random_task(str(number), number))
    own = ["job=audit", "data=files", f"data.path={tmp_path / 'tasks'}", "data.num_validation=1"]

    def printed(folder: str, *overrides: str) -> str:
        console = Console(file=io.StringIO(), width=200)
        main(compose([*own, *overrides], tmp_path / folder), console)
        return console.file.getvalue()  # type: ignore[attr-defined]

    advice = "Looked for 1 held-out task of data=files, not for the 13 others that"
    assert advice in printed("part")
    assert advice in printed("part"), "of an audit that is finished, too"
    whole = printed("all", "audit.tasks=[validation,train]")
    assert "Looked for" not in whole
    assert "training tasks of files: 13" in whole
