"""job=inspect: what is shown and counted is what the stream gives."""

import base64
import io
import itertools
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from quick_compose import compose
from rich.console import Console

from arc_experiments.jobs import inspect
from arc_experiments.jobs.terminal import show_sample
from arc_experiments.run import Run
from arc_experiments.stream.counting import Lengths, count, count_validation, histogram

SMALL = ["job=inspect", "data.limit=6", "inspect.num_counted=12", "inspect.num_samples=3"]


def inspected(folder: Path, *overrides: str, terminal: bool = False) -> tuple[Run, str]:
    """The run and what the terminal got."""
    run = compose([*SMALL, *overrides], folder)
    console = Console(
        record=True, width=120, force_terminal=terminal, color_system="truecolor" if terminal else None
    )
    inspect.main(run, console)
    return run, console.export_text(styles=terminal)


@pytest.mark.slow
def test_counts_are_those_of_the_streams_samples(tmp_path: Path) -> None:
    run = compose(
        [*SMALL, "data=mix", "data.sources.arc1.limit=5", "prompt.max_length=700"], tmp_path / "run"
    )
    stream = run.stream()
    counted = count(stream, 40)
    samples = [stream[index] for index in range(40)]
    assert counted.rows == [len(sample.encoded) for sample in samples]
    for number, (name, source) in enumerate(counted.by_source.items()):
        own = [sample for sample in samples if sample.part == number]
        assert stream.parts[number].name == name
        assert source.tokens == [len(sample.encoded) for sample in own]
        assert source.learnt == sum(int(np.sum(sample.encoded.labels != -100)) for sample in own)
        assert source.num_dropped == sum(sample.num_dropped for sample in own)
        assert source.num_redrawn == sum(sample.num_redrawn for sample in own)
        assert source.visits.total() == len(own)
        assert set(source.visits) == set(stream.parts[number].task_ids)
        values = source.as_json()
        assert values["length_percentiles"]["100"] == max(source.tokens)
        assert values["tasks"]["never_drawn"] == sum(not visits for visits in source.visits.values())
    assert sum(source.num_shrunk for source in counted.by_source.values()) > 0
    assert sum(source.num_redrawn for source in counted.by_source.values()) > 0


def test_validation_counts_what_does_not_fit(tmp_path: Path) -> None:
    run = compose([*SMALL, "prompt.max_length=700"], tmp_path / "run")
    counted = count_validation(run.validation_tasks, run.prompt)
    records, too_long = run.validation_records
    assert counted.num_redrawn == too_long > 0
    assert sorted(counted.tokens) == sorted(len(record.asked) for record in records)


def test_a_packed_row_is_counted_once_and_its_samples_each(tmp_path: Path) -> None:
    run, shown = inspected(tmp_path / "run", "optim.pack_length=4096")
    counts = json.loads((run.folder / "inspect.json").read_text())["train"]["arc1"]
    assert counts["samples"] > 12
    assert "row 0, 1 of" in shown
    page = (run.folder / "inspect.html").read_text()
    numbers = re.findall(r"row \d, (\d+) of (\d+)", page)
    assert len(numbers) == sum(len(run.stream().row(index)) for index in range(3))


def test_the_page_shows_the_tokens_with_their_loss(tmp_path: Path) -> None:
    run, shown = inspected(tmp_path / "run")
    page = (run.folder / "inspect.html").read_text()
    cards = page.split("<article>")[1:]
    assert len(cards) == 3
    for index, card in enumerate(cards):
        sample = run.stream()[index]
        tokens = re.findall(
            r'<span class="token( learnt)?" title="(\d+)">(.*?)</span>', card, flags=re.DOTALL
        )
        assert [int(number) for _, number, _ in tokens] == sample.encoded.input_ids.tolist()
        assert [bool(learnt) for learnt, _, _ in tokens] == (sample.encoded.labels >= 0).tolist()
        text = "".join(unescape(text) for _, _, text in tokens).replace("↵\n", "\n")
        assert text == run.prompt.decode(sample.encoded.input_ids)
        assert " ".join(sample.augmentation) in card
        assert card.count("<svg") == 2 * len(sample.task.train) + 2
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert str(run.folder / "inspect.html") in shown
    assert "validation" in shown


def test_a_terminal_gets_pictures_and_coloured_tokens(tmp_path: Path) -> None:
    _, shown = inspected(tmp_path / "run", terminal=True)
    assert "48;2;0;116;217" in shown or "48;2;255;65;54" in shown  # the ground of a cell, blue or red
    assert "\x1b[1;32m" in shown  # bold green: a token with loss


@pytest.mark.slow
def test_the_same_composition_gives_the_same_page(tmp_path: Path) -> None:
    pages = [(inspected(tmp_path / name / "run")[0].folder / "inspect.html").read_bytes() for name in "ab"]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("lengths", [[1], [5, 5], [1, 2000], [17, 18, 400, 8192], list(range(3, 3000))])
def test_a_histogram_counts_every_length_once(lengths: list[int]) -> None:
    bins = histogram(lengths)
    assert sum(number for _, _, number in bins) == len(lengths)
    assert len(bins) <= 25
    assert bins[0][0] <= min(lengths)
    assert bins[-1][1] > max(lengths)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(bins))


def test_nothing_counted_has_no_percentiles() -> None:
    assert Lengths(num_redrawn=3).as_json()["length_percentiles"] is None


SEEN = [
    "data=see",
    "model.name=see_start",
    "augmentation=none",
    "prompt=picture_compact",
    "prompt.max_length=512",
    "model.lora=null",
]


def test_a_sample_with_pictures_shows_the_very_pixels_and_folds_their_tokens(
    tmp_path: Path, see_start: Path
) -> None:
    run, shown = inspected(tmp_path / "run", *SEEN, f"model.path={see_start}", "inspect.num_counted=2")
    page = (run.folder / "inspect.html").read_text()
    cards = page.split("<article>")[1:]
    assert len(cards) == 3
    for index, card in enumerate(cards):
        sample = run.stream()[index]
        drawn = [
            np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(png))))
            for png in re.findall(r'src="data:image/png;base64,([^"]*)"', card)
        ]
        assert len(drawn) == len(sample.encoded.pictures) > 0
        for pixels, picture in zip(drawn, sample.encoded.pictures, strict=True):
            assert np.array_equal(pixels, picture.draw())
        assert card.count("&lt;image&gt; x 49</span>") == len(drawn)
        tokens = re.findall(r'<span class="token(?: learnt)?" title="(\d+)">', card)
        assert len(tokens) == len(sample.encoded) - 48 * len(drawn)
    assert "<image> x 49" in shown
    assert "<image><image>" not in shown


def test_the_first_sample_in_the_terminal_folds_the_tokens_of_pictures(
    tmp_path: Path, see_start: Path
) -> None:
    run = compose([*SMALL, *SEEN, f"model.path={see_start}"], tmp_path / "run")
    console = Console(record=True, width=120)
    show_sample(run.stream()[0], run, console)
    shown = console.export_text()
    assert shown.count("<image> x 49") == len(run.stream()[0].encoded.pictures)
    assert "<image><image>" not in shown
