"""How every job begins: what makes the run repeatable, what it may resume, and which tasks leak.

environment.json   what the run is computed with, and what it began with
partition.json     which tasks train and which are held out
leaks.json         held-out tasks that are among those trained on, by this run or by its weights before
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from arc_experiments.config.job_kinds import job_kind
from arc_experiments.report.leaks import COMPARED, examples, sentence
from arc_experiments.report.wording import plural
from arc_experiments.run import Run
from arc_experiments.runs.environment import describe, device_name, make_repeatable, quieten_libraries
from arc_experiments.runs.folder import RunFolder, read_object

LEAKS = "leaks.json"
ADVICE = {
    "training": "data.leaks=drop would leave {} out of training; job=audit shows the pairs",
    "ancestry": "what weights were trained on stays in them: scores on these tasks say too much",
}

OWN_FUNCTION = (
    "a function of data.file draws the same random numbers for each split, so that it may shuffle and cut; "
    "if it makes new tasks for each, let it draw from random.Random(split)"
)

Leaks = dict[str, Any]


def begin(run: Run) -> None:
    """Fix what makes the run repeatable; write environment.json, partition.json and skipped_tasks.json.

    Raises:
        ValueError: an earlier attempt began with other tasks, weights or dtype, or `inference` asks for an
            engine or a constraint that does not work here.
    """
    quieten_libraries()
    environment = run.folder.read_json("environment.json")
    make_repeatable(run.config.hardware, _earlier_threads(run, environment))
    if run.config.inference.limit != 0:
        _ = run.engine, run.fallback  # what they refuse is known before anything is trained
    own = {
        "partition": run.partition.hash,
        "data": run.corpus.hash,
        "dtype": str(run.dtype).removeprefix("torch."),
        "weights": run.weights.fingerprint,
    }
    _check_same_data(run, own["data"])
    check_weights(run)
    check_resumes(run, own, "began with")
    found = {
        "device": device_name(run.device),
        "num_processes": run.processes.num_processes,
        "per_device_batch_size": run.per_device_batch_size,
        "gradient_checkpointing": run.gradient_checkpointing,
    }
    run.processes.wait_for_everyone()  # all have read what is there before one writes
    note_environment(run, {**found, "began_with": own})
    write_partition(run)
    if any(run.corpus.skipped.values()):
        run.folder.write_json("skipped_tasks.json", run.corpus.skipped)


def check_weights(run: Run) -> None:
    """Raises ValueError if an earlier attempt of this run began with other weights."""
    before, now = run.folder.read_json("environment.json").get("began_with", {}), run.weights.fingerprint
    if before.get("weights", now) != now:
        raise ValueError(
            f"{run.folder} began with other weights: those in {run.weights.source} have changed since "
            "(trained further?). Start beside it with resume=false"
        )


def check_resumes(run: Run, own: Mapping[str, str], verb: str) -> None:
    """Raises ValueError if an earlier attempt began with something else than `own` says."""
    before = {**own, **run.folder.read_json("environment.json").get("began_with", {})}
    if tasks := changed_tasks(run, run.folder):
        raise ValueError(
            f"{run.folder} {verb} other tasks: {tasks}. Restore their files to resume it, or start beside it "
            "with the new tasks: resume=false"
        )
    changed = [f"{name}: {before[name]} -> {own[name]}" for name in own if before[name] != own[name]]
    if changed:
        raise ValueError(
            f"{run.folder} {verb} something else ({', '.join(changed)}); resuming would mix the two: "
            "start beside it with resume=false"
        )


def changed_tasks(run: Run, began: RunFolder) -> str:
    """Say that the tasks are others than when a folder's run began; empty if not, or if unknown."""
    before = read_object(began / "environment.json").get("began_with", {})
    if before.get("data", run.corpus.hash) == run.corpus.hash:
        return ""
    then, now = read_object(began / "partition.json"), run.partition
    if not then:  # a kill came before it was written
        return "the tasks have changed since"
    return (
        f"the tasks have changed since: {len(then['train'])} trained and {len(then['validation'])} were held "
        f"out, now {len(now.train)} train and {len(now.validation)} are held out"
    )


def note_environment(run: Run, found: Mapping[str, Any]) -> None:
    """Add what the run is computed with, and what was found, to environment.json."""
    environment = run.folder.read_json("environment.json")
    run.folder.write_json("environment.json", {**environment, **describe(run.device), **found})


def from_run_note(run: Run) -> str:
    """Warn of an evaluation of other tasks than the trained run held out, though it names the same; or empty.

    Files that were mended or added since draw another partition, with tasks held out that the run trained on.
    """
    if run.config.from_run is None:
        return ""
    trained = RunFolder(Path(run.config.from_run).expanduser())
    own, theirs = run.folder.read_config(), trained.read_config()
    for key in ("data", "prompt.kinds", "seeds.partition"):  # what the choice of the tasks depends on
        if OmegaConf.select(own, key) != OmegaConf.select(theirs, key):
            return ""
    changed = changed_tasks(run, trained)
    return changed and (
        f"from_run={trained}: {changed}. So it may have trained on tasks that are asked here: restore their "
        "files to ask those that it held out"
    )


def write_partition(run: Run) -> None:
    """Write who trains and who validates, and who was left out of training for the sake of whom."""
    partition, dropped = run.partition, run.corpus.dropped
    values = {"validation": partition.validation, "train": partition.train, "hash": partition.hash}
    run.folder.write_json("partition.json", {**values, **({"dropped": dropped} if dropped else {})})


def _earlier_threads(run: Run, environment: Mapping[str, Any]) -> int | None:
    """The threads of an earlier attempt; None if processes share the cores otherwise now, or come and go."""
    is_alike = environment.get("num_processes") == int(os.environ.get("WORLD_SIZE", "1"))
    return (
        environment.get("threads") if is_alike and not job_kind(run.config.job.name).shares_folder else None
    )


def _check_same_data(run: Run, data: str) -> None:
    """Raises ValueError if the processes of a run have read different tasks."""
    if run.processes.num_processes > 1:
        from accelerate.utils import gather_object

        if len(set(gather_object([data]))) > 1:
            raise ValueError(
                "the processes of this run have read different data: the files differ between machines, or "
                "the function in data.file does not return the same each time (a set has no fixed order)"
            )


def find_leaks(run: Run, *, trains: bool) -> Leaks:
    """Compare held-out tasks with those trained on, unless `data.leaks=ignore`; write leaks.json.

    Args:
        trains: compare the run's own training tasks, too, not only its weights' ancestry.

    Raises:
        ValueError: there are leaks and `data.leaks=refuse`.
    """
    policy, past = run.config.data.leaks, run.weights.past
    leaks: Leaks = {"policy": policy}
    if policy != "ignore" and trains:
        leaks["training"] = run.corpus.leaks.to_json()
        if policy == "drop":
            leaks["training"]["num_dropped"] = len(run.corpus.dropped)
    if policy != "ignore" and past is not None:
        leaks["ancestry"] = past.leaks(run.validation_tasks).to_json()
    sources = (run.config.data, *run.config.data.sources.values())
    if any(each.file is not None for each in sources) and "training" in dict(_remaining(leaks)):
        leaks["note"] = OWN_FUNCTION
    run.folder.write_json(LEAKS, leaks)
    if policy == "refuse" and any(True for _ in _remaining(leaks)):
        raise ValueError(f"data.leaks=refuse: {leaks_text(leaks)}. data.leaks=warn allows them")
    return leaks


def leak_metrics(leaks: Leaks) -> dict[str, Any]:
    """For metrics.json: the tasks whose scores say too much, and counts by comparison."""
    leaked = {leak["task"] for _, one in _remaining(leaks) for leak in one["tasks"]}
    counts = {
        name: {**leaks[name]["counts"], "dropped": leaks[name].get("num_dropped", 0)}
        for name in COMPARED
        if name in leaks
    }
    return {"leaked_tasks": sorted(leaked), "leaks": counts}


def leaks_text(leaks: Leaks) -> str:
    """What was found and what can be done about it, in lines; empty if nothing was found."""
    lines = [
        f"{sentence(leaks[name])} {examples(leaks[name])}"
        for name in COMPARED
        if name in leaks and leaks[name]["counts"]["leaks"]
    ]
    if not lines:
        return ""
    for name, one in _remaining(leaks):
        lines.append(ADVICE[name].format(plural(one["counts"]["held_by"], "task")))
    if "note" in leaks:
        lines.append(leaks["note"])
    return "\n             ".join([*lines, f"All of them are listed in {LEAKS}"])


def _remaining(leaks: Leaks) -> Iterator[tuple[str, dict[str, Any]]]:
    """The comparisons, by name, that found something which was not dropped from training."""
    for name in COMPARED:
        if name in leaks and leaks[name]["counts"]["leaks"] and "num_dropped" not in leaks[name]:
            yield name, leaks[name]
