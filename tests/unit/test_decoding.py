"""Every format, mode and orientation is decoded; what cannot be decoded raises one error with a reason."""

import contextlib

import numpy as np
import pytest
from helpers import hostile
from helpers.pen_digits import DIGITS, FOUR, SEVEN, TWO, Strokes, assert_reads_as, draw_digit, encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mnist_pipeline.reading import FORMATS, NotAnImage, NothingToRead, TooMuchWork, read_digit


@pytest.mark.parametrize("strokes", DIGITS.values(), ids=DIGITS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_format(form: str, strokes: Strokes) -> None:
    assert_reads_as(encode(draw_digit(strokes), form), strokes, 0.95)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("1", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("P", "GIF"),
        ("1", "BMP"), ("RGBA", "WEBP"), ("1", "TIFF"), ("LA", "TIFF"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"),
    ],
)  # fmt: skip
def test_every_mode(mode: str, form: str) -> None:
    assert_reads_as(encode(draw_digit().convert(mode), form), least=0.95)


GREY = np.asarray(draw_digit())


@pytest.mark.parametrize(
    ("numbers", "form"),
    [
        (GREY.astype(np.uint16) * 257, "TIFF"),
        *((GREY.astype(np.uint16) * most, "PNG") for most in (257, 16, 4)),  # a camera stores 12 or 10 bits in 16
        (GREY.astype(np.int32) << 23, "TIFF"),
        *(((GREY / 255 * most).astype(np.float32), "TIFF") for most in (1, 255)),
    ],
)
def test_numbers_of_more_than_8_bits(numbers: np.ndarray, form: str) -> None:
    assert_reads_as(encode(numbers, form), least=0.95)


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)],
)
def test_exif_turns_the_picture(orientation: int, undo: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_reads_as(encode(draw_digit().transpose(undo), "JPEG", exif=exif), least=0.95)


@pytest.mark.skipif("HEIF" in FORMATS, reason="the extra heic is installed")
def test_without_its_extra_heic_is_named() -> None:
    with pytest.raises(NotAnImage, match=r"this is a HEIC picture, .* JPEG .* install the extra `heic`"):
        read_digit(bytes(4) + b"ftypheic" + bytes(100))


@pytest.mark.extras
def test_with_its_extra_heic_is_read() -> None:
    assert "HEIF" in FORMATS
    assert_reads_as(encode(draw_digit(SEVEN), "HEIF"), least=0.95)


@pytest.mark.filterwarnings("ignore")  # Pillow's remarks on damaged metadata
def test_damaged_exif_data_are_ignored() -> None:
    for damage in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense"):
        assert_reads_as(encode(draw_digit(), "JPEG", exif=damage), least=0.95)


def test_a_large_photograph_is_decoded_at_a_reduced_size() -> None:
    assert_reads_as(encode(draw_digit(SEVEN).resize((12_000, 9_000)), "JPEG"), least=0.9)


def test_transparency_lies_on_white_unless_the_ink_is_white() -> None:
    for ink in ((0, 0, 0), (0, 60, 200), (255, 255, 255)):
        picture = draw_digit(mode="RGBA", ink=(*ink, 255), paper=(*ink, 0))
        assert_reads_as(encode(picture), least=0.95)
        assert_reads_as(encode(picture, "WEBP"), least=0.95)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "empty"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "are no JPEG"),
        (bytes(5_000_000), "are no JPEG"),
        (encode(draw_digit(), "JPEG")[:-600], "decoded"),
        (encode(draw_digit())[:200], "decoded"),
        (encode(draw_digit(), "PCX"), "no JPEG, PNG, WEBP, BMP, GIF, TIFF"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
)
def test_what_is_no_image_is_said(image: bytes, reason: str) -> None:
    with pytest.raises(NotAnImage, match=reason):
        read_digit(image)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (hostile.write_png(7_500, 7_500, 10), "7500x7500 is 56250000 pixels; at most 25000000 of a PNG are decoded"),
        (hostile.write_png(30_000, 30_000, 10), "900000000 pixels"),
        (hostile.repeat_scans(300), "2000x2000 in 305 scans is 1220000000 pixels; at most 600000000 of a JPEG"),
        (encode(np.zeros((4000, 4000), np.uint16)), "at most 12500000 of a PNG of more than 8 bits are decoded"),
    ],
    ids=["PNG", "bomb", "scans", "16 bits"],
)
def test_what_takes_long_or_much_memory_is_refused_before(image: bytes, reason: str) -> None:
    with pytest.raises(TooMuchWork, match=reason):
        read_digit(image)


def test_a_users_own_files_have_no_limit_of_pixels() -> None:
    scan = encode(np.full((6000, 5000), 255, np.uint8))
    with pytest.raises(TooMuchWork):
        read_digit(scan)
    with pytest.raises(NothingToRead, match="blank"):
        read_digit(scan, limited=False)


def test_of_several_pictures_in_a_file_the_first_is_read() -> None:
    frames = [draw_digit(SEVEN), draw_digit(TWO), draw_digit(FOUR)]
    for form in ("GIF", "WEBP", "PNG", "TIFF", "MPO"):
        assert_reads_as(encode(frames[0], form, save_all=True, append_images=frames[1:]), least=0.95)


SMALL = draw_digit(SEVEN, (40, 30), 22, (12, 4), 3)
SEEDS = [
    *(encode(SMALL, form) for form in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")),
    encode(SMALL.convert("RGB").quantize(8)),
    encode(SMALL.convert("CMYK"), "JPEG"),
    encode(SMALL.convert("RGBA"), "WEBP", lossless=True),
    encode(SMALL.convert("RGB"), "TIFF", compression="tiff_lzw"),
]


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
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
