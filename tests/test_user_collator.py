"""A user's own collator: its labels are used as they are, and what cannot be honoured is refused."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_llama_vision import ASSISTANT_HEADER, BEGIN, llama_processor, llama_vision
from toy_models import byte_tokenizer, settings

from arc_experiments.models.processor import load_processor
from arc_experiments.models.tokenizer import load_tokenizer
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts import IGNORED, GridText, Prompt
from arc_experiments.sources import UserFile
from arc_experiments.tasks import BadTasks, FixedTasks, Row

SYNTHETIC = Path(__file__).with_name("synthetic_dataset.py")


def read(file: Path, load: Any, bad_tasks: BadTasks | None = None, **options: Any) -> FixedTasks:
    return UserFile(file=str(file), **options).read_with(load, bad_tasks or BadTasks())


@pytest.fixture(scope="module")
def load() -> Any:
    return lambda: load_processor(settings(llama_vision()))


@pytest.fixture(scope="module")
def synthetic(load: Any) -> FixedTasks:
    return read(SYNTHETIC, load)


def test_samples_of_any_form_become_rows_by_llama_cookbooks_collator(synthetic: FixedTasks) -> None:
    splits = [task.split for task in synthetic.fixed]
    assert (splits.count("training"), splits.count("evaluation")) == (27, 3)
    assert all(len(task.images) == 1 for task in synthetic.fixed)
    wide = sorted(task.images[0].size for task in synthetic.fixed)
    assert wide == [(20, 24 + number) for number in range(30)]


def test_the_rows_are_the_same_each_time(synthetic: FixedTasks, load: Any) -> None:
    assert read(SYNTHETIC, load).ids == synthetic.ids


def test_its_labels_are_ours_and_the_newlines_before_each_answer(synthetic: FixedTasks, load: Any) -> None:
    prompt = Prompt(
        tokenizer=load_tokenizer(settings(llama_vision())), grid=GridText(), system=None, introduction="",
        demonstration="I{input}O{output}", question="I{input}O", answer="{output}", loss_on="test_output",
        chat=True, max_length=200, images=PictureInputs(load()),
    )  # fmt: skip
    here = read(SYNTHETIC.with_name("synthetic_messages.py"), load)
    theirs = {row.images[0].digest: row for row in synthetic.fixed}
    for row in here.fixed:
        ours, collated = prompt.fit_row(row), prompt.fit_row(theirs[row.images[0].digest])
        assert ours is not None
        assert collated is not None
        # The processor and the tokenizer both write the begin of the text.
        ids = collated.encoded.input_ids[1:]
        assert collated.encoded.input_ids[:2].tolist() == [BEGIN, BEGIN]
        assert np.array_equal(ids, ours.encoded.input_ids)
        more = (collated.encoded.labels[1:] != IGNORED) != (ours.encoded.labels != IGNORED)
        headers = [n for n in range(len(ids)) if ids[n : n + 3].tolist() == ASSISTANT_HEADER]
        assert np.flatnonzero(more).tolist() == [header + 3 for header in headers]


COLLATOR = """
    import numpy as np
    from PIL import Image

    def get_custom_dataset(dataset_config, processor, split):
        return [{{"sample": n}} for n in range(2)]

    def get_data_collator(processor):
        def collate(samples):
            (sample,) = samples
            image = Image.new("RGB", (20, 20), (sample["sample"], 0, 0))
            batch = dict(processor(images=[[image]], text=["<|image|>Hi"], return_tensors="np"{more}))
            batch["labels"] = np.where(batch["input_ids"] == 128256, -100, batch["input_ids"])
            {last}
            return batch
        return collate
"""


@pytest.mark.parametrize(
    ("more", "last", "message"),
    [
        ("", "del batch['labels']", "item 0: what get_data_collator's collator returns has no input_ids and"),
        ("", "return 3", "has no input_ids and labels: int 3"),
        ("", "raise KeyError('pixels')", r"a batch of one sample\n(.|\n)*KeyError: 'pixels'"),
        ("", "batch = {name: values[0] for name, values in batch.items()}", "of the shape .*, not .1"),
        ("", "batch['pixel_values'] += 1", "has other pixel_values than the model's processor makes of"),
        ("", "del batch['pixel_values']", "has other pixel_values than"),
        ("", "batch['token_weights'] = batch['labels']", "has other token_weights than"),
        (", size={'height': 60, 'width': 60}", "", "has other pixel_values than"),
        ("", "batch['labels'] += 1", "each label its token's id or -100"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(
    more: str, last: str, message: str, tmp_path: Path, load: Any
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(COLLATOR.format(more=more, last=last)))
    with pytest.raises(ValueError, match=message):
        read(file, load, validation_split=None)


def test_a_sample_that_its_collator_refuses_can_be_skipped(tmp_path: Path, load: Any) -> None:
    file, bad_tasks = tmp_path / "mine.py", BadTasks(skip=True)
    file.write_text(textwrap.dedent(COLLATOR.format(more="", last="assert sample['sample']")))
    assert len(read(file, load, bad_tasks, validation_split=None).ids) == 1
    assert "AssertionError" in bad_tasks.skipped[0]


def test_a_change_of_the_processor_that_training_would_not_have_is_refused(tmp_path: Path, load: Any) -> None:
    file = tmp_path / "mine.py"
    changed = "def get_data_collator(processor):\n        processor.image_processor.rescale_factor = 1.0"
    text = COLLATOR.format(more="", last="").replace("def get_data_collator(processor):", changed)
    file.write_text(textwrap.dedent(text))
    with pytest.raises(ValueError, match="has other pixel_values than"):
        read(file, load, validation_split=None)


def test_a_collator_of_text_gets_the_tokenizer_and_can_be_left_unused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        textwrap.dedent("""
        def get_custom_dataset(dataset_config, tokenizer, split):
            return [{"text": "ab"}]

        def get_data_collator(tokenizer):
            def collate(samples):
                batch = tokenizer([each["text"] for each in samples], padding="max_length", max_length=4)
                return {**batch, "labels": batch["input_ids"]}
            return collate
        """)
    )
    tokenizer = byte_tokenizer()
    (row,) = read(file, lambda: tokenizer, validation_split=None).fixed
    assert row.content["input_ids"].tolist() == tokenizer("ab")["input_ids"]
    (plain,) = read(file, lambda: tokenizer, validation_split=None, collator=False).fixed
    assert isinstance(plain, Row)
    assert plain.content == {"text": "ab"}


def test_the_watched_processor_is_the_users_alone() -> None:
    processor = llama_processor()
    read(SYNTHETIC, lambda: processor)
    assert type(processor.image_processor).__name__ == "MllamaImageProcessorPil"
