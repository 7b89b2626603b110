"""The rendered photographs: varied, legible, the same for the same seed, and read back as the digits they show."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from mnist_pipeline.data.dataset import load
from mnist_pipeline.evaluation.photographs import (
    KINDS,
    SIDES,
    Photograph,
    Shown,
    contact_sheet,
    count_parts_and_loops,
    photograph,
    redraw_strokes,
)
from mnist_pipeline.reading import read_digit, read_digits


@pytest.fixture(scope="module")
def digits(mnist: Path) -> np.ndarray:
    return load(mnist, validation_images=5000, seed=0).validation.images[:150, 0].numpy()


@pytest.fixture(scope="module")
def photographs(digits: np.ndarray) -> list[Photograph]:
    return [photograph([digit], np.random.default_rng([0, i])) for i, digit in enumerate(digits)]


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
    again = [photograph([digit], np.random.default_rng([0, i])) for i, digit in enumerate(digits[:20])]
    assert again == photographs[:20]
    assert photograph([digits[0]], np.random.default_rng(1)) != photographs[0]


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
    plain = [redraw_strokes(digit, 3.0) > 0 for digit in digits[:60]]
    redrawn = [redraw_strokes(digit, width) > 0 for digit in digits[:60]]
    same = [
        count_parts_and_loops(a.astype(np.uint8)) == count_parts_and_loops(b.astype(np.uint8))
        for a, b in zip(plain, redrawn, strict=True)
    ]
    assert np.mean(same) > 0.9
    area = np.mean([mask.mean() for mask in redrawn]) / np.mean([mask.mean() for mask in plain])
    assert abs(area - width / 3) < 0.2
    thin = [redraw_strokes(digit, 0.6) > 0 for digit in digits[:60]]
    assert np.mean([mask.mean() for mask in thin]) < 0.6 * np.mean([mask.mean() for mask in plain])


def test_a_number_shows_its_digits_side_by_side(digits: np.ndarray) -> None:
    pictures = [photograph([*digits[k : k + 3]], np.random.default_rng([2, k])) for k in range(30)]
    counts = [len(read_digits(each.image).items) for each in pictures]
    assert np.mean(np.array(counts) == 3) > 0.7
    assert photograph([*digits[:3]], np.random.default_rng([2, 0])) == pictures[0]


def test_the_contact_sheet_shows_each_picture_and_what_is_seen(photographs: list[Photograph]) -> None:
    side, columns = 80, 4
    digit = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    shown = [Shown(each.image, each.kind, [digit]) for each in photographs[:7]]
    sheet = contact_sheet([*shown, Shown(white_png(), "two", [digit, digit])], side=side, columns=columns)
    assert sheet.size == (columns * 2 * side, 2 * (side + 14))
    cells = np.asarray(sheet).reshape(2, side + 14, columns, 2, side, 3)
    cells = cells.transpose(0, 2, 3, 1, 4, 5).reshape(8, 2, side + 14, side, 3)  # picture, then what is seen of it
    for (picture, seen), each in zip(cells[:7], photographs[:7], strict=True):
        with Image.open(io.BytesIO(each.image)) as opened:
            upright = ImageOps.contain(ImageOps.exif_transpose(opened).convert("RGBA"), (side - 4, side - 4))
        thumbnail = Image.new("RGBA", upright.size, (96, 96, 96, 255))
        thumbnail.alpha_composite(upright)
        difference = picture[14 : 14 + upright.height, 2 : 2 + upright.width] - np.asarray(thumbnail, float)[..., :3]
        assert np.abs(difference).max() <= 1
        expected = Image.fromarray(digit).resize((side - 4, side - 4), Image.Resampling.NEAREST)
        assert (seen[14:-4, :-4] == np.asarray(expected)[..., None]).all()
    half = (side - 4) // 2
    small = np.asarray(Image.fromarray(digit).resize((half, half), Image.Resampling.NEAREST))[..., None]
    assert (cells[7, 1, 14 : 14 + half, :half] == small).all()
    assert (cells[7, 1, 14 : 14 + half, half : 2 * half] == small).all()


def test_the_contact_sheet_says_why_nothing_is_seen() -> None:
    expected = Image.new("RGB", (400, 214), (96, 96, 96))
    expected.paste("white", (2, 14, 198, 210))
    pen = ImageDraw.Draw(expected)
    pen.text((2, 1), "blank", fill="white")
    pen.multiline_text((200, 66), "the picture is blank: no\nink", fill="white")
    sheet = contact_sheet([Shown(white_png(), "blank", "the picture is blank: no ink")], side=200, columns=1)
    assert (np.asarray(sheet) == np.asarray(expected)).all()
    assert contact_sheet([Shown(b"damaged", "", "")]).size == (6 * 2 * 160, 174)


def white_png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (60, 60), 255).save(file, "PNG")
    return file.getvalue()
