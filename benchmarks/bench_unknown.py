"""What the archived model answers to pictures of garments: the test images of Fashion-MNIST, as PNG files.

The shares that are answered at all, and that would be if 99 % of MNIST's test digits were; with the images as they are
and eight times as large.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from common import ROOT, describe_machine, write
from PIL import Image

from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.data.download import download
from mnist_pipeline.evaluation.robustness import encode_png
from mnist_pipeline.evaluation.unknown import ACCEPTED, measure_one
from mnist_pipeline.serving.archived import open_archive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="how many garments, the first of the test images")
    parser.add_argument("--mirrors", nargs="*", default=[], help="folders or URLs that hold Fashion-MNIST's IDX files")
    arguments = parser.parse_args()
    digits = load_test(ROOT / "data").images[:, 0].numpy()
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
        weights = served.info["weights"]
    write("unknown", {"garments": results, "model": weights, "machine": describe_machine()})


def enlarge(image: np.ndarray, times: int) -> np.ndarray:
    """An image, uint8 (h, w), so many times as large, smoothly."""
    size = image.shape[1] * times, image.shape[0] * times
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
