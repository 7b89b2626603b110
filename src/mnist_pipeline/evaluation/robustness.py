"""What the archived model answers to test digits as people send them: as files, and as photographs."""

import io
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mnist_pipeline import files
from mnist_pipeline.data.dataset import Examples
from mnist_pipeline.evaluation.calibration import calibration_error
from mnist_pipeline.evaluation.metrics import accuracy_with_interval
from mnist_pipeline.evaluation.photographs import Photograph, contact_sheet, photograph
from mnist_pipeline.serving.archived import ArchivedModel

SHEET = 36  # photographs to show
BLANK = np.zeros((28, 28), np.uint8)


def measure_files(served: ArchivedModel, test: Examples, logits: Tensor) -> dict[str, float]:
    """Accuracy, with its interval, on the plain test images when each is sent as a PNG.

    An image in which no digit is found counts as a mistake.

    Args:
        served: the archived model.
        test: the test images.
        logits: what the model makes of them as they are, (N, classes): most images are read unchanged.
    """
    originals = test.images[:, 0].numpy()
    digits = [served.find_digit(encode_png(image)) for image in originals]
    answers, found = logits.argmax(1), torch.tensor([digit is not None for digit in digits])
    changed = {
        k: digit for k, digit in enumerate(digits) if digit is not None and not np.array_equal(digit, originals[k])
    }
    if changed:
        answers[list(changed)] = torch.from_numpy(served.logits(np.stack([*changed.values()])).argmax(1))
    return accuracy_with_interval((answers == test.labels) & found)


def keep_strokes(test: Examples) -> Examples:
    """The images that can be drawn again with another pen: those with ink and paper in them, as all of MNIST have."""
    pixels = test.images.flatten(1)
    drawable = (pixels.amax(1) > 200) & (pixels.amin(1) < 50)
    return Examples(test.images[drawable], test.labels[drawable])


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 (28, 28) image as a PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def measure_photographs(served: ArchivedModel, test: Examples, count: int, seed: int, picture: Path) -> dict[str, Any]:
    """Accuracy on test digits that are rendered as photographs and read as the server reads them.

    A photograph in which no digit is found counts as a mistake.

    Args:
        served: the archived model.
        test: test images that `keep_strokes` keeps, at least one; the first `count` of them in an order drawn by the
            seed are rendered.
        count: of photographs, 1 or more.
        seed: the same seed gives the same photographs.
        picture: gets a contact sheet of the first ones, each next to what the network saw.

    Returns:
        JSON-able: accuracy with its interval, the share in which nothing was found, calibration error of the answers
        that were given, and accuracy for each kind of photograph.
    """
    chosen = np.random.default_rng(seed).permutation(len(test.labels))[:count]
    originals, labels = test.images[torch.from_numpy(chosen), 0].numpy(), test.labels[torch.from_numpy(chosen)]

    def render_and_read(k: int) -> tuple[Photograph, np.ndarray | None]:
        rendered = photograph(originals[k], np.random.default_rng((seed, k)))
        return rendered, served.find_digit(rendered.image)

    kinds: list[str] = []
    digits: list[np.ndarray | None] = []
    samples: list[Photograph] = []
    # Threads: Pillow, numpy and OpenCV release Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(render_and_read, range(len(originals)))
        for rendered, digit in tqdm(results, total=len(originals), desc="photographs", disable=None):
            kinds.append(rendered.kind)
            digits.append(digit)
            if len(samples) < SHEET:
                samples.append(rendered)
    with files.replacing(picture) as unfinished:
        contact_sheet(samples, served.read).save(unfinished, "PNG")

    found = torch.tensor([digit is not None for digit in digits])
    logits = torch.from_numpy(served.logits(np.stack([BLANK if digit is None else digit for digit in digits])))
    correct = (logits.argmax(1) == labels) & found
    return {
        **accuracy_with_interval(correct),
        "photographs": len(labels),
        "nothing_found": 1 - found.double().mean().item(),
        "calibration_error": calibration_error(logits[found].softmax(1), labels[found]),
        "by_kind": by_kind(kinds, correct),
    }


def by_kind(kinds: list[str], correct: Tensor) -> dict[str, dict[str, float]]:
    """Accuracy and number of each kind of photograph."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for kind, right in zip(kinds, correct.tolist(), strict=True):
        groups[kind].append(right)
    return {
        kind: {"accuracy": sum(rights) / len(rights), "photographs": len(rights)}
        for kind, rights in sorted(groups.items())
    }
