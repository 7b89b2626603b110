"""The rendered photographs: varied, legible, the same for the same seed, and read back as the digits they show."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_pipeline import data
from mnist_pipeline.photographs import KINDS, SIDES, Photograph, photograph, sheet, strokes, topology
from mnist_pipeline.preprocessing import read_digit


@pytest.fixture(scope="module")
def digits(mnist: Path) -> np.ndarray:
    return data.load(mnist, validation_images=5000, seed=0).validation.images[:150, 0].numpy()


@pytest.fixture(scope="module")
def photographs(digits: np.ndarray) -> list[Photograph]:
    return [photograph(digit, np.random.default_rng([0, i])) for i, digit in enumerate(digits)]


def test_every_kind_size_and_format_is_there(photographs: list[Photograph]) -> None:
    pictures = [Image.open(io.BytesIO(each.image)) for each in photographs]
    longest = [max(picture.size) for picture in pictures]
    assert {each.kind for each in photographs} == set(KINDS)
    assert {picture.format for picture in pictures} == {"JPEG", "PNG", "WEBP", "GIF", "BMP"}
    assert "RGBA" in {picture.mode for picture in pictures}
    assert min(longest) < 40
    assert max(longest) > 3000
    assert all(SIDES[0] <= side <= SIDES[1] for picture in pictures for side in picture.size)
    assert {picture.getexif().get(0x0112) for picture in pictures} >= {None, 3, 6, 8}


def test_the_same_seed_takes_the_same_photograph(digits: np.ndarray, photographs: list[Photograph]) -> None:
    again = [photograph(digit, np.random.default_rng([0, i])) for i, digit in enumerate(digits[:20])]
    assert again == photographs[:20]
    assert photograph(digits[0], np.random.default_rng(1)) != photographs[0]


def test_the_digit_survives_the_way_there_and_back(digits: np.ndarray, photographs: list[Photograph]) -> None:
    """Not a bit by bit comparison (pen and tilt differ): most of all digits it resembles its own."""
    others = digits.reshape(len(digits), -1).astype(float)
    others = (others - others.mean(1, keepdims=True)) / others.std(1, keepdims=True)
    found = 0
    for i, each in enumerate(photographs):
        read = read_digit(each.image).astype(float)
        shifted = [np.roll(read, (y, x), (0, 1)).ravel() for y in (-1, 0, 1) for x in (-1, 0, 1)]
        likeness = np.max([others @ (one - one.mean()) / one.std() for one in shifted], 0)
        found += i in np.argsort(likeness)[-15:]  # among the 5 % that it resembles most
    assert found > 0.85 * len(photographs)


@pytest.mark.parametrize("width", [2.0, 3.5, 5.0])
def test_pens_change_the_width_of_strokes_and_no_loop(digits: np.ndarray, width: float) -> None:
    plain = [strokes(digit, 3.0) > 0 for digit in digits[:60]]
    redrawn = [strokes(digit, width) > 0 for digit in digits[:60]]
    same = [topology(a.astype(np.uint8)) == topology(b.astype(np.uint8)) for a, b in zip(plain, redrawn, strict=True)]
    assert np.mean(same) > 0.9
    area = np.mean([mask.mean() for mask in redrawn]) / np.mean([mask.mean() for mask in plain])
    assert abs(area - width / 3) < 0.2
    assert np.mean([(strokes(digit, 0.6) > 0).mean() for digit in digits[:60]]) < 0.6 * np.mean([*map(np.mean, plain)])


def test_the_sheet_shows_each_photograph_and_what_is_read(photographs: list[Photograph]) -> None:
    blank = io.BytesIO()
    Image.new("L", (60, 60), 255).save(blank, "PNG")
    shown = sheet([*photographs[:7], Photograph(blank.getvalue(), "blank")], side=80, columns=4)
    assert shown.size == (4 * 2 * 80, 2 * 94)
    last = np.asarray(shown)[-80:, -80:]
    assert last.max() > 250  # the reason, in words
    assert np.asarray(shown)[14:94, 80:160].max() > 250
