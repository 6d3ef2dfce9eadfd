r"""Views of tasks -> questions to the model.

a grid      (task 0a1b2c3d, test 0, view 3) -> "I10\n...O": one question per test input
a program   (task 0a1b2c3d, view 3)         -> "I10\n...P": one question for all test inputs
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from arc_experiments.augmentation import View, draw_views
from arc_experiments.generation.engine import Key
from arc_experiments.prompts import Encoded, Prompt
from arc_experiments.prompts.kinds import QUESTIONS, Asked
from arc_experiments.prompts.tokens import Ids
from arc_experiments.tasks import Pair, Task, TaskSet


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One question to the model.

    Attributes:
        test_index: of the output that is asked for; 0 for a program.
        encoded: the prompt; None if not even one demonstration fits the prompt.
        seen: the task whose program is asked for, as it looks in the view, demonstrations in the task's own
            order and without test outputs; None if a grid is asked for.
    """

    task_id: str
    test_index: int
    view: View
    encoded: Encoded | None
    num_dropped: int = 0
    seen: Task | None = None

    @property
    def ids(self) -> Ids | None:
        """The prompt's tokens, shape (tokens,)."""
        return None if self.encoded is None else self.encoded.input_ids

    @property
    def key(self) -> Key:
        place = self.task_id, self.test_index, self.view.index
        return place if self.seen is None else (*place, "program")

    @property
    def test_indices(self) -> Sequence[int]:
        """The test outputs that its answers are candidates for."""
        return (self.test_index,) if self.seen is None else range(len(self.seen.test))


def make_requests(
    tasks: TaskSet, prompt: Prompt, *, num_views: int, seed: int, asked: Sequence[Asked] = ("grid",)
) -> list[Request]:
    """Write all questions in order: task, what is asked for, test pair, view.

    Solutions are neither needed nor looked at.
    """
    requests = []
    for task in tasks.without_solutions():
        views = draw_views(task, num_views, seed)
        for what in asked:
            num_questions = len(task.test) if what == "grid" else min(1, len(task.test))
            for test_index in range(num_questions):
                requests += [_request(task, test_index, view, prompt, what) for view in views]
    return requests


def _request(task: Task, test_index: int, view: View, prompt: Prompt, asked: Asked) -> Request:
    fitted = prompt.fit(view.apply(task), test_index, kind=QUESTIONS[asked], with_answer=False)
    return Request(
        task_id=task.id,
        test_index=test_index,
        view=view,
        encoded=None if fitted is None else fitted.encoded,
        num_dropped=0 if fitted is None else fitted.num_dropped,
        seen=_in_own_order(task, view) if asked == "program" else None,
    )


def longest_left_out(requests: Iterable[Request], tasks: TaskSet, prompt: Prompt) -> int:
    """Return how many tokens the longest of the prompts that do not fit takes with one demonstration."""
    lengths = [0]
    for request in requests:
        if request.encoded is None:
            task = request.view.apply(tasks[request.task_id].without_solutions())
            kind = QUESTIONS["grid" if request.seen is None else "program"]
            least = replace(task, train=task.train[:1])
            lengths.append(len(prompt.encode(least, request.test_index, kind=kind, with_answer=False)))
    return max(lengths)


def _in_own_order(task: Task, view: View) -> Task:
    """The task as it looks in the view, but with its pairs in their own order."""
    seen = [
        Pair(input=view.see(pair.input), output=None if pair.output is None else view.see(pair.output))
        for pair in (*task.train, *task.test)
    ]
    return Task(
        id=task.id,
        train=tuple(seen[: len(task.train)]),
        test=tuple(seen[len(task.train) :]),
        split=task.split,
    )
