"""Whatever picture is sent: its digit as MNIST would hold it, or one of two errors with a reason."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from mnist_pipeline import data
from mnist_pipeline.preprocessing import FORMATS, NotAnImage, NothingToRead, read_digit, read_picture

IMAGES = ROOT / "tests/images"

# Pen strokes in a box of 1 by 1, drawn with round ends. They are told apart at 28x28 without a network.
FOUR = [[(0.15, 0.0), (0.05, 0.6), (0.75, 0.6)], [(0.6, 0.25), (0.55, 1.0)]]
SEVEN = [[(0.05, 0.05), (0.75, 0.0), (0.35, 1.0)], [(0.25, 0.5), (0.7, 0.48)]]
TWO = [[(0.05, 0.2), (0.3, 0.0), (0.6, 0.1), (0.62, 0.35), (0.0, 1.0), (0.75, 0.95)]]
DIGITS = {"four": FOUR, "seven": SEVEN, "two": TWO}


def drawn(
    strokes: list[list[tuple[float, float]]] = SEVEN,
    size: tuple[int, int] = (400, 300),
    height: float = 150,
    at: tuple[float, float] = (130, 70),
    pen: float = 12,
    ink: object = 20,
    paper: object = 245,
    mode: str = "L",
) -> Image.Image:
    """A digit in pen strokes, its upper left corner at a place in pixels; drawn at four times its size, then shrunk."""
    fine = Image.new(mode, (4 * size[0], 4 * size[1]), paper)
    draw = ImageDraw.Draw(fine)
    for stroke in strokes:
        points = [(4 * (at[0] + x * height), 4 * (at[1] + y * height)) for x, y in stroke]
        draw.line(points, ink, round(4 * pen), joint="curve")
        for x, y in points:
            draw.ellipse([x - 2 * pen, y - 2 * pen, x + 2 * pen, y + 2 * pen], ink)
    return fine.resize(size, Image.Resampling.BOX)


def encoded(picture: Image.Image | np.ndarray, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, form, **options)
    return file.getvalue()


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two pictures, at the best of nine shifts by at most a pixel."""
    shifts = [np.roll(b, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return max(float(np.corrcoef(a.ravel(), shifted.ravel())[0, 1]) for shifted in shifts)


def read_as(image: bytes, strokes: list[list[tuple[float, float]]] = SEVEN, least: float = 0.8) -> None:
    """The picture is read as the plain drawing of these strokes is, and as none of the others."""
    digit = read_digit(image)
    alike = {name: likeness(digit, read_digit(encoded(drawn(other)))) for name, other in DIGITS.items()}
    assert alike.pop(next(name for name, other in DIGITS.items() if other is strokes)) > least
    assert all(other < 0.75 for other in alike.values())


def test_mnist_passes_through_bit_by_bit(mnist: Path) -> None:
    examples = data.load_test(mnist).images[:2000, 0].numpy()
    for digit in examples:
        assert np.array_equal(read_digit(encoded(digit, compress_level=1)), digit)


def test_mnist_in_colour_or_shrunk_losslessly_is_still_mnist(mnist: Path) -> None:
    digit = data.load_test(mnist).images[0, 0].numpy()
    for form in ("BMP", "GIF", "PNG"):
        assert np.array_equal(read_digit(encoded(digit, form)), digit)
    assert np.array_equal(read_digit(encoded(np.dstack([digit] * 3))), digit)


def test_the_answer_is_as_lecun_normalised() -> None:
    for strokes in DIGITS.values():
        digit = read_digit(encoded(drawn(strokes)))
        assert digit.shape == (28, 28)
        assert digit.dtype == np.uint8
        rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        y, x = (np.average(np.arange(28), weights=digit.sum(axis)) for axis in (1, 0))
        assert abs(y - 14) <= 0.5
        assert abs(x - 14) <= 0.5
        assert digit.max() == 255


@pytest.mark.parametrize("strokes", DIGITS.values(), ids=DIGITS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_format(form: str, strokes: list[list[tuple[float, float]]]) -> None:
    read_as(encoded(drawn(strokes), form), strokes, 0.95)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"),
        ("I;16", "PNG"), ("P", "GIF"), ("1", "BMP"), ("RGBA", "WEBP"), ("1", "TIFF"), ("LA", "TIFF"), ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"), ("I;16", "TIFF"), ("I", "TIFF"), ("F", "TIFF"),
    ],
)  # fmt: skip
def test_every_mode(mode: str, form: str) -> None:
    grey = drawn()
    if mode == "I;16":
        read_as(encoded(np.asarray(grey).astype(np.uint16) * 257, form), least=0.95)
    elif mode == "I":
        read_as(encoded(np.asarray(grey).astype(np.int32) << 23, form), least=0.95)
    elif mode == "F":
        for most in (1, 255):
            read_as(encoded((np.asarray(grey) / 255 * most).astype(np.float32), form), least=0.95)
    elif mode == "P":
        read_as(encoded(grey.convert("RGB").quantize(16), form), least=0.95)
    else:
        read_as(encoded(grey.convert(mode), form), least=0.95)


@pytest.mark.parametrize("side", [28, 40, 64, 150, 640, 1281, pytest.param(4000, marks=pytest.mark.slow)])
def test_every_size(side: int) -> None:
    for strokes in DIGITS.values():
        picture = drawn(strokes, (side, side), 0.75 * side, (0.17 * side, 0.12 * side), 0.08 * side)
        read_as(encoded(picture), strokes)


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)],
)
def test_exif_turns_the_picture(orientation: int, undo: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    read_as(encoded(drawn().transpose(undo), "JPEG", exif=exif), least=0.95)
    read_as(encoded(drawn().transpose(undo), "TIFF", tiffinfo={0x0112: orientation}), least=0.95)


def test_transparency_lies_on_white_unless_the_ink_is_white() -> None:
    for ink in ((0, 0, 0), (0, 60, 200), (255, 255, 255)):
        picture = drawn(mode="RGBA", ink=(*ink, 255), paper=(*ink, 0))
        read_as(encoded(picture), least=0.95)
        read_as(encoded(picture, "WEBP"), least=0.95)


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ((255, 255, 255), (0, 0, 0)),  # a dark mode
        ((235, 230, 220), (30, 60, 45)),  # chalk on a board
        ((200, 0, 0), (0, 105, 0)),  # equally bright
        ((250, 230, 0), (255, 255, 255)),  # a yellow felt pen
        ((20, 40, 130), (250, 240, 120)),
        ((120, 120, 125), (180, 178, 170)),  # pencil on grey paper
    ],
)
def test_every_colour(ink: tuple[int, int, int], paper: tuple[int, int, int]) -> None:
    for strokes in DIGITS.values():
        read_as(encoded(drawn(strokes, ink=ink, paper=paper, mode="RGB"), "JPEG"), strokes)


@pytest.mark.parametrize("pen", [2, 5, 12, 25, 32])
def test_thin_pens_and_thick_markers_come_out_alike(pen: float) -> None:
    for strokes in DIGITS.values():
        read_as(encoded(drawn(strokes, pen=pen)), strokes, 0.75)


def gradient(light: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return light * (1 - 0.7 * x)


def vignette(light: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return light * (1 - 1.3 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))


def hard_shadow(light: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return light * np.where(x + 0.4 * y > 0.75, 0.4, 1)


def soft_shadow(light: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return light * (1 - 0.6 / (1 + np.exp(-40 * (y - 0.5 + 0.1 * np.sin(9 * x)))))


def camera_noise(light: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.6 * light + np.random.default_rng(0).normal(0, 15, light.shape)


def dark_desk(light: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x > 0.12) & (x < 0.9) & (y > 0.1), light, 60)


def notebook(light: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((y + 0.02 * x) % 0.15 < 0.008, np.minimum(light, 170), light)


def squares(light: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((y % 0.08 < 0.006) | (x % 0.06 < 0.005), np.minimum(light, 180), light)


@pytest.mark.parametrize(
    "look", [gradient, vignette, hard_shadow, soft_shadow, camera_noise, dark_desk, notebook, squares]
)
@pytest.mark.parametrize("quality", [20, 90])
@pytest.mark.parametrize("scale", [0.5, 1, pytest.param(3, marks=pytest.mark.slow)])
def test_light_and_paper_leave_no_trace(
    look: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], quality: int, scale: float
) -> None:
    width, height = round(400 * scale), round(300 * scale)
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    for strokes in DIGITS.values():
        clean = drawn(strokes, (width, height), 150 * scale, (130 * scale, 70 * scale), 12 * scale)
        picture = look(np.asarray(clean.filter(ImageFilter.GaussianBlur(scale / 2)), float), x, y)
        read_as(encoded(np.clip(picture, 0, 255).astype(np.uint8), "JPEG", quality=quality), strokes)


def test_a_digit_of_a_twentieth_of_the_height() -> None:
    for strokes in DIGITS.values():
        picture = drawn(strokes, (1600, 1200), 60, (1200, 900), 6)
        read_as(encoded(picture, "JPEG", quality=80), strokes, 0.8)


def test_a_marker_that_nearly_touches_the_border() -> None:
    for strokes in DIGITS.values():
        read_as(encoded(drawn(strokes, (240, 260), 240, (22, 12), 24)), strokes, 0.75)


def test_specks_and_a_neighbour_at_the_edge_are_left_out() -> None:
    picture = drawn()
    draw = ImageDraw.Draw(picture)
    for x, y in ((20, 30), (350, 280), (60, 200), (390, 40)):
        draw.ellipse([x, y, x + 4, y + 4], 30)
    draw.rectangle([0, 120, 25, 200], fill=40)
    read_as(encoded(picture), least=0.95)


def test_a_photographed_seven() -> None:
    read_as((IMAGES / "seven.png").read_bytes(), least=0.5)


@pytest.mark.parametrize("side", [28, 100, 700])
def test_nothing_to_read_is_said(side: int) -> None:
    rng = np.random.default_rng(side)
    shape = (side, side)
    for picture in (
        np.zeros(shape, np.uint8),
        np.full(shape, 255, np.uint8),
        np.full((*shape, 3), (250, 230, 120), np.uint8),
        np.tile(np.linspace(60, 250, side).astype(np.uint8), (side, 1)),
        rng.integers(0, 256, shape, np.uint8),
        rng.integers(0, 256, (*shape, 3), np.uint8),
        rng.normal(128, 30, shape).clip(0, 255).astype(np.uint8),
        rng.normal(240, 3, shape).clip(0, 255).astype(np.uint8),
    ):
        with pytest.raises(NothingToRead, match=r"\w{3,} \w+"):
            read_digit(encoded(picture))


def test_an_empty_page_and_a_black_blob_hold_no_digit() -> None:
    y, x = np.mgrid[:300, :400]
    page = notebook(np.full((300, 400), 240.0), x / 400, y / 300).astype(np.uint8)
    blob = np.where((x - 200) ** 2 + (y - 150) ** 2 < 60**2, 20, 240).astype(np.uint8)
    for picture in (page, blob):
        with pytest.raises(NothingToRead):
            read_digit(encoded(picture))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3000, 1), (1, 3000), (2, 2)])
def test_pictures_too_small_for_a_digit(size: tuple[int, int]) -> None:
    with pytest.raises(NothingToRead):
        read_digit(encoded(Image.new("RGB", size, "white")))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels in a thousandth of the bytes."""
    rows = zlib.compress(b"\0" * ((side // 8 + 1) * min(side, 20_000)), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "empty"),
        (b"seven", "no PNG"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no PNG"),
        (b'{"instances": [7]}', "no PNG"),
        (bytes(5_000_000), "no PNG"),
        (encoded(drawn(), "JPEG")[:-600], "decoded"),
        (encoded(drawn())[:200], "decoded"),
        (encoded(drawn(), "TIFF")[:2000], "decoded"),
        (encoded(drawn(), "PCX"), "no PNG, JPEG, WebP, BMP, GIF or TIFF"),
        (encoded(drawn(), "PPM"), "no PNG"),
        (b"\x89PNG\r\n\x1a\n", "no PNG|decoded"),
        (bomb(7_500), "7500x7500 is 56250000 pixels"),
        (bomb(10_500), "pixels|bomb"),
        (bomb(30_000), "pixels|bomb"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
)
def test_what_is_no_image_is_said(image: bytes, reason: str) -> None:
    with pytest.raises(NotAnImage, match=reason):
        read_digit(image)


def test_the_limit_of_pixels_is_the_callers() -> None:
    with pytest.raises(NotAnImage, match="400x300 is 120000 pixels; at most 100000"):
        read_digit(encoded(drawn()), max_pixels=100_000)


def test_the_first_frame_of_an_animation_is_read() -> None:
    frames = [drawn(SEVEN), drawn(TWO), drawn(FOUR)]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        read_as(encoded(frames[0], form, save_all=True, append_images=frames[1:]), least=0.95)


SEEDS = [
    encoded(drawn(SEVEN, (40, 30), 22, (12, 4), 3), "PNG"),
    encoded(drawn(SEVEN, (40, 30), 22, (12, 4), 3).convert("RGB").quantize(8), "PNG"),
    encoded(drawn(TWO, (40, 30), 22, (12, 4), 3).convert("RGB"), "JPEG"),
    encoded(drawn(TWO, (40, 30), 22, (12, 4), 3).convert("CMYK"), "JPEG"),
    encoded(drawn(FOUR, (40, 30), 22, (12, 4), 3), "WEBP"),
    encoded(drawn(FOUR, (40, 30), 22, (12, 4), 3).convert("RGBA"), "WEBP", lossless=True),
    encoded(drawn(SEVEN, (40, 30), 22, (12, 4), 3), "BMP"),
    encoded(drawn(SEVEN, (40, 30), 22, (12, 4), 3), "GIF", save_all=True, append_images=[drawn(TWO, (40, 30), 22)]),
    encoded(drawn(TWO, (40, 30), 22, (12, 4), 3), "TIFF"),
    encoded(drawn(FOUR, (40, 30), 22, (12, 4), 3).convert("RGB"), "TIFF", compression="tiff_lzw"),
    encoded(drawn(SEVEN, (40, 30), 22, (12, 4), 3), "TIFF", compression="jpeg"),
]


@pytest.mark.slow
@settings(max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.floats(0, 1),
)
@pytest.mark.filterwarnings("ignore")  # Pillow's remarks on damaged metadata
def test_damaged_files_raise_nothing_else(seed: bytes, changes: list[tuple[float, int]], cut: float | None) -> None:
    image = bytearray(seed)
    for place, value in changes:
        image[int(place**3 * len(image))] = value  # headers, where it hurts, are hit more often
    if cut is not None:
        image = image[: int(cut * len(image))]
    with contextlib.suppress(NotAnImage, NothingToRead):
        digit = read_digit(bytes(image))
        assert digit.shape == (28, 28)
        assert digit.dtype == np.uint8


def test_a_whole_picture_keeps_its_proportions() -> None:
    paper = Image.new("RGB", (560, 280), "white")
    paper.paste("black", (200, 100, 360, 180))
    file = io.BytesIO()
    paper.save(file, "JPEG", quality=95)
    ink = np.argwhere(read_picture(file.getvalue()) > 127)
    height, width = ink.max(0) - ink.min(0) + 1
    assert (height, width) == (4, 8)


def test_a_whole_picture_of_the_right_size_on_black_is_returned_as_it_is() -> None:
    values = np.zeros((28, 28), np.uint8)
    values[3:25, 2:26] = np.random.default_rng(0).integers(0, 256, (22, 24))
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    assert np.array_equal(read_picture(file.getvalue()), values)
