"""What the archived model answers to test digits as people send them: as files, as photographs, and as numbers."""

import io
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
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
from mnist_pipeline.evaluation.photographs import Photograph, Shown, contact_sheet, photograph
from mnist_pipeline.serving.archived import ArchivedFound, ArchivedModel

SHEET = 36  # photographs to show
BATCH = 64  # pictures that are answered together
DIGITS_OF_A_NUMBER = (2, 8)


def measure_files(served: ArchivedModel, test: Examples) -> dict[str, float]:
    """Accuracy, with its interval, on the plain test images when each is sent as a PNG.

    An image in which no digit is found, or several, counts as a mistake.
    """
    pictures = [encode_png(image) for image in test.images[:, 0].numpy()]
    names = served.info["class_names"]
    answers = [read_number(found, names) for found, _ in answer(served, pictures, "files")]
    return accuracy_with_interval(compare(answers, [names[label] for label in test.labels.tolist()]))


def answer(
    served: ArchivedModel, pictures: Sequence[bytes], description: str
) -> Iterable[tuple[list[ArchivedFound], str]]:
    """What is answered to each picture, a batch at a time, with a progress bar."""
    batches = range(0, len(pictures), BATCH)
    for start in tqdm(batches, desc=description, unit="batch", disable=None):
        yield from served.find(pictures[start : start + BATCH])


def read_number(found: Sequence[ArchivedFound], class_names: Sequence[str]) -> str:
    """The names of the classes that were found, one behind the other."""
    return "".join(class_names[int(one.probabilities.argmax())] for one in found)


def compare(answers: Sequence[str], expected: Sequence[str]) -> Tensor:
    """Which answers are right: bool (N,)."""
    return torch.tensor([one == other for one, other in zip(answers, expected, strict=True)])


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


def render(count: int, draw: Callable[[int], Photograph], description: str) -> list[Photograph]:
    """Draw so many photographs, with a progress bar."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow, numpy and OpenCV release Python's lock
        return list(tqdm(pool.map(draw, range(count)), total=count, desc=description, disable=None))


def measure_photographs(served: ArchivedModel, test: Examples, count: int, seed: int, picture: Path) -> dict[str, Any]:
    """Accuracy on test digits that are rendered as photographs and answered as the server answers them.

    A photograph in which no digit is found, or several, counts as a mistake.

    Args:
        served: the archived model.
        test: test images that `keep_strokes` keeps, at least one; the first `count` of them in an order drawn by the
            seed are rendered.
        count: of photographs, 1 or more.
        seed: the same seed gives the same photographs.
        picture: gets a contact sheet of the first ones, each next to what the network saw.

    Returns:
        JSON-able: accuracy with its interval, the shares in which nothing and in which several digits were found,
        calibration error of the answers with one digit, and accuracy for each kind of photograph.
    """
    chosen = np.random.default_rng(seed).permutation(len(test.labels))[:count]
    originals, labels = test.images[torch.from_numpy(chosen), 0].numpy(), test.labels[torch.from_numpy(chosen)]
    rendered = render(
        len(labels), lambda k: photograph([originals[k]], np.random.default_rng((seed, k))), "photographs"
    )
    found = list(answer(served, [each.image for each in rendered], "answers"))
    names = served.info["class_names"]
    save_sheet(picture, rendered[:SHEET], found[:SHEET], names)
    correct = compare([read_number(items, names) for items, _ in found], [names[label] for label in labels.tolist()])
    single = [k for k, (items, _) in enumerate(found) if len(items) == 1]
    probabilities = torch.tensor(np.array([found[k][0][0].probabilities for k in single], np.float32))
    probabilities = probabilities.view(-1, len(names))  # also where there is none
    return {
        **accuracy_with_interval(correct),
        "photographs": len(labels),
        "nothing_found": sum(not items for items, _ in found) / len(labels),
        "several_found": sum(len(items) > 1 for items, _ in found) / len(labels),
        "calibration_error": calibration_error(probabilities, labels[single]),
        "by_kind": by_kind([each.kind for each in rendered], correct),
    }


def measure_numbers(served: ArchivedModel, test: Examples, count: int, seed: int, picture: Path) -> dict[str, Any]:
    """Accuracy on numbers of 2 to 8 test digits, rendered as photographs: those that are read whole.

    Args:
        served, test, seed: as for `measure_photographs`.
        count: of numbers, 1 or more.
        picture: gets a contact sheet of the first ones.

    Returns:
        JSON-able: accuracy with its interval, and the share of wrong numbers with a probability above 0.9.
    """
    images, labels = test.images[:, 0].numpy(), test.labels.numpy()

    def choose(k: int) -> tuple[np.random.Generator, np.ndarray]:
        rng = np.random.default_rng((seed, 1, k))
        low, high = DIGITS_OF_A_NUMBER
        return rng, rng.integers(len(labels), size=rng.integers(low, high + 1))

    def draw(k: int) -> Photograph:
        rng, digits = choose(k)
        return photograph([*images[digits]], rng)

    rendered = render(count, draw, "numbers")
    names = served.info["class_names"]
    expected = ["".join(names[label] for label in labels[choose(k)[1]]) for k in range(count)]
    found = list(answer(served, [each.image for each in rendered], "answers"))
    save_sheet(picture, rendered[:SHEET], found[:SHEET], names)
    correct = compare([read_number(items, names) for items, _ in found], expected)
    sure = torch.tensor([bool(items) and served.probability(items) > 0.9 for items, _ in found])
    return {
        **accuracy_with_interval(correct),
        "numbers": count,
        "wrong_and_sure": (~correct & sure).double().mean().item(),
        "by_kind": by_kind([each.kind for each in rendered], correct),
    }


def save_sheet(
    picture: Path,
    rendered: Sequence[Photograph],
    found: Sequence[tuple[list[ArchivedFound], str]],
    class_names: Sequence[str],
) -> None:
    """Save a contact sheet of photographs, each next to what the network saw, or why it saw nothing."""
    shown = [
        Shown(
            each.image, f"{each.kind}: {read_number(items, class_names)}", [one.item.image for one in items] or reason
        )
        for each, (items, reason) in zip(rendered, found, strict=True)
    ]
    with files.replacing(picture) as unfinished:
        contact_sheet(shown).save(unfinished, "PNG")


def by_kind(kinds: list[str], correct: Tensor) -> dict[str, dict[str, float]]:
    """Accuracy and number of each kind of photograph."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for kind, right in zip(kinds, correct.tolist(), strict=True):
        groups[kind].append(right)
    return {
        kind: {"accuracy": sum(rights) / len(rights), "photographs": len(rights)}
        for kind, rights in sorted(groups.items())
    }
