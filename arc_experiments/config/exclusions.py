"""The one table of settings that do not go together: (feature, the setting it excludes, why, the remedy).

A setting is a condition `key=value` or `key!=value`. The value is one text or several (`a|b`), as a user
types them; a final `*` matches anything; a list matches by any of its elements. A key below a section that
is null matches nothing. A feature may be several conditions: the message names the last one, the others say
when the row applies.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from arc_experiments.config.job_kinds import JOBS
from arc_experiments.config.schema import NEED_LIKELIHOODS

Exclusion = tuple[str, str, str, str]

# PEFT's usual names of embedding and LM head.
VOCABULARY_LAYERS = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "model.embed_tokens")
# Optimizers that update each number by itself (what adamw_8bit and adafactor do to one depends on its
# neighbours). These have also been run on shards.
ELEMENTWISE = ("adamw_torch", "adamw_torch_fused", "adagrad", "rmsprop", "sgd")


def _jobs(property_name: str) -> str:
    """Join the names of the jobs that have a property of `JobKind`, as the value of a condition."""
    return "|".join(name for name, kind in JOBS.items() if getattr(kind, property_name))


_VLLM, _VLLM_REMEDY = "inference.engine=vllm", "change it, or take inference.engine=transformers"
_THRESHOLD, _GREEDY = "inference.engine=threshold", "inference.engine!=threshold inference.temperature=0"
_NOT_DRAWN = "leave it out, or take inference.engine=transformers"
_FSDP, _HALVING, _ADAPT = "hardware.parallelism=fsdp", "halving.rungs!=[]", "job.name=adapt"
_SEARCH = "job.name=adapt adapt.method=search_and_learn"
_TOGETHER = "job.name=adapt adapt.together!=1"
_TOGETHER_NEW = "job.name=adapt model.adapter=null adapt.together!=1"
_BY_STEPS, _BY_SECONDS = "launch.chain.steps_per_job!=null", "launch.chain.seconds_per_job!=null"
_ENDLESS_JOB = (
    "launch.name=local launch.chain.seconds_per_job=null launch.chain.total_jobs!=1 optim.epochs=null"
)
_ALONE = "or adapt.together=1"
_LAYERS, _ELEMENTWISE = "|".join(VOCABULARY_LAYERS), "|".join(ELEMENTWISE)
_NO_GRIDS = (
    "prompt.kinds.input_from_inputs=0 prompt.kinds.output_from_outputs=0 "
    "adapt.method!=search_and_learn job.name=adapt"
)
_ANY_TOKEN = ("programs may hold any token", "take model.vocabulary=full")
_ANSWERS = "set inference.limit=null or above 0"

# fmt: off
EXCLUSIONS: tuple[Exclusion, ...] = (
    # data; sources={}: one source, no mixture
    ("data.sources={}", "data.partition=none",
     "nothing would be held out", "it is for a source of a mixture"),
    ("data.sources={}", "data.prompt!=null",
     "it is for a source of a mixture", "choose the run's own by prompt=..."),
    ("data.sources={}", "data.weights!={}", "there is one source only", "take data=mix"),
    # inference
    (_VLLM, "inference.constrain!=none", "vLLM generates without our constraint", _VLLM_REMEDY),
    (_VLLM, "model.vocabulary=arc", "vLLM loads the whole vocabulary", _VLLM_REMEDY),
    (_VLLM, "model.quantisation!=none", "vLLM gets the weights as they are saved", _VLLM_REMEDY),
    (_VLLM, "model.weights=random", "vLLM loads weights from disk", _VLLM_REMEDY),
    (_VLLM, "model.path=package:*", "vLLM does not load the package's model", _VLLM_REMEDY),
    (_VLLM, "hardware.num_processes!=1", "vLLM runs in one process", _VLLM_REMEDY),
    (_VLLM, "hardware.parallelism!=data", "vLLM holds a whole model on one GPU", _VLLM_REMEDY),
    (_VLLM, "hardware.device=cpu", "vLLM needs a GPU", _VLLM_REMEDY),
    (_VLLM, "optim.best_by=pass_at_2", "vLLM has no room beside the model in training", _VLLM_REMEDY),
    ("inference.engine!=threshold", "inference.threshold!=0.1",
     "only the threshold search reads it", "take inference.engine=threshold"),
    ("inference.engine!=vllm", "inference.vllm_memory_share!=0.6",
     "only vLLM reads it", "take inference.engine=vllm"),
    (_THRESHOLD, "inference.num_samples!=1",
     "a threshold search draws nothing", _NOT_DRAWN),
    (_THRESHOLD, "inference.temperature!=0",
     "a threshold search draws nothing", _NOT_DRAWN),
    (_THRESHOLD, "inference.top_p!=1",
     "a threshold search draws nothing", _NOT_DRAWN),
    (_GREEDY, "inference.num_samples!=1",
     "greedy answers to a view are all the same",
     "set inference.temperature above 0, or take more views (inference.num_views)"),
    (_GREEDY, "inference.top_p!=1",
     "greedy answers do not read it", "set inference.temperature above 0"),
    (f"inference.fallback_run=null inference.selection={'|'.join(NEED_LIKELIHOODS)}",
     "inference.scoring_views=0", "the rule needs likelihoods",
     "set inference.scoring_views=8, or take inference.selection=votes_then_log_probability"),
    # programs
    ("prompt.asks=grid", "inference.fallback=grid", "grids are asked for anyway", "take none"),
    ("prompt.asks=grid", "inference.fallback_run!=null",
     "another run's grids stand behind verified programs", "take null, or prompt=program"),
    (_VLLM, "inference.fallback=grid", "programs and grids need an engine each", _VLLM_REMEDY),
    ("inference.fallback=grid", "prompt.kinds.output_from_examples=0",
     "the model does not learn to answer grids",
     "set prompt.kinds.output_from_examples=1, or name a run of grids by inference.fallback_run"),
    ("prompt.asks=program inference.fallback=none", "inference.scoring_views!=0",
     "likelihoods are those of grids, and none are asked for", "take 0, or inference.fallback=grid"),
    ("inference.fallback_run!=null", "inference.scoring_views!=0",
     "that run's grids have the likelihoods of its own model", "take 0, and set it in that run"),
    ("prompt.asks=program", "inference.constrain=grid",
     "the answers are programs", "take inference.constrain=program, or none"),
    ("prompt.asks=grid", "inference.constrain=program",
     "the answers are grids", "take inference.constrain=grid, or none"),
    # model
    ("prompt.kinds.program_from_examples!=0", "model.vocabulary=arc", *_ANY_TOKEN),
    ("prompt.kinds.output_from_program!=0", "model.vocabulary=arc", *_ANY_TOKEN),
    ("model.lora=null", "model.quantisation!=none",
     "quantised weights cannot be trained", "take a LoRA, or model.quantisation=none"),
    ("model.lora.initialisation=pissa|olora", "model.quantisation!=none",
     "it changes the base's weights, which are fixed", "take model.lora.initialisation=default"),
    ("model.lora.initialisation=pissa|olora", "model.lora.dora=true",
     "the adapter cannot be saved", "take model.lora.initialisation=default"),
    # optim
    ("optim.schedule!=cosine_with_restarts|cyclic", "optim.cycles!=null",
     "the schedule does not read it", "take optim.schedule=cosine_with_restarts or cyclic"),
    ("optim.schedule!=cosine_with_min_lr", "optim.min_learning_rate!=null",
     "the schedule does not read it", "take optim.schedule=cosine_with_min_lr"),
    ("optim.schedule!=warmup_stable_decay", "optim.decay!=null",
     "the schedule does not read it", "take optim.schedule=warmup_stable_decay"),
    ("optim.best_by=none", "optim.patience!=null",
     "no validation is better or worse", "set optim.best_by=validation_loss or pass_at_2"),
    ("optim.best_by=none", "optim.min_delta!=0",
     "no validation is better or worse", "set optim.best_by=validation_loss or pass_at_2"),
    ("optim.best_by!=none", "optim.eval_steps=null",
     "nothing is validated in training", "say how often: optim.eval_steps=100"),
    ("optim.best_by=pass_at_2", "inference.limit=0", "there is no task to answer", _ANSWERS),
    ("optim.stop_on_spike=true", "optim.spike_factor=null",
     "no loss counts as a spike", "set optim.spike_factor=3"),
    ("optim.epochs!=null", "optim.pack_length!=null",
     "epochs count samples, and rows hold several", "take optim.max_steps"),
    ("optim.answer_gap!=0", "optim.pack_length!=null",
     "positions restart with each sample of a row", "take null"),
    # hardware
    ("hardware.gpu_ids!=null", "hardware.device=cpu", "a CPU run uses no GPU", "leave one of them out"),
    ("hardware.parallelism=split", "hardware.num_processes!=1",
     "it spreads one process over the GPUs", "take hardware.num_processes=1"),
    (_FSDP, "hardware.per_device_batch_size=auto", "batch sizes are tried on a whole model", "name a number"),
    (_FSDP, "model.quantisation!=none",
     "quantised weights are not sharded", "take none, or hardware.parallelism=data"),
    (_FSDP, "model.dtype=float16", "loss scaling does not see all shards", "take bfloat16 or float32"),
    (_FSDP, "model.compile=true", "the shards of a compiled model cannot be distinguished", "take false"),
    (_FSDP, f"model.lora.modules_to_save={_LAYERS}",
     "embedding and LM head are not trained beside a sharded LoRA", "leave them out"),
    (_FSDP, f"optim.name!={_ELEMENTWISE}",
     "it does not step on shards", f"take one of {', '.join(ELEMENTWISE)}"),
    (_FSDP, "optim.load_state!=null", "saved moments are not sharded", "take null"),
    (_FSDP, "optim.best_by=pass_at_2",
     "each process answers at its own pace, and a sharded model needs all at once", "take validation_loss"),
    (_FSDP, "job.name=benchmark", "it is not measured", "take another hardware.parallelism"),
    ("model.adapter=null hardware.parallelism=fsdp", "model.lora.initialisation=eva",
     "it runs the whole model before it is sharded", "take another"),
    # launch
    ("launch.name!=local", "launch.retries!=0",
     "the cluster starts the jobs", "launch.chain.total_jobs resumes after a death"),
    ("launch.name!=local", "launch.fail_fast=true", "the cluster starts the jobs", "leave it out"),
    ("launch.name=local", "launch.slurm!=null", "it is for a cluster", "take launch=slurm"),
    ("launch.name=local", "launch.command!=null", "it is for a cluster", "take launch=command"),
    ("launch.name!=local launch.slurm=null", "launch.command=null",
     "neither says how jobs are submitted", "take launch=slurm or launch=command"),
    ("launch.name=local", "launch.dry_run=true", "it is for a cluster", "take launch=slurm"),
    (_BY_STEPS, f"job.name!={_jobs('trains')}",
     "it counts training steps", "take job=finetune"),
    (_BY_STEPS, "launch.chain.total_jobs=1",
     "a second job must resume what the first leaves", "take 2 or more"),
    (_BY_SECONDS, f"job.name!={_jobs('trains')}",
     "it stops trainings only", "take job=finetune"),
    (_BY_SECONDS, "launch.chain.total_jobs=1",
     "a second job must resume what the first leaves", "take 2 or more"),
    (_ENDLESS_JOB, "launch.chain.steps_per_job=null",
     "no job of the chain would end early",
     "set launch.chain.steps_per_job or launch.chain.seconds_per_job, or train by optim.epochs"),
    ("launch.slurm.workers!=1", f"job.name!={_jobs('shares_folder')}",
     "it shares out the tasks of job=adapt", "take 1"),
    ("launch.slurm.workers!=1", "launch.chain.total_jobs!=1",
     "the cluster's jobs are workers or links of a chain", "take one of them"),
    ("launch.command.workers!=1", f"job.name!={_jobs('shares_folder')}",
     "it shares out the tasks of job=adapt", "take 1"),
    ("launch.command.workers!=1", "launch.chain.total_jobs!=1",
     "the jobs are workers or links of a chain", "take one of them"),
    ("launch.slurm.nodes!=1", f"job.name={_jobs('starts_alone')}",
     "it runs on one node", "take launch.slurm.nodes=1"),
    # halving
    (_HALVING, f"job.name!={_jobs('trains')}", "a rung is a step of a training", "take job=finetune"),
    (_HALVING, "optim.epochs!=null", "its number of steps is known too late", "take optim.max_steps"),
    (_HALVING, "launch.name!=local",
     "the command itself decides who continues, so it must stay", "take launch=local"),
    ("halving.rungs!=[] halving.metric=pass_at_2", "inference.limit=0",
     "there is no task to answer", _ANSWERS),
    # jobs
    ("submission!=null", f"job.name!={_jobs('scores_submission')}",
     "a file is scored by job=evaluate", "take job=evaluate"),
    (f"job.name={_jobs('needs_answers')}", "inference.limit=0", "there is no task to adapt to", _ANSWERS),
    (_ADAPT, "optim.stop_after!=null",
     "every task gets optim.max_steps, or what adapt.seconds_per_task allows", "take null"),
    (_ADAPT, "optim.epochs!=null", "each task has training tasks of its own", "take optim.max_steps"),
    (_ADAPT, "optim.best_by!=none", "the test outputs are unknown while it trains", "take none"),
    (_ADAPT, "data.stream=iterable", "its streams begin and end with a task", "take indexed"),
    (_ADAPT, "inference.engine=vllm",
     "it was not tried with weights that change for each task", "take transformers or threshold"),
    (_ADAPT, "model.compile=true", "it would compile anew for each task", "take false"),
    (_ADAPT, "hardware.parallelism=fsdp",
     "each process adapts to tasks of its own, which takes a whole model", "take data"),
    (_NO_GRIDS, "prompt.kinds.output_from_examples=0",
     "the tasks that it trains on have no program",
     "set it to 1, or take adapt.method=search_and_learn"),
    (_SEARCH, "prompt.asks!=program",
     "it searches for programs", "take a prompt that asks for them: prompt=program or program_compact"),
    (_SEARCH, "inference.temperature=0",
     "greedy programs of a view are all the same", "set inference.temperature=0.9"),
    (_SEARCH, "inference.fallback!=none",
     "its rounds ask for programs alone", "take none, and inference.fallback_run for grids of another run"),
    (_SEARCH, "adapt.together!=1", "its rounds train one adapter at a time", "take adapt.together=1"),
    (_SEARCH, "adapt.second_pass=true", "its rounds are passes", "take adapt.second_pass=false"),
    (_SEARCH, "adapt.leave_out!=1",
     "it trains on relabelled programs, not on demonstrations left out", "leave it at [1]"),
    (_SEARCH, "adapt.seconds_per_task!=null",
     "its budget is counted in programs", "set adapt.programs, or adapt.seconds for the whole job"),
    ("job.name=adapt adapt.method!=search_and_learn", "adapt.programs!=null",
     "nothing writes programs in rounds", "take adapt.method=search_and_learn"),
    ("job.name=adapt adapt.method!=search_and_learn", "adapt.joined!=0",
     "nothing writes programs that could be joined", "take adapt.method=search_and_learn"),
    ("job.name=adapt adapt.method=search_and_learn adapt.programs!=null", "inference.num_samples!=1",
     "adapt.programs says how many programs a task gets", "leave one of them out"),
    ("job.name=adapt adapt.mode=groups", "adapt.groups=null",
     "the number of groups is needed", "set adapt.groups=4"),
    ("job.name=adapt adapt.mode!=groups", "adapt.groups!=null",
     "nothing is grouped", "take adapt.mode=groups"),
    ("job.name=adapt adapt.deadline_hours=null", "adapt.reserve_seconds!=300",
     "it is a part of the deadline", "set adapt.deadline_hours"),
    (_TOGETHER, "adapt.mode!=per_task",
     "its adapters have several tasks each", f"take per_task, {_ALONE}"),
    (_TOGETHER, f"optim.name!={_ELEMENTWISE}",
     "tasks would act on each other", f"take {', '.join(ELEMENTWISE)}, {_ALONE}"),
    (_TOGETHER, "optim.load_state!=null", "those moments are one adapter's", f"take null, {_ALONE}"),
    (_TOGETHER, "hardware.per_device_batch_size=auto",
     "it finds what fits for one task", f"name a number of rows for each task, {_ALONE}"),
    (_TOGETHER, "optim.neftune_alpha!=null",
     "its noise depends on the longest row", f"take null, {_ALONE}"),
    (_TOGETHER_NEW, "model.lora=null", "there are no adapters", f"take a LoRA, {_ALONE}"),
    (_TOGETHER_NEW, "model.lora.dora=true", "it trains more than matrices", f"take false, {_ALONE}"),
    (_TOGETHER_NEW, "model.lora.modules_to_save!=[]",
     "all tasks would train the same modules", f"take [], {_ALONE}"),
)

# Of `data` if it is one source, and of each source of a mixture; keys are below the source.
SOURCE_EXCLUSIONS: tuple[Exclusion, ...] = (
    ("partition!=seeded|stratified", "num_validation!=100|0.1",
     "this partition itself says what is held out", "take partition=seeded, or data.limit for fewer tasks"),
    ("partition!=k_fold", "fold!=0", "only k_fold reads it", "take partition=k_fold"),
    ("partition!=k_fold", "num_folds!=5", "only k_fold reads it", "take partition=k_fold"),
    ("partition=file", "partition_file=null",
     "it needs a file with validation and train ids", "name it by partition_file"),
    ("partition!=file", "partition_file!=null", "the partition does not read it", "take partition=file"),
    ("partition=none", "validation_tasks!=none",
     "no held-out task is there to make tasks of", "take validation_tasks=none"),
    ("train_tasks=none", "validation_tasks=none", "nothing is left to train on", "take train_tasks=whole"),
    ("train_tasks=none", "fraction!=1", "it is a share of the training tasks", "leave it out"),
    ("validation_tasks!=leave_out leave_out!=1", "train_tasks!=leave_out",
     "nothing reads it", "take train_tasks=leave_out or validation_tasks=leave_out"),
)
# fmt: on


def excluded(values: Any, table: Iterable[Exclusion] = EXCLUSIONS, prefix: str = "") -> Iterator[str]:
    """Yield a line for each row of the table whose feature and setting are both there.

    Args:
        values: what the table's keys are looked up in: a `Config`, or a part of one.
        prefix: the place of `values` in the composition, for the message ("data.sources.arc1.").
    """
    for feature, setting, why, remedy in table:
        conditions = feature.split(" ")
        if all(holds(values, condition) for condition in (*conditions, setting)):
            first, second = (_as_it_is(values, condition, prefix) for condition in (conditions[-1], setting))
            yield f"{first} does not go with {second}: {why}; {remedy}"


def parse(condition: str) -> tuple[str, bool, list[str]]:
    """Split a condition: `optim.name!=sgd|adagrad` is `("optim.name", False, ["sgd", "adagrad"])`."""
    match = re.fullmatch(r"([\w.]+)(!?)=(.+)", condition)
    assert match is not None, condition
    return match[1], match[2] == "", match[3].split("|")


def holds(values: Any, condition: str) -> bool:
    """Whether a condition is true; it is false if its key is not there."""
    key, is_equal, wanted = parse(condition)
    is_there, value = look_up(values, key)
    if not is_there:
        return False
    actual = [_text(item) for item in value] if isinstance(value, list) and value else [_text(value)]
    matches = any(
        text == want or (want.endswith("*") and text.startswith(want[:-1]))
        for text in actual
        for want in wanted
    )
    return matches == is_equal


def look_up(values: Any, key: str) -> tuple[bool, Any]:
    """Look a dotted key up in nested dataclasses and dicts: whether it is there, and its value."""
    for name in key.split("."):
        inside = vars(values) if dataclasses.is_dataclass(values) else values
        if not isinstance(inside, dict) or name not in inside:
            return False, None
        values = inside[name]
    return True, values


def _text(value: Any) -> str:
    """A value as it is typed."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _as_it_is(values: Any, condition: str, prefix: str) -> str:
    """`key=value` with the value that the key has; a whole section is named by its key alone."""
    key = parse(condition)[0]
    value = look_up(values, key)[1]
    key = key.removesuffix(".name") if key in ("job.name", "launch.name") else key  # as it is typed
    return f"{prefix}{key}" if dataclasses.is_dataclass(value) else f"{prefix}{key}={_text(value)}"
