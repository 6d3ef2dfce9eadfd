"""Write the settings of this machine's pip for a pip in a chroot; print the folders that it must see.

python pip_config.py <folder>    writes <folder>/pip.conf, with copies of files that it names (certificates)
"""

import ast
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

INSIDE = "/etc/xdg/pip"  # where the folder will be


def settings() -> dict[str, str]:
    """What pip is told by its files and by the environment, which comes first."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    pairs = [line.partition("=")[::2] for line in sorted(listed, reverse=True)]  # ":env:" after "global"
    return {
        key.rpartition(".")[2]: ast.literal_eval(value)
        for key, value in pairs
        if key.startswith(("global.", ":env:."))
    }


def main(folder: Path) -> None:
    found, folders = settings(), []
    for key, value in found.items():
        words = value.split()
        for number, word in enumerate(words):
            path = Path(word.removeprefix("file://"))
            if path.is_dir() and path.is_absolute():
                # The pages of an index link to files beside its folder.
                folders.append(path.parent if path.name == "simple" else path)
            elif path.is_file() and path.is_absolute():
                shutil.copyfile(path, folder / path.name)
                words[number] = f"{INSIDE}/{path.name}"
        found[key] = " ".join(words)
    config = ConfigParser(interpolation=None)
    config["global"] = found
    with (folder / "pip.conf").open("w") as file:
        config.write(file)
    for path in folders:
        print(f"--volume={path}:{path}:ro")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
