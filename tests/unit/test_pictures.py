"""The contact sheet of `make score`, and the pictures that `make bench-pictures` draws."""

import sys

import numpy as np
from helpers import ROOT
from PIL import Image

from mnist_pipeline.evaluation.pictures import Shown, contact_sheet, encode_png
from mnist_pipeline.training import digit_forms, outliers

sys.path.append(str(ROOT / "benchmarks"))
import bench_pictures


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
