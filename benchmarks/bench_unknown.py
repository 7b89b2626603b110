"""What the archived model answers to what it was not trained for.

Pictures of garments (the test images of Fashion-MNIST, as they are and eight times as large): the shares that are
answered at all, and that would be if 99 % of MNIST's test digits were. Pairs of test digits that touch: the share that
is answered wrongly with a probability above 0.9.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from common import ROOT, describe_machine, write
from PIL import Image

from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.evaluation.robustness import encode_png, read_number
from mnist_pipeline.evaluation.unknown import ACCEPTED, measure_one
from mnist_pipeline.serving.archived import ArchivedModel, open_archive
from mnist_pipeline.sources.download import download
from mnist_pipeline.training.outliers import crop_sides, join_sideways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="how many garments, the first test images, and pairs")
    parser.add_argument("--mirrors", nargs="*", default=[], help="folders or URLs that hold Fashion-MNIST's IDX files")
    arguments = parser.parse_args()
    test = load_test(ROOT / "data")
    digits, labels = test.images[:, 0].numpy(), test.labels.numpy()
    with tempfile.TemporaryDirectory() as folder:
        download("FashionMNIST", Path(folder) / "data", arguments.mirrors)
        garments = load_test(Path(folder) / "data").images[: arguments.images, 0].numpy()
    results = {}
    with open_archive(ROOT / "model_store/mnist.mar") as (served, _):
        known = served.score(served.logits(digits))
        level = float(np.quantile(known, 1 - ACCEPTED))
        for name, times in (("as_they_are", 1), ("enlarged", 8)):
            pictures = [encode_png(enlarge(garment, times)) for garment in garments]
            results[name] = found = measure_one(served, pictures, known, level)
            print(
                f"Garments {name.replace('_', ' ')}: {found['answered']:.1%} answered, "
                f"{found['answered_if_99_percent_of_digits_are']:.1%} if 99 % of the digits were; "
                f"AUROC {found['auroc']:.4f}."
            )
        pairs = measure_touching(served, digits, labels, arguments.images)
        print(
            f"Touching pairs: {pairs['read']:.1%} read, {pairs['refused']:.1%} refused, "
            f"{pairs['wrong_and_sure']:.1%} wrong with a probability above 0.9."
        )
        weights = served.info["weights"]
    write("unknown", {"garments": results, "touching": pairs, "model": weights, "machine": describe_machine()})


def measure_touching(served: ArchivedModel, digits: np.ndarray, labels: np.ndarray, count: int) -> dict[str, float]:
    """What the archived model answers to `count` pairs of digits, uint8 (N, 28, 28), that touch."""
    rng, names = np.random.default_rng(0), served.info["class_names"]
    chosen = rng.integers(len(digits), size=(count, 2))
    shifts = rng.integers(-2, 3, count)
    joined = [
        join(digits[left], digits[right], int(shift)) for (left, right), shift in zip(chosen, shifts, strict=True)
    ]
    pictures = [encode_png(255 - enlarge(pair, 4)) for pair in joined]
    expected = ["".join(names[labels[k]] for k in pair) for pair in chosen]
    found = [items for items, _ in served.find(pictures)]
    read = np.array([read_number(items, names) == number for items, number in zip(found, expected, strict=True)])
    refused = np.array([not items for items in found])
    sure = np.array([bool(items) and served.probability(items) > 0.9 for items in found])
    return {
        "pairs": count,
        "read": float(read.mean()),
        "refused": float(refused.mean()),
        "wrong_and_sure": float((~read & sure).mean()),
    }


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
