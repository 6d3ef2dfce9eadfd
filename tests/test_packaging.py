"""The wheel carries everything the command needs, and works from another directory without the checkout."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "arc_experiments"
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with this environment's build tool, since an isolated build would need a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, without what it needs, into a folder far from the checkout."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*command, "--no-deps", "--target", str(folder), str(wheel)], check=True)
    return folder


def run_installed(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `cwd`, with the installed package found before the checkout's editable one."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def shipped_files(folder: Path) -> set[str]:
    """List the files below a folder of the checkout by their path within it, but for Python's caches."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in files}


def test_wheel_holds_every_file_of_the_package_and_of_conf(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"arc_experiments/{name}" for name in shipped_files(PACKAGE)}
    expected |= {f"arc_experiments/conf/{name}" for name in shipped_files(ROOT / "conf")}
    assert "arc_experiments/conf/config.yaml" in expected
    assert expected <= names, f"not in the wheel: {sorted(expected - names)}"


def test_wheel_holds_nothing_but_the_package(wheel: Path) -> None:
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert top == {"arc_experiments", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}


def test_package_data_is_found_in_the_installed_package(installed: Path, tmp_path: Path) -> None:
    code = (
        "from importlib.resources import files\n"
        "package = files('arc_experiments')\n"
        "print(package)\n"
        "for folder in ('assets', 'report', 'conf'):\n"
        "    assert any(package.joinpath(folder).iterdir()), folder\n"
    )
    result = run_installed(installed, tmp_path, "-c", code)
    assert result.returncode == 0, result.stderr
    assert str(installed) in result.stdout


def test_installed_command_composes_from_another_directory(installed: Path, tmp_path: Path) -> None:
    result = run_installed(installed, tmp_path, "-m", "arc_experiments", "--cfg", "job", "seed=5")
    assert result.returncode == 0, result.stderr
    assert "seed: 5" in result.stdout
    assert list(tmp_path.iterdir()) == [], "looking at a composition leaves nothing behind"


def test_the_console_script_is_the_command(installed: Path, tmp_path: Path) -> None:
    script = str(installed / "bin" / "arc-experiments")
    result = run_installed(installed, tmp_path, script, "--cfg", "job", "seed=5")
    assert result.returncode == 0, result.stderr
    assert "seed: 5" in result.stdout


def test_constraints_pin_every_requirement_to_a_plain_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert all(version and set(version) <= set("0123456789.abrcpost") for version in pins.values())
    pinned = {name.lower().replace("_", "-") for name in pins}
    assert not {name for name in pinned if name.startswith(("nvidia", "cuda", "triton"))}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    required = {requirement_name(line) for group in groups for line in group} | {"reasoning-gym"}
    assert required <= pinned, f"without a pinned version: {sorted(required - pinned)}"


@needs_make
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["demo"], "-m arc_experiments experiment=demo\n"),
        (["smoke"], "-m arc_experiments experiment=smoke\n"),
        (["train", "ARGS=model=qwen05 seed=2"], "-m arc_experiments model=qwen05 seed=2\n"),
        (["sweep"], "-m arc_experiments --multirun seed=1,2,3\n"),
        (["sweep", "ARGS=seed=4,5"], "-m arc_experiments --multirun seed=4,5\n"),
        (["evaluate", "RUN=outputs/x"], '-m arc_experiments job=evaluate "from_run=outputs/x"'),
        (["report", "RUN=outputs/x"], '-m arc_experiments.report "outputs/x"\n'),
    ],
)
def test_make_runs_the_command_with_what_was_asked(arguments: list[str], expected: str) -> None:
    assert expected in make("--dry-run", "--assume-old=.venv/.ready", *arguments).stdout


@needs_make
def test_make_help_lists_every_target() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    phony = next(line for line in lines if line.startswith(".PHONY:"))
    targets = set(phony.removeprefix(".PHONY:").split()) - {"need-run"}
    assert {line.split()[0] for line in make().stdout.splitlines()[1:]} == targets


@needs_make
@pytest.mark.parametrize("target", ["evaluate", "report"])
def test_make_asks_for_the_run_folder(target: str) -> None:
    answer = make(target)
    assert answer.returncode == 2
    assert f"make {target} RUN=" in answer.stderr
    assert answer.stdout == "", "nothing is set up before the mistake is told"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as a person would, also where a make runs these tests and hands its variables down."""
    inherited = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "MAKE_TERMOUT", "ARGS", "RUN", "PYTHON"}
    environment = {key: value for key, value in os.environ.items() if key not in inherited}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def requirement_name(line: str) -> str:
    """Give the normalised project name at the start of a requirement line."""
    return line.split("<")[0].split(">")[0].split("=")[0].strip().lower().replace("_", "-")
