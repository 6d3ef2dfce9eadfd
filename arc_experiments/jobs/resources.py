"""Memory and disk before the start: shown, and refused where they will not do.

chosen       hardware.per_device_batch_size=4: 8 would take 31.0 GB of 22.8 GB
memory       about 1.3 GB of 7.2 GB: libraries and data 900 MB, training (1 x 2,310 tokens) 390 MB, ...
disk         about 45 MB of 31.0 GB: 3 checkpoints of 9 MB, trained weights 4 MB, answers and page 12 MB

`estimated` in environment.json has the bytes, of one process.
"""

from collections.abc import Iterator

from rich.console import Console

from arc_experiments.launching.tables import show_line
from arc_experiments.report.wording import about, memory, plural
from arc_experiments.resources.disk import DiskNeed, written
from arc_experiments.resources.limits import free_disk, free_host_memory, own_host_memory
from arc_experiments.resources.memory import Need
from arc_experiments.run import Run
from arc_experiments.training.trainer import STEPS_AHEAD

SURE = 0.75  # of an estimate: runs have taken less than estimated, but not that much less
LATER = 15 * 10**7  # libraries that are imported later
CUDA_IN_HOST = 2 * 10**9  # libraries of CUDA in main memory
WORKER = 2 * 10**8  # a process that prepares samples, beside what it shares with the one that trains
REMEDIES = {  # by the first word of a part
    "weights": "a smaller model, on GPUs model.quantisation=4bit, hardware=split_model or hardware=fsdp",
    "optimizer": "a smaller model.lora.rank, or optim=adamw_8bit",
    "gradients": "a smaller model.lora.rank",
    "training": "model.gradient_checkpointing=true, fewer rows "
    "(hardware.per_device_batch_size), or a smaller prompt.max_length",
    "validation": "a smaller hardware.per_device_batch_size or prompt.max_length",
    "answering": "a smaller inference.batch_tokens, inference.max_new_tokens or prompt.max_length",
    "libraries": "fewer processes (hardware.num_processes, hardware.num_workers), or more memory",
    "pictures": "a smaller optim.batch_size or prompt.cell_pixels",
}
DISK_REMEDY = "free some, or name a folder on another disk (hydra.run.dir=...)"


def check_resources(run: Run, console: Console) -> None:
    """Show what the run will take of memory and disk, and what was chosen by that; note the numbers.

    Raises:
        ValueError: that will not do, and `hardware.force` is not true.
    """
    if run.config.hardware.per_device_batch_size is None:
        for reason in run.needs.choice.reasons:
            show_line(console, "chosen", reason)
    needs = dict(memory_needs(run))
    disk = disk_need(run)
    lacking = []
    for place, (need, free) in needs.items():
        show_line(console, "memory", _memory_text(place, need, free))
        if SURE * need.total > free:
            part = next(iter(need.parts))
            lacking.append(
                f"{about(need.total)} of {place} are needed and {memory(free)} are there, most of it "
                f"for {part}: take {REMEDIES[part.split()[0]]}"
            )
    if not run.needs.is_countable:
        text = "what the model takes cannot be counted (run.log says why), and is not among these"
        show_line(console, "memory", text)
    free = free_disk(run.folder.path)
    show_line(console, "disk", _disk_text(disk, free))
    if disk.total > free:
        lacking.append(
            f"{about(disk.total)} will be written to {run.folder} and {memory(free)} are free there: "
            f"{DISK_REMEDY}"
        )
    _note(run, {**{place: need.total for place, (need, _) in needs.items()}, "disk": disk.total})
    if lacking and not run.config.hardware.force:
        raise ValueError("; ".join(lacking) + ". hardware.force=true starts all the same")
    for text in lacking:
        show_line(console, "note", text)


def memory_needs(run: Run) -> Iterator[tuple[str, tuple[Need, int]]]:
    """Yield each place with what a process needs there, and what it can have.

    Nothing but the main memory is known of a model that cannot be counted.
    """
    rows, checkpointing = run.per_device_batch_size, run.gradient_checkpointing
    model = run.needs.memory(rows=rows, checkpointing=checkpointing) or Need()
    own = own_host_memory()
    always = {"libraries and data": own + LATER}
    if number := run.config.hardware.num_workers:
        always[f"libraries of {plural(number, 'worker')}"] = WORKER * number
    work = run.needs.work
    if work.row is not None and work.pictures.arrays:
        steps = run.config.optim.batch_size // run.processes.num_processes * (STEPS_AHEAD + 1)
        always["pictures made ahead"] = steps * work.pictures.num_bytes
    if run.device.type == "cuda":
        if model.parts:
            yield "GPU memory", (model, run.needs.free)
        always["libraries of CUDA"] = CUDA_IN_HOST
    else:
        always |= model.always
    phases = model.phases if run.device.type == "cpu" else {}
    free = free_host_memory() // run.processes.num_processes
    yield "memory", (Need(always=always, phases=phases), own + free)


def disk_need(run: Run) -> DiskNeed:
    """Return what the run writes."""
    fake = run.needs.model if run.needs.is_countable else None
    tokenizer = getattr(run.tokenizer, "backend_tokenizer", None)
    answers = run.needs.work.answers
    asked = sum(request.ids is not None for request in run.requests)
    return written(
        run.config,
        num_parameters=0 if fake is None else fake.num_parameters,
        num_trained=0 if fake is None else fake.num_trained,
        tokenizer_bytes=0 if tokenizer is None else len(tokenizer.to_str().encode()),
        num_tasks=len(run.predicted_tasks()),
        num_answers=asked * run.num_samples,
        answer_tokens=0 if answers is None else answers.new_tokens,
        trains=run.needs.work.row is not None and run.config.job.name != "adapt",
    )


def _memory_text(place: str, need: Need, free: int) -> str:
    where = "" if place == "memory" else f" of {place}"
    each = ", ".join(f"{name} {memory(size)}" for name, size in need.parts.items())
    return f"{about(need.total)} of {memory(free)}{where}: {each}"


def _disk_text(disk: DiskNeed, free: int) -> str:
    number, size = disk.checkpoints
    parts = [f"{plural(number, 'checkpoint')} of {memory(size)}"] if number else []
    parts += [f"trained weights {memory(disk.weights)}"] if disk.weights else []
    parts += [f"answers and page {memory(disk.answers)}"]
    return f"{about(disk.total)} of {memory(free)}: {', '.join(parts)}"


def _note(run: Run, estimated: dict[str, int]) -> None:
    environment = run.folder.read_json("environment.json")
    run.folder.write_json("environment.json", {**environment, "estimated": estimated})
