"""Prompts with pictures on models of three families: labels, losses, answers, adapters."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from small_training import logged, same, trained, weights
from small_vision import make_tasks, vision_run
from task_files import write
from toy_models import settings
from toy_vision import FAMILIES, TRAINED, vision_model
from transformers import AutoModelForImageTextToText

from arc_experiments.augmentation import draw_views
from arc_experiments.generation import likelihoods
from arc_experiments.generation.answer_losses import answer_losses
from arc_experiments.generation.batching import OutOfMemory, TokenBudget
from arc_experiments.generation.engine import Limits
from arc_experiments.generation.rescoring import RescoringBatch, RescoringRequest, answer_ids
from arc_experiments.models import processor
from arc_experiments.models.hub import ModelError
from arc_experiments.models.processor import load_processor
from arc_experiments.models.tokenizer import load_tokenizer
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts import IGNORED
from arc_experiments.prompts.building import make_prompt, verified_prompt
from arc_experiments.run import Run
from arc_experiments.tasks import Pair, Task
from arc_experiments.training.validation import make_records, validation_loss

families = pytest.mark.parametrize("family", TRAINED)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def composed(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """A run of each prompt with pictures, for its options and tasks."""
    folder = tmp_path_factory.mktemp("prompts")
    return [
        vision_run("idefics3", tasks, folder / name, f"prompt={name}")
        for name in ("picture", "picture_and_text", "picture_compact")
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_with_pictures_is_what_the_models_own_processor_makes_of_it(
    family: str, composed: list[Run]
) -> None:
    model = settings(vision_model(family))
    inputs, tokenizer = PictureInputs(load_processor(model)), load_tokenizer(model)
    image = tokenizer.convert_tokens_to_ids(inputs.placeholder)
    for run in composed:
        task, tasks = run.validation_tasks[0], run.validation_tasks
        prompt = verified_prompt(run.config.prompt, tokenizer, tasks, inputs=inputs)  # refuses a difference
        encoded = prompt.encode(task)
        assert np.count_nonzero(encoded.input_ids == image) >= len(encoded.pictures) > 0
        assert (encoded.labels[: encoded.num_prompt] == IGNORED).all(), "no loss on prompt and pictures"
        answer = encoded.input_ids[encoded.num_prompt :]
        assert np.array_equal(encoded.labels[encoded.num_prompt :], answer)
        assert image not in answer
        assert answer[-1] in prompt.stop_ids
        assert np.array_equal(prompt.read(prompt.decode(answer[:-1])), task.test[0].output)
        shown = len(encoded)
        prompt.max_length = shown
        assert prompt.fit(task) is not None
        prompt.max_length = shown - 1
        assert prompt.fit(task) is None, "tokens of pictures count"


def losses_of_batches(run: Run, model: Any, *batch_sizes: int) -> list[float]:
    """The validation loss, by batches of these sizes; and of the records in reverse."""
    records, num_too_long = make_records(
        run.validation_tasks, run.prompt, dict.fromkeys(run.validation_tasks.ids, "source")
    )
    assert len(records) == 4
    assert num_too_long == 0
    return [
        validation_loss(
            model, ordered, num_too_long=0, pad_id=run.prompt.pad_id, batch_size=size,
            processes=run.processes, pictures=run.pictures,
        ).token_mean
        for size in batch_sizes
        for ordered in (records, records[::-1])
    ]  # fmt: skip


def loss_outside(run: Run, number: int) -> float:
    """The mean loss of a held-out task's answer by transformers and PEFT, from the saved files."""
    base = AutoModelForImageTextToText.from_pretrained(run.config.model.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(run.folder / "adapter")).eval()
    task = run.validation_tasks[number]
    encoded, process = run.prompt.encode(task), load_processor(run.config.model)
    text = run.prompt.text(task) + run.prompt.decode(encoded.input_ids[-1:])
    for picture in encoded.pictures:
        text = text.replace(run.pictures.text(picture), run.pictures.placeholder, 1)
    images = [[picture.draw() for picture in encoded.pictures]]
    batch = process(text=[text], images=images, add_special_tokens=False, return_tensors="pt")
    labels = batch["input_ids"].clone()
    labels[:, : encoded.num_prompt] = IGNORED
    with torch.inference_mode():
        return float(model(**batch, labels=labels, use_cache=False).loss)


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["picture_compact", "picture_and_text"])
@families
def test_a_model_that_sees_pictures_trains_resumes_saves_and_validates_as_one_of_text(
    family: str, prompt: str, tasks: Path, tmp_path: Path
) -> None:
    run = vision_run(family, tasks, tmp_path / "a", f"prompt={prompt}")
    model = run.model()
    trainer = trained(run, model=model)
    losses = logged(trainer, "loss")
    assert len(losses) == 5
    assert min(losses[3:]) < losses[0]
    for stop in ("3", "null"):
        other = vision_run(family, tasks, tmp_path / "b", f"prompt={prompt}", f"optim.stop_after={stop}")
        resumed = trained(other)
    assert logged(resumed, "loss") == losses
    assert same(weights(resumed.model), weights(model))

    by_task = run.validation_loss(model).by_task
    batches = losses_of_batches(run, model, 1, 2, 4)
    assert batches == pytest.approx([batches[0]] * 6, rel=1e-6)
    run.save_weights(model)
    assert run.validation_loss(run.trained_model()).by_task == pytest.approx(by_task, rel=1e-6)
    for number, task in enumerate(run.validation_tasks.ids):
        assert loss_outside(run, number) == pytest.approx(by_task[task], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        "model.quantisation=4bit",
        "model.quantisation=8bit",
        "model.dtype=bfloat16",
        "model.lora.vision=true",
        "model.lora=null",
        "model.attention=eager",
    ],
)
@families
def test_every_way_of_training_learns_and_is_saved(
    family: str, more: str, tasks: Path, tmp_path: Path
) -> None:
    run = vision_run(family, tasks, tmp_path, more)
    model = run.model()
    losses = logged(trained(run, model=model), "loss")
    assert min(losses[3:]) < losses[0]
    run.save_weights(model)
    expected = run.validation_loss(model).token_mean
    assert run.validation_loss(run.trained_model()).token_mean == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@families
def test_gradient_checkpointing_changes_nothing(family: str, tasks: Path, tmp_path: Path) -> None:
    both = ("model.lora.vision=true", "optim.max_steps=3")
    plain, saving = (
        trained(vision_run(family, tasks, tmp_path / value, *both, f"model.gradient_checkpointing={value}"))
        for value in ("false", "true")
    )
    assert logged(plain, "loss") == logged(saving, "loss")


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["picture_compact", "compact"])
@pytest.mark.parametrize("more", [[], ["inference.num_samples=3", "inference.temperature=1.0"]])
@families
def test_prompts_with_and_without_pictures_are_answered_in_a_batch_as_one_by_one(
    family: str, more: list[str], prompt: str, tasks: Path, tmp_path: Path
) -> None:
    run = vision_run(family, tasks, tmp_path, f"prompt={prompt}", *more)
    model, limits = (
        run.model(trainable=False),
        Limits(max_new_tokens=6, stop_ids=(), pad_id=run.prompt.pad_id),
    )
    prompts = [run.prompt.encode(task, with_answer=False) for task in run.validation_tasks]
    keys = [(task.id, 0, 0) for task in run.validation_tasks]
    at_once = run.engine.answer(model, prompts, keys, limits)
    alone = [
        run.engine.answer(model, [each], [key], limits)[0] for each, key in zip(prompts, keys, strict=True)
    ]
    for left, right in zip(at_once, alone, strict=True):
        assert [answer.ids for answer in left] == [answer.ids for answer in right]
        assert [answer.log_probability for answer in left] == pytest.approx(
            [answer.log_probability for answer in right], abs=1e-4
        )
    for encoded, answers in zip(prompts, at_once, strict=True):
        whole = [replace(encoded, input_ids=np.append(encoded.input_ids, answer.ids)) for answer in answers]
        read = answer_losses(model, whole, [6] * len(whole), limits.pad_id, run.engine.pictures)
        assert [-loss for loss in read] == pytest.approx(
            [answer.log_probability for answer in answers], abs=1e-4
        ), "what was generated step by step is as probable when it is read at once"


@pytest.mark.parametrize(("family", "side"), [("qwen2_5_vl", 28), ("qwen3_vl", 32)])
def test_qwen_sees_one_cell_a_token_also_where_it_would_enlarge_a_small_picture(
    family: str, side: int, composed: list[Run]
) -> None:
    model = settings(vision_model(family))
    inputs = PictureInputs(load_processor(model))
    prompt = make_prompt(composed[0].config.prompt, load_tokenizer(model), inputs=inputs)
    for shape, tokens in (((1, 1), 4), ((1, 3), 6), ((2, 7), 14), ((30, 30), 900)):
        assert prompt.pictures is not None
        picture = prompt.pictures.make(((np.full(shape, 3, np.uint8),),))
        assert inputs.text(picture).count(inputs.placeholder) == tokens
        colours, counts = np.unique(picture.draw().reshape(-1, 3), axis=0, return_counts=True)
        paper = int(counts[(colours == 255).all(1)].sum())
        assert paper == (tokens - shape[0] * shape[1]) * side**2
        assert (picture.draw()[: shape[0] * side, : shape[1] * side] != 255).any(-1).all()


def test_a_processor_that_needs_more_packages_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "find_spec", lambda name: None)
    config = (vision_model("idefics3") / "config.json").read_text()
    write(tmp_path, "config.json", config.replace("Idefics3", "SmolVLM").replace("idefics3", "smolvlm"))
    with pytest.raises(ModelError, match=r"needs torchvision and num2words: pip install .*\[vision\]"):
        load_processor(settings(tmp_path))


def rescored(run: Run) -> list[RescoringRequest]:
    """Three candidates for each held-out task."""
    grids = tuple(np.full(shape, 5, np.uint8) for shape in ((1, 1), (2, 3), (3, 2)))
    return [
        RescoringRequest(
            task_id=task.id, test_index=0, view=draw_views(task, 1, 0)[0], grids=grids,
            answers=tuple(answer_ids(run.prompt, Pair(input=grid, output=grid)) for grid in grids),
            prompt=run.prompt.encode(task, with_answer=False),
        )
        for task in run.validation_tasks
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["picture_compact", "compact"])
@families
def test_candidates_are_as_probable_together_as_alone(
    family: str, prompt: str, tasks: Path, tmp_path: Path
) -> None:
    run = vision_run(family, tasks, tmp_path, f"prompt={prompt}")
    model, pad_id = run.model(trainable=False), run.prompt.pad_id
    requests = rescored(run)
    scores = RescoringBatch(requests=requests).score(model, run.prompt, TokenBudget(10000))
    for request, records in zip(requests, scores, strict=True):
        for ids, record in zip(request.answers, records, strict=True):
            whole = replace(request.prompt, input_ids=np.append(request.prompt.input_ids, ids))
            [loss] = answer_losses(model, [whole], [len(ids)], pad_id, run.engine.pictures)
            assert record["log_probability"] == pytest.approx(-loss, abs=1e-4)


@pytest.mark.slow
def test_candidates_after_pictures_are_scored_within_the_token_budget(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = vision_run("idefics3", tasks, tmp_path)
    model, request = run.model(trainable=False), rescored(run)[0]
    passes: list[int] = []

    def small_memory(model: Any, rows: list, *arguments: Any) -> list[float]:
        if len(rows) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        passes.append(len(rows))
        return answer_losses(model, rows, *arguments)

    monkeypatch.setattr(likelihoods, "answer_losses", small_memory)
    found = {}
    for tokens, fits, expected in (
        (10000, 3, [3]), (2 * request.num_tokens, 3, [2, 1]), (1, 3, [1, 1, 1]), (10000, 2, [2, 1]),
    ):  # fmt: skip
        passes.clear()
        [records] = RescoringBatch(requests=[request]).score(model, run.prompt, TokenBudget(tokens))
        assert passes == expected
        found[tokens, fits] = [record["log_probability"] for record in records]
    for each in found.values():
        assert each == pytest.approx(found[10000, 3], abs=1e-4)
    fits = 0
    with pytest.raises(OutOfMemory, match=r"inference\.batch_tokens limits several together"):
        RescoringBatch(requests=[request]).score(model, run.prompt, TokenBudget(10000))


def test_a_sheet_drops_demonstrations_until_the_canvas_has_room_for_the_rest(composed: list[Run]) -> None:
    run = composed[1]
    model = settings(vision_model("idefics3"))  # sees pictures in 64 x 64 pixels
    inputs = PictureInputs(load_processor(model))
    prompt = verified_prompt(
        replace(run.config.prompt, max_length=10000),
        load_tokenizer(model),
        run.validation_tasks,
        inputs=inputs,
    )
    tall = Pair(input=np.zeros((20, 1), np.uint8), output=np.ones((20, 1), np.uint8))
    for num_demonstrations, num_dropped in ((2, 0), (5, 3)):  # 62 and 125 cells
        fitted = prompt.fit(Task(id="t", train=(tall,) * num_demonstrations, test=(tall,)))
        assert fitted is not None
        assert fitted.num_dropped == num_dropped
        assert fitted.encoded.pictures[0].draw().shape == (64, 64, 3)
    wide = Pair(input=np.zeros((1, 30), np.uint8), output=np.zeros((1, 40), np.uint8))
    assert prompt.fit(Task(id="t", train=(wide,), test=(wide,))) is None, "71 cells"
