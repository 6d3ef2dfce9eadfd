"""Ready rows with images: what is read of them, what is learnt, and what the model is given of the pixels."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from accelerate import PartialState
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from toy_llama_vision import ASSISTANT_HEADER, IMAGE, llama_vision, photograph
from toy_models import byte_tokenizer, load, settings
from toy_vision import FAMILIES, vision_model

from arc_experiments.models.processor import load_processor
from arc_experiments.models.tokenizer import load_tokenizer
from arc_experiments.pictures.inputs import PictureInputs
from arc_experiments.prompts import IGNORED, GridText, Prompt
from arc_experiments.tasks.images import Image
from arc_experiments.tasks.ready_rows import Row, parse_row
from arc_experiments.training.dataset import Collator, as_tensors
from arc_experiments.training.validation import make_records, validation_loss

ASK = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which colour?"}]}
SAY = {"role": "assistant", "content": "Red."}


def row(**content: Any) -> Row:
    return parse_row(content, split="", where="here")


def png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


# What is read


def test_an_image_is_the_same_in_every_form_in_which_data_sets_hold_it(tmp_path: Path) -> None:
    photo = photograph(1)
    photo.save(tmp_path / "photo.png")
    forms = [
        photo, np.asarray(photo), png(photo), tmp_path / "photo.png", str(tmp_path / "photo.png"),
        {"bytes": png(photo), "path": None}, {"bytes": None, "path": str(tmp_path / "photo.png")},
    ]  # fmt: skip
    images = [Image.of(form, "here") for form in forms]
    assert {image.digest for image in images} == {images[0].digest}
    assert all(np.array_equal(image.draw(), np.asarray(photo)) for image in images)
    assert images[0].size == (20, 24)
    assert Image.of(photograph(2), "here").digest != images[0].digest


def test_an_image_is_turned_upright_and_becomes_rgb() -> None:
    photo = photograph(1)
    photo.getexif()[274] = 6  # as a phone held upright writes it
    assert Image.of(photo, "here").size == (24, 20)
    assert Image.of(photograph(1).convert("L"), "here").draw().shape == (20, 24, 3)


@pytest.mark.parametrize("value", [b"no image", "missing.png", 3, {"bytes": None, "path": None}])
def test_what_is_no_image_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(ValueError, match="here, image 1 is no readable image: "):
        row(messages=[ASK, SAY], images=[photograph(1), value])


def test_images_are_shown_where_messages_have_a_part_for_them() -> None:
    one, two = photograph(1), photograph(2)
    later = {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "image"}]}
    plain = row(messages=[ASK, SAY, later, SAY], images=[one, two])
    inline = [
        {**ASK, "content": [{"type": "image", "image": one}, ASK["content"][1]]}, SAY,
        {**later, "content": [later["content"][0], {"type": "image", "image": two}]}, SAY,
    ]  # fmt: skip
    assert [image.digest for image in plain.images] == [Image.of(each, "").digest for each in (one, two)]
    assert row(messages=inline).id == plain.id
    assert row(messages=[ASK, SAY, later, SAY], images=[two, one]).id != plain.id


def test_images_that_no_part_mentions_begin_the_first_message_of_the_user() -> None:
    plain = [{"role": "user", "content": "Which colour?"}, SAY]
    assert row(messages=plain, images=[photograph(1)]).id == row(messages=[ASK, SAY], image=photograph(1)).id
    assert row(prompt=plain[:1], completion=[SAY], images=[photograph(1)]).content["num_given"] == 1


def test_the_ids_of_rows_without_images_stay_as_they_were() -> None:
    plain = [{"role": "user", "content": "Which colour?"}, SAY]
    assert row(messages=plain).id == "row_46cd7ba9f992e3f5"
    parts = [{"role": "user", "content": [{"type": "text", "text": "Which colour?"}]}, SAY]
    assert row(messages=parts, images=[]).id == row(messages=plain).id


def test_a_dataset_with_an_image_feature_gives_the_rows_of_a_list() -> None:
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "Which colour?"}]
    said = [{"type": "text", "text": "Red."}]
    rows = {
        "messages": [[{"role": "user", "content": parts}, {"role": "assistant", "content": said}]],
        "images": [[photograph(1)]],
    }
    part = {"type": Value("string"), "text": Value("string")}
    message = {"role": Value("string"), "content": List(part)}
    features = Features(messages=List(message), images=List(ImageFeature()))
    (read,) = Dataset.from_dict(rows, features=features)
    assert row(**read).id == row(messages=[ASK, SAY], images=[photograph(1)]).id


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"messages": [ASK, SAY]}, r"its messages show 1 images \(.*\), and `images` has 0"),
        ({"messages": [ASK, SAY], "images": [photograph(1)] * 2}, r"show 1 images .* has 2"),
        ({"text": "abc", "images": [photograph(1)]}, "which only messages of the user show"),
        ({"messages": [ASK, {**SAY, "content": [{"type": "image"}]}], "images": [photograph(1)] * 2},
         "message 1, part 0: the assistant shows an image, which cannot be learnt"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}, SAY]},
         "message 0, part 0 is neither .* nor .*: dict {'type': 'video'}"),
    ],
)  # fmt: skip
def test_a_row_whose_images_and_messages_do_not_agree_is_refused(
    content: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        row(**content)


# What is learnt, and what the model is given


@pytest.fixture(scope="module")
def inputs() -> PictureInputs:
    return PictureInputs(load_processor(settings(llama_vision())))


@pytest.fixture(scope="module")
def prompt(inputs: PictureInputs) -> Prompt:
    return Prompt(
        tokenizer=load_tokenizer(settings(llama_vision())), grid=GridText(), system=None, introduction="",
        demonstration="I{input}O{output}", question="I{input}O", answer="{output}", loss_on="test_output",
        chat=True, max_length=200, images=inputs,
    )  # fmt: skip


def talk(*seeds: int, answer: str = "Red.") -> Row:
    """A conversation with an image for each seed, and an answer after each."""
    messages = [ASK, {**SAY, "content": answer}] * len(seeds)
    return row(messages=messages, images=[photograph(seed, 20 + seed, 30) for seed in seeds])


def test_only_what_the_assistant_says_is_learnt(prompt: Prompt) -> None:
    fitted = prompt.fit_row(talk(1, 2))
    assert fitted is not None
    ids, labels = fitted.encoded.input_ids, fitted.encoded.labels
    learnt = labels != IGNORED
    assert prompt.decode(ids[learnt]) == "Red.<|eot_id|>" * 2
    assert (ids == IMAGE).sum() == len(fitted.encoded.pictures) == 2
    headers = [place for place in range(len(ids)) if ids[place : place + 3].tolist() == ASSISTANT_HEADER]
    assert [int(learnt[:place].argmax()) for place in headers[1:]] == [headers[0] + 4]  # "\n\n" is a token


def test_the_model_is_given_what_its_processor_makes_of_the_conversation(
    prompt: Prompt, inputs: PictureInputs
) -> None:
    both = talk(1, 2)
    fitted = prompt.fit_row(both)
    assert fitted is not None
    prompt.check_rows([both])  # which compares with the processor, too
    batch = Collator(prompt.pad_id, inputs)(
        [
            {"input_ids": fitted.encoded.input_ids, "labels": fitted.encoded.labels, "pictures": both.images,
             "marks": np.zeros(1)}
        ]
    )  # fmt: skip
    processor = load_processor(settings(llama_vision()))
    messages = [
        {**each, "content": [{"type": "text", "text": each["content"]}]} if each["role"] != "user" else each
        for each in both.content["messages"]
    ]
    text = processor.apply_chat_template(messages)
    images = [[PIL.Image.fromarray(image.draw()) for image in both.images]]
    theirs = processor(images=images, text=[text], add_special_tokens=False, return_tensors="np")
    assert set(theirs) == set(batch) - {"labels", "marks"}
    for name, values in theirs.items():
        assert np.array_equal(batch[name], values), name


def test_the_validation_loss_is_the_same_for_any_batch_and_depends_on_the_pixels(
    prompt: Prompt, inputs: PictureInputs
) -> None:
    model = load(settings(llama_vision()), trainable=False)
    rows = [talk(1), talk(2, 3, answer="Green, mostly."), row(messages=[{**ASK, "content": "Hi"}, SAY])]

    def losses(rows: list[Row], size: int) -> dict[str, float]:
        records, too_long = make_records(rows, prompt, {each.id: "mine" for each in rows})
        assert too_long == 0
        return validation_loss(
            model, records, num_too_long=0, pad_id=prompt.pad_id, batch_size=size,
            processes=PartialState(), pictures=inputs,
        ).by_task  # fmt: skip

    alone = losses(rows, 1)
    assert losses(rows, 3) == pytest.approx(alone, abs=1e-5)
    for each in rows:
        fitted = prompt.fit_row(each)
        assert fitted is not None
        batch = Collator(prompt.pad_id, inputs)(
            [{"input_ids": fitted.encoded.input_ids, "labels": fitted.encoded.labels,
              "pictures": each.images, "marks": np.zeros(1)}]
        )  # fmt: skip
        tensors = as_tensors(batch)
        labels = tensors.pop("labels")[0, 1:]
        del tensors["marks"]
        with torch.inference_mode():
            logits = model(**tensors, use_cache=False).logits[0, :-1]
        expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED)
        assert alone[each.id] == pytest.approx(float(expected), abs=1e-5)
    other = row(messages=rows[0].content["messages"], images=[photograph(9, 21, 30)])
    assert abs(losses([other], 1)[other.id] - alone[rows[0].id]) > 1e-4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"messages": [{"role": "user", "content": "<|image|>"}, SAY]}, "has 0 images, and its text shows 1"),
        ({"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "image": photograph(1)},
         "has 1 images, which take 1 tokens of this model, and its input_ids have 0"),
        ({"input_ids": [1, IMAGE, 3], "image": photograph(1)}, "tokens of images must be -100"),
    ],
)  # fmt: skip
def test_tokens_that_do_not_fit_the_images_are_refused(
    prompt: Prompt, content: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prompt.fit_row(row(**content))


def test_a_chat_template_that_leaves_images_out_is_refused(inputs: PictureInputs) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
        "{{ m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join }}"
        "{% endif %};{% endfor %}"
    )
    prompt = Prompt(
        tokenizer=tokenizer, grid=GridText(), system=None, introduction="", demonstration="{input}{output}",
        question="{input}", answer="{output}", loss_on="test_output", chat=False, max_length=200,
        images=inputs,
    )  # fmt: skip
    with pytest.raises(ValueError, match="has 1 images, and its text shows 0: either the model's chat"):
        prompt.fit_row(talk(1))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_in_every_family_rows_are_what_its_processor_makes_of_them(family: str) -> None:
    model = settings(vision_model(family))
    prompt = Prompt(
        tokenizer=load_tokenizer(model), grid=GridText(), system=None, introduction="",
        demonstration="I{input}O{output}", question="I{input}O", answer="{output}", loss_on="test_output",
        chat=True, max_length=2000, images=PictureInputs(load_processor(model)),
    )  # fmt: skip
    both = row(messages=[ASK, SAY, ASK, SAY], images=[photograph(1, 90, 120), photograph(2, 60, 60)])
    prompt.check_rows([both])  # compares ids and arrays
    fitted = prompt.fit_row(both)
    assert fitted is not None
    learnt = fitted.encoded.input_ids[fitted.encoded.labels != IGNORED]
    assert prompt.decode(learnt).count("Red.") == 2
    assert prompt.decode(learnt).replace("Red.", "").count("<") == 2, "and the ends of both turns"
