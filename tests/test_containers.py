"""The Dockerfile's stages are built for real, without Docker; the Apptainer definition says the same."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_packaging import make

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "tests" / "containers"
DOCKERFILE = ROOT / "Dockerfile"
DEFINITION = ROOT / "docs" / "apptainer.def"
SMALLER = [
    "model=tiny", "optim.max_steps=2", "optim.eval_steps=null", "inference=one_view", "inference.limit=1",
    "inference.max_new_tokens=4", "hardware.threads=1", "tracking=off",
]  # fmt: skip

needs_root_on_debian = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("apt-get") is None, reason="needs root on Debian"
)


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """A folder whose `run` runs a command in the image."""
    folder = Path(tempfile.mkdtemp(prefix="arc_experiments_image"))
    try:
        built = subprocess.run(
            [str(SCRIPTS / "build.sh"), str(folder)],
            capture_output=True, text=True, check=False, env=os.environ | {"PYTHON": sys.executable},
        )  # fmt: skip
        assert built.returncode == 0, (built.stdout + built.stderr)[-3000:]
        yield folder
    finally:
        subprocess.run([str(SCRIPTS / "remove.sh"), str(folder)], check=True)


def run(image: Path, *command: str) -> str:
    done = subprocess.run(["bash", str(image / "run"), *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def first_commands_of_the_readme() -> list[list[str]]:
    """`make demo` as make types it, and the command after it, but for the hub's model that it trains."""
    block = re.search(r"```bash\n(make demo.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert block is not None
    lines = [shlex.split(line, comments=True) for line in block[1].splitlines()]
    second = next(words for words in lines if words[:3] == ["python", "-m", "arc_experiments"])
    assert lines[0] == ["make", "demo"]
    made = shlex.split(make("--dry-run", "--assume-old=.venv/.ready", "demo").stdout)
    return [["python", *made[1:]], [word for word in second if not word.startswith("model=")]]


@pytest.mark.containers
@needs_root_on_debian
def test_the_image_built_without_docker_runs_the_first_commands_of_the_readme(image: Path) -> None:
    assert run(image, "id", "-un").strip() == "arc"
    for command in first_commands_of_the_readme():
        folder = run(image, *command, *SMALLER).splitlines()[-1]
        assert "report.html" in run(image, "ls", folder)
    assert "done" in run(image, "arc-experiments", "status")
    run(image, "sh", "-c", "! touch /opt/venv/x 2>/dev/null && ! command -v gcc")


def instructions() -> list[list[str]]:
    """The Dockerfile's stages, each a list of instructions on one line."""
    text = re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M))
    stages: list[list[str]] = []
    for line in filter(str.strip, text.splitlines()):
        if line.startswith("FROM "):
            stages.append([])
        stages[-1].append(line)
    return stages


def commands(stage: list[str]) -> list[str]:
    """The commands of its RUN instructions."""
    runs = [re.sub(r"^RUN (--mount=\S+ )*", "", line) for line in stage if line.startswith("RUN ")]
    return [plain(command) for line in runs for command in line.split("&&")]


def plain(command: str) -> str:
    return " ".join(command.replace(";;", " ;; ").split())


def test_the_apptainer_definition_runs_the_commands_of_the_dockerfile() -> None:
    base, build, last = instructions()
    text = re.sub(r"\\\n", "", DEFINITION.read_text())
    parts = [
        plain(re.sub(r"esac\n", "esac ", part.partition("\n%")[0])) for part in text.split("%post\n")[1:]
    ]
    assert len(parts) == 2
    cleaning = "rm -rf /var/lib/apt/lists/*"
    for part, stage in ((parts[0], base + build), (parts[1], base)):
        for command in commands(stage):
            assert command in part or (command == cleaning and part is parts[0]), command
    copied = {word for line in build if line.startswith("COPY") for word in line.split()[1:-1]}
    assert copied == set(re.findall(r"^  (\S+) /src/", text, flags=re.M))
    assert "COPY --from=build /opt/venv /opt/venv" in last
    assert "%files from build\n  /opt/venv /opt/venv" in text
    assert text.count(f"From: {base[0].split()[1]}\n") == 2
    assert 'ENTRYPOINT ["arc-experiments"]' in last
    assert '%runscript\n  exec arc-experiments "$@"' in text
