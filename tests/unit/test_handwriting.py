"""Whatever picture is sent: its digit as MNIST would hold it, or an error that says why there is none."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from helpers.pen_digits import DIGITS, assert_reads_as, draw_digit, encode, likeness
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.reading import NothingToRead, read_digit, read_digits
from mnist_pipeline.reading.normalisation import Place

IMAGES = ROOT / "tests/images"


def test_mnist_passes_through_bit_by_bit(mnist: Path) -> None:
    examples = load_test(mnist).images[:2000, 0].numpy()
    for digit in examples:
        assert np.array_equal(read_digit(encode(digit, compress_level=1)), digit)


def test_mnist_in_colour_or_compressed_losslessly_is_still_mnist(mnist: Path) -> None:
    digit = load_test(mnist).images[0, 0].numpy()
    for form in ("BMP", "GIF", "PNG"):
        assert np.array_equal(read_digit(encode(digit, form)), digit)
    assert np.array_equal(read_digit(encode(np.dstack([digit] * 3))), digit)


def test_the_answer_is_as_lecun_normalised() -> None:
    for strokes in DIGITS.values():
        digit = read_digit(encode(draw_digit(strokes)))
        assert digit.shape == (28, 28)
        assert digit.dtype == np.uint8
        rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        y, x = (np.average(np.arange(28), weights=digit.sum(axis)) for axis in (1, 0))
        assert abs(y - 14) <= 0.5
        assert abs(x - 14) <= 0.5
        assert digit.max() == 255


@pytest.mark.parametrize("side", [28, 40, 64, 150, 640, 1281, 4000])
def test_every_size(side: int) -> None:
    for strokes in DIGITS.values():
        picture = draw_digit(strokes, (side, side), 0.75 * side, (0.17 * side, 0.12 * side), 0.08 * side)
        assert_reads_as(encode(picture), strokes)


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
        assert_reads_as(encode(draw_digit(strokes, ink=ink, paper=paper, mode="RGB"), "JPEG"), strokes)


@pytest.mark.parametrize("pen", [2, 5, 12, 25, 32])
def test_thin_pens_and_thick_markers_come_out_alike(pen: float) -> None:
    for strokes in DIGITS.values():
        assert_reads_as(encode(draw_digit(strokes, pen=pen)), strokes, 0.75)


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
    "change", [gradient, vignette, hard_shadow, soft_shadow, camera_noise, dark_desk, notebook, squares]
)
@pytest.mark.parametrize("quality", [20, 90])
@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_light_and_paper_leave_no_trace(
    change: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], quality: int, scale: float
) -> None:
    width, height = round(400 * scale), round(300 * scale)
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    for strokes in DIGITS.values():
        clean = draw_digit(strokes, (width, height), 150 * scale, (130 * scale, 70 * scale), 12 * scale)
        picture = change(np.asarray(clean.filter(ImageFilter.GaussianBlur(scale / 2)), float), x, y)
        assert_reads_as(encode(np.clip(picture, 0, 255).astype(np.uint8), "JPEG", quality=quality), strokes)


def test_a_digit_of_a_twentieth_of_the_height() -> None:
    for strokes in DIGITS.values():
        picture = draw_digit(strokes, (1600, 1200), 60, (1200, 900), 6)
        assert_reads_as(encode(picture, "JPEG", quality=80), strokes, 0.8)


def test_a_marker_that_nearly_touches_the_border() -> None:
    for strokes in DIGITS.values():
        assert_reads_as(encode(draw_digit(strokes, (240, 260), 240, (22, 12), 24)), strokes, 0.75)


@pytest.mark.parametrize("side", [56, 200, 1000])
@pytest.mark.parametrize("size", [0.4, 0.75, 0.98])
def test_polarity_does_not_matter(side: int, size: float) -> None:
    """Closed strokes, of which the inside may look like a sheet of paper, thin to thick, up to the border."""
    for width in (0.04, 0.1, 0.17):
        for wide in (0.5, 0.8, 1.0):
            picture = draw_ring(side, size * side, wide, width * size * side)
            dark, bright = read_digits(encode(picture)), read_digits(encode(ImageOps.invert(picture)))
            assert likeness(dark[0].image, bright[0].image) > 0.97
            assert len(dark) == len(bright) == 1
            if wide > 3 * width:
                assert dark[0].image[12:16, 12:16].max() < 100  # the hole is there
            for strokes in DIGITS.values():
                pen = width * size * side
                place = (side - 0.8 * size * side) / 2, (side - size * side) / 2 + pen / 2
                digit = draw_digit(strokes, (side, side), size * side - pen, place, pen)
                assert_reads_as(encode(digit), strokes, 0.7)
                assert_reads_as(encode(ImageOps.invert(digit)), strokes, 0.7)


def draw_ring(side: int, height: float, wide: float, width: float) -> Image.Image:
    """A 0, black on white, in the middle of a square picture."""
    picture = Image.new("L", (4 * side, 4 * side), 255)
    x, y = 2 * wide * height, 2 * height
    centre = 2 * side
    ImageDraw.Draw(picture).ellipse([centre - x, centre - y, centre + x, centre + y], 255, 0, round(4 * width))
    return picture.resize((side, side), Image.Resampling.BOX)


def test_a_single_upright_stroke_is_read() -> None:
    for side in (40, 300):
        picture = Image.new("L", (side, side), 255)
        ImageDraw.Draw(picture).rectangle([side * 0.45, 0, side * 0.54, side], 0)
        digit = read_digit(encode(picture))
        rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
        assert np.ptp(rows) + 1 == 20
        assert np.ptp(columns) + 1 <= 5


@pytest.mark.parametrize("row", range(5))
def test_a_thin_flat_stroke_near_the_border_is_read_or_refused(row: int) -> None:
    """Its box, without the margin by which strokes are joined, may have no height."""
    picture = np.full((600, 600), 255, np.uint8)
    picture[row : row + 2, 100:200] = 0
    with contextlib.suppress(NothingToRead):
        assert len(read_digits(encode(picture))) == 1


def test_a_narrow_stroke_among_other_ink_is_not_on_paper() -> None:
    """The sleeves of a garment, and the gaps between them and its body, look like 1s."""
    ink, stroke, wide = np.zeros((100, 100), np.float32), np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    stroke[20:80, 30:36] = wide[20:80, 30:70] = 1
    ink[stroke > 0] = 0.8
    assert Place(ink, 1 - stroke, (0, 0), 1.0).is_on_paper(stroke)
    ink[20:80, 44:90] = 0.5
    assert not Place(ink, 1 - stroke, (0, 0), 1.0).is_on_paper(stroke)
    assert Place(ink, 1 - wide, (0, 0), 1.0).is_on_paper(wide)
    two_digits = (ink > 0).astype(np.uint8)
    assert Place(ink, 1 - two_digits, (0, 0), 1.0).is_on_paper(stroke)


def test_digits_are_found_line_by_line() -> None:
    picture = Image.new("L", (500, 400), 245)
    places = [(40, 40), (180, 60), (330, 50), (60, 230), (240, 220)]
    order = ["four", "seven", "two", "seven", "four"]
    for name, place in zip(order, places, strict=True):
        picture = ImageChops.darker(picture, draw_digit(DIGITS[name], (500, 400), 90, place, 9))
    items = read_digits(encode(picture))
    assert len(items) == 5
    for item, name, (x, y) in zip(items, order, places, strict=True):
        single = read_digit(encode(draw_digit(DIGITS[name], (500, 400), 90, (x, y), 9)))
        assert likeness(item.image, single) > 0.9
        assert item.box[0] == pytest.approx(x, abs=12)
        assert item.box[1] == pytest.approx(y, abs=12)


def test_too_many_things_are_refused() -> None:
    picture = Image.new("L", (1000, 1000), 255)
    draw = ImageDraw.Draw(picture)
    for k in range(81):
        x, y = 40 + k % 9 * 105, 40 + k // 9 * 105
        draw.line([x, y, x + 20, y + 50], 0, 6)
    with pytest.raises(NothingToRead, match="there are 81 things in the picture; at most 64"):
        read_digits(encode(picture))


def test_specks_and_a_neighbour_at_the_edge_are_left_out() -> None:
    picture = draw_digit()
    draw = ImageDraw.Draw(picture)
    for x, y in ((20, 30), (350, 280), (60, 200), (390, 40)):
        draw.ellipse([x, y, x + 4, y + 4], 30)
    draw.rectangle([0, 120, 25, 200], fill=40)
    assert_reads_as(encode(picture), least=0.95)


def test_a_photographed_seven() -> None:
    assert_reads_as((IMAGES / "seven.png").read_bytes(), least=0.5)


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
            read_digit(encode(picture))


def test_an_empty_page_and_a_black_blob_hold_no_digit() -> None:
    y, x = np.mgrid[:300, :400]
    page = notebook(np.full((300, 400), 240.0), x / 400, y / 300).astype(np.uint8)
    blob = np.where((x - 200) ** 2 + (y - 150) ** 2 < 60**2, 20, 240).astype(np.uint8)
    for picture in (page, blob):
        with pytest.raises(NothingToRead):
            read_digit(encode(picture))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3000, 1), (1, 3000), (2, 2)])
def test_pictures_too_small_for_a_digit(size: tuple[int, int]) -> None:
    with pytest.raises(NothingToRead):
        read_digit(encode(Image.new("RGB", size, "white")))
