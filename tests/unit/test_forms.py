"""Images of any size and colour: what is chosen for them, and how a picture becomes one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pen_digits import encode
from PIL import Image

from mnist_pipeline.data.dataset import DataError
from mnist_pipeline.reading import Form, fit_picture
from mnist_pipeline.sources.download import download, read_own
from mnist_pipeline.sources.forms import Wanted
from mnist_pipeline.training import model
from mnist_pipeline.training.augmentation import augment
from mnist_pipeline.training.hyperparameters import Hyperparameters
from mnist_pipeline.training.network import DigitNetwork

RNG = np.random.default_rng(0)
Draw = Callable[[int], np.ndarray]


def coloured(k: int, side: int = 40) -> np.ndarray:
    return RNG.integers(0, 256, (side, side, 3), np.uint8)


def on_paper(k: int) -> np.ndarray:
    """A dark stroke on paper, under yellow light."""
    grey = np.full((60, 60), 220, np.uint8)
    grey[10:50, 25 + k % 8 : 31 + k % 8] = 40
    return (grey[..., None] * np.array([1.0, 0.95, 0.8])).astype(np.uint8)


def on_black(k: int) -> np.ndarray:
    image = np.zeros((40, 40), np.uint8)
    image[8:32, 8:32] = RNG.integers(60, 256, (24, 24), np.uint8)
    return image


def folder_of(root: Path, names: tuple[str, ...], draw: Draw, counts: tuple[int, ...] = (6, 6)) -> Path:
    for name, count in zip(names, counts, strict=True):
        (root / name).mkdir(parents=True)
        for k in range(count):
            (root / name / f"{k}.png").write_bytes(encode(Image.fromarray(draw(k))))
    return root


@pytest.mark.parametrize(
    ("names", "draw", "wanted", "expected"),
    [
        (("cat", "dog"), coloured, Wanted(), Form("picture", 32, "rgb")),
        (("cat", "dog"), lambda k: coloured(k, 21), Wanted(), Form("picture", 20, "rgb")),
        (("1", "7"), coloured, Wanted(), Form("picture", 32, "rgb")),
        (("1", "7"), on_paper, Wanted(), Form("handwriting", 28, "grey")),
        (("1", "7"), on_paper, Wanted(image_size=32), Form("picture", 32, "grey")),
        (("shirt", "shoe"), on_black, Wanted(), Form("picture", 32, "grey", on_black=True)),
    ],
)
def test_size_colour_and_reader_follow_from_the_pictures(
    tmp_path: Path, names: tuple[str, ...], draw: Draw, wanted: Wanted, expected: Form
) -> None:
    data = read_own(folder_of(tmp_path, names, draw), wanted)
    assert data.form == expected
    assert data.train.images.shape[1:] == expected.shape


@pytest.mark.parametrize("wanted", [Wanted("handwriting", 32), Wanted("handwriting", colour="rgb")])
def test_handwriting_in_colour_or_another_size_is_refused(tmp_path: Path, wanted: Wanted) -> None:
    with pytest.raises(DataError, match=r"data\.reader is handwriting, which is read as grey images of 28x28"):
        read_own(folder_of(tmp_path, ("1", "7"), on_paper), wanted)
    with pytest.raises(DataError, match=r"data\.reader is handwriting"):
        download("MNIST", tmp_path / "data", wanted=wanted)


def test_uneven_classes_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    download("folder", tmp_path / "data", source_folder=folder_of(tmp_path / "s", ("a", "b"), coloured, (28, 7)))
    assert "the classes are uneven: 'b' has 6 training images, 'a' has 24; compare models by bal" in caplog.text


@pytest.mark.parametrize("quality", [None, 90])
def test_a_test_image_that_is_nearly_a_training_image_is_named(
    tmp_path: Path, quality: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    smooth = [Image.fromarray(RNG.integers(0, 256, (5, 5, 3), np.uint8)).resize((40, 40)) for _ in range(12)]
    for part, pictures in (("train", smooth), ("test", smooth[:1] + smooth[:1])):
        for k, picture in enumerate(pictures):
            folder = tmp_path / "s" / part / "ab"[k % 2]
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{k}.{'jpg' if quality else 'png'}", quality=quality or 75)
    download("folder", tmp_path / "data", source_folder=tmp_path / "s")
    assert "2 of 2 test images are nearly equal to a training image, so the test accuracy is too high" in caplog.text
    assert "test/a/0" in caplog.text


def test_a_picture_keeps_its_colours_and_proportions() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:] = (200, 100, 0)
    wide[5:15, 10:50] = (0, 0, 255)
    image = fit_picture(wide, Form("picture", 32, "rgb"))
    assert image.shape == (3, 32, 32)
    assert image[:, 0, 0].tolist() == image[:, 31, 31].tolist() == [200, 100, 0]  # the border's colour is added
    assert np.abs(image[:, 16, 16].astype(int) - (0, 0, 255)).max() < 10
    blue = np.argwhere(image[2] > 128)
    assert np.ptp(blue, 0).tolist() == pytest.approx([4, 20], abs=1)  # 10x40 of 60


def test_a_bright_border_is_inverted_only_where_images_stand_on_black() -> None:
    white = np.full((28, 28), 255, np.uint8)
    white[10:18, 10:18] = 0
    assert np.array_equal(fit_picture(white, Form("picture", 28))[0], white)
    assert np.array_equal(fit_picture(white, Form("picture", 28, on_black=True))[0], 255 - white)


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 32), (3, 36)])
def test_the_network_takes_images_of_any_size_and_colour(channels: int, size: int) -> None:
    torch.manual_seed(0)
    network = DigitNetwork(7, [0.4] * channels, [0.2] * channels, size).eval()
    images = torch.randint(0, 256, (2, channels, size, size), dtype=torch.uint8)
    assert network(images).shape == (2, 7)
    outputs = {row["name"]: row["output"] for row in model.layers(network, size)}
    assert outputs["conv1"] == [32, size, size]
    assert outputs["conv3_2"] == [512, size // 4, size // 4]


def test_images_that_are_only_shifted_and_mirrored_keep_their_pixels() -> None:
    images = torch.from_numpy(RNG.integers(0, 256, (200, 3, 16, 16), np.uint8))
    hp = Hyperparameters(translation=2.0, flip=0.5)
    changed = augment(images, hp, torch.Generator().manual_seed(0))
    places = set()
    for before, after in zip(images, changed, strict=True):
        padded = torch.nn.functional.pad(before.float(), (2,) * 4, mode="reflect").to(torch.uint8)
        found = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if torch.equal(padded[:, top : top + 16, left : left + 16], after.flip(2) if mirrored else after)
        ]
        assert len(found) == 1
        places |= set(found)
    assert len(places) > 40  # of 50
