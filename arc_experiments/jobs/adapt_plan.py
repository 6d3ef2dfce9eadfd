"""What job=adapt shows before it works: how it adapts, how long that takes, and what will be left out."""

from collections.abc import Iterator

from rich.console import Console

from arc_experiments.adaptation.plan import AdaptationPlan
from arc_experiments.adaptation.task_groups import in_turn
from arc_experiments.adaptation.training import unwrapped
from arc_experiments.jobs.estimate import Seconds, answering_seconds, show_estimate, step_seconds
from arc_experiments.report.wording import plural
from arc_experiments.run import Run
from arc_experiments.runs.cores_and_gpus import num_sharing
from arc_experiments.runs.run_state import duration
from arc_experiments.scoring.per_output import some


def show_adaptation(work: AdaptationPlan, run: Run, console: Console) -> None:
    """Show the method and its limits; of fine-tuning also the time that it may take, and what is left out."""
    _show_method(work, run, console)
    if run.config.adapt.method != "fine_tune":  # how long a search's programs get is not known
        return
    for text in _left_out(run):
        console.print(f"[yellow]left out[/]     {text}")
    _show_seconds(work, run, console)


def _show_method(work: AdaptationPlan, run: Run, console: Console) -> None:
    adapt, optim = run.config.adapt, run.config.optim
    at_once = "" if adapt.together == 1 else f", {adapt.together} at once"
    groups = plural(work.num_task_groups, "group of tasks", "groups of tasks")
    who = {"per_task": f"each task by itself{at_once}", "joint": "all tasks together"}
    if adapt.method == "search_and_learn":
        a_round = run.engine.num_samples * run.config.inference.num_views
        name, what = (
            "search",
            f"{plural(adapt.rounds, 'round')} of {plural(a_round, 'program')} for each task",
        )
    else:
        counts = " or ".join(map(str, adapt.leave_out))
        several = "" if list(adapt.leave_out) == [1] else "s"
        name, what = (
            "adaptation",
            f"with {counts} demonstration{several} at a time left out as test pair{several}",
        )
    steps = plural(optim.max_steps, "step")
    limits = [f"at most {steps}" if adapt.seconds_per_task else steps]
    if adapt.seconds_per_task:
        limits.append(f"{adapt.seconds_per_task:g} s a task")
    if adapt.seconds:
        limits.append(f"{adapt.seconds:g} s in all")
    if adapt.deadline_hours:
        limits.append(f"{work.seconds_left / 3600:.2g} hours left of {adapt.deadline_hours:g}")
    console.print(f"[bold]{name:<12}[/] {who.get(adapt.mode, groups)}, {what}; {', '.join(limits)}")


def _left_out(run: Run) -> Iterator[str]:
    """Yield what cannot be adapted to, or not be asked, however much time there is."""
    tasks, leave_out = run.predicted_tasks().without_solutions(), run.config.adapt.leave_out
    few = [task.id for task in tasks if len(task.train) <= min(leave_out)]
    if few:
        yield f"{plural(len(few), 'task')} with too few demonstrations to adapt to: {some(few)}"
    long = list(dict.fromkeys(request.task_id for request in run.requests if request.ids is None))
    if long:
        limit = run.config.prompt.max_length
        yield f"{plural(len(long), 'task')} with a prompt longer than prompt.max_length={limit}: {some(long)}"


def _show_seconds(work: AdaptationPlan, run: Run, console: Console) -> None:
    """Show how long all tasks take, and before a deadline what a task gets of it."""
    adapt, model = run.config.adapt, work.method.model
    num_tasks, num_processes = work.num_tasks, num_sharing()
    each = work.seconds_left * num_processes / num_tasks  # infinity without a deadline
    tasks = in_turn(run.predicted_tasks().without_solutions(), adapt.leave_out)
    answering = answering_seconds(run, model, by_task=True)
    if not len(tasks) or answering is None:
        if each < float("inf"):
            console.print(f"[bold]time[/]         {duration(each)} a task until the deadline")
        return
    stream = run.stream_of(tasks, seed=run.config.seeds.stream)
    with unwrapped(model):
        trainer = run.trainer(model, stream=stream, folder=work.folder / "estimate")
        step = step_seconds(run, trainer, stream)
    training = work.num_task_groups * run.config.optim.max_steps * step
    if adapt.seconds_per_task:
        training = min(training, adapt.seconds_per_task * num_tasks)
    before = answering.over(num_processes)
    a_pass, what = before.plus(Seconds(training / num_processes, training / num_processes)), "adaptation"
    if adapt.second_pass:
        a_pass, what = a_pass.plus(a_pass), "two passes of adaptation"
    show_estimate(f"answers before {before}, then {what} and answers {a_pass}", console)
    if each < float("inf"):
        answers = answering.about / num_tasks
        console.print(f"[bold]time[/]         {_of_each(run, each, answers, training / num_tasks)}")


def _of_each(run: Run, each: float, answers: float, training: float) -> str:
    """What a task gets of the time until the deadline, and what that leaves out, all in seconds.

    Args:
        answers: to a task, once; it is answered before and after its adaptation.
    """
    rest, steps = each - 2 * answers, run.config.optim.max_steps
    text = f"{duration(each)} a task until the deadline, {2 * answers:.2g} s of it for answers: "
    if rest < answers:
        reached = max(0.0, each - answers) / max(1e-9, 2 * answers)
        return f"{text}about {1 - reached:.0%} of the tasks are not adapted to, and keep the first answers"
    if rest < training:
        return f"{text}each is trained for about {steps * rest / training:.0f} of {plural(steps, 'step')}"
    if not run.config.adapt.second_pass:
        return f"{text}each is trained for all of {plural(steps, 'step')}"
    twice = min(1.0, (rest - training) / max(1e-9, answers + training))
    return f"{text}each is trained for all of {plural(steps, 'step')}, about {twice:.0%} of the tasks twice"
