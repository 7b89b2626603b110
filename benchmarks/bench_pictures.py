"""What the archived model answers to pictures that have to be drawn: digits as people send them, and what is no digit.

- MNIST's test digits as photographs and screenshots, and as numbers of 2 to 8 digits. The figures are the share that is
  read rightly as a whole, the share that is refused, and the share that is read wrongly with a probability above 0.9.
- Letters, scribbles and garments (Fashion-MNIST's test images), which are no digits. The figures are the share that is
  answered as a digit all the same, and the share that would be at a stricter limit: the score that 99 % of the test
  digits reach.

Each picture is answered as the server would, with the limit that is served.
"""

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT
from figures import publish
from photographs import Photograph, photograph
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from mnist_pipeline.data.dataset import Examples, load_test
from mnist_pipeline.evaluation.metrics import accuracy_with_interval
from mnist_pipeline.evaluation.pictures import encode_png, read_number
from mnist_pipeline.serving.answer import Found, Model
from mnist_pipeline.serving.archived import open_archive
from mnist_pipeline.serving.recognition import score_known
from mnist_pipeline.sources.download import download
from mnist_pipeline.training.drawing import FONTS
from mnist_pipeline.training.outliers import LETTERS, draw_outliers

COUNTS = {"photographs": 2000, "numbers": 300, "letters": 200, "scribbles": 200, "garments": 2000}
BATCH = 64  # pictures that are answered together
UNSEEN_FONTS = ("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10", "cmmi10")  # Computer Modern; training has others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirrors", nargs="*", default=[], help="folders or URLs that hold Fashion-MNIST's IDX files")
    arguments = parser.parse_args()
    test = load_test(ROOT / "data")
    digits, labels = test.images[:, 0].numpy(), test.labels.numpy()
    with tempfile.TemporaryDirectory() as folder:
        download("FashionMNIST", Path(folder) / "data", arguments.mirrors)
        garments = load_test(Path(folder) / "data").images[: COUNTS["garments"], 0].numpy()
    with open_archive(ROOT / "model_store/mnist.mar") as (served, _):
        results: dict[str, Any] = {}
        for name, choose in {"photographs": choose_digits, "numbers": choose_numbers}.items():
            numbers, draw = choose(digits, labels, COUNTS[name])
            pictures = render(len(numbers), draw, name)
            results[name] = measure_digits(served, pictures, numbers)
        level = float(np.quantile(score_known(served.logits(digits[:, None]), served.info), 0.01))
        for name, others in draw_others(garments).items():
            results[name] = measure_others(served, others, level)
        publish("pictures", results | {"model": served.info["weights"]})


def choose_digits(digits: np.ndarray, labels: np.ndarray, count: int) -> tuple[list[str], Callable[[int], Photograph]]:
    """What photographs of single digits, uint8 (N, 28, 28), show, and the function that draws the k-th of them."""
    chosen = np.random.default_rng(0).permutation(len(labels))[:count]
    return [str(labels[k]) for k in chosen], lambda k: photograph([digits[chosen[k]]], np.random.default_rng((0, k)))


def choose_numbers(digits: np.ndarray, labels: np.ndarray, count: int) -> tuple[list[str], Callable[[int], Photograph]]:
    """The same for numbers of 2 to 8 digits."""
    rngs = [np.random.default_rng((0, 1, k)) for k in range(count)]
    chosen = [rng.integers(len(labels), size=rng.integers(2, 9)) for rng in rngs]
    return ["".join(map(str, labels[each])) for each in chosen], lambda k: photograph([*digits[chosen[k]]], rngs[k])


def draw_others(garments: np.ndarray) -> dict[str, list[bytes]]:
    """Pictures of letters, of scribbles, and of garments, uint8 (N, 28, 28)."""
    rng = np.random.default_rng((0, 2))
    nothing = Examples(torch.zeros(0, 1, 28, 28), torch.zeros(0))  # scribbles are made of no images
    scribbles = draw_outliers(COUNTS["scribbles"], ("scribbles", "shapes"), nothing, (0, 3))
    return {
        "letters": draw_letters(LETTERS, COUNTS["letters"], rng),
        "scribbles": [encode_png(255 - np.pad(scribble[0], 14)) for scribble in scribbles],
        "garments": [encode_png(garment) for garment in garments],
    }


def render(count: int, draw: Callable[[int], Photograph], name: str) -> list[Photograph]:
    """Draw so many pictures, with a progress bar."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow, numpy and OpenCV release Python's lock
        return list(tqdm(pool.map(draw, range(count)), total=count, desc=name, disable=None))


def answer(served: Model, pictures: Sequence[bytes]) -> list[tuple[list[Found], str]]:
    """What is answered to each picture: what was found, or nothing and the reason."""
    batches = tqdm(range(0, len(pictures), BATCH), desc="answers", unit="batch", disable=None)
    return [each for start in batches for each in served.find(pictures[start : start + BATCH])]


def measure_digits(served: Model, pictures: Sequence[Photograph], numbers: Sequence[str]) -> dict[str, Any]:
    """How well pictures of these numbers are read, by kind as well."""
    names = served.info["class_names"]
    answers = answer(served, [picture.image for picture in pictures])
    right = [read_number(found, names) == number for (found, _), number in zip(answers, numbers, strict=True)]
    sure = [bool(found) and served.probability(found) > 0.9 for found, _ in answers]
    by_kind = defaultdict(list)
    for picture, is_right in zip(pictures, right, strict=True):
        by_kind[picture.kind].append(is_right)
    return {
        **accuracy_with_interval(torch.tensor(right)),
        "pictures": len(pictures),
        "refused": sum(not found for found, _ in answers) / len(pictures),
        "wrong_and_sure": sum(s and not r for s, r in zip(sure, right, strict=True)) / len(pictures),
        "by_kind": {
            kind: {"accuracy": sum(each) / len(each), "n": len(each)} for kind, each in sorted(by_kind.items())
        },
    }


def measure_others(served: Model, pictures: Sequence[bytes], level: float) -> dict[str, Any]:
    """The shares of pictures without a digit that are answered, and that are with a score of at least `level`.

    A picture's score is the highest in it. Below the limit that is served nothing is answered, and has no score.
    """
    answers = [found for found, _ in answer(served, pictures)]
    scores = np.array([max((one.known for one in found), default=0.0) for found in answers])
    return {
        "pictures": len(pictures),
        "answered": sum(bool(found) for found in answers) / len(pictures),
        "answered_at_99_percent_of_digits": float((scores >= level).mean()),
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


if __name__ == "__main__":
    main()
