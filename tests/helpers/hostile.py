"""Requests that are made to hurt a server: a function for each gives the body that one client sends."""

import base64
import json
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from helpers.pen_digits import encode

SIDE = 1279  # the largest picture that is not reduced


def draw_bars(count: int = 24) -> bytes:
    """Upright bars side by side, whose combinations may be one digit."""
    picture = Image.new("L", (SIDE, SIDE), 255)
    for k in range(count):
        ImageDraw.Draw(picture).rectangle([60 + 48 * k, 100, 80 + 48 * k, 1180], 0)
    return encode(picture)


def draw_rings(side: int = 24) -> bytes:
    """Overlapping rings, all of a digit's size."""
    picture = Image.new("L", (SIDE, SIDE), 255)
    for k in range(side * side):
        x, y = 20 + k % side * 51, 20 + k // side * 51
        ImageDraw.Draw(picture).ellipse([x, y, x + 44, y + 44], outline=0, width=3)
    return encode(picture)


def draw_specks(step: int = 30) -> bytes:
    """Thousands of small things beside one large one."""
    picture = Image.new("L", (SIDE, SIDE), 255)
    for k in range((SIDE // step) ** 2):
        x, y = k % (SIDE // step) * step, k // (SIDE // step) * step
        ImageDraw.Draw(picture).rectangle([x, y, x + 27, y + 27], 0)
    ImageDraw.Draw(picture).rectangle([300, 200, 700, 1000], 0)
    return encode(picture)


def draw_digits_in_doubt(side: int = 8) -> bytes:
    """As many things as are read, none of which is a digit, all of which may be two."""
    picture = Image.new("L", (SIDE, SIDE), 255)
    for k in range(side * side):
        x, y = 20 + k % side * 155, 20 + k // side * 155
        ImageDraw.Draw(picture).line([x, y, x + 100, y + 100, x + 100, y, x, y + 100, x + 50, y], 0, 9)
    return encode(picture)


def make_noise() -> bytes:
    return encode(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8), "JPEG")


def repeat_scans(count: int = 8000, side: int = 2000) -> bytes:
    """A progressive JPEG whose last scan is there many times; each goes over all pixels."""
    whole = encode(Image.new("L", (side, side), 200), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + b"\xff\xd9"


def write_png(width: int, height: int, rows: int, depth: int = 8, kind: int = 0) -> bytes:
    """A PNG that claims so many pixels, of which so many rows are there, all black."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    row = 1 + width * (depth // 8) * {0: 1, 2: 3, 6: 4}[kind]
    pixels = zlib.compress(bytes(row * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write_frames() -> bytes:
    """A GIF of a hundred large frames."""
    frames = [Image.new("P", (2000, 2000), k) for k in range(100)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


def write_list(picture: bytes, count: int) -> bytes:
    return json.dumps({"images": [base64.b64encode(picture).decode()] * count}).encode()


LARGE = Image.new("L", (4990, 4990), 255)
# Names of requests, and what gives their bodies.
REQUESTS: dict[str, Callable[[], bytes]] = {
    "bars": draw_bars,
    "rings": draw_rings,
    "specks": draw_specks,
    "doubt": draw_digits_in_doubt,
    "noise": make_noise,
    "scans": repeat_scans,
    "few scans": lambda: repeat_scans(140),
    "progressive": lambda: encode(Image.new("RGB", (7000, 7000)), "JPEG", progressive=True),
    "frames": write_frames,
    "PNG bomb": lambda: write_png(20_000, 20_000, 2000),
    "PNG": lambda: write_png(4990, 4990, 4990, 16, 6),
    "BMP": lambda: encode(LARGE, "BMP")[:16_000_000],
    "TIFF": lambda: encode(Image.new("RGB", (7000, 7000)), "TIFF", compression="tiff_lzw"),
    "TIFF of 32 bits": lambda: encode(np.zeros((7000, 7000), np.float32), "TIFF", compression="tiff_lzw"),
    "WebP": lambda: encode(LARGE.convert("RGB"), "WEBP", lossless=True),
    "AVIF": lambda: encode(LARGE.convert("RGB"), "AVIF", speed=10),
    "deep JSON": lambda: b"[" * 16_000_000,
    "flat JSON": lambda: b'{"images": [' + b"[],{}," * 2_700_000 + b"0]}",
    "form": lambda: b"a=b&" * 4_000_000,
    "list of bars": lambda: write_list(draw_bars(), 256),
    "list of scans": lambda: write_list(repeat_scans(), 80),
    "list of large": lambda: write_list(encode(LARGE), 256),
}
