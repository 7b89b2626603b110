"""Any picture that a person sends -> the 28x28 digit as MNIST would hold it. It travels in the archive: Pillow, numpy, cv2."""

import contextlib
import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Grey = NDArray[np.uint8]  # (height, width)
Ink = NDArray[np.float32]  # (height, width), 0 is paper and 1 is black on white
Mask = NDArray[np.uint8]  # (height, width), 0 or 1

FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "BMP",
    "GIF",
)  # no other decoder of Pillow is ever reached
MAX_PIXELS = 50_000_000  # the largest telephone photographs have 48 million
WORKING_SIDE = 640  # larger pictures are reduced to between this and twice this: a digit of 5 % is still 32 pixels high
PAPER = (255, 255, 255)  # what transparency lies on

SIDE, BOX = (
    28,
    20,
)  # MNIST's picture, and the box that its digits fit (LeCun et al. 1998)
FINE = 5 * BOX  # strokes are measured and mended at five times that
STROKE = (2.2, 4.2)  # pixels of the 20: 8 % of MNIST's training digits are thinner, 7 % thicker
THICK, BLOB = 6.5, 10  # likewise: thicker than 99.8 % of them, thicker than all of them

FAINTEST = 0.08  # ink that takes less than this part of the paper's light is no ink
NOISE_MARGIN = 4.0  # ink stands this many standard deviations of the paper's noise above it


class NotAnImage(ValueError):
    """The bytes are no PNG, JPEG, WebP, BMP or GIF that can be decoded within the limit; the message says why."""


class NothingToRead(ValueError):
    """A picture, but one without a digit to be found in it; the message says why."""


def read_digit(image: bytes, max_pixels: int = MAX_PIXELS) -> Grey:
    """The digit in a picture, as MNIST would hold it.

    Args:
        image: an encoded PNG, JPEG, WebP, BMP or GIF (its first frame) of any mode and size.
        max_pixels: width times height above which nothing is decoded.

    Returns:
        uint8 (28, 28), ink 255 on paper 0: longest side 20, centre of mass in the middle (LeCun et al. 1998,
        "Gradient-based learning applied to document recognition"). A picture that is so already is returned as it is.

    Raises:
        NotAnImage: the bytes cannot be decoded.
        NothingToRead: there is no digit in the picture.
    """
    picture = decode(image, max_pixels)
    if is_mnist(picture):
        return picture
    if max(picture.shape[:2]) < 8:
        raise NothingToRead(f"{picture.shape[1]}x{picture.shape[0]} pixels are too few to hold a digit")
    sheet = find_sheet(picture)
    if sheet is not None:
        with contextlib.suppress(NothingToRead):  # no sheet then, but a patch of light whose edge cuts the digit
            field = eroded(sheet, 1 + max(sheet.shape) // 128) & framed(sheet.shape)
            digit, stroke = traced(lift_ink(*clearest_channel(spread(picture, sheet))), field, whole=True)
            if stroke < THICK:
                return digit
    channel, dark_ink = clearest_channel(picture)
    frame = framed(channel.shape)
    digit, stroke = traced(lift_ink(channel, dark_ink), frame)
    if stroke > THICK:  # a marker, or the paper between the strokes taken for ink
        with contextlib.suppress(NothingToRead):
            other = traced(lift_ink(channel, not dark_ink), frame)
            digit, stroke = min((digit, stroke), other, key=lambda reading: reading[1])
    if stroke > BLOB:
        raise NothingToRead("there is a blob in the picture, but no stroke")
    return digit


def decode(image: bytes, max_pixels: int = MAX_PIXELS) -> Grey:
    """Upright uint8 pixels on white, (h, w) or (h, w, 3); both sides below twice WORKING_SIDE. Raises NotAnImage."""
    if not image:
        raise NotAnImage("the body is empty; send the bytes of a PNG, JPEG, WebP, BMP or GIF")
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise NotAnImage(f"{width}x{height} is {width * height} pixels; at most {max_pixels} are decoded")
            return pixels(picture)
    except NotAnImage:
        raise
    except Image.UnidentifiedImageError:
        raise NotAnImage(f"these {len(image)} bytes are no PNG, JPEG, WebP, BMP or GIF") from None
    except Exception as error:  # on damaged files Pillow raises whatever its decoders stumble over
        raise NotAnImage(f"the image cannot be decoded: {error or type(error).__name__}") from error


def pixels(picture: Image.Image) -> Grey:
    scale = WORKING_SIDE / max(picture.size)
    if scale < 1:  # a JPEG is then decoded at a half, quarter or eighth of its size, which is several times faster
        picture.draft(None, (int(picture.width * scale), int(picture.height * scale)))
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):  # 16 bits
        values = np.asarray(upright).astype(np.int64)
        upright = Image.fromarray((values >> 8 if values.max() > 255 else values).astype(np.uint8))
    transparent = upright.has_transparency_data
    grey = upright.mode in ("1", "L", "LA")
    mode = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
    upright = upright.convert(mode)
    factor = max(upright.size) // WORKING_SIDE
    if factor > 1:
        upright = upright.reduce(factor)
    values = np.asarray(upright)
    return on_paper(values) if transparent else values


def on_paper(values: Grey) -> Grey:
    """The colours of (h, w, 2 or 4), whose last channel is opacity, laid on white; on black if they are white themselves."""
    colour, opacity = (
        values[..., :-1].astype(np.float32),
        values[..., -1:].astype(np.float32) / 255,
    )
    seen = float(opacity.mean())
    white_ink = seen < 0.5 and float((colour * opacity).mean()) > 0.75 * 255 * seen
    flat = colour * opacity + (0 if white_ink else 255) * (1 - opacity)
    return (flat + 0.5).astype(np.uint8).squeeze(-1) if flat.shape[-1] == 1 else (flat + 0.5).astype(np.uint8)


def is_mnist(picture: Grey) -> bool:
    """Whether a picture is MNIST's already: 28x28, grey, black at the edge, and centred or filled to the edge."""
    if picture.shape != (SIDE, SIDE) or picture.max() < 250:
        return False
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    if edge.mean() > 10:  # at most 8.3 in MNIST's training images
        return False
    left, top, width, height = cv2.boundingRect(picture)
    moments = cv2.moments(picture)
    x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    return max(width, height) >= BOX - 1 and (max(width, height) > BOX or (abs(x - 14) < 0.6 and abs(y - 14) < 0.6))


def framed(shape: tuple[int, ...]) -> Mask:
    """A picture without its outermost pixels."""
    field = np.zeros(shape[:2], np.uint8)
    field[1:-1, 1:-1] = 1
    return field


def find_sheet(picture: Grey) -> Mask | None:
    """Where the paper lies if a desk is seen around it: a large patch with straight, sharp edges; or None."""
    small = shrink(grey(picture), 128)
    _, bright = cv2.threshold(small, 0, 1, cv2.THRESH_OTSU)
    if small.size < 1000 or bright.min() == bright.max():
        return None
    high, low = float(small[bright > 0].mean()), float(small[bright == 0].mean())
    between = np.abs(small - (high + low) / 2) < (high - low) / 4
    for patch in (bright, 1 - bright):
        outlines, _ = cv2.findContours(patch, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        outline = max(outlines, key=cv2.contourArea)
        area, hull = cv2.contourArea(outline), cv2.convexHull(outline)
        (_, size, _) = cv2.minAreaRect(hull)
        straight = area > 0.93 * cv2.contourArea(hull) and cv2.contourArea(hull) > 0.82 * size[0] * size[1]
        if 0.15 < area / small.size < 0.95 and straight:
            sheet = cv2.fillPoly(np.zeros_like(small), [hull], 1)
            inner = eroded(sheet, 2)
            edge = (1 - eroded(1 - sheet, 4)) - eroded(sheet, 4)
            if high - low > 40 and between[edge > 0].sum() < 0.2 * edge.sum():  # a shadow's edge is softer
                return cv2.resize(inner, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST) & framed(picture.shape)
    return None


def eroded(mask: Mask, reach: int) -> Mask:
    """A mask without its outermost pixels, unless the picture's border cuts it there."""
    padded = cv2.copyMakeBorder(mask, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return cv2.erode(padded, kernel)[reach:-reach, reach:-reach]


def spread(picture: Grey, sheet: Mask) -> Grey:
    """The picture with the sheet's paper going on where the desk was."""
    weight = shrink(sheet.astype(np.float32), 64)
    weight = cv2.erode(weight, np.ones((3, 3), np.uint8))
    colour = shrink(picture, 64).astype(np.float32)
    colour = colour.reshape(*weight.shape, -1)  # (h, w, channels)
    mean = (colour * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)
    near = [cv2.GaussianBlur(np.ascontiguousarray(c * weight), (0, 0), 8) for c in np.moveaxis(colour, -1, 0)]
    total = cv2.GaussianBlur(weight, (0, 0), 8)[..., None]
    smooth = (np.dstack(near) + 1e-3 * mean) / (total + 1e-3)
    smooth = cv2.resize(smooth, picture.shape[1::-1]).reshape(picture.shape)
    inside = sheet.reshape(*sheet.shape, *[1] * (picture.ndim - 2)) > 0
    return np.where(inside, picture, smooth.astype(np.uint8))


def grey(picture: Grey) -> Grey:
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def lift_ink(channel: Grey, dark_ink: bool) -> Ink:
    """How much of the paper's light each pixel lacks, 0 to 1, whatever the colours, the shadows and the polarity."""
    light = channel.astype(np.float32) if dark_ink else 255 - channel.astype(np.float32)
    light = cv2.GaussianBlur(light, (0, 0), 0.3 + max(light.shape) / 800)
    ink = 1 - light / np.maximum(paper(light), 1)
    return np.clip(ink, 0, 1)


def clearest_channel(picture: Grey) -> tuple[Grey, bool]:
    """The channel in which ink stands out most (brightness, or else red, green or blue), and whether ink is its dark side.

    Ink is what differs from the median of half the picture: paper is the majority there, and the median keeps the
    edges of shadows.
    """
    if picture.ndim == 2:
        channels = [picture]
    else:
        channels = [grey(picture), *cv2.split(picture)]
    best, channel, dark_ink = -1.0, channels[0], True
    for i, candidate in enumerate(channels):
        small = shrink(candidate, 96)
        around = cv2.medianBlur(small, min(small.shape) // 2 | 1)
        difference = small.astype(np.float32) - around
        cubes = difference**3
        score = float(np.abs(cubes).mean()) * (2 if i == 0 else 1)  # the other channels are noisier in a JPEG
        if score > best:
            best, channel, dark_ink = score, candidate, bool(cubes.sum() <= 0)
    return channel, dark_ink


def paper(light: Ink) -> Ink:
    """The light of the paper without the ink: a closing wider than any stroke, which keeps the edges of shadows.

    What is dark along the border goes on outside, so a desk around the paper is taken for paper too, not for ink.
    """
    small = shrink(light, 256)
    width = max(1, int(0.15 * min(small.shape)))
    padded = cv2.copyMakeBorder(small, width, width, width, width, cv2.BORDER_REPLICATE)
    padded = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((2 * width + 1, 2 * width + 1), np.uint8))
    small = padded[width:-width, width:-width]
    if small.shape != light.shape:  # an edge that is one pixel off must not look like a stroke
        small = cv2.erode(small, np.ones((3, 3), np.uint8))
    return cv2.resize(small, light.shape[::-1], interpolation=cv2.INTER_LINEAR)


def shrink(values: NDArray, side: int) -> NDArray:
    scale = side / max(values.shape)
    if scale >= 1:
        return values
    size = (
        max(1, round(values.shape[1] * scale)),
        max(1, round(values.shape[0] * scale)),
    )
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def find_digit(ink: Ink, field: Mask, whole: bool = False) -> Mask:
    """Which of the ink is the digit: the most massive thing within the field, and the parts that belong to it.

    What the edge of the field cuts (a finger, a neighbour, the desk) gives way to what lies within; with `whole` it
    is never the digit. Raises NothingToRead.
    """
    usual = float(np.median(ink))
    noise = 1.4826 * float(np.median(np.abs(ink - usual)))
    floor = max(FAINTEST, usual + NOISE_MARGIN * noise)
    above = ink[ink > floor]
    if not above.size:
        raise NothingToRead("the picture is blank: no ink stands out from the paper")
    above = above[above >= otsu(above)]
    level = float((above**3).sum() / (above**2).sum())  # the darkest ink counts most
    mask = (ink > max(floor, (level + usual) / 2)).astype(np.uint8)

    reach = max(1, max(mask.shape) // 150)  # parts as close as this are one stroke, broken by the paper's grain
    linked = cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(linked)
    left, top, wide, high = (stats[:, i] for i in range(4))
    mass = np.bincount(labels.ravel(), weights=(ink * mask).ravel(), minlength=count)  # (count,)
    mass[0] = 0  # the paper
    longest = np.maximum(wide, high) - 2 * reach
    mass[longest < max(5, 0.02 * max(mask.shape))] = 0  # specks
    cut = np.bincount(labels[(mask > 0) & (field == 0)], minlength=count) > 0
    score = mass * np.where(cut, 0 if whole else 0.1, 1)
    main = int(score.argmax())
    if score[main] == 0:
        raise NothingToRead("there is no ink in the picture but specks")
    if (score > 0.3 * score[main]).sum() > 15:
        raise NothingToRead("there are too many things in the picture to say which is the digit")
    gap_x = np.maximum(left - (left[main] + wide[main]), left[main] - (left + wide))
    gap_y = np.maximum(top - (top[main] + high[main]), top[main] - (top + high))
    near = np.maximum(gap_x, gap_y) < 0.3 * longest[main]
    parts = near & (mass > 0.06 * mass[main]) & (~cut | cut[main])
    return mask * parts[labels].astype(np.uint8)


def otsu(values: NDArray) -> float:
    """The threshold, 0 to 1, that parts the values best into low and high (Otsu 1979)."""
    threshold, _ = cv2.threshold((values * 255).astype(np.uint8).reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    return float(threshold) / 255


def traced(ink: Ink, field: Mask, whole: bool = False) -> tuple[Grey, float]:
    """The digit with strokes of MNIST's width, longest side 20, its centre of mass in the middle; uint8 (28, 28).

    Also how wide its strokes were, in pixels of the 28. Raises NothingToRead.
    """
    mask = find_digit(ink, field, whole)
    level = float(np.median(ink[mask > 0]))
    left, top, width, height = cv2.boundingRect(mask)
    margin = 2 + max(width, height) // 20
    digit = cv2.copyMakeBorder(
        ink * cv2.dilate(mask, np.ones((3, 3), np.uint8)),
        *[margin] * 4,
        cv2.BORDER_CONSTANT,
    )
    digit = digit[top : top + height + 2 * margin, left : left + width + 2 * margin]
    strokes = resize(digit, FINE / max(width, height)) > level / 2
    if not strokes.any():
        raise NothingToRead("there is no ink in the picture but specks")
    inside = cv2.distanceTransform(strokes.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - strokes.astype(np.uint8), cv2.DIST_L2, 5)
    stroke = 4 * float(inside[strokes].mean()) * BOX / FINE  # in a ribbon the mean distance is a quarter of the width
    widen = (float(np.clip(stroke, *STROKE)) - stroke) * FINE / BOX / 2
    drawn = np.clip(inside - outside + widen + 0.5 * np.where(strokes, 0, 1), 0, 1)
    left, top, width, height = cv2.boundingRect((drawn > 0).astype(np.uint8))
    drawn = resize(drawn[top : top + height, left : left + width], BOX / max(width, height))
    return centred(np.clip(drawn * 255 + 0.5, 0, 255).astype(np.uint8)), stroke


def resize(values: Ink, scale: float) -> Ink:
    size = (
        max(1, round(values.shape[1] * scale)),
        max(1, round(values.shape[0] * scale)),
    )
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def centred(digit: Grey) -> Grey:
    """uint8 (28, 28) with the centre of mass of the digit (h, w <= 20) at (14, 14)."""
    moments = cv2.moments(digit)
    x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    height, width = digit.shape
    left = min(max(round(SIDE / 2 - x), 0), SIDE - width)
    top = min(max(round(SIDE / 2 - y), 0), SIDE - height)
    result = np.zeros((SIDE, SIDE), np.uint8)
    result[top : top + height, left : left + width] = digit
    return result
