"""What can be wrong with how a run computes: steps, hardware, launching, single jobs.

Each check yields a line for each mistake: key, value, remedy. Settings that exclude each other are in
`exclusions.py`.
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from arc_experiments.config.data_rules import check_data, check_model, check_path, check_prompts, check_share
from arc_experiments.config.exclusions import look_up
from arc_experiments.config.job_kinds import JOBS, JobKind
from arc_experiments.config.picture_rules import check_pictures
from arc_experiments.config.plurals import plural
from arc_experiments.config.sampling import check_sampling
from arc_experiments.config.schema import BENCHMARK_PARTS, DECAY, OWN_SETS, Command, Config, Halving, Optim
from arc_experiments.config.user_code.folders import options_of

LONGEST_NAME, LONGEST_NOTE = 60, 1000  # characters
MOST_LEFT_OUT = 3  # demonstrations; of ten that makes 120 tasks
# What the measurement of a training sets itself, and the key that controls it.
SET_BY_BENCHMARK = {
    "hardware.per_device_batch_size": "benchmark.batch_sizes",
    "optim.pack_length": "benchmark.lengths with benchmark.packing",
    "optim.batch_size": "benchmark.accumulation",
    "optim.max_steps": "benchmark.max_seconds",
    "optim.stop_after": "benchmark.max_seconds",
    "optim.save_steps": "optim.max_steps: no checkpoint is written",
}


def check_sections(config: Config) -> Iterator[str]:
    """Run all checks that the composition's job needs."""
    kind = JOBS.get(config.job.name, JobKind())
    yield from _check_labels(config)
    yield from check_data(
        config.data, list(config.augmentation), trains=kind.trains, is_taken=config.from_run is not None
    )
    yield from check_prompts(config)
    yield from check_pictures(config)
    yield from check_model(config.model)
    yield from check_sampling(config.inference)
    yield from _check_optim(config.optim)
    yield from _check_halving(config)
    yield from _check_hardware(config, shares_batch=not kind.shares_folder)
    yield from _check_launch(config)
    yield from check_path("submission", config.submission)
    yield from check_path("programs.barc_library", config.programs.barc_library)
    yield from check_path("inference.fallback_run", config.inference.fallback_run)
    own_checks = {"adapt": _check_adapt, "audit": _check_audit, "benchmark": _check_benchmark}
    if config.job.name in own_checks:
        yield from own_checks[config.job.name](config)


def _check_labels(config: Config) -> Iterator[str]:
    """Check what a person calls the run: tables show the name in one line."""
    name, note = config.name or "", config.note or ""
    if name and (not name.isprintable() or not name.strip()):
        yield f"name={name!r} must be one line of visible text; longer remarks belong into note=..."
    if len(name) > LONGEST_NAME:
        yield f"name has {len(name)} characters, at most {LONGEST_NAME}: put the rest into note=..."
    if len(note) > LONGEST_NOTE:
        yield f"note has {len(note)} characters, at most {LONGEST_NOTE}: shorten it"


# optim and halving


def _check_optim(optim: Optim) -> Iterator[str]:
    """Check steps, and the run whose optimizer state is taken."""
    yield from check_steps(optim)
    yield from check_share("optim.warmup", optim.warmup)
    yield from check_share("optim.decay", optim.decay)
    if optim.min_learning_rate is not None and optim.min_learning_rate > optim.learning_rate:
        yield (
            f"optim.min_learning_rate={optim.min_learning_rate} is above "
            f"optim.learning_rate={optim.learning_rate}"
        )
    folder = Path(optim.load_state or "").expanduser()
    if optim.load_state is not None and not (folder / "checkpoints").is_dir():
        yield (
            f"optim.load_state={optim.load_state} holds no checkpoints (looked in {Path.cwd()}): "
            "name a run folder with checkpoints/"
        )


def check_steps(optim: Optim) -> Iterator[str]:
    """Check that all steps fit each other; as long as `epochs` is set, only those without `max_steps`."""
    stops = {"save_steps": optim.save_steps, "stop_after": optim.stop_after}
    if optim.patience is not None:
        stops["eval_steps"] = optim.eval_steps
    for key, steps in stops.items():
        if steps is not None and steps % optim.log_steps:
            yield (
                f"optim.{key}={steps} is not a multiple of optim.log_steps={optim.log_steps}: "
                "a run resumed from there could not repeat the losses it logs"
            )
    if optim.epochs is not None:
        return
    if optim.log_steps > optim.max_steps:
        yield (
            f"optim.log_steps={optim.log_steps} is beyond optim.max_steps={optim.max_steps}: "
            "no loss would be logged"
        )
    if optim.stop_after is not None and optim.stop_after > optim.max_steps:
        yield f"optim.stop_after={optim.stop_after} is beyond optim.max_steps={optim.max_steps}"
    decay = optim.decay or (DECAY if optim.schedule == "warmup_stable_decay" else 0.0)
    if (
        sum(value if value >= 1 else value * optim.max_steps for value in (optim.warmup, decay))
        > optim.max_steps
    ):
        yield (
            f"optim.warmup={optim.warmup} and optim.decay={decay} take more than "
            f"optim.max_steps={optim.max_steps}"
        )


def ignored_steps(optim: Optim, typed: Iterable[str]) -> Iterator[str]:
    """Yield a line if `max_steps` was typed, by its dotted key, beside the epochs that replace it."""
    if optim.epochs is not None and "optim.max_steps" in typed:
        yield (
            f"optim.max_steps={optim.max_steps} is replaced by optim.epochs={optim.epochs:g}: leave one out "
            "(optim.epochs=null, if it is not typed)"
        )


def rung_steps(halving: Halving, optim: Optim) -> list[int]:
    """Convert `halving.rungs` to steps: those below 1 are shares of `max_steps`, rounded to `log_steps`."""
    return [
        int(rung) if rung >= 1 else round(rung * optim.max_steps / optim.log_steps) * optim.log_steps
        for rung in halving.rungs
    ]


def answer_limit(config: Config) -> int | None:
    """Return the number of validation tasks that a run is to answer; None: all of them.

    A submission file is scored over all tasks, whatever `inference.limit` says, so that the denominator
    stays the same. At a rung that the validation loss decides nothing is answered.
    """
    by = config.halving.metric, config.optim.best_by
    if config.optim.stop_after in rung_steps(config.halving, config.optim) and "pass_at_2" not in by:
        return 0
    return config.inference.limit if config.submission is None else None


def _check_halving(config: Config) -> Iterator[str]:
    """Check that rungs grow and are logged."""
    optim, asked = config.optim, f"halving.rungs={config.halving.rungs}"
    rungs = rung_steps(config.halving, optim)
    if rungs and (rungs != sorted(set(rungs)) or rungs[0] < 1 or rungs[-1] >= optim.max_steps):
        yield (
            f"{asked} must be steps that grow, from 1 to below optim.max_steps={optim.max_steps} "
            "(to which the last ones are trained), or shares of it"
        )
    for steps in rungs:
        if steps % optim.log_steps:
            yield f"{asked}: {steps} is not a multiple of optim.log_steps={optim.log_steps}"
    if rungs and optim.stop_after not in (None, *rungs):
        yield f"optim.stop_after={optim.stop_after} is set by {asked}: leave it out"


# hardware and launch


def _check_hardware(config: Config, *, shares_batch: bool) -> Iterator[str]:
    """Check processes, GPUs, and how a batch is divided among them.

    Args:
        shares_batch: the processes train together, each on a part of the batch.
    """
    hardware = config.hardware
    size, processes, gpus = hardware.per_device_batch_size, hardware.num_processes, hardware.gpu_ids
    is_named = size not in ("auto", None)
    if is_named and (not isinstance(size, int) or size < 1):
        yield f"hardware.per_device_batch_size={size} is neither a number of rows, from 1, nor auto, nor null"
    else:
        try:
            together = (processes or 1) if shares_batch else 1
            split_batch(config.optim.batch_size, together, size if is_named else 1)
        except ValueError as error:
            yield str(error)
    # torchrun says the number where it started this process
    if hardware.parallelism == "fsdp" and processes == 1 and "RANK" not in os.environ:
        yield (
            "hardware.parallelism=fsdp does not go with hardware.num_processes=1: there is nothing to shard "
            "over; set 2 or more, or null for one a GPU"
        )
    if gpus is None:
        return
    if not gpus or len(set(gpus)) != len(gpus):
        yield f"hardware.gpu_ids={gpus} must name different GPUs"
    elif hardware.parallelism != "split" and processes is not None and len(gpus) != processes:
        yield (
            f"hardware.gpu_ids={gpus} names {len(gpus)} GPUs for hardware.num_processes={processes}: each "
            "process uses one (null: as many processes as GPUs)"
        )


def split_batch(batch_size: int, num_processes: int, per_device_batch_size: int) -> int:
    """The number of micro-batches of each process in one optimizer step.

    Raises:
        ValueError: they do not divide; with the numbers that would.
    """
    at_once = num_processes * per_device_batch_size
    if batch_size % at_once:
        raise ValueError(
            f"optim.batch_size={batch_size} does not divide into hardware.num_processes={num_processes} x "
            f"hardware.per_device_batch_size={per_device_batch_size}: choose a multiple of {at_once}, or a "
            "smaller hardware.per_device_batch_size"
        )
    return batch_size // at_once


def _check_launch(config: Config) -> Iterator[str]:
    """Check chains, and what a cluster is asked for."""
    chain, optim, slurm = config.launch.chain, config.optim, config.launch.slurm
    if chain.steps_per_job is not None:
        last = optim.stop_after or optim.max_steps
        if chain.steps_per_job % optim.log_steps:
            yield (
                f"launch.chain.steps_per_job={chain.steps_per_job} must be a multiple of "
                f"optim.log_steps={optim.log_steps}: a logged loss is the mean since the one before"
            )
        elif optim.epochs is None and chain.total_jobs * chain.steps_per_job < last:
            jobs = f"{plural(chain.total_jobs, 'job')} of {plural(chain.steps_per_job, 'step')}"
            yield f"launch.chain: step {last} is not reached by {jobs}"
    if config.launch.command is not None:
        yield from _check_command(config.launch.command, config.hardware.device)
    if slurm is None:
        return
    asks_gpu = slurm.gpus_per_node or any("gpu" in directive for directive in slurm.directives)
    if config.hardware.device == "cuda" and not asks_gpu:
        yield "launch.slurm.gpus_per_node=0, and hardware.device=cuda needs one: launch.slurm.gpus_per_node=1"
    if (slurm.time or "").isdigit():
        yield (
            f"launch.slurm.time={slurm.time} would be minutes; 24:00:00 without quotes in a file is read as "
            'seconds: write "24:00:00"'
        )
    processes = config.hardware.num_processes
    if slurm.nodes > 1 and (processes is None or processes % slurm.nodes):
        yield (
            f"launch.slurm.nodes={slurm.nodes} share hardware.num_processes={processes} (of all nodes "
            "together): take a multiple of the nodes"
        )


def _check_command(command: Command, device: str) -> Iterator[str]:
    """Check what a scheduler is asked for by a command and a template."""
    try:
        groups = re.compile(command.id).groups
    except re.error as error:
        yield f"launch.command.id={command.id} is no regular expression: {error}"
    else:
        if groups != 1:
            yield f"launch.command.id={command.id} must have one group in parentheses: the job's id"
    asks_gpu = command.gpus or any("gpu" in line for line in command.directives)
    if device == "cuda" and not asks_gpu and command.template.startswith("package:"):
        yield "launch.command.gpus=0, and hardware.device=cuda needs one: launch.command.gpus=1"
    if command.hours is not None and command.hours * 3600 <= command.pause_seconds:
        yield (
            f"launch.command.hours={command.hours:g} is not longer than "
            f"launch.command.pause_seconds={command.pause_seconds}, in which the run saves"
        )


# single jobs


def _check_adapt(config: Config) -> Iterator[str]:
    """Check the numbers of test-time fine-tuning."""
    adapt = config.adapt
    wrong = [count for count in adapt.leave_out if not 1 <= count <= MOST_LEFT_OUT]
    if not adapt.leave_out or wrong or len(set(adapt.leave_out)) < len(adapt.leave_out):
        yield (
            f"adapt.leave_out={adapt.leave_out} must name different numbers of 1 to {MOST_LEFT_OUT}, "
            "such as [1, 2]"
        )
    per_round = adapt.rounds * config.inference.num_views
    if adapt.programs is not None and adapt.programs % per_round:
        fitting = max(1, round(adapt.programs / per_round)) * per_round
        yield (
            f"adapt.programs={adapt.programs} cannot be shared out among adapt.rounds={adapt.rounds} and "
            f"inference.num_views={config.inference.num_views}: take {fitting}"
        )
    hours, reserve = adapt.deadline_hours, adapt.reserve_seconds
    if hours is not None and reserve >= 3600 * hours:
        yield (
            f"adapt.reserve_seconds={reserve:g} leaves nothing of adapt.deadline_hours={hours:g} "
            f"({3600 * hours:g} s): lower the former, or raise the latter"
        )


def _check_audit(config: Config) -> Iterator[str]:
    """Check that the sets to compare are there."""
    options = options_of("data")
    for key in ("tasks", "against"):
        names = getattr(config.audit, key)
        if not names:
            yield f"audit.{key}=[] leaves nothing to compare: name at least one set"
        for name in names:
            if name not in (*OWN_SETS, *options) and not Path(name).expanduser().exists():
                yield (
                    f"audit.{key}: {name} is neither one of this run's sets ({', '.join(OWN_SETS)}), nor an "
                    f"option of data ({', '.join(options)}), nor a path (looked in {Path.cwd()})"
                )


def _check_benchmark(config: Config) -> Iterator[str]:
    """Check that there are parts and values to measure, and that the keys can be varied."""
    benchmark = config.benchmark
    if any(part not in BENCHMARK_PARTS for part in benchmark.parts):
        yield f"benchmark.parts={benchmark.parts} must be some of: {', '.join(BENCHMARK_PARTS)}"
    least = {"parts": None, "workers": 0, "batch_sizes": 1, "packing": None, "lengths": 2}
    for name, low in least.items():
        values = getattr(benchmark, name)
        if not values and name != "lengths":
            yield f"benchmark.{name}=[] leaves nothing to measure: one value at least"
        if len(set(values)) < len(values):
            yield f"benchmark.{name}={values} names a value twice"
        if low is not None and any(value < low for value in values):
            yield f"benchmark.{name}={values} holds a value that is too small: at least {low}"
    if not benchmark.lengths and not benchmark.input_sizes:
        yield "benchmark.lengths=[] and benchmark.input_sizes=[] leave no rows to train on: name some"
    for size in benchmark.input_sizes:
        if not re.fullmatch(r"[1-9][0-9]?x([1-9]|[12][0-9]|30)", size):
            yield (
                f"benchmark.input_sizes: {size} is not <demonstrations>x<side of the grids>, such as 2x30 "
                "(sides are 1 to 30)"
            )
    yield from _check_vary(config, [text.partition("=")[0] for text in benchmark.vary])


def _check_vary(config: Config, keys: list[str]) -> Iterator[str]:
    for text, key in zip(config.benchmark.vary, keys, strict=True):
        is_there, value = look_up(config, key)
        if not re.fullmatch(r"[a-z_0-9.]+=[\w./~:+-]+(,[\w./~:+-]+)*", text):
            yield f"benchmark.vary: {text!r} is not <key>=<value>,<value>, such as model.attention=sdpa,eager"
        elif keys.count(key) > 1:
            yield f"benchmark.vary names {key} twice: all its values in one entry"
        elif key in SET_BY_BENCHMARK:
            yield f"benchmark.vary: {key} is set by the measurement: see {SET_BY_BENCHMARK[key]}"
        elif not is_there:
            yield f"benchmark.vary: {key}: there is no such key in this composition"
        elif dataclasses.is_dataclass(value) or isinstance(value, dict):
            yield (
                f"benchmark.vary: {key} is a group of keys: vary single ones, such as model.attention, or "
                f"compare whole groups by a sweep: --multirun job=benchmark {key}=..."
            )
