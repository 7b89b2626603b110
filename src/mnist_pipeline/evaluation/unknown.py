"""How well the archived model tells digits from letters and scribbles that it has never seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import roc_auc_score

from mnist_pipeline.evaluation.robustness import encode_png
from mnist_pipeline.serving.archived import ArchivedModel
from mnist_pipeline.training.drawing import FONTS
from mnist_pipeline.training.outliers import LETTERS, Sources, draw_outliers

LOOK_ALIKES = "OoIlSsZzBbqgi"  # somebody writes a digit like each of these
UNSEEN_FONTS = ("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10", "cmmi10")  # Computer Modern; training has others
SCRIBBLES = 300
ACCEPTED = 0.99  # of the test digits, for the second of the two levels


def measure_unknown(served: ArchivedModel, known: NDArray[np.float64], seed: int) -> dict[str, dict[str, Any]]:
    """What the model answers to pictures of letters and scribbles.

    Args:
        served: the archived model.
        known: its scores of the test digits, (N,).
        seed: of the scribbles.

    Returns:
        For "letters", "look_alikes" and "scribbles" (JSON-able): their number; the area under the ROC curve of the
        score of pictures against that of the test digits; the shares that are answered at all, and that would be if
        99 % of the test digits were.
    """
    none = Sources(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64))  # scribbles are made of no images
    scribbles = draw_outliers(SCRIBBLES, ("scribbles", "shapes"), none, (seed, 2))
    pictures = {
        "letters": draw_letters(LETTERS),
        "look_alikes": draw_letters(LOOK_ALIKES),
        "scribbles": [encode_png(255 - np.pad(scribble, 14)) for scribble in scribbles],
    }
    level = float(np.quantile(known, 1 - ACCEPTED))
    return {name: measure_one(served, each, known, level) for name, each in pictures.items()}


def measure_one(
    served: ArchivedModel, pictures: Sequence[bytes], known: NDArray[np.float64], level: float
) -> dict[str, Any]:
    """The figures of `measure_unknown` of some pictures; `level`: the score that 99 % of the test digits reach."""
    answered = [found for found, _ in served.find(pictures)]
    least = served.info["known"]["least"]
    served.info["known"]["least"] = level
    strictly = [found for found, _ in served.find(pictures)]
    served.info["known"]["least"] = 0.0
    scores = [min(one.known for one in found) if found else 0.0 for found, _ in served.find(pictures)]
    served.info["known"]["least"] = least
    return {
        "pictures": len(pictures),
        "auroc": float(roc_auc_score(np.arange(len(known) + len(scores)) < len(known), [*known, *scores])),
        "answered": sum(map(bool, answered)) / len(pictures),
        "answered_if_99_percent_of_digits_are": sum(map(bool, strictly)) / len(pictures),
    }


def draw_letters(letters: str) -> list[bytes]:
    """A PNG of each letter in each of UNSEEN_FONTS, black on white."""
    pictures = []
    for name in UNSEEN_FONTS:
        font = ImageFont.truetype(FONTS / f"{name}.ttf", 90)
        for letter in letters:
            picture = Image.new("L", (160, 160), 255)
            ImageDraw.Draw(picture).text((80, 80), letter, 0, font, anchor="mm")
            pictures.append(encode_png(np.asarray(picture)))
    return pictures
