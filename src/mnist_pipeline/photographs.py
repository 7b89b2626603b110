"""Digits as people send them: MNIST's digits drawn with pens, on papers, under lights and through cameras.

`evaluate` reads these through the serving path, because accuracy on MNIST's own pictures says little about a
telephone's. Every picture follows from its digit and the random generator.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from mnist_pipeline.preprocessing import NothingToRead, read_digit

Colour = tuple[int, int, int]

SIDES = (28, 4000)  # pixels of a picture's longer side, log-uniform
CANVAS = 640  # larger pictures are drawn at this side and enlarged: no camera is sharper than that at 4,000 pixels
FIELD = 10  # the strokes are known at ten times MNIST's resolution
LEAST_DIGIT = 20  # pixels; a smaller digit is smaller than MNIST's
TILT = 15  # degrees to either side
ORIENTATION = 0x0112  # the EXIF tag

INKS: tuple[Colour, ...] = ((25, 25, 30), (20, 30, 110), (30, 50, 150), (45, 20, 20), (150, 20, 30), (15, 80, 40))
PENCILS: tuple[Colour, ...] = ((90, 90, 95), (70, 70, 75), (110, 108, 105))
PAPERS: tuple[Colour, ...] = ((250, 250, 248), (240, 238, 230), (225, 222, 215), (245, 235, 205))
COLOURED: tuple[Colour, ...] = ((250, 240, 130), (180, 225, 180), (250, 190, 200), (175, 205, 240), (200, 170, 130))
BOARDS: tuple[Colour, ...] = ((35, 60, 45), (45, 45, 48), (30, 40, 55))
CHALKS: tuple[Colour, ...] = ((235, 235, 230), (240, 225, 150), (235, 190, 200))
DESKS: tuple[Colour, ...] = ((95, 65, 40), (60, 45, 35), (70, 72, 75), (130, 95, 60))
BRIGHT: tuple[Colour, ...] = ((0, 0, 0), (200, 30, 30), (20, 60, 200), (0, 110, 60), (110, 20, 130))
PALE: tuple[Colour, ...] = ((255, 255, 255), (245, 245, 245), (255, 250, 220), (225, 240, 255))
DARK: tuple[Colour, ...] = ((0, 0, 0), (18, 18, 18), (30, 33, 40), (15, 25, 60))
GLOWING: tuple[Colour, ...] = ((255, 255, 255), (120, 220, 255), (255, 220, 90), (140, 255, 160))


class Photograph(NamedTuple):
    """An encoded picture of a digit, and which of KINDS it is of."""

    image: bytes
    kind: str


@dataclass(frozen=True)
class Style:
    """What pictures of one kind have in common.

    `width` is the range of the strokes' width in twentieths of the digit's size (MNIST's are 2 to 4.4 wide), `grain`
    how much of the ink the paper's tooth leaves out, `shade` the greatest part of the light that falls away.
    """

    width: tuple[float, float] = (1.2, 3.5)
    inks: tuple[Colour, ...] = INKS
    papers: tuple[Colour, ...] = PAPERS
    grain: float = 0.1
    lines: str = ""  # "ruled" or "graph"
    shade: float = 0.35
    creases: int = 0
    shadow: bool = False
    desk: bool = False
    camera: bool = True
    transparent: bool = False
    turned: bool = False
    formats: tuple[str, ...] = ("JPEG",)


KINDS = {
    "pen": Style(formats=("JPEG", "JPEG", "WEBP")),
    "thin pen": Style(width=(0.5, 1.1)),
    "marker": Style(width=(3.5, 6.0), grain=0.03),
    "pencil": Style(width=(0.7, 1.6), inks=PENCILS, grain=0.4),
    "ruled": Style(width=(1.0, 3.0), lines="ruled"),
    "graph": Style(width=(1.2, 3.0), lines="graph"),
    "coloured": Style(papers=COLOURED, inks=INKS[:4]),
    "crumpled": Style(creases=12),
    "shadow": Style(shadow=True),
    "turned": Style(turned=True),
    "desk": Style(desk=True),
    "chalk": Style(width=(1.5, 3.5), inks=CHALKS, papers=BOARDS, grain=0.45),
    "screenshot": Style(
        (0.8, 5.0), BRIGHT, PALE, grain=0.0, camera=False, formats=("PNG", "WEBP", "GIF", "BMP", "JPEG")
    ),
    "dark screenshot": Style(
        (0.8, 5.0), GLOWING, DARK, grain=0.0, camera=False, formats=("PNG", "WEBP", "GIF", "JPEG")
    ),
    "transparent": Style((0.8, 5.0), BRIGHT, grain=0.0, camera=False, transparent=True, formats=("PNG", "WEBP")),
}


def photograph(digit: np.ndarray, rng: np.random.Generator) -> Photograph:
    """A digit as a photograph or screenshot of a random kind.

    Args:
        digit: uint8 (28, 28), ink 255 on paper 0.
        rng: decides everything else.

    Returns:
        The encoded picture, its longer side log-uniform from 28 to 4,000 pixels, and its kind.
    """
    kind = list(KINDS)[rng.integers(len(KINDS))]
    style = KINDS[kind]
    longest = round(np.exp(rng.uniform(*np.log(SIDES))))
    shortest = max(SIDES[0], round(longest * rng.choice([1, 3 / 4, 2 / 3, 9 / 16])))
    width, height = (longest, shortest) if rng.random() < 0.5 else (shortest, longest)
    shrink = min(1, CANVAS / longest)
    canvas = max(1, round(width * shrink)), max(1, round(height * shrink))
    ink, size = placed(strokes(digit, rng.uniform(*style.width)), canvas, rng)  # (h, w) 0..1
    if style.transparent:
        colour = np.broadcast_to(tint(pick(style.inks, rng)), (*ink.shape, 3))
        picture = np.dstack([colour, ink * 255])
    else:
        picture = drawn(ink, size, style, rng)
    finished: np.ndarray = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    if shrink < 1:
        finished = cv2.resize(finished, (width, height), interpolation=cv2.INTER_CUBIC)
    return Photograph(encoded(finished, style, rng), kind)


def pick(colours: Sequence[Colour], rng: np.random.Generator) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def tint(colour: Colour) -> np.ndarray:
    return np.array(colour, np.float32)


def strokes(digit: np.ndarray, width: float) -> np.ndarray:
    """Signed distance to the edge of the strokes, inside positive, of a digit redrawn with another pen.

    Args:
        digit: uint8 (28, 28).
        width: wanted width of the strokes in pixels of the 28; it is approached only as far as no loop closes and
            no stroke breaks.

    Returns:
        float32 (280, 280), in pixels of the 280.
    """
    large = cv2.resize(digit, None, fx=FIELD, fy=FIELD, interpolation=cv2.INTER_CUBIC)
    shape = (cv2.GaussianBlur(large, (0, 0), 0.3 * FIELD) > 127).astype(np.uint8)
    inside = cv2.distanceTransform(shape, cv2.DIST_L2, 5)
    now = 4 * float(inside[shape > 0].mean())  # in a ribbon the mean distance is a quarter of the width
    ridge = cv2.dilate(inside, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(inside.max()) + 1,) * 2))
    for part in (1, 0.6, 0.3):
        wanted = now + part * (width * FIELD - now)
        if wanted > now:
            changed = (signed_distance(shape) + (wanted - now) / 2 > 0).astype(np.uint8)
        else:  # what is closest to the middle of the stroke
            changed = (inside > (1 - wanted / now) * np.maximum(ridge, 1)).astype(np.uint8)
            changed = (cv2.GaussianBlur(changed * 255, (0, 0), 1.5) > 110).astype(np.uint8)
        if topology(changed) == topology(shape):
            return cv2.GaussianBlur(signed_distance(changed), (0, 0), 1)
    return cv2.GaussianBlur(signed_distance(shape), (0, 0), 1)


def signed_distance(shape: np.ndarray) -> np.ndarray:
    return cv2.distanceTransform(shape, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - shape, cv2.DIST_L2, 5)


def topology(shape: np.ndarray) -> tuple[int, int]:
    """How many parts and how many loops."""
    return cv2.connectedComponents(shape)[0], cv2.connectedComponents(1 - shape, connectivity=4)[0]


def placed(field: np.ndarray, canvas: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The strokes somewhere on the canvas (width, height), tilted: ink, float32 (h, w) 0..1, and its size in pixels."""
    width, height = canvas
    left, top, wide, high = cv2.boundingRect((field > 0).astype(np.uint8))
    corners = np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]]) / 2
    angle = np.deg2rad(rng.uniform(-TILT, TILT))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.array([[1, rng.normal(0, 0.05)], [0, rng.uniform(0.95, 1.05)]])  # seen from a little aside
    extent = 2 * np.abs(corners @ turn.T).max(0)  # width and height of the tilted digit
    largest = 0.9 * min(width / extent[0], height / extent[1])
    least = min(largest, LEAST_DIGIT / max(wide, high))
    share = np.exp(rng.uniform(np.log(0.15), 0))  # of the largest: more small than large ones
    scale = max(least, largest * share)
    room = np.maximum(np.array(canvas) - 1.04 * scale * extent, 0) / 2
    centre = np.array(canvas) / 2 + rng.uniform(-room, room)
    middle = np.array([left + wide / 2, top + high / 2])
    matrix = np.column_stack([scale * turn, centre - scale * turn @ middle])
    warped = cv2.warpAffine(field, matrix, canvas, flags=cv2.INTER_LINEAR, borderValue=-1e3)
    return np.clip(warped * scale + 0.5, 0, 1), scale * max(wide, high)


def drawn(ink: np.ndarray, size: float, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Ink on paper, seen by a camera where the style has one: float32 (h, w, 3) 0..255."""
    height, width = ink.shape
    picture = np.tile(tint(pick(style.papers, rng)), (height, width, 1))
    if style.camera:
        picture *= 1 + mottled(height, width, rng)[..., None]
    if style.lines:
        ruled(picture, size, style.lines, rng)
    pressed = ink
    if style.grain:
        tooth = cv2.GaussianBlur(noise(height, width, rng), (0, 0), max(0.6, size / 150))
        tooth = tooth / (tooth.std() + 1e-6)
        pressed = ink * np.clip(1 - style.grain * (0.5 + tooth), 0, 1)
    colour = tint(pick(style.inks, rng))
    picture += pressed[..., None] * (colour - picture)
    if not style.camera:
        return picture
    if style.desk:
        on_desk(picture, ink, rng)
    picture *= light(height, width, style, rng)[..., None]
    picture *= rng.uniform(0.92, 1.05, 3).astype(np.float32)  # white balance
    picture = cv2.GaussianBlur(picture, (0, 0), 0.3 + rng.uniform(0, 0.015) * size / 2)
    picture = picture + rng.uniform(1, 7) * noise(height, width, rng)[..., None]
    return np.clip(picture, 0, 255)


def noise(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((height, width), np.float32)


def mottled(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """The unevenness of paper: float32 (h, w), a few hundredths around 0."""
    clouds = cv2.resize(noise(12, 12, rng), (width, height), interpolation=cv2.INTER_CUBIC)
    fibres = cv2.GaussianBlur(noise(height, width, rng), (0, 0), 1.2)
    return rng.uniform(0, 0.012) * clouds + rng.uniform(0, 0.06) * fibres


def ruled(picture: np.ndarray, size: float, lines: str, rng: np.random.Generator) -> None:
    """Draws a notebook's lines, or squares, under a digit of the given size."""
    height, width = picture.shape[:2]
    angle = np.deg2rad(rng.normal(0, 3))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    across, down = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    spacing = max(6, size / (rng.uniform(0.6, 1.8) if lines == "ruled" else rng.uniform(1.2, 4)))
    thick = max(0.6, spacing * rng.uniform(0.015, 0.04))
    colour = tint(pick(((130, 170, 220), (150, 150, 160), (150, 200, 190), (190, 160, 200)), rng))
    strength = rng.uniform(0.4, 0.9)
    for along in (down,) if lines == "ruled" else (down, across):
        distance = np.abs((along + rng.uniform(0, spacing)) % spacing - spacing / 2)
        line = strength * np.clip((thick + 1) / 2 - distance, 0, 1)
        picture += line[..., None] * (colour - picture)


def on_desk(picture: np.ndarray, ink: np.ndarray, rng: np.random.Generator) -> None:
    """Cuts the paper to a sheet around the digit that lies on a darker desk."""
    height, width = ink.shape
    left, top, wide, high = cv2.boundingRect((ink > 0).astype(np.uint8))
    spare = np.array([left, top, width - left - wide, height - top - high])
    edge = spare * rng.uniform(0, 0.7, 4) * (rng.random(4) < 0.6)  # how far the desk reaches in on each side
    x0, y0, x1, y1 = edge[0], edge[1], width - edge[2], height - edge[3]
    slack = 0.1 * spare.min()
    far = 2 * max(width, height)  # a side without desk lies outside the picture
    x0, y0 = (x0 if edge[0] else -far), (y0 if edge[1] else -far)
    x1, y1 = (x1 if edge[2] else far), (y1 if edge[3] else far)
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) + rng.uniform(-slack, slack, (4, 2))
    sheet: np.ndarray = np.zeros((height, width), np.float32)
    cv2.fillConvexPoly(sheet, corners.round().astype(np.int32), 1.0)
    sheet = cv2.GaussianBlur(sheet, (0, 0), 0.5 + max(height, width) / 800)
    wood = tint(pick(DESKS, rng)) * (1 + 0.1 * cv2.resize(noise(40, 3, rng), (width, height)))[..., None]
    picture += (1 - sheet)[..., None] * (wood - picture)


def light(height: int, width: int, style: Style, rng: np.random.Generator) -> np.ndarray:
    """What part of the light reaches each pixel: a gradient, a vignette, creases, and a cast shadow; float32 (h, w)."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x / width - 0.5, y / height - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    shade = rng.uniform(0, style.shade)
    lit = 1 - shade * (0.5 + x * np.cos(angle) + y * np.sin(angle)).clip(0, 1)
    lit -= rng.uniform(0, style.shade) * (x**2 + y**2)
    for _ in range(style.creases):
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
        distance = x * np.cos(angle) + y * np.sin(angle) - offset
        lit *= 1 + rng.uniform(0.03, 0.13) * np.sign(distance) * np.exp(-np.abs(distance) / rng.uniform(0.03, 0.2))
    if style.shadow:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
        wave = 0.04 * np.sin(rng.uniform(3, 12) * (x * np.sin(angle) - y * np.cos(angle)) + rng.uniform(0, 6))
        distance = x * np.cos(angle) + y * np.sin(angle) - offset + wave
        lit *= 1 - rng.uniform(0.3, 0.65) / (1 + np.exp(-np.clip(distance / rng.uniform(0.004, 0.05), -50, 50)))
    return lit.astype(np.float32)


def encoded(picture: np.ndarray, style: Style, rng: np.random.Generator) -> bytes:
    """The file: uint8 (h, w, 3 or 4) in one of the style's formats, turned by EXIF where the style says so."""
    exif = Image.Exif()
    if style.turned:
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


def sheet(photographs: Sequence[Photograph], side: int = 160, columns: int = 6) -> Image.Image:
    """A picture of photographs, each with its kind and what the network sees beside it.

    Args:
        photographs: what to show.
        side: pixels of a photograph on the sheet.
        columns: photographs in a row.
    """
    rows = -(-len(photographs) // columns)
    result = Image.new("RGB", (columns * 2 * side, rows * (side + 14)), (96, 96, 96))
    draw = ImageDraw.Draw(result)
    for i, each in enumerate(photographs):
        x, y = i % columns * 2 * side, i // columns * (side + 14)
        with Image.open(io.BytesIO(each.image)) as opened:
            name, size = opened.format, opened.size
            upright = ImageOps.contain(ImageOps.exif_transpose(opened).convert("RGBA"), (side - 4, side - 4))
        result.paste(upright, (x + 2, y + 14), upright)
        draw.text((x + 2, y + 1), f"{each.kind}, {name} {size[0]}x{size[1]}", fill="white")
        try:
            seen = Image.fromarray(read_digit(each.image)).resize((side - 4, side - 4), Image.Resampling.NEAREST)
            result.paste(seen, (x + side, y + 14))
        except NothingToRead as error:
            draw.text((x + side, y + side // 2), str(error)[:26], fill="white")
    return result
