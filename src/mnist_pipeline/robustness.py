"""What a trained network makes of the test digits when people send them: as files, and as photographs."""

import io
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from mnist_pipeline import compute, evaluation
from mnist_pipeline.data import Examples
from mnist_pipeline.photographs import Photograph, photograph, sheet
from mnist_pipeline.preprocessing import NothingToRead, read_digit

SHEET = 36  # photographs to show
BLANK = np.zeros((28, 28), np.uint8)


def as_files(network: nn.Module, test: Examples, logits: Tensor) -> dict[str, float]:
    """Accuracy, with its interval, on the plain test images when each is sent as a PNG.

    An image in which no digit is found counts as a mistake.

    Args:
        network: on its device.
        test: the test images.
        logits: what the network makes of them as they are, (N, classes): most images come back unchanged.
    """
    read = [read_or_none(png(image)) for image in test.images[:, 0].numpy()]
    found = torch.tensor([digit is not None for digit in read])
    seen = torch.from_numpy(np.stack([BLANK if digit is None else digit for digit in read]))[:, None]
    answers, changed = logits.argmax(1), (seen != test.images).flatten(1).any(1)
    if changed.any():
        answers[changed] = compute.predict(network, seen[changed], exact=True).argmax(1)
    return evaluation.shares((answers == test.labels) & found)


def read_or_none(image: bytes) -> np.ndarray | None:
    """The digit in a picture, uint8 (28, 28); None where there is none."""
    try:
        return read_digit(image)
    except NothingToRead:
        return None


def keep_strokes(test: Examples) -> Examples:
    """The images that can be drawn again with another pen: those with ink and paper in them, as all of MNIST have."""
    pixels = test.images.flatten(1)
    drawable = (pixels.amax(1) > 200) & (pixels.amin(1) < 50)
    return Examples(test.images[drawable], test.labels[drawable])


def png(image: np.ndarray) -> bytes:
    """A uint8 (28, 28) image as a PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def as_photographs(
    network: nn.Module, test: Examples, temperature: float, count: int, seed: int, picture: Path
) -> dict[str, Any]:
    """Accuracy on test digits rendered as photographs and read as the server reads them.

    A photograph in which no digit is found counts as a mistake.

    Args:
        network: on its device.
        test: test images that `keep_strokes` keeps, at least one; the first `count` of them in an order drawn by the
            seed are rendered.
        temperature: of the model.
        count: of photographs, 1 or more.
        seed: the same seed gives the same photographs.
        picture: gets a sheet of the first ones, each beside what the network saw.

    Returns:
        JSON-able: accuracy with its interval, the share in which nothing was found, calibration error of the answers
        that were given, and accuracy for each kind of photograph.
    """
    chosen = np.random.default_rng(seed).permutation(len(test.labels))[:count]
    digits = test.images[torch.from_numpy(chosen), 0].numpy()

    def look(k: int) -> tuple[Photograph, np.ndarray | None]:
        taken = photograph(digits[k], np.random.default_rng((seed, k)))
        return taken, read_or_none(taken.image)

    kinds: list[str] = []
    seen: list[np.ndarray | None] = []
    samples: list[Photograph] = []
    for taken, digit in tqdm(in_parallel(look, len(digits)), total=len(digits), desc="photographs", disable=None):
        kinds.append(taken.kind)
        seen.append(digit)
        if len(samples) < SHEET:
            samples.append(taken)
    picture.parent.mkdir(parents=True, exist_ok=True)
    sheet(samples).save(picture)

    labels = test.labels[torch.from_numpy(chosen)]
    found = torch.tensor([digit is not None for digit in seen])
    images = torch.from_numpy(np.stack([BLANK if digit is None else digit for digit in seen]))[:, None]
    logits = compute.predict(network, images)
    correct = (logits.argmax(1) == labels) & found
    return {
        **evaluation.shares(correct),
        "photographs": len(labels),
        "nothing_found": 1 - found.double().mean().item(),
        "calibration_error": calibration_of(logits[found] / temperature, labels[found]),
        "by_kind": by_kind(kinds, correct),
    }


def in_parallel(look: Any, count: int) -> Iterator[Any]:
    """look(0), look(1), … in order, on all cores: Pillow, numpy and OpenCV leave Python's lock free."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(look, range(count))


def calibration_of(logits: Tensor, labels: Tensor) -> float:
    """Expected calibration error of logits (N, classes) that the temperature has been applied to."""
    return evaluation.calibration_error(logits.softmax(1), labels)


def by_kind(kinds: list[str], correct: Tensor) -> dict[str, dict[str, float]]:
    """Accuracy and number of each kind of photograph."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for kind, right in zip(kinds, correct.tolist(), strict=True):
        groups[kind].append(right)
    return {
        kind: {"accuracy": sum(rights) / len(rights), "photographs": len(rights)}
        for kind, rights in sorted(groups.items())
    }
