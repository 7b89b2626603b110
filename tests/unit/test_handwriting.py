"""Whatever picture is sent: its digit as MNIST would hold it, or an error that says why there is none."""

from pathlib import Path

import numpy as np
import pytest
from helpers.pen_digits import DIGITS, assert_reads_as, draw_digit, encode, likeness
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.reading import NothingToRead, read_digit, read_digits


def test_mnist_passes_through_bit_by_bit(mnist: Path) -> None:
    examples = load_test(mnist).images[:2000, 0].numpy()
    for digit in examples:
        assert np.array_equal(read_digit(encode(digit, compress_level=1)), digit)
    for form in ("BMP", "GIF"):
        assert np.array_equal(read_digit(encode(examples[0], form)), examples[0])
    assert np.array_equal(read_digit(encode(np.dstack([examples[0]] * 3))), examples[0])


def test_the_answer_is_as_lecun_normalised() -> None:
    for strokes in DIGITS.values():
        digit = read_digit(encode(draw_digit(strokes)))
        assert (digit.shape, digit.dtype, digit.max()) == ((28, 28), np.uint8, 255)
        assert max(extent(digit)) == 20
        centre = [np.average(np.arange(28), weights=digit.sum(axis)) for axis in (1, 0)]
        assert centre == pytest.approx([14, 14], abs=0.5)


def extent(digit: np.ndarray) -> list[int]:
    """Height and width of the ink."""
    return [int(np.ptp(np.flatnonzero(digit.any(axis)))) + 1 for axis in (1, 0)]


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


# What a photograph is of a picture with this light, at x and y from 0 to 1.
CHANGES = {
    "gradient": lambda light, x, y: light * (1 - 0.7 * x),
    "vignette": lambda light, x, y: light * (1 - 1.3 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)),
    "hard shadow": lambda light, x, y: light * np.where(x + 0.4 * y > 0.75, 0.4, 1),
    "soft shadow": lambda light, x, y: light * (1 - 0.6 / (1 + np.exp(-40 * (y - 0.5 + 0.1 * np.sin(9 * x))))),
    "noise": lambda light, x, y: 0.6 * light + np.random.default_rng(0).normal(0, 15, light.shape),
    "dark desk": lambda light, x, y: np.where((x > 0.12) & (x < 0.9) & (y > 0.1), light, 60),
    "notebook": lambda light, x, y: np.where((y + 0.02 * x) % 0.15 < 0.008, np.minimum(light, 170), light),
    "squares": lambda light, x, y: np.where((y % 0.08 < 0.006) | (x % 0.06 < 0.005), np.minimum(light, 180), light),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("quality", [20, 90])
@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_light_and_paper_leave_no_trace(change: str, quality: int, scale: float) -> None:
    width, height = round(400 * scale), round(300 * scale)
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    for strokes in DIGITS.values():
        clean = draw_digit(strokes, (width, height), 150 * scale, (130 * scale, 70 * scale), 12 * scale)
        picture = CHANGES[change](np.asarray(clean.filter(ImageFilter.GaussianBlur(scale / 2)), float), x, y)
        assert_reads_as(encode(np.clip(picture, 0, 255).astype(np.uint8), "JPEG", quality=quality), strokes)


def test_a_small_digit_and_a_marker_that_nearly_touches_the_border() -> None:
    for strokes in DIGITS.values():
        assert_reads_as(encode(draw_digit(strokes, (1600, 1200), 60, (1200, 900), 6), "JPEG", quality=80), strokes, 0.8)
        assert_reads_as(encode(draw_digit(strokes, (240, 260), 240, (22, 12), 24)), strokes, 0.75)


@pytest.mark.parametrize("side", [56, 200, 1000])
@pytest.mark.parametrize("size", [0.4, 0.75, 0.98])
def test_polarity_does_not_matter(side: int, size: float) -> None:
    """Closed strokes, of which the inside may look like a sheet of paper, thin to thick, up to the border."""
    height = size * side
    for width in (0.04, 0.1, 0.17):
        pen = width * height
        for wide in (0.5, 0.8, 1.0):
            picture = draw_ring(side, height, wide, pen)
            dark, bright = read_digits(encode(picture)), read_digits(encode(ImageOps.invert(picture)))
            assert likeness(dark[0].image, bright[0].image) > 0.97
            assert len(dark) == len(bright) == 1
            if wide > 3 * width:
                assert dark[0].image[12:16, 12:16].max() < 100  # the hole is there
        for strokes in DIGITS.values():
            place = (side - 0.8 * height) / 2, (side - height) / 2 + pen / 2
            digit = draw_digit(strokes, (side, side), height - pen, place, pen)
            assert_reads_as(encode(digit), strokes, 0.7)
            assert_reads_as(encode(ImageOps.invert(digit)), strokes, 0.7)


def draw_ring(side: int, height: float, wide: float, width: float) -> Image.Image:
    """A 0, black on white, in the middle of a square picture."""
    picture = Image.new("L", (4 * side, 4 * side), 255)
    x, y = 2 * wide * height, 2 * height
    centre = 2 * side
    ImageDraw.Draw(picture).ellipse([centre - x, centre - y, centre + x, centre + y], 255, 0, round(4 * width))
    return picture.resize((side, side), Image.Resampling.BOX)


@pytest.mark.parametrize("side", [40, 300])
def test_a_single_upright_stroke_is_read(side: int) -> None:
    picture = Image.new("L", (side, side), 255)
    ImageDraw.Draw(picture).rectangle([side * 0.45, 0, side * 0.54, side], 0)
    height, width = extent(read_digit(encode(picture)))
    assert height == 20
    assert width <= 5


def test_digits_are_found_line_by_line() -> None:
    picture = Image.new("L", (500, 400), 245)
    places = [(40, 40), (180, 60), (330, 50), (60, 230), (240, 220)]
    order = ["four", "seven", "two", "seven", "four"]
    for name, place in zip(order, places, strict=True):
        picture = ImageChops.darker(picture, draw_digit(DIGITS[name], (500, 400), 90, place, 9))
    items = read_digits(encode(picture))
    assert len(items) == 5
    for item, name, place in zip(items, order, places, strict=True):
        single = read_digit(encode(draw_digit(DIGITS[name], (500, 400), 90, place, 9)))
        assert likeness(item.image, single) > 0.9
        assert list(item.box[:2]) == pytest.approx(place, abs=12)


def test_too_many_things_are_refused() -> None:
    picture = Image.new("L", (1000, 1000), 255)
    for k in range(81):
        x, y = 40 + k % 9 * 105, 40 + k // 9 * 105
        ImageDraw.Draw(picture).line([x, y, x + 20, y + 50], 0, 6)
    with pytest.raises(NothingToRead, match="there are 81 things in the picture; at most 64"):
        read_digits(encode(picture))


def test_specks_and_a_neighbour_at_the_edge_are_left_out() -> None:
    picture = draw_digit()
    draw = ImageDraw.Draw(picture)
    for x, y in ((20, 30), (350, 280), (60, 200), (390, 40)):
        draw.ellipse([x, y, x + 4, y + 4], 30)
    draw.rectangle([0, 120, 25, 200], fill=40)
    assert_reads_as(encode(picture), least=0.95)


@pytest.mark.parametrize("side", [28, 100, 700])
def test_nothing_to_read_is_said(side: int) -> None:
    rng = np.random.default_rng(side)
    shape = (side, side)
    y, x = np.mgrid[:side, :side] / side
    for picture in (
        np.zeros(shape, np.uint8),
        np.full((*shape, 3), (250, 230, 120), np.uint8),
        np.tile(np.linspace(60, 250, side).astype(np.uint8), (side, 1)),
        rng.integers(0, 256, shape, np.uint8),
        rng.integers(0, 256, (*shape, 3), np.uint8),
        rng.normal(128, 30, shape).clip(0, 255).astype(np.uint8),
        rng.normal(240, 3, shape).clip(0, 255).astype(np.uint8),
        np.full((1, 3000), 255, np.uint8),
        np.where((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.04, 20, 240).astype(np.uint8),  # a blob
    ):
        with pytest.raises(NothingToRead, match=r"\w{3,} \w+"):
            read_digit(encode(picture))
