"""The contact sheet of `make score`, and the pictures that `make bench-pictures` draws."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.evaluation.pictures import Shown, contact_sheet, encode_png
from mnist_pipeline.serving.archived import open_archive
from mnist_pipeline.training import digit_forms, outliers

sys.path.append(str(ROOT / "benchmarks"))
import bench_pictures
from photographs import photograph


@pytest.fixture(scope="module")
def originals(mnist: Path) -> np.ndarray:
    return load_test(mnist).images[:150, 0].numpy()


def test_the_same_seed_takes_the_same_photograph(originals: np.ndarray) -> None:
    first, again, other = (photograph([originals[0]], np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_what_is_answered_is_measured_with_the_limit_that_is_served(originals: np.ndarray, int8_archive: Path) -> None:
    numbers, draw = bench_pictures.choose_numbers(originals, np.zeros(150, int), 5)
    garments = [encode_png(np.zeros((28, 28), np.uint8)), encode_png(originals[0])]
    with open_archive(int8_archive) as (served, _):
        least = served.info["known"]["least"]
        found = bench_pictures.measure_digits(served, [draw(k) for k in range(5)], numbers)
        blank_and_digit = bench_pictures.measure_others(served, garments, 0.0)
        assert served.info["known"]["least"] == least
        served.info["known"]["least"] = 1.0
        assert bench_pictures.measure_others(served, garments, 0.5)["answered"] == 0
    assert found["accuracy"] + found["refused"] + found["wrong_and_sure"] <= 1
    assert (blank_and_digit["pictures"], blank_and_digit["answered"]) == (2, 0.5)
    assert 2 <= min(map(len, numbers)) <= max(map(len, numbers)) <= 8


def test_the_fonts_that_measure_are_not_those_that_train() -> None:
    assert not set(bench_pictures.UNSEEN_FONTS) & {*outliers.FONTS, *digit_forms.PRINTED}


def test_the_contact_sheet_shows_each_picture_and_what_is_seen_or_why_nothing() -> None:
    sent, digit = np.full((76, 76), 200, np.uint8), np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    shown = [
        Shown(encode_png(sent), "", [digit]),
        Shown(encode_png(sent), "", [digit, digit]),
        Shown(b"damaged", "", "no digit"),
        Shown(b"damaged", "", ""),
    ]
    sheet = np.asarray(contact_sheet(shown, side=80, columns=2))
    assert sheet.shape == (2 * 94, 2 * 2 * 80, 3)
    assert (sheet[14:90, 2:78] == 200).all()
    for left, size in ((80, 76), (240, 38), (278, 38)):
        seen = np.asarray(Image.fromarray(digit).resize((size, size), Image.Resampling.NEAREST))
        assert (sheet[14 : 14 + size, left : left + size] == seen[..., None]).all()
    said, silent = sheet[94:, 80:160], sheet[94:, 240:]
    assert (said != silent).any()
