"""The user's own images in every form that data.source takes, and the messages about suitable and unsuitable ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.pen_digits import encode
from PIL import Image, ImageDraw

from mnist_pipeline.data.dataset import DataError, load, load_test
from mnist_pipeline.folders import natural_order, normalise_name, visible
from mnist_pipeline.reading import Form, read_image
from mnist_pipeline.sources.download import download, read_own
from mnist_pipeline.sources.forms import Wanted
from mnist_pipeline.sources.own_data import OwnData, Part

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 28, 28), np.uint8)
LABELS = np.arange(30) % 3  # ten of each of 0, 1, 2


def pen_stroke(slant: int, side: int = 60) -> bytes:
    """A line in pencil on paper, as a PNG: something that can be read as handwriting."""
    picture = Image.new("L", (side, side + 10), 240)
    ImageDraw.Draw(picture).line([(side / 2 - slant, 12), (side / 2 + slant, side - 8)], 20, 5)
    return encode(picture)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def folder_of(root: Path, classes: tuple[str, ...], count: int = 4) -> Path:
    """A folder with so many readable pictures of each class."""
    for k, name in enumerate(classes):
        for number in range(count):
            write(root / name / f"{number}.png", pen_stroke(3 * k + number))
    return root


def assert_same(found: OwnData, expected: OwnData) -> None:
    for part, other in ((found.train, expected.train), (found.test, expected.test)):
        assert np.array_equal(part.images, other.images)
        assert np.array_equal(part.labels, other.labels)


# Folders


@pytest.mark.parametrize(
    ("classes", "expected"), [(("0", "7"), "handwriting"), (("0", "10"), "picture"), (("cat", "7"), "picture")]
)
def test_digits_are_read_as_handwriting_and_all_else_as_pictures(
    tmp_path: Path, classes: tuple[str, ...], expected: str
) -> None:
    source = folder_of(tmp_path / "source", classes)
    for reader in (None, "handwriting", "picture"):
        download("folder", tmp_path / "data", source_folder=source, wanted=Wanted(reader))
        dataset, test = load(tmp_path / "data", len(classes), seed=0), load_test(tmp_path / "data")
        assert dataset.reader == (reader or expected)
        found = {image.tobytes() for part in (dataset.train, dataset.validation, test) for image in part.images.numpy()}
        form = Form(dataset.reader, dataset.image_size, dataset.colour, dataset.on_black)
        as_served = {read_image(path.read_bytes(), form).tobytes() for path in source.rglob("*.png")}
        assert found == as_served


def test_what_was_understood_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = folder_of(tmp_path / "pictures", ("cat", "dog", "fox", "owl"), 7)
    write(source / "cat" / "large.png", pen_stroke(1, 300))
    write(source / "README.txt", b"about these")
    with caplog.at_level("INFO"):
        download("folder", tmp_path / "data", source_folder=source)
    assert caplog.messages == [
        f"{source}: 4 classes (cat, dog, fox, …), 29 images of 60x70 to 300x310 pixels: 25 to train, 4 to test, "
        "read as pictures of 32x32 in grey (data.reader, data.image_size and data.colour change that).",
        f"{source}: 3 of 4 test images are nearly equal to a training image, so the test accuracy is too high: "
        "dog/0.png = cat/3.png, fox/4.png = owl/1.png, owl/0.png = dog/6.png.",
    ]


JUNK_FILES = [
    *("Thumbs.db", "thumbs.DB", "ehthumbs.db", "desktop.ini", ".DS_Store", "._1.png", ".hidden.png", ".hidden/1.png"),
    *("notes.TXT", "labels.csv"),
    *("__MACOSX/._1.png", "__macosx/x", "@eaDir/1.png", ".ipynb_checkpoints/1.png", "lost+found/1"),
]


@pytest.mark.parametrize("split", [False, True])
def test_what_file_managers_leave_is_ignored_at_every_level(tmp_path: Path, split: bool) -> None:
    parts = ("train", "test") if split else ("",)
    for part in parts:
        folder_of(tmp_path / part, ("a", "b"))
    clean = read_own(tmp_path)
    levels = [
        tmp_path,
        *(tmp_path / part for part in parts),
        *(tmp_path / part / name for part in parts for name in "ab"),
    ]
    for level in levels:
        for junk in JUNK_FILES:
            write(level / junk, b"junk")
    found = read_own(tmp_path)
    assert found.class_names == clean.class_names == ("a", "b")
    assert_same(found, clean)


def test_names_are_in_natural_order_whatever_the_file_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["00", "0", "1", "1.png", "01.png", "2", "10", "9" * 250, "A", "a", "a2", "a10", "e\u0301", "é", "é1"]
    for order in (names, names[::-1]):
        monkeypatch.setattr(Path, "iterdir", lambda folder, order=order: (folder / name for name in order))
        assert [path.name for path in visible(tmp_path)] == sorted(names, key=natural_order)
    assert [name for name in sorted(names, key=natural_order) if name.isascii()][-4:] == ["A", "a", "a2", "a10"]


@pytest.mark.parametrize(
    ("train", "test"), [("Caf\u00e9", "Cafe\u0301"), ("가", "\u1100\u1161"), ("a b", "a\u3000 b"), ("a", "a ")]
)
def test_one_name_in_two_forms_is_one_class(tmp_path: Path, train: str, test: str) -> None:
    folder_of(tmp_path / "folder" / "train", (train, "Dog"))
    folder_of(tmp_path / "folder" / "test", (test, "Dog"))
    names = {train, "Dog"}
    assert set(read_own(tmp_path / "folder").class_names) == names == {normalise_name(test), "Dog"}
    array = npz(tmp_path / "own.npz", y_train=np.array([train, test, "Dog"] * 7), x_test=None, y_test=None)
    assert set(read_own(array).class_names) == names
    both = read_own(folder_of(tmp_path / "both", (train, test, "Dog")))
    assert len(both.train.labels) + len(both.test.labels) == 12


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["a/1", "a/2", "a/3"], "has 1 classes .*'a'"),
        (["a/1", "a/2", "a/3", "b/.1"], "class 'b' has 0 images; it takes at least 3"),
        (["train/a/1", "train/b/1", "test/a/1"], "test has 1 classes"),
        (["train/a/1", "train/b/1", "test/a/1", "test/B/1"], r"\(A and a are two\): \['B', 'b'\]"),
        (["train/a/1", "test/a/1", "validation/a/1"], "has 'validation' next to train and test"),
        (["train", "test/a/1"], "train is a file; it must be a folder"),
    ],
)
def test_unfit_folder_says_why(tmp_path: Path, files: list[str], says: str) -> None:
    for name in files:
        write(tmp_path / name, pen_stroke(3))
    with pytest.raises(DataError, match=says):
        read_own(tmp_path)


def damage(source: Path) -> dict[str, str]:
    """Put one file of each kind that cannot be read into a folder; what is said of each."""
    write(source / "a" / "notes.doc", b"not an image")
    write(source / "a" / "empty.png", b"")
    write(source / "b" / "half.png", pen_stroke(1)[:90])
    (source / "b" / "folder").mkdir()
    return {"a/empty.png": "is empty", "a/notes.doc": "these 12 bytes are no JPEG, PNG, WEBP, BMP, GIF, TIFF",
            "b/folder": "Is a directory", "b/half.png": "cannot be decoded"}  # fmt: skip


@pytest.mark.parametrize("split", [False, True])
def test_damaged_files_are_all_listed_or_left_out(
    tmp_path: Path, split: bool, caplog: pytest.LogCaptureFixture
) -> None:
    source, parts = tmp_path / "source", ("train", "test") if split else ("",)
    for part in parts:
        folder_of(source / part, ("a", "b"))
    clean = read_own(source)
    reasons = {f"{part}/{name}".lstrip("/"): why for part in parts for name, why in damage(source / part).items()}
    with pytest.raises(DataError) as error:
        read_own(source)
    first, *lines = str(error.value).splitlines()
    assert first.startswith(f"{source}: {len(reasons)} files cannot be read; ")
    assert "data.skip_damaged to true" in first
    assert [line.split(": ")[0].strip() for line in lines] == [str(source / name) for name in reasons]
    for line, reason in zip(lines, reasons.values(), strict=True):
        assert reason in line
    caplog.clear()
    assert_same(read_own(source, skip_damaged=True), clean)
    (message,) = caplog.messages
    assert message.startswith(f"{source}: {len(reasons)} files cannot be read and will be left out")
    assert message.splitlines()[1:] == lines


def test_a_picture_without_a_digit_is_damaged_where_digits_are_read(tmp_path: Path) -> None:
    folder_of(tmp_path, ("0", "1"))
    write(tmp_path / "1" / "blank.png", encode(Image.new("L", (60, 60), 255)))
    with pytest.raises(DataError, match=r"1 file cannot be read; (.|\n)*blank\.png: the picture is blank"):
        read_own(tmp_path)
    assert len(read_own(tmp_path, skip_damaged=True).train.labels) == 6
    assert len(read_own(tmp_path, Wanted("picture")).train.labels) == 7


def test_a_class_of_which_too_few_are_left_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, ("a", "b"), 3)
    write(tmp_path / "b" / "0.png", b"x")
    with pytest.raises(DataError, match=r"class 'b' has 2 images; it takes at least 3"):
        read_own(tmp_path, skip_damaged=True)


# Images that are arrays already


def npz(path: Path, **changes: np.ndarray | None) -> Path:
    arrays = {"x_train": IMAGES[:21], "y_train": LABELS[:21], "x_test": IMAGES[21:], "y_test": LABELS[21:]} | changes
    np.savez(path, allow_pickle=True, **{key: array for key, array in arrays.items() if array is not None})
    return path


def pairs(*parts: Part) -> set[tuple[bytes, int]]:
    return {
        (image.tobytes(), int(label)) for part in parts for image, label in zip(part.images, part.labels, strict=True)
    }


def part_of(rows: slice) -> Part:
    return Part(IMAGES[rows, None], LABELS[rows], LABELS[rows])


def test_an_npz_file_as_keras_publishes_mnist(tmp_path: Path) -> None:
    found = read_own(npz(tmp_path / "mnist.npz"))
    assert pairs(found.train) == pairs(part_of(slice(21)))
    assert pairs(found.test) == pairs(part_of(slice(21, 30)))
    assert (found.class_names, found.form.reader) == (("0", "1", "2"), "handwriting")


def test_an_npz_file_without_test_images_in_colour(tmp_path: Path) -> None:
    names, colours = np.array(["a", "b10", "b2"])[LABELS], np.stack([IMAGES] * 3, -1)[:, :20]
    path = npz(tmp_path / "own.npz", x_train=colours, y_train=names[:, None], x_test=None, y_test=None)
    found = read_own(path, Wanted(image_size=28, colour="rgb"))
    assert (found.class_names, found.form.reader) == (("a", "b2", "b10"), "picture")
    assert (found.train.images.shape, found.test.images.shape) == ((26, 3, 28, 28), (4, 3, 28, 28))
    assert found.train.labels.tolist().count(1) + found.test.labels.tolist().count(1) == 10


def in_npz(**changes: np.ndarray | None) -> Callable[[Path], Path]:
    return lambda folder: npz(folder / "mnist.npz", **changes)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "none", "none does not exist"),
        (lambda folder: write(folder / "x.csv", b""), "x.csv is a file; it is a folder of images per class, or an"),
        (in_npz(x_train=None), "mnist.npz has no array x_train; it takes x_train and y_train"),
        (
            in_npz(x_test=np.zeros((9, 32, 32, 2), "u1")),
            r"x_test holds uint8 in the shape \(9, 32, 32, 2\);",
        ),
        (in_npz(x_train=IMAGES[:21] / 255), r"x_train holds float64 in .*; images are uint8 \(n, h, w\)"),
        (in_npz(y_train=LABELS[:20]), "y_train has 20 labels, but there are 21 images"),
        (in_npz(y_test=LABELS[21:] + 1), "class '3' has test images, but no training images"),
        (in_npz(y_train=np.zeros(21, int)), r"mnist.npz has 1 classes \['0'\]; it takes 2 to 256"),
        (in_npz(y_train=np.arange(21) // 20, x_test=None, y_test=None), "class '1' has 1 images; it takes at least 3"),
        (in_npz(x_train=np.array([None] * 21)), "mnist.npz cannot be read as an .npz file of plain arrays"),
        (lambda folder: write(folder / "mnist.npz", b"PK\x03\x04 cut"), "mnist.npz cannot be read as an .npz"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_own(make(tmp_path))
