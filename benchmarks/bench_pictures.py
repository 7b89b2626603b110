"""What the archived model answers to pictures that have to be drawn: digits as people send them, and what is no digit.

- MNIST's test digits as photographs and screenshots, as numbers of 2 to 8 digits, and as pairs that touch. The figures
  are the share that is read rightly as a whole, the share that is refused, and the share that is read wrongly with a
  probability above 0.9.
- Letters, scribbles and garments (Fashion-MNIST's test images, as they are and eight times as large), which are no
  digits. The figures are the share that is answered as a digit all the same, and the share that would be at a stricter
  limit: the score that 99 % of the test digits reach.

Each picture is answered as the server would, with the limit that is served. Writes benchmarks/results/pictures.json,
and to tmp/ sheets of the first pictures, each next to what the network saw.
"""

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import ROOT, describe_machine, write
from photographs import Photograph, photograph
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.evaluation.metrics import accuracy_with_interval
from mnist_pipeline.evaluation.pictures import Shown, contact_sheet, encode_png, read_number
from mnist_pipeline.serving.answer import Found, Model
from mnist_pipeline.serving.archived import open_archive
from mnist_pipeline.serving.recognition import score_known
from mnist_pipeline.sources.download import download
from mnist_pipeline.training.drawing import FONTS
from mnist_pipeline.training.outliers import LETTERS, Sources, crop_sides, draw_outliers, join_sideways

COUNTS = {"photographs": 2000, "numbers": 300, "touching": 2000, "letters": 200, "scribbles": 200, "garments": 2000}
BATCH = 64  # pictures that are answered together
LOOK_ALIKES = "OoIlSsZzBbqgi"  # somebody writes a digit like each of these
UNSEEN_FONTS = ("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10", "cmmi10")  # Computer Modern; training has others

Answers = list[tuple[list[Found], str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirrors", nargs="*", default=[], help="folders or URLs that hold Fashion-MNIST's IDX files")
    arguments = parser.parse_args()
    test = load_test(ROOT / "data")
    digits, labels = test.images[:, 0].numpy(), test.labels.numpy()
    with tempfile.TemporaryDirectory() as folder:
        download("FashionMNIST", Path(folder) / "data", arguments.mirrors)
        garments = load_test(Path(folder) / "data").images[: COUNTS["garments"], 0].numpy()
    (ROOT / "tmp").mkdir(exist_ok=True)
    with open_archive(ROOT / "model_store/mnist.mar") as (served, _):
        results: dict[str, Any] = {}
        for name, choose in {"photographs": choose_digits, "numbers": choose_numbers, "touching": choose_pairs}.items():
            numbers, draw = choose(digits, labels, COUNTS[name])
            pictures = render(len(numbers), draw, name)
            results[name] = found = measure_digits(served, pictures, numbers, ROOT / f"tmp/{name}.png")
            print(
                f"{name}: {found['accuracy']:.1%} read, {found['refused']:.1%} refused, "
                f"{found['wrong_and_sure']:.1%} wrong with a probability above 0.9 (n = {len(numbers)})"
            )
        level = float(np.quantile(score_known(served.logits(digits[:, None]), served.info), 0.01))
        for name, others in draw_others(garments).items():
            results[name] = found = measure_others(served, others, level)
            print(
                f"{name}: {found['answered']:.1%} answered, {found['answered_at_99_percent_of_digits']:.1%} at the "
                f"limit that 99 % of the digits pass (n = {len(others)})"
            )
        write("pictures", results | {"model": served.info["weights"], "machine": describe_machine()})


def choose_digits(digits: np.ndarray, labels: np.ndarray, count: int) -> tuple[list[str], Callable[[int], Photograph]]:
    """What photographs of single digits, uint8 (N, 28, 28), show, and the function that draws the k-th of them."""
    chosen = np.random.default_rng(0).permutation(len(labels))[:count]
    return [str(labels[k]) for k in chosen], lambda k: photograph([digits[chosen[k]]], np.random.default_rng((0, k)))


def choose_numbers(digits: np.ndarray, labels: np.ndarray, count: int) -> tuple[list[str], Callable[[int], Photograph]]:
    """The same for numbers of 2 to 8 digits."""
    rngs = [np.random.default_rng((0, 1, k)) for k in range(count)]
    chosen = [rng.integers(len(labels), size=rng.integers(2, 9)) for rng in rngs]
    return ["".join(map(str, labels[each])) for each in chosen], lambda k: photograph([*digits[chosen[k]]], rngs[k])


def choose_pairs(digits: np.ndarray, labels: np.ndarray, count: int) -> tuple[list[str], Callable[[int], Photograph]]:
    """The same for pairs of digits that touch, black on white."""
    rng = np.random.default_rng(0)
    chosen, shifts = rng.integers(len(digits), size=(count, 2)), rng.integers(-2, 3, count)

    def draw(k: int) -> Photograph:
        left, right = digits[chosen[k]]
        return Photograph(encode_png(255 - enlarge(join(left, right, int(shifts[k])), 4)), "touching")

    return ["".join(map(str, labels[pair])) for pair in chosen], draw


def draw_others(garments: np.ndarray) -> dict[str, list[bytes]]:
    """Pictures of letters, of letters that look like digits, of scribbles, and of garments, uint8 (N, 28, 28)."""
    rng = np.random.default_rng((0, 2))
    nothing = Sources(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64))  # scribbles are made of no images
    scribbles = draw_outliers(COUNTS["scribbles"], ("scribbles", "shapes"), nothing, (0, 3))
    return {
        "letters": draw_letters(LETTERS, COUNTS["letters"], rng),
        "look_alikes": draw_letters(LOOK_ALIKES, COUNTS["letters"], rng),
        "scribbles": [encode_png(255 - np.pad(scribble, 14)) for scribble in scribbles],
        "garments": [encode_png(garment) for garment in garments],
        "garments_enlarged": [encode_png(enlarge(garment, 8)) for garment in garments],
    }


def render(count: int, draw: Callable[[int], Photograph], name: str) -> list[Photograph]:
    """Draw so many pictures, with a progress bar."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow, numpy and OpenCV release Python's lock
        return list(tqdm(pool.map(draw, range(count)), total=count, desc=name, disable=None))


def answer(served: Model, pictures: Sequence[bytes]) -> Answers:
    """What is answered to each picture: what was found, or nothing and the reason."""
    batches = tqdm(range(0, len(pictures), BATCH), desc="answers", unit="batch", disable=None)
    return [each for start in batches for each in served.find(pictures[start : start + BATCH])]


def measure_digits(
    served: Model, pictures: Sequence[Photograph], numbers: Sequence[str], sheet: Path
) -> dict[str, Any]:
    """How well pictures of these numbers are read, by kind as well; draws the sheet of the first of them."""
    names = served.info["class_names"]
    answers = answer(served, [picture.image for picture in pictures])
    shown = [
        Shown(
            picture.image, f"{picture.kind}: {read_number(found, names)}", [one.item.image for one in found] or reason
        )
        for picture, (found, reason) in zip(pictures[:36], answers, strict=False)
    ]
    contact_sheet(shown).save(sheet)
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


def join(left: np.ndarray, right: np.ndarray, shift: int) -> np.ndarray:
    """Two digits, uint8 (28, 28), moved together until they touch, the right one `shift` pixels lower."""
    left, right = crop_sides(left), np.roll(crop_sides(right), shift, 0)
    apart = count_pieces(left) + count_pieces(right)
    for overlap in range(min(left.shape[1], right.shape[1])):
        pair = join_sideways(left, right, overlap)
        if count_pieces(pair) < apart:
            break
    return np.pad(pair, 8)


def count_pieces(picture: np.ndarray) -> int:
    """Connected components of a picture, uint8 (h, w)."""
    count, _ = cv2.connectedComponents((picture > 100).astype(np.uint8))
    return int(count) - 1


def enlarge(image: np.ndarray, times: int) -> np.ndarray:
    """An image, uint8 (h, w), so many times as large, smoothly."""
    size = image.shape[1] * times, image.shape[0] * times
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
