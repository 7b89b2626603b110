"""The user's own images in every form that data.source takes, and the messages about suitable and unsuitable ones."""

import gzip
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.small_model import encoded
from PIL import Image, ImageDraw

from mnist_pipeline.data.dataset import FILES, DataError, load, load_test
from mnist_pipeline.folders import normalise_name, visible
from mnist_pipeline.reading import Form, read_image
from mnist_pipeline.sources.download import download
from mnist_pipeline.sources.forms import Wanted
from mnist_pipeline.sources.own_data import read_own

Rows = Sequence[Sequence[object]]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 28, 28), np.uint8)
LABELS = np.arange(30) % 3  # ten of each of 0, 1, 2


def pen_stroke(slant: int, side: int = 60) -> bytes:
    """A line in pencil on paper, as a PNG: something that can be read as handwriting."""
    picture = Image.new("L", (side, side + 10), 240)
    ImageDraw.Draw(picture).line([(side / 2 - slant, 12), (side / 2 + slant, side - 8)], 20, 5)
    return encoded(picture)


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


# Folders


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("0", "7"), "handwriting"),
        (tuple("0123456789"), "handwriting"),
        (("0", "10"), "picture"),
        (("cat", "7"), "picture"),
        (("$1", "$7"), "picture"),
    ],
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
        f"{source}: 1 files next to the class folders are not used, 'README.txt' first.",
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
    for one, other in zip(found.arrays, clean.arrays, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "names",
    [
        ["1", "2", "10", "a", "a2", "a10", "b"],
        ["0", "00", "000", "01", "1", "1.png", "01.png", "2"],
        ["A", "a", "a1", "a01", "e\u0301", "é", "é1", "e\u03012"],
        ["9" * 250, "1" + "0" * 250],
    ],
)
def test_names_are_in_natural_order_whatever_the_file_system_says(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for order in (names, names[::-1]):
        monkeypatch.setattr(Path, "iterdir", lambda folder, order=order: (folder / name for name in order))
        found = [path.name for path in visible(tmp_path)]
        assert sorted(found) == sorted(names)
        if order is names:
            first = found
    assert found == first
    if names[0] == "1":
        assert found == names


def test_the_test_images_do_not_depend_on_the_disks_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k, name in enumerate(("1.png", "01.png", "001.png", "1.jpg", "01.jpg", "2.png", "02.png")):
        write(tmp_path / "a" / name, pen_stroke(k))
        write(tmp_path / "b" / name, pen_stroke(k + 10))
    listed, found = Path.iterdir, []
    for reverse in (False, True):
        monkeypatch.setattr(Path, "iterdir", lambda folder, r=reverse: iter(sorted(listed(folder), reverse=r)))
        found.append(read_own(tmp_path).arrays.test_images)
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("train", "test"), [("Caf\u00e9", "Cafe\u0301"), ("가", "\u1100\u1161"), ("a b", "a\u3000 b"), ("a", "a ")]
)
def test_one_name_in_two_forms_is_one_class(tmp_path: Path, train: str, test: str) -> None:
    folder_of(tmp_path / "folder" / "train", (train, "Dog"))
    folder_of(tmp_path / "folder" / "test", (test, "Dog"))
    assert set(read_own(tmp_path / "folder").class_names) == {train, "Dog"} == {normalise_name(test), "Dog"}
    labels = [train, test, "Dog"] * 10
    assert set(read_own(csv_of(tmp_path / "train.csv", [HEADER, *csv_rows(labels)])).class_names) == {train, "Dog"}
    both = folder_of(tmp_path / "both", (train, test, "Dog"))
    assert len(read_own(both).arrays.train_labels) + len(read_own(both).arrays.test_labels) == 12


def test_names_that_differ_in_case_are_two_classes(tmp_path: Path) -> None:
    folder_of(tmp_path / "train", ("Cat", "Dog"))
    folder_of(tmp_path / "test", ("cat", "Dog"))
    with pytest.raises(DataError, match=r"\(A and a are two\): \['Cat', 'cat'\]"):
        read_own(tmp_path)
    (tmp_path / "labels").mkdir()
    assert read_own(csv_of(tmp_path / "labels" / "train.csv", [HEADER, *csv_rows(["A", "a"] * 15)])).class_names == (
        "A",
        "a",
    )


@pytest.mark.parametrize("name", ["a\x1b[31m", "\udcff", "a\x7f", " "])
def test_a_name_that_no_file_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"a class is called {normalise_name(name)!r}; a name is UTF-8")):
        read_own(folder_of(tmp_path, (name, "b")))


def test_a_file_in_place_of_the_training_images_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path / "test", ("a", "b"))
    write(tmp_path / "train", b"")
    with pytest.raises(DataError, match="train is a file; it must be a folder"):
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
    found = read_own(source, skip_damaged=True)
    for one, other in zip(found.arrays, clean.arrays, strict=True):
        assert np.array_equal(one, other)
    (message,) = caplog.messages
    assert message.startswith(f"{source}: {len(reasons)} files cannot be read and will be left out")
    assert message.splitlines()[1:] == lines


def test_of_many_damaged_files_twenty_are_named(tmp_path: Path) -> None:
    folder_of(tmp_path, ("a", "b"))
    for k in range(27):
        write(tmp_path / "b" / f"x{k}.png", b"x")
    with pytest.raises(DataError, match=r": 27 files cannot be read") as error:
        read_own(tmp_path)
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == 21
    assert lines[-1].strip() == "and 7 more"


def test_a_picture_without_a_digit_is_damaged_where_digits_are_read(tmp_path: Path) -> None:
    folder_of(tmp_path, ("0", "1"))
    write(tmp_path / "1" / "blank.png", encoded(Image.new("L", (60, 60), 255)))
    with pytest.raises(DataError, match=r"1 file cannot be read; (.|\n)*blank\.png: the picture is blank"):
        read_own(tmp_path)
    assert len(read_own(tmp_path, skip_damaged=True).arrays.train_labels) == 6
    assert len(read_own(tmp_path, Wanted("picture")).arrays.train_labels) == 7


def test_a_class_of_which_too_few_are_left_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, ("a", "b"), 3)
    write(tmp_path / "b" / "0.png", b"x")
    with pytest.raises(DataError, match=r"class 'b' has 2 images; it takes at least 3"):
        read_own(tmp_path, skip_damaged=True)


# Files of images that are arrays already

HEADER = ["label", *(f"pixel{k}" for k in range(784))]


def csv_of(path: Path, rows: Rows) -> Path:
    return write(path, "".join(",".join(map(str, row)) + "\n" for row in rows).encode())


def csv_rows(labels: Sequence[object]) -> list[list[object]]:
    return [[label, *image.ravel()] for label, image in zip(labels, IMAGES, strict=True)]


def as_idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype("u1").tobytes()


def idx_folder(folder: Path, packed: bool = False) -> Path:
    for name, array in zip(FILES, (IMAGES[:21], LABELS[:21] + 4, IMAGES[21:], LABELS[21:] + 4), strict=True):
        content = as_idx(array)
        write(folder / (f"{name}.gz" if packed else name), gzip.compress(content) if packed else content)
    return folder


def npz(path: Path, **changes: np.ndarray | None) -> Path:
    arrays = {"x_train": IMAGES[:21], "y_train": LABELS[:21], "x_test": IMAGES[21:], "y_test": LABELS[21:]} | changes
    np.savez(path, allow_pickle=True, **{key: array for key, array in arrays.items() if array is not None})
    return path


def pairs(images: np.ndarray, labels: np.ndarray) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


@pytest.mark.parametrize(
    ("labels", "names"), [(LABELS.tolist(), ("0", "1", "2")), ([f"{k}é" for k in LABELS], ("0é", "1é", "2é"))]
)
def test_kaggles_csv(tmp_path: Path, labels: list[object], names: tuple[str, ...]) -> None:
    path = csv_of(tmp_path / "train.csv", [HEADER, *csv_rows(labels)])
    csv_of(tmp_path / "test.csv", [HEADER[1:]])
    for source in (path, tmp_path):  # the file, or the folder as Kaggle packs it
        found = read_own(source)
        train, test = pairs(*found.arrays[:2]), pairs(*found.arrays[2:])
        assert found.class_names == names
        assert found.form.reader == ("handwriting" if names == ("0", "1", "2") else "picture")
        assert not train & test
        assert train | test == pairs(IMAGES, LABELS)
        assert len(test) == 4


@pytest.mark.parametrize("one_channel", [False, True])
def test_keras_npz(tmp_path: Path, one_channel: bool) -> None:
    more = {"x_train": IMAGES[:21, ..., None], "y_train": LABELS[:21, None].astype("f4").astype("i8")}
    path = npz(tmp_path / "mnist.npz", **(more if one_channel else {}))
    for source in (path, tmp_path):
        found = read_own(source)
        assert pairs(*found.arrays[:2]) == pairs(IMAGES[:21], LABELS[:21])
        assert pairs(*found.arrays[2:]) == pairs(IMAGES[21:], LABELS[21:])
        assert (found.class_names, found.form.reader) == (("0", "1", "2"), "handwriting")
    without_test = read_own(npz(tmp_path / "train.npz", x_test=None, y_test=None)).arrays
    assert pairs(*without_test[:2]) | pairs(*without_test[2:]) == pairs(IMAGES[:21], LABELS[:21])


@pytest.mark.parametrize("packed", [False, True])
def test_own_idx_files(tmp_path: Path, packed: bool) -> None:
    source = idx_folder(tmp_path / "source", packed)
    download("folder", tmp_path / "data", source_folder=source)
    dataset, test = load(tmp_path / "data", 3, seed=0), load_test(tmp_path / "data")
    assert (dataset.class_names, dataset.reader) == (("4", "5", "6"), "handwriting")
    assert pairs(test.images.numpy(), test.labels.numpy()) == pairs(IMAGES[21:], LABELS[21:])
    parts = (dataset.train, dataset.validation)
    assert set().union(*(pairs(p.images.numpy(), p.labels.numpy()) for p in parts)) == pairs(IMAGES[:21], LABELS[:21])


def test_real_mnist_as_idx_files_is_the_same_as_mnist(mnist: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in FILES:
        (source / name).symlink_to(mnist / name)
    download("folder", tmp_path / "data", source_folder=source)
    assert {name: (tmp_path / "data" / name).read_bytes() for name in FILES} == {
        name: (mnist / name).read_bytes() for name in FILES
    }


def changed_row(line: int, column: int, value: object) -> list[list[object]]:
    rows: list[list[object]] = [[*HEADER], *csv_rows(LABELS.tolist())]
    rows[line - 1][column] = value
    return rows


def not_square(rows: int = 3) -> list[list[object]]:
    header: list[object] = ["label", *(f"pixel{k}" for k in range(402))]
    row: list[object] = [0] * 403
    return [header, *[row] * rows]


def with_idx(name: str, content: Callable[[bytes], bytes | None]) -> Callable[[Path], Path]:
    """A folder of IDX files of which one is changed, or is missing."""

    def make(folder: Path) -> Path:
        path = idx_folder(folder) / name
        new = content(path.read_bytes())
        if new is None:
            path.unlink()
        else:
            path.write_bytes(new)
        return folder

    return make


def in_csv(rows: Rows) -> Callable[[Path], Path]:
    return lambda folder: csv_of(folder / "train.csv", rows)


def in_npz(**changes: np.ndarray | None) -> Callable[[Path], Path]:
    return lambda folder: npz(folder / "mnist.npz", **changes)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "none", "none does not exist"),
        (lambda folder: write(folder / "x.parquet", b""), "x.parquet is a file of another kind; it is"),
        # CSV
        (in_csv([HEADER[1:], [0] * 784]), "train.csv, line 1: 'pixel0,.*test.csv has no labels"),
        (in_csv(csv_rows(LABELS.tolist())), r"train.csv, line 1: '0,\d+,.*the header must be label,pixel0,pixel1,…"),
        (in_csv(not_square()), "line 1: .*402 columns; .* of square images"),
        (in_csv([HEADER]), "train.csv holds no images, only a header"),
        (in_csv(changed_row(5, 3, 256)), "train.csv, line 5: pixels are whole numbers from 0 to 255"),
        (in_csv(changed_row(2, 1, "0.5")), "train.csv, line 2: pixels are whole .*'0.5'"),
        (in_csv(changed_row(9, 0, "")), "train.csv, line 9: the label is missing"),
        (in_csv([*changed_row(2, 0, 0), [1, 2]]), "train.csv, line 32: 2 values; the header has 785"),
        (in_csv(changed_row(2, 0, 7)), "class '7' has 1 images; it takes at least 3"),
        (lambda folder: write(folder / "train.csv", b"\xff\xfe\x00"), "train.csv cannot be read: "),
        # npz
        (in_npz(x_train=None), "mnist.npz has no array x_train; it takes x_train and y_train"),
        (in_npz(x_test=np.zeros((9, 32, 32, 2), "u1")), r"x_test has the shape \(9, 32, 32, 2\); images are "),
        (in_npz(x_train=IMAGES[:21] / 255), "x_train holds 0.[0-9]+; pixels are whole numbers from 0 to 255"),
        (in_npz(y_train=LABELS[:20]), r"y_train has the shape \(20,\), but there are 21 images"),
        (in_npz(y_train=LABELS[:21] / 2), "y_train holds float64; labels are whole numbers or texts"),
        (in_npz(y_test=LABELS[21:] + 1), "class '3' has test images, but no training images"),
        (in_npz(y_train=np.zeros(21, int)), r"mnist.npz has 1 classes \['0'\]; it takes 2 to 256"),
        (in_npz(x_train=np.array([None] * 21)), "mnist.npz cannot be read as an .npz file of plain arrays"),
        (lambda folder: write(folder / "mnist.npz", b"PK\x03\x04 cut"), "mnist.npz cannot be read as an .npz"),
        # IDX
        (with_idx(FILES[1], lambda _: None), f"has no {FILES[1]} and no {FILES[1]}.gz; it takes all of "),
        (with_idx(FILES[0], lambda content: content[:-1]), f"{FILES[0]} has 16479 bytes; .* promises 16480"),
        (with_idx(FILES[0], lambda content: content[:7]), f"{FILES[0]} has 7 bytes"),
        (with_idx(FILES[0], lambda _: b""), f"{FILES[0]} starts with ; an IDX file of bytes starts with"),
        (with_idx(FILES[3], lambda _: as_idx(IMAGES)), rf"{FILES[3]} has the shape \(30, 28, 28\), but there are 9"),
        (with_idx(FILES[2], lambda _: b"\x1f\x8bcut"), f"{FILES[2]} cannot be read: a gzip file is corrupt"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(DataError, match=re.compile(says, re.DOTALL)):
        download("folder", tmp_path / "data", source_folder=make(tmp_path))
    assert not (tmp_path / "data").exists()
