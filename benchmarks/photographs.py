"""Renders MNIST's digits as people would send them: photographs and screenshots of 12 kinds, as encoded files.

`photograph` redraws the strokes with another pen, places them on a canvas, draws ink on paper, adds light, blur and
noise of a camera, and encodes the result. Every picture follows from its digit and the random generator alone.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

Colour = tuple[int, int, int]

SIDES = (28, 4000)  # pixels of a picture's longer side, log-uniform
CANVAS = 640  # larger pictures are drawn at this side and enlarged: no camera is sharper than that at 4,000 pixels
RESOLUTION = 10  # strokes are redrawn at this many times MNIST's resolution
MIN_DIGIT = 20  # pixels; a smaller digit would be smaller than MNIST's
MAX_TILT = 15  # degrees to either side
ORIENTATION = 0x0112  # the EXIF tag

INKS: tuple[Colour, ...] = ((25, 25, 30), (20, 30, 110), (30, 50, 150), (45, 20, 20), (150, 20, 30), (15, 80, 40))
PENCILS: tuple[Colour, ...] = ((90, 90, 95), (70, 70, 75), (110, 108, 105))
PAPERS: tuple[Colour, ...] = ((250, 250, 248), (240, 238, 230), (225, 222, 215), (245, 235, 205))
COLOURED: tuple[Colour, ...] = ((250, 240, 130), (180, 225, 180), (250, 190, 200), (175, 205, 240), (200, 170, 130))
BOARDS: tuple[Colour, ...] = ((35, 60, 45), (45, 45, 48), (30, 40, 55))
CHALKS: tuple[Colour, ...] = ((235, 235, 230), (240, 225, 150), (235, 190, 200))
BRIGHT: tuple[Colour, ...] = ((0, 0, 0), (200, 30, 30), (20, 60, 200), (0, 110, 60), (110, 20, 130))
PALE: tuple[Colour, ...] = ((255, 255, 255), (245, 245, 245), (255, 250, 220), (225, 240, 255))
DARK: tuple[Colour, ...] = ((0, 0, 0), (18, 18, 18), (30, 33, 40), (15, 25, 60))
GLOWING: tuple[Colour, ...] = ((255, 255, 255), (120, 220, 255), (255, 220, 90), (140, 255, 160))


class Photograph(NamedTuple):
    """An encoded picture of a digit or a number, and which of KINDS it is of."""

    image: bytes
    kind: str


@dataclass(frozen=True)
class Style:
    """What the pictures of one kind have in common."""

    width: tuple[float, float] = (1.2, 3.5)  # range of the strokes' width in pixels of the 28; MNIST's are 2 to 4.4
    inks: tuple[Colour, ...] = INKS  # to choose from, (red, green, blue), 0 to 255
    papers: tuple[Colour, ...] = PAPERS
    grain: float = 0.1  # part of the ink that the paper's roughness leaves out, 0 to 1
    lines: str = ""  # that are printed on the paper: "ruled", "graph" or none
    shade: float = 0.35  # largest part of the light that a gradient or a vignette takes away, 0 to 1
    camera: bool = True  # False: a screenshot
    transparent: bool = False  # the ink lies on a transparent background
    rotated: bool = False  # the pixels are rotated, and an EXIF tag says so
    formats: tuple[str, ...] = ("JPEG",)  # to choose from


KINDS = {
    "pen": Style(formats=("JPEG", "JPEG", "WEBP")),
    "thin pen": Style(width=(0.5, 1.1)),
    "marker": Style(width=(3.5, 6.0), grain=0.03),
    "pencil": Style(width=(0.7, 1.6), inks=PENCILS, grain=0.4),
    "ruled": Style(width=(1.0, 3.0), lines="ruled"),
    "graph": Style(width=(1.2, 3.0), lines="graph"),
    "coloured": Style(papers=COLOURED, inks=INKS[:4]),
    "turned": Style(rotated=True),
    "chalk": Style(width=(1.5, 3.5), inks=CHALKS, papers=BOARDS, grain=0.45),
    "screenshot": Style(
        (0.8, 5.0), BRIGHT, PALE, grain=0.0, camera=False, formats=("PNG", "WEBP", "GIF", "BMP", "JPEG")
    ),
    "dark screenshot": Style(
        (0.8, 5.0), GLOWING, DARK, grain=0.0, camera=False, formats=("PNG", "WEBP", "GIF", "JPEG")
    ),
    "transparent": Style((0.8, 5.0), BRIGHT, grain=0.0, camera=False, transparent=True, formats=("PNG", "WEBP")),
}


def photograph(digits: Sequence[np.ndarray], rng: np.random.Generator) -> Photograph:
    """Render digits, uint8 (28, 28) each, from left to right, as a photograph or screenshot of a random kind.

    Its longer side is log-uniform from 28 pixels (of a number: 40 a digit) to 4,000.
    """
    kind = list(KINDS)[rng.integers(len(KINDS))]
    style = KINDS[kind]
    least = SIDES[0] if len(digits) == 1 else 40 * len(digits)
    longest = round(np.exp(rng.uniform(np.log(least), np.log(SIDES[1]))))
    shortest = max(SIDES[0], round(longest * rng.choice([1, 3 / 4, 2 / 3, 9 / 16])))
    width, height = (longest, shortest) if rng.random() < 0.5 else (shortest, longest)
    scale = min(1, CANVAS / longest)
    canvas = max(1, round(width * scale)), max(1, round(height * scale))
    pen = rng.uniform(*style.width)
    ink, size = place(put_side_by_side([redraw_strokes(digit, pen) for digit in digits], rng), canvas, rng)
    if style.transparent:
        colour = np.broadcast_to(to_float(pick(style.inks, rng)), (*ink.shape, 3))
        picture = np.dstack([colour, ink * 255])
    else:
        picture = draw(ink, size, style, rng)
    pixels: np.ndarray = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    if scale < 1:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    return Photograph(encode(pixels, style, rng), kind)


def pick(colours: Sequence[Colour], rng: np.random.Generator) -> Colour:
    """Choose one of the colours."""
    return colours[int(rng.integers(len(colours)))]


def to_float(colour: Colour) -> np.ndarray:
    """Convert a colour to float32 (3,), 0 to 255."""
    return np.array(colour, np.float32)


def redraw_strokes(digit: np.ndarray, width: float) -> np.ndarray:
    """Redraw a digit, uint8 (28, 28), with a pen of another width, in pixels of the 28.

    The width is approached only as far as no loop closes and no stroke breaks. Returns float32 (280, 280): the signed
    distance to the edge of the strokes in pixels of the 280, positive inside.
    """
    large = cv2.resize(digit, None, fx=RESOLUTION, fy=RESOLUTION, interpolation=cv2.INTER_CUBIC)
    shape = (cv2.GaussianBlur(large, (0, 0), 0.3 * RESOLUTION) > 127).astype(np.uint8)
    for part in (1.0, 0.6, 0.3):
        changed = change_width(shape, width * RESOLUTION, part)
        if count_parts_and_loops(changed) == count_parts_and_loops(shape):
            return cv2.GaussianBlur(signed_distance(changed), (0, 0), 1)
    return cv2.GaussianBlur(signed_distance(shape), (0, 0), 1)


def put_side_by_side(digits: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Write what `redraw_strokes` returned in a row, each a little higher or lower, 0.15 to 0.6 of a height apart."""
    if len(digits) == 1:
        return digits[0]
    height, far = digits[0].shape[0], -float(digits[0].shape[0])
    row = np.full((height, 10), far, np.float32)
    spacing = rng.uniform(0.15, 0.6)
    for digit in digits:
        left, _, width, _ = cv2.boundingRect((digit > 0).astype(np.uint8))
        gap = round(20 * RESOLUTION * spacing * rng.uniform(0.7, 1.3))
        shift = round(rng.normal(0, 0.03) * height)
        column = np.pad(np.roll(digit[:, left : left + width], shift, 0), ((0, 0), (gap, 0)), constant_values=far)
        row = np.concatenate([row, column], 1)
    return np.pad(row, ((0, 0), (0, 10)), constant_values=far)


def change_width(shape: np.ndarray, width: float, part: float) -> np.ndarray:
    """Make strokes, uint8 (h, w), thicker or thinner: their mean width goes `part` (0 to 1) of the way to `width`."""
    inside = cv2.distanceTransform(shape, cv2.DIST_L2, 5)
    present = 4 * float(inside[shape > 0].mean())  # in a ribbon the mean distance is a quarter of the width
    wanted = present + part * (width - present)
    if wanted > present:
        return (signed_distance(shape) + (wanted - present) / 2 > 0).astype(np.uint8)
    # Thinner strokes keep what is closest to the middle of the old ones.
    ridge = cv2.dilate(inside, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(inside.max()) + 1,) * 2))
    changed = (inside > (1 - wanted / present) * np.maximum(ridge, 1)).astype(np.uint8)
    return (cv2.GaussianBlur(changed * 255, (0, 0), 1.5) > 110).astype(np.uint8)


def signed_distance(shape: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the edge of a mask, uint8 (h, w), positive inside it: float32 (h, w), pixels."""
    return cv2.distanceTransform(shape, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - shape, cv2.DIST_L2, 5)


def count_parts_and_loops(shape: np.ndarray) -> tuple[int, int]:
    """Number of connected parts of a mask, uint8 (h, w), and of its background, each with one more."""
    return cv2.connectedComponents(shape)[0], cv2.connectedComponents(1 - shape, connectivity=4)[0]


def place(distance: np.ndarray, canvas: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Tilt the strokes that `redraw_strokes` returned, scale them and put them somewhere on the canvas (width, height).

    Returns how much of each pixel is covered with ink, float64 (h, w), 0 to 1; and the longer side of a digit (the
    height of a number) in pixels.
    """
    width, height = canvas
    left, top, wide, high = cv2.boundingRect((distance > 0).astype(np.uint8))
    corners = np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]]) / 2
    tilt = choose_tilt(rng)
    extent = 2 * np.abs(corners @ tilt.T).max(0)  # width and height of the tilted digit
    largest = 0.9 * min(width / extent[0], height / extent[1])
    side = high if wide > 2 * high else max(wide, high)  # of a digit; a number is wider
    least = min(largest, MIN_DIGIT / side)
    # Of the largest scale: more digits are small than large. Numbers fill the width sooner, and are photographed so.
    share = np.exp(rng.uniform(np.log(0.15 if side >= wide else 0.4), 0))
    scale = max(least, largest * share)
    space = np.maximum(np.array(canvas) - 1.04 * scale * extent, 0) / 2
    centre = np.array(canvas) / 2 + rng.uniform(-space, space)
    middle = np.array([left + wide / 2, top + high / 2])
    matrix = np.column_stack([scale * tilt, centre - scale * tilt @ middle])
    warped = cv2.warpAffine(distance, matrix, canvas, flags=cv2.INTER_LINEAR, borderValue=-1e3)
    return np.clip(warped * scale + 0.5, 0, 1), scale * side


def choose_tilt(rng: np.random.Generator) -> np.ndarray:
    """Choose a rotation by up to MAX_TILT and a slight shear, as if seen from the side: float64 (2, 2)."""
    angle = np.deg2rad(rng.uniform(-MAX_TILT, MAX_TILT))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return rotation @ np.array([[1, rng.normal(0, 0.05)], [0, rng.uniform(0.95, 1.05)]])


def draw(ink: np.ndarray, size: float, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Draw on paper what `place` returned, as a camera sees it if the style has one: float32 (h, w, 3), 0 to 255."""
    height, width = ink.shape
    picture = np.tile(to_float(pick(style.papers, rng)), (height, width, 1))
    if style.camera:
        picture *= 1 + draw_texture(height, width, rng)[..., None]
    if style.lines:
        draw_lines(picture, size, style.lines, rng)
    covered = leave_out_grain(ink, size, style.grain, rng) if style.grain else ink
    picture += covered[..., None] * (to_float(pick(style.inks, rng)) - picture)
    if not style.camera:
        return picture
    picture *= draw_light(height, width, style, rng)[..., None]
    picture *= rng.uniform(0.92, 1.05, 3).astype(np.float32)  # white balance
    picture = cv2.GaussianBlur(picture, (0, 0), 0.3 + rng.uniform(0, 0.015) * size / 2)
    picture = picture + rng.uniform(1, 7) * draw_noise(height, width, rng)[..., None]
    return np.clip(picture, 0, 255)


def draw_noise(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Normally distributed noise, float32 (h, w), of mean 0 and standard deviation 1."""
    return rng.standard_normal((height, width), np.float32)


def draw_texture(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """The unevenness of paper: float32 (h, w), a few hundredths around 0."""
    clouds = cv2.resize(draw_noise(12, 12, rng), (width, height), interpolation=cv2.INTER_CUBIC)
    fibres = cv2.GaussianBlur(draw_noise(height, width, rng), (0, 0), 1.2)
    return rng.uniform(0, 0.012) * clouds + rng.uniform(0, 0.06) * fibres


def leave_out_grain(ink: np.ndarray, size: float, grain: float, rng: np.random.Generator) -> np.ndarray:
    """Take ink, float64 (h, w), away where rough paper does not touch the pen. `grain`, 0 to 1, says how much."""
    height, width = ink.shape
    roughness = cv2.GaussianBlur(draw_noise(height, width, rng), (0, 0), max(0.6, size / 150))
    roughness = roughness / (roughness.std() + 1e-6)
    return ink * np.clip(1 - grain * (0.5 + roughness), 0, 1)


def draw_lines(picture: np.ndarray, size: float, lines: str, rng: np.random.Generator) -> None:
    """Draw "ruled" or "graph" lines into a picture, float32 (h, w, 3); their distance follows from the digit's size."""
    height, width = picture.shape[:2]
    angle = np.deg2rad(rng.normal(0, 3))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    across, down = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    spacing = max(6, size / (rng.uniform(0.6, 1.8) if lines == "ruled" else rng.uniform(1.2, 4)))
    thickness = max(0.6, spacing * rng.uniform(0.015, 0.04))
    colour = to_float(pick(((130, 170, 220), (150, 150, 160), (150, 200, 190), (190, 160, 200)), rng))
    strength = rng.uniform(0.4, 0.9)
    for position in (down,) if lines == "ruled" else (down, across):
        distance = np.abs((position + rng.uniform(0, spacing)) % spacing - spacing / 2)
        line = strength * np.clip((thickness + 1) / 2 - distance, 0, 1)
        picture += line[..., None] * (colour - picture)


def draw_light(height: int, width: int, style: Style, rng: np.random.Generator) -> np.ndarray:
    """The part of the light that reaches each pixel, float32 (h, w): a gradient and a vignette."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x / width - 0.5, y / height - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    gradient = rng.uniform(0, style.shade)
    light = 1 - gradient * (0.5 + x * np.cos(angle) + y * np.sin(angle)).clip(0, 1)
    light -= rng.uniform(0, style.shade) * (x**2 + y**2)  # a vignette
    return light.astype(np.float32)


def encode(picture: np.ndarray, style: Style, rng: np.random.Generator) -> bytes:
    """Encode a picture, uint8 (h, w, 3 or 4), in one of the style's formats, rotated by EXIF if the style says so."""
    exif = Image.Exif()
    if style.rotated:
        exif[ORIENTATION], turns = ((3, 2), (6, 1), (8, 3))[rng.integers(3)]
        picture = np.rot90(picture, turns)
    file = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    name = style.formats[rng.integers(len(style.formats))]
    if name == "PNG":
        image.save(file, name, compress_level=1)
    elif name in ("JPEG", "WEBP"):
        image.save(file, name, quality=int(rng.integers(30, 96)), exif=exif, method=0)
    else:
        image.save(file, name)
    return file.getvalue()
