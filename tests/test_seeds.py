"""Each seed alone changes what it is for, and nothing else."""

from collections.abc import Callable, Mapping

import pytest
from small_training import trained, weights
from task_files import write
from toy_models import untrained

from arc_experiments import compose

Facts = Mapping[str, object]
FactsOf = Callable[..., Facts]


@pytest.fixture(scope="module")
def facts_of(tmp_path_factory: pytest.TempPathFactory) -> FactsOf:
    """What the seeds decide, of a run of two steps on eight tasks, four of them held out."""
    folder = tmp_path_factory.mktemp("seeds")
    for n in range(8):
        pairs = [{"input": [[n, i, 1]], "output": [[1, i, n]]} for i in range(4)]
        write(folder / "tasks", f"task{n}.json", {"train": pairs[:3], "test": pairs[3:]})
    options = [
        *untrained(), f"data.path={folder / 'tasks'}", "data=files", "data.partition=seeded",
        "data.num_validation=4", "prompt.max_length=300", "model.lora.rank=4", "model.lora.dropout=0.5",
        "optim.max_steps=2", "optim.batch_size=2", "optim.warmup=0", "inference.num_views=2",
        "tracking=off", "hardware=cpu", "hardware.threads=1",
    ]  # fmt: skip

    def facts(*overrides: str) -> Facts:
        run = compose([*options, *overrides], tmp_path_factory.mktemp("run"))
        model = run.model()
        first = weights(model)
        trained(run, model=model)
        return {
            "held out": run.corpus.validation_tasks.ids,
            "samples": [run.stream()[index].encoded.input_ids.tolist() for index in range(4)],
            "first weights": {name: value.tolist() for name, value in first.items()},
            "weights": {name: value.tolist() for name, value in weights(model).items()},
            "prompts": [None if one.ids is None else one.ids.tolist() for one in run.requests],
        }

    return facts


@pytest.fixture(scope="module")
def usual(facts_of: FactsOf) -> Facts:
    return facts_of()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ("seeds.partition=8", {"held out", "samples", "weights", "prompts"}),
        ("seeds.stream=2", {"samples", "weights"}),
        ("seeds.init=2", {"first weights", "weights"}),
        ("seeds.train=2", {"weights"}),
        ("seeds.inference=2", {"prompts"}),
        ("model.lora.dropout=0.5", set()),
    ],
)
def test_a_seed_changes_what_it_is_for_and_nothing_else(
    facts_of: FactsOf, usual: Facts, changed: str, what: set[str]
) -> None:
    found = facts_of(changed)
    assert {name for name in found if found[name] != usual[name]} == what


@pytest.mark.slow
def test_without_dropout_the_seed_of_training_changes_nothing(facts_of: FactsOf) -> None:
    plain = facts_of("model.lora.dropout=0.0")
    assert facts_of("model.lora.dropout=0.0", "seeds.train=2") == plain
