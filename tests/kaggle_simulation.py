"""A competition in small: mounted inputs, 240 tasks, killed processes, a wall clock that jumps, a deadline.

python tests/kaggle_simulation.py <new folder> --seconds 900 --kills 20
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from task_files import row_pair, write, write_copying
from toy_models import untrained

NUM_TASKS, NUM_PROCESSES = 240, 4
ALL = 0.35  # the share of kills that hit all processes
NUM_PIECES = 3 * NUM_TASKS  # answers before adaptation, adaptation, second pass
HERE = ["hardware=cpu", "hardware.threads=1"]
TRAIN = [
    *HERE, "tracking=off", "optim.learning_rate=2e-3", "data=files", "data.partition=official",
    "prompt.max_length=256", "augmentation=[order,colours]", "optim.max_steps=80", "optim.batch_size=4",
    "optim.eval_steps=null", "optim.save_steps=1000", "inference=one_view", "inference.max_new_tokens=8",
]  # fmt: skip
COMPETE = [
    "experiment=kaggle", *HERE, f"hardware.num_processes={NUM_PROCESSES}", "augmentation=[order]",
    "optim.max_steps=3", "optim.learning_rate=3e-4", "adapt.leave_out=[1,2]",
]  # fmt: skip
# Python runs this before anything else: the time of day is wrong by what the file beside it says, in seconds.
JUMPING = """
import time
from pathlib import Path

_time, _file = time.time, Path(__file__).with_name("jump")

def jumped():
    try:
        return _time() + float(_file.read_text())
    except (OSError, ValueError):
        return _time()

time.time = jumped
"""
FILLER = {"attempt_1": [[0]], "attempt_2": [[0]]}


def make_inputs(root: Path, form: str = "competitions") -> Path:
    """What a notebook has mounted: the competition's tasks, and a model that copies its input.

    Args:
        form: `competitions` or nothing, which stands between /kaggle/input and the competition.
    """
    rng = np.random.default_rng(0)
    write_copying(root / "tasks", rng)
    fill = [row_pair(rng, 1) for _ in range(3)]
    write(root / "tasks", "evaluation/e.json", {"train": fill[:2], "test": fill[2:]})
    challenges, solutions = {}, {}
    for number in range(NUM_TASKS):  # a row of one colour, which it must find in the demonstrations
        colour, num_tests = int(rng.integers(10)), 1 + number % 2
        pairs = [row_pair(rng, colour) for _ in range(4 + num_tests)]
        tests = pairs[4:]
        challenges[f"{number:08x}"] = {
            "train": pairs[:4], "test": [{"input": test["input"]} for test in tests],
        }  # fmt: skip
        solutions[f"{number:08x}"] = [test["output"] for test in tests]
    competition = f"input/{form}/arc-prize-2026"
    write(root, f"{competition}/arc-agi_test_challenges.json", challenges)
    write(root, f"{competition}/arc-agi_test_solutions.json", solutions)  # Kaggle keeps them; here they score
    path, *model = untrained(160, 560)
    bundle, base = root / "input" / "bundle", root / "toy_model"
    shutil.copytree(path.removeprefix("model.path="), base)
    model.append(f"model.path={base}")
    bundle.mkdir(parents=True)
    command = [sys.executable, "-m", "arc_experiments", *TRAIN, *model, f"data.path={root / 'tasks'}"]
    subprocess.run([*command, f"hydra.run.dir={bundle / 'run'}"], check=True, capture_output=True)
    base.rename(bundle / base.name)
    return root / "input"


@dataclass
class Simulation:
    """A run of the command under disturbances, and everything that was seen of it.

    Attributes:
        finished: the files of finished work that were seen, with the moment at which each was written.
    """

    inputs: Path
    folder: Path
    seconds: float
    reserve: float
    finished: dict[str, int] = field(default_factory=dict)
    known: int = 0  # test outputs with another answer than [[0]]
    looks: int = 0
    kills: list[str] = field(default_factory=list)
    printed: str = ""

    def start(self) -> "subprocess.Popen[str]":
        clock = self.folder.parent / f"clock-{self.folder.name}"
        clock.mkdir(exist_ok=True)
        (clock / "sitecustomize.py").write_text(JUMPING)
        paths = [str(clock), str(Path(__file__).parents[1])]
        environment = {
            **os.environ, "KAGGLE_INPUT": str(self.inputs), "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        deadline = [f"adapt.deadline_hours={self.seconds / 3600}", f"adapt.reserve_seconds={self.reserve}"]
        command = [sys.executable, "-m", "arc_experiments", *COMPETE, *deadline]
        with (self.folder.parent / f"{self.folder.name}.out").open("a") as output:
            return subprocess.Popen(
                [*command, f"hydra.run.dir={self.folder}"],
                stdout=output,
                stderr=output,
                env=environment,
                text=True,
            )

    def run(self, num_kills: int, seed: int = 0) -> float:
        """Run to the end, killed so many times at random; return the seconds from the start to the end."""
        rng, began = random.Random(seed), time.monotonic()
        moments = sorted(rng.sample(range(NUM_PIECES), num_kills))  # by how much is finished
        process = self.start()
        while process.poll() in (None, -signal.SIGKILL):
            if process.returncode is not None:
                process = self.start()
            self.look()
            if moments and len(self.finished) >= moments[0]:
                moments.pop(0)
                self.jump(rng.choice([-1, 1]) * rng.uniform(60, 6 * 3600))
                self.kill(process, rng)
            time.sleep(0.05)
        self.look()
        self.printed = (self.folder.parent / f"{self.folder.name}.out").read_text()
        assert process.returncode == 0, self.printed[-3000:]
        return time.monotonic() - began

    def jump(self, seconds: float) -> None:
        """Set the time of day of all processes so far forward or back."""
        (self.folder.parent / f"clock-{self.folder.name}" / "jump").write_text(str(seconds))

    def kill(self, process: "subprocess.Popen[str]", rng: random.Random) -> None:
        """Kill one helper, or all processes at once."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        helpers = list(map(int, children.read_text().split()))
        everyone = not helpers or rng.random() < ALL
        for victim in [process.pid, *helpers] if everyone else [rng.choice(helpers)]:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        self.kills.append("all" if everyone else "helper")
        if everyone:
            process.wait()

    def look(self) -> None:
        """Look at the submission, which is valid and never poorer, and at finished work, which stays."""
        self.looks += 1
        if (self.folder / "submission.json").exists():
            submission = json.loads((self.folder / "submission.json").read_text())
            assert len(submission) == NUM_TASKS
            entries = [
                entry for number, task in enumerate(submission.values()) for entry in _checked(task, number)
            ]
            known = sum(entry != FILLER for entry in entries)
            assert known >= self.known, "what was known stays known"
            self.known = known
        else:
            assert not self.known, "it is never taken away"
        if (self.folder / "metrics.json").exists():
            return  # all is collected
        for name, written in self.finished.items():
            with suppress(FileNotFoundError):  # collected a moment ago
                assert (self.folder / ".adapt" / name).stat().st_mtime_ns == written, f"{name} was done again"
        for file in (self.folder / ".adapt").glob("*-*.json"):
            with suppress(FileNotFoundError):
                self.finished.setdefault(file.name, file.stat().st_mtime_ns)

    def lines(self, name: str) -> dict[str, dict[str, Any]]:
        """What became of each task in adaptation.jsonl or second_pass.jsonl."""
        file = self.folder / name
        lines = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
        return {line["task_ids"][0]: line for line in lines}

    def outcomes(self) -> dict[str, tuple[str, str]]:
        """How both passes ended for each task."""
        first, second = self.lines("adaptation.jsonl"), self.lines("second_pass.jsonl")
        return {
            task: (line["outcome"], second[task]["outcome"] if task in second else "none")
            for task, line in first.items()
        }

    @property
    def submission(self) -> dict[str, Any]:
        return json.loads((self.folder / "submission.json").read_text())

    @property
    def metrics(self) -> dict[str, Any]:
        return json.loads((self.folder / "metrics.json").read_text())


def _checked(task: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    assert len(task) == 1 + number % 2
    assert all(set(entry) == {"attempt_1", "attempt_2"} for entry in task)
    return task


def same_where_finished(one: Simulation, two: Simulation) -> tuple[int, int]:
    """Count the tasks with the same two attempts, and those that both brought equally far in time."""
    passes, others = (
        {task: ends.count("whole") for task, ends in run.outcomes().items()} for run in (one, two)
    )
    both = [task for task, count in passes.items() if count == others[task] > 0]
    return sum(one.submission[task] == two.submission[task] for task in both), len(both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=3000)
    parser.add_argument("--short", type=float, default=300)
    parser.add_argument("--reserve", type=float, default=90)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    folder = options.folder.absolute()
    inputs, runs = make_inputs(folder), {}
    for name, kills, seconds in (
        ("killed", options.kills, options.seconds),
        ("undisturbed", 0, options.seconds),
        ("short", 3, options.short),
    ):
        run = runs[name] = Simulation(inputs, folder / name, seconds, options.reserve)
        took = run.run(kills)
        killed = {kind: run.kills.count(kind) for kind in ("helper", "all")}
        print(f"{name}: {took:.0f} of {seconds:.0f} s, killed {killed}, {run.looks} looks", flush=True)
        for part in ("adaptation", "second_pass"):
            outcomes = run.metrics.get(part, {}).get("outcomes", {})
            print(part, {outcome: count for outcome, count in outcomes.items() if count})
        for stage in run.metrics["stages"]:
            print({key: len(value) if isinstance(value, list) else value for key, value in stage.items()})
    for name in ("killed", "short"):
        same, both = same_where_finished(runs[name], runs["undisturbed"])
        print(f"{name}: {same} of {both} tasks that went equally far are answered as if undisturbed")


if __name__ == "__main__":
    main()
