"""The contact sheet of `make score`, and the pictures that `make bench-pictures` draws."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image, ImageOps

from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.evaluation.pictures import Shown, contact_sheet, encode_png
from mnist_pipeline.serving.archived import open_archive
from mnist_pipeline.training import digit_forms, outliers

sys.path.append(str(ROOT / "benchmarks"))
import bench_pictures
from photographs import Photograph, photograph

BLANK = encode_png(np.full((60, 60), 255, np.uint8))


@pytest.fixture(scope="module")
def originals(mnist: Path) -> np.ndarray:
    return load_test(mnist).images[:150, 0].numpy()


@pytest.fixture(scope="module")
def photographs(originals: np.ndarray) -> list[Photograph]:
    return [photograph([digit], np.random.default_rng([0, i])) for i, digit in enumerate(originals)]


def test_the_same_seed_takes_the_same_photograph(originals: np.ndarray, photographs: list[Photograph]) -> None:
    again = [photograph([digit], np.random.default_rng([0, i])) for i, digit in enumerate(originals[:20])]
    assert again == photographs[:20]
    assert photograph([originals[0]], np.random.default_rng(1)) != photographs[0]


def test_what_is_answered_is_measured_with_the_limit_that_is_served(originals: np.ndarray, int8_archive: Path) -> None:
    numbers, draw = bench_pictures.choose_numbers(originals, np.zeros(150, int), 5)
    pictures = [draw(k) for k in range(5)]
    garments = [encode_png(np.zeros((28, 28), np.uint8)), encode_png(originals[0])]
    with open_archive(int8_archive) as (served, _):
        least = served.info["known"]["least"]
        found = bench_pictures.measure_digits(served, pictures, numbers)
        blank_and_digit = bench_pictures.measure_others(served, garments, 0.0)
        assert served.info["known"]["least"] == least
        served.info["known"]["least"] = 1.0
        assert bench_pictures.measure_others(served, garments, 0.5)["answered"] == 0
    assert found["accuracy"] + found["refused"] + found["wrong_and_sure"] <= 1
    assert (blank_and_digit["pictures"], blank_and_digit["answered"]) == (2, 0.5)
    assert 2 <= min(map(len, numbers)) <= max(map(len, numbers)) <= 8


def test_the_fonts_that_measure_are_not_those_that_train() -> None:
    assert not set(bench_pictures.UNSEEN_FONTS) & {*outliers.FONTS, *digit_forms.PRINTED}


def test_the_contact_sheet_shows_each_picture_and_what_is_seen(photographs: list[Photograph]) -> None:
    side, columns = 80, 4
    digit = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    shown = [Shown(each.image, each.kind, [digit]) for each in photographs[:7]]
    sheet = contact_sheet([*shown, Shown(BLANK, "two", [digit, digit])], side=side, columns=columns)
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
    silent, said = (np.asarray(contact_sheet([Shown(BLANK, "", why)])) for why in ("", "the picture is blank: no ink"))
    assert (silent != said).any(2)[:, 160:320].any()
    assert contact_sheet([Shown(b"damaged", "", "")]).size == (6 * 2 * 160, 174)
