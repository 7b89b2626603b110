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
ACCEPTED = 0.99  # of the test digits, for the second of the two levels


def measure_unknown(
    served: ArchivedModel, known: NDArray[np.float64], count: int, seed: int
) -> dict[str, dict[str, Any]]:
    """What the model answers to pictures of letters and scribbles.

    Args:
        served: the archived model.
        known: its scores of the test digits, (N,).
        count: of pictures of each kind, 1 or more; of look-alikes as many as there are letters in fonts, at most.
        seed: of the letters, fonts and scribbles.

    Returns:
        For "letters", "look_alikes" and "scribbles" (JSON-able), what `measure_one` returns.
    """
    rng = np.random.default_rng((seed, 2))
    nothing = Sources(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64))  # scribbles are made of no images
    scribbles = draw_outliers(count, ("scribbles", "shapes"), nothing, (seed, 3))
    pictures = {
        "letters": draw_letters(LETTERS, count, rng),
        "look_alikes": draw_letters(LOOK_ALIKES, count, rng),
        "scribbles": [encode_png(255 - np.pad(scribble, 14)) for scribble in scribbles],
    }
    level = float(np.quantile(known, 1 - ACCEPTED))
    return {name: measure_one(served, each, known, level) for name, each in pictures.items()}


def measure_one(
    served: ArchivedModel, pictures: Sequence[bytes], known: NDArray[np.float64], level: float
) -> dict[str, Any]:
    """What the model answers to pictures that hold no digit.

    Args:
        served: the archived model.
        pictures: encoded, at least one.
        known: its scores of the test digits, (N,).
        level: the score that 99 % of the test digits reach.

    Returns:
        Their number; the area under the ROC curve of their scores against those of the test digits; the shares that
        are answered at all, and that would be if 99 % of the test digits were. A picture's score is the highest in it.
    """
    least = served.info["known"]["least"]
    served.info["known"]["least"] = 0.0  # nothing is left out
    scores = np.array([max((one.known for one in found), default=0.0) for found, _ in served.find(pictures)])
    served.info["known"]["least"] = least
    is_known = np.arange(len(known) + len(scores)) < len(known)
    return {
        "pictures": len(pictures),
        "auroc": float(roc_auc_score(is_known, np.concatenate([known, scores]))),
        "answered": float((scores >= least).mean()),
        "answered_if_99_percent_of_digits_are": float((scores >= level).mean()),
    }


def draw_letters(letters: str, count: int, rng: np.random.Generator) -> list[bytes]:
    """PNGs of different letters in UNSEEN_FONTS, black on white: so many, or all that there are if these are fewer."""
    pairs = [(font, letter) for font in UNSEEN_FONTS for letter in letters]
    pictures = []
    for k in rng.permutation(len(pairs))[:count]:
        name, letter = pairs[k]
        font = ImageFont.truetype(FONTS / f"{name}.ttf", 90)
        picture = Image.new("L", (160, 160), 255)
        ImageDraw.Draw(picture).text((80, 80), letter, 0, font, anchor="mm")
        pictures.append(encode_png(np.asarray(picture)))
    return pictures
