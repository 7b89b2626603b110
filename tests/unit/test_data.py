from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnist_pipeline.data.catalogue import (
    CENTRED_DIGITS,
    DIGITS,
    HANDWRITING,
    ON_BLACK,
    OWN_DIGITS,
    PICTURES,
    default_hyperparameters,
)
from mnist_pipeline.data.dataset import (
    DESCRIPTION,
    FILES,
    Arrays,
    DataError,
    describe,
    hold_out,
    load,
    load_test,
    read_images,
)
from mnist_pipeline.reading import Form
from mnist_pipeline.sources.download import store

MNIST_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@pytest.fixture
def copy(mnist: Path, tmp_path: Path) -> Path:
    """A copy of MNIST whose labels and description may be damaged."""
    for name in (*FILES, DESCRIPTION):
        if "images" in name:
            (tmp_path / name).symlink_to(mnist / name)
        else:
            (tmp_path / name).write_bytes((mnist / name).read_bytes())
    return tmp_path


def test_mnist_as_everyone_knows_it(mnist: Path) -> None:
    dataset = load(mnist, 5_000, seed=0)
    assert (dataset.name, dataset.class_names) == ("MNIST", tuple("0123456789"))
    assert (dataset.mean, dataset.std) == ([0.1307], [0.3081])
    assert dataset.train.images.shape == (55_000, 1, 28, 28)
    assert dataset.train.images.dtype == torch.uint8
    assert dataset.validation.labels.shape == (5_000,)
    assert dataset.validation.labels.dtype == torch.int64
    test = load_test(mnist)
    assert test.images.shape == (10_000, 1, 28, 28)
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_hold_out_is_a_partition_that_the_seed_decides(mnist: Path) -> None:
    one, same, other = (load(mnist, 1_000, seed) for seed in (1, 1, 2))
    assert torch.equal(one.validation.images, same.validation.images)
    assert torch.equal(one.train.labels, same.train.labels)
    assert not torch.equal(one.validation.labels, other.validation.labels)
    whole, parts = read_images(mnist / FILES[0], describe(mnist)), (one.train, one.validation)
    ink = torch.cat([part.images.float().mean((1, 2, 3)) for part in parts])
    assert len(set(ink.tolist())) > 20_000  # the amount of ink tells images well apart
    assert torch.equal(whole.float().mean((1, 2, 3)).sort().values, ink.sort().values)
    assert torch.cat([part.labels for part in parts]).bincount().tolist() == MNIST_COUNTS
    assert one.validation.labels[:500].bincount().min() > 25  # the first few are a fair sample


def test_impossible_hold_out_names_the_least(mnist: Path) -> None:
    with pytest.raises(DataError, match=r"data\.validation_images = 9; .* 10 classes at least 10 are"):
        load(mnist, 9, seed=0)


@pytest.mark.parametrize(
    ("images", "classes", "held_out"),
    [
        (171, 10, 34),  # a fifth
        (20, 10, 10),  # one a class is held out, one is left
        (400, 200, 200),
    ],
)
def test_of_few_images_a_fifth_is_held_out(
    images: int, classes: int, held_out: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.arange(images) % classes
    pixels = np.random.default_rng(0).integers(0, 256, (images, 1, 28, 28), np.uint8)
    names = [str(k) for k in range(classes)]
    store(Arrays(pixels, labels, pixels[:10], labels[:10]), "folder", names, Form("picture"), tmp_path)
    with caplog.at_level("INFO"):
        dataset = load(tmp_path, 5_000, seed=0)
        assert (len(dataset.validation.labels), len(dataset.train.labels)) == (held_out, images - held_out)
        load(tmp_path, held_out, seed=0)
    said = f"data.validation_images = 5000 is more than a fifth of {images} images: {held_out} are held out."
    assert caplog.messages == [said]


@given(
    sizes=st.lists(st.integers(2, 40), min_size=2, max_size=12),
    part=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_every_class_is_on_both_sides_in_proportion(sizes: list[int], part: float, seed: int) -> None:
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    count = round(len(sizes) + part * (sum(sizes) - 2 * len(sizes)))
    held_out = (
        labels[hold_out(labels, count, torch.Generator().manual_seed(seed))].bincount(minlength=len(sizes)).tolist()
    )
    assert sum(held_out) == count
    for held, size in zip(held_out, sizes, strict=True):
        assert 1 <= held < size
        assert abs(held - size * count / sum(sizes)) < 3


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1_000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("damage", "says"), [(change, "corrupt"), (Path.unlink, "No such file")])
def test_damaged_file_is_named(copy: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(copy / "train-labels-idx1-ubyte")
    with pytest.raises(DataError, match=f"train-labels-idx1-ubyte .*{says}"):
        load(copy, 5_000, seed=0)
    damage(copy / "t10k-labels-idx1-ubyte")
    with pytest.raises(DataError, match=f"t10k-labels-idx1-ubyte .*{says}"):
        load_test(copy)


@pytest.mark.parametrize("content", [None, b"{", b"[1]", b'{"name": "MNIST"}'])
def test_foreign_description_is_refused(copy: Path, content: bytes | None) -> None:
    (copy / DESCRIPTION).unlink()
    if content is not None:
        (copy / DESCRIPTION).write_bytes(content)
    with pytest.raises(DataError, match=r"dvc repro"):
        load(copy, 5_000, seed=0)


@pytest.mark.parametrize(
    ("name", "class_names", "form", "on_black", "expected"),
    [
        ("folder", ("1", "7"), ("handwriting", 28, "grey"), False, OWN_DIGITS),
        ("folder", ("a", "b"), ("handwriting", 28, "grey"), False, HANDWRITING),
        ("folder", ("1", "7"), ("picture", 32, "rgb"), False, PICTURES),
        ("folder", ("shirt", "shoe"), ("picture", 28, "grey"), True, ON_BLACK),
        ("MNIST", DIGITS, ("handwriting", 28, "grey"), True, CENTRED_DIGITS),
        ("MNIST", DIGITS, ("picture", 32, "grey"), True, {**HANDWRITING, "epochs": 2.0}),
        ("CIFAR10", (), ("picture", 32, "rgb"), False, PICTURES),
    ],
)
def test_images_have_the_defaults_of_their_kind(
    name: str,
    class_names: tuple[str, ...],
    form: tuple[str, int, str],
    on_black: bool,
    expected: dict[str, float],
) -> None:
    assert default_hyperparameters(name, class_names, *form, on_black=on_black) == expected
