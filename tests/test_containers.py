"""The Apptainer definition says the same as the Dockerfile."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "Dockerfile"
DEFINITION = ROOT / "docs" / "apptainer.def"


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
