"""The bytes of a picture -> its pixels."""

import contextlib
import io
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

# Pillow's other decoders are never reached. With each format the pixels that are decoded for a server. On two cores of
# a Zen 4 noisy pictures of these sizes took 0.3 to 1.2 s; JPEGs are decoded at a reduced size.
MAX_PIXELS = {
    "JPEG": 200_000_000,
    "PNG": 25_000_000,
    "WEBP": 25_000_000,
    "BMP": 50_000_000,
    "GIF": 50_000_000,
    "TIFF": 50_000_000,
    "AVIF": 25_000_000,
}
with contextlib.suppress(ImportError):  # the extra "heic"
    from pillow_heif import register_heif_opener

    register_heif_opener()
    MAX_PIXELS["HEIF"] = 25_000_000  # an iPhone's usual size
MAX_SCANNED = 600_000_000  # pixels times scans of a JPEG: each scan of a progressive one goes over all pixels again
MAX_DEEP_PIXELS = 12_500_000  # of more than 8 bits, which take up to 16 bytes each while they are converted
FORMATS = tuple(MAX_PIXELS)
Image.MAX_IMAGE_PIXELS = None  # check_limits knows better
FORMAT_NAMES = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
WORKING_SIDE = 640  # larger pictures are reduced to between this and twice this: a digit of 5 % is still 32 pixels high


class NotAnImage(ValueError):
    """The bytes are no image that can be decoded; the message says why."""


class TooMuchWork(NotAnImage):
    """A picture that would take a server too long, or too much memory; the message says the limit."""


class Decoded(NamedTuple):
    """A decoded picture."""

    pixels: np.ndarray  # uint8: (h, w) if the picture is grey, else (h, w, 3) in RGB; both below 2 * WORKING_SIDE
    scale: float  # pixels of the picture that was sent for each of these, along an axis; 1 or more


def decode(image: bytes, *, limited: bool = True) -> Decoded:
    """Decode the first frame of a picture in one of FORMATS: upright, on white, and reduced to WORKING_SIDE.

    Raises NotAnImage where the bytes cannot be decoded and, if `limited`, TooMuchWork beyond a server's limits.
    """
    if not image:
        raise NotAnImage(f"the body is empty; send the bytes of a {FORMAT_NAMES}")
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
            if limited:
                check_limits(picture, image)
            return to_pixels(picture)
    except NotAnImage:
        raise
    except Image.UnidentifiedImageError:
        if image[4:8] == b"ftyp" and image[8:12] in HEIC_BRANDS:
            raise NotAnImage(
                "this is a HEIC picture, which this server does not read; send it as JPEG (an iPhone takes JPEG with "
                "Settings > Camera > Formats > Most Compatible), or install the extra `heic` on the server"
            ) from None
        raise NotAnImage(f"these {len(image)} bytes are no {FORMAT_NAMES}") from None
    except Exception as error:  # on damaged files Pillow raises whatever its decoders stumble over
        raise NotAnImage(f"the image cannot be decoded: {error or type(error).__name__}") from error


def check_limits(picture: Image.Image, image: bytes) -> None:
    """Raise TooMuchWork where decoding this picture, opened from `image`, would take too long or too much memory."""
    width, height = picture.size
    pixels = width * height
    kind = "JPEG" if picture.format == "MPO" else str(picture.format)  # MPO: several JPEGs in one file
    limit = MAX_PIXELS[kind]
    if picture.mode == "F" or picture.mode.startswith("I"):
        limit, kind = min(limit, MAX_DEEP_PIXELS), f"{kind} of more than 8 bits"
    if pixels > limit:
        raise TooMuchWork(f"{width}x{height} is {pixels} pixels; at most {limit} of a {kind} are decoded")
    scans = image.count(b"\xff\xda") if kind == "JPEG" else 1  # those of a thumbnail too
    if scans > 1 and pixels * scans > MAX_SCANNED:
        raise TooMuchWork(
            f"{width}x{height} in {scans} scans is {pixels * scans} pixels; at most {MAX_SCANNED} of a JPEG are decoded"
        )


def to_pixels(picture: Image.Image) -> Decoded:
    """Convert an opened picture to what `decode` returns."""
    longest = max(picture.size)
    scale = WORKING_SIDE / longest
    if scale < 1:  # a JPEG is then decoded at a half, quarter or eighth of its size, which is several times faster
        picture.draft(None, (int(picture.width * scale), int(picture.height * scale)))
    picture.load()
    with contextlib.suppress(Exception):  # damaged EXIF data: every viewer shows the picture as it is stored
        picture = ImageOps.exif_transpose(picture)
    picture = to_8_bits(picture)
    transparent = picture.has_transparency_data
    mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
    picture = picture.convert(mode + "A" if transparent else mode)
    factor = max(picture.size) // WORKING_SIDE
    values = np.asarray(picture.reduce(factor) if factor > 1 else picture)
    if transparent:
        values = remove_transparency(values)
    if values.ndim == 3 and all(np.array_equal(values[..., 0], values[..., k]) for k in range(1, values.shape[2])):
        values = values[..., 0]  # a grey picture that is stored in colour
    return Decoded(values, longest / max(values.shape))


def to_8_bits(picture: Image.Image) -> Image.Image:
    """Convert numbers of 16 or 32 bits to 8 bits; other pictures are returned unchanged."""
    if picture.mode == "F":  # a TIFF's numbers run from 0 to 1 or from 0 to 255
        real = np.nan_to_num(np.asarray(picture), posinf=255)
        return Image.fromarray((real * (255 if real.max() <= 1 else 1)).clip(0, 255).astype(np.uint8))
    if picture.mode.startswith("I"):  # the largest number says how many bits are used: cameras store 10 to 14 in 16
        integers = np.maximum(np.asarray(picture).astype(np.int64), 0)
        shift = max(0, int(integers.max()).bit_length() - 8)
        return Image.fromarray((integers >> shift).astype(np.uint8))
    return picture


def remove_transparency(values: np.ndarray) -> np.ndarray:
    """Blend a transparent picture with white paper, or with black where its ink is white."""
    if values[..., -1].min() == 255:
        return np.ascontiguousarray(values[..., :-1])
    colour, opacity = values[..., :-1].astype(np.float32), values[..., -1:].astype(np.float32) / 255
    mean_opacity = float(opacity.mean())
    white_ink = mean_opacity < 0.5 and float((colour * opacity).mean()) > 0.75 * 255 * mean_opacity
    blended = colour * opacity + (0 if white_ink else 255) * (1 - opacity)
    return (blended + 0.5).astype(np.uint8)


def to_grey(picture: np.ndarray) -> np.ndarray:
    """Brightness, uint8 (h, w), of a picture uint8 (h, w) or (h, w, 3)."""
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def border_of(picture: np.ndarray) -> np.ndarray:
    """The pixels along the four edges of a picture (h, w) or (h, w, 3): (n,) or (n, 3)."""
    return np.concatenate((picture[0], picture[-1], picture[:, 0], picture[:, -1]))
