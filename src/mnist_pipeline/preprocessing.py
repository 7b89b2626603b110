"""Any picture that a person sends -> the 28x28 digit as MNIST would hold it.

It travels in the archive, so it imports Pillow, numpy and OpenCV alone. Read from the top: a picture is decoded, ink is
told from paper (wherever light falls), the digit from everything else, and its strokes are drawn again as MNIST's are.
"""

import contextlib
import io

import cv2
import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # no other decoder of Pillow is ever reached
FORMAT_NAMES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
MAX_PIXELS = 50_000_000  # the largest telephone photographs have 48 million
WORKING_SIDE = 640  # larger pictures are reduced to between this and twice this: a digit of 5 % is still 32 pixels high

SIDE, BOX = 28, 20  # MNIST's picture, and the box that its digits fit (LeCun et al. 1998)
FINE = 5 * BOX  # strokes are measured and mended at five times that
STROKE = (2.2, 4.2)  # pixels of the 20: 16 % of MNIST's training digits are thinner, 4 % thicker
THICK, BLOB = 6.5, 10  # likewise: thicker than 99.9 % of them, thicker than all of them

BLUR = 0.3  # pixels, and one more for every 800 of the picture: less shows the paper's grain, more joins strokes
FAINTEST = 0.08  # what takes less than this part of the paper's light is no ink
NOISE_MARGIN = 4.0  # ink stands this many standard deviations of the paper's noise above it


class NotAnImage(ValueError):
    """The bytes are no image of FORMATS that can be decoded within the limit; the message says why."""


class NothingToRead(ValueError):
    """A picture, but one without a digit to be found in it; the message says why."""


def read_digit(image: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The digit in a picture, as MNIST would hold it.

    Args:
        image: an encoded PNG, JPEG, WebP, BMP, GIF or TIFF (the first frame or page) of any mode and size.
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
    channel, dark_ink = clearest_channel(picture)
    sheet = find_sheet(picture)
    if sheet is not None:
        with contextlib.suppress(NothingToRead):  # the edge cuts the digit: no sheet then, but a patch of light
            field = eroded(sheet, 1 + max(sheet.shape) // 128) & framed(sheet.shape)
            digit, stroke = traced(lift_ink(*clearest_channel(spread(picture, sheet))), field, whole=True)
            if stroke < THICK:
                return digit
        dark_ink = dark_ink or bool(channel[sheet > 0].mean() > channel[sheet == 0].mean())
    frame = framed(channel.shape)
    digit, stroke = traced(lift_ink(channel, dark_ink), frame)
    if stroke > THICK:  # a marker, or the paper between the strokes taken for ink
        with contextlib.suppress(NothingToRead):
            other = traced(lift_ink(channel, not dark_ink), frame)
            digit, stroke = min((digit, stroke), other, key=lambda reading: reading[1])
    if stroke > BLOB:
        raise NothingToRead("there is a blob in the picture, but no stroke")
    return digit


def read_picture(image: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A whole picture, for networks that know other things than handwriting.

    Args:
        image: as `read_digit` takes it.
        max_pixels: likewise.

    Returns:
        uint8 (28, 28), bright on dark: made square with its border's grey, scaled down, inverted where that border is
        bright. A 28x28 picture on black is returned as it is.

    Raises:
        NotAnImage: the bytes cannot be decoded.
    """
    picture = decode(image, max_pixels)
    values = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    border = int(np.median(np.concatenate((values[0], values[-1], values[:, 0], values[:, -1]))))
    square = ImageOps.pad(Image.fromarray(values), (SIDE, SIDE), Image.Resampling.LANCZOS, color=border)
    small = np.asarray(square)
    return 255 - small if border > 127 else small


# How a model's pictures are read; its model_info.json says which.
READERS = {"handwriting": read_digit, "picture": read_picture}


def decode(image: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Upright uint8 pixels on white, (h, w) or (h, w, 3); both sides below twice WORKING_SIDE. Raises NotAnImage."""
    if not image:
        raise NotAnImage(f"the body is empty; send the bytes of a {FORMAT_NAMES}")
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise NotAnImage(f"{width}x{height} is {width * height} pixels; at most {max_pixels} are decoded")
            return pixels(picture)
    except NotAnImage:
        raise
    except Image.UnidentifiedImageError:
        raise NotAnImage(f"these {len(image)} bytes are no {FORMAT_NAMES}") from None
    except Exception as error:  # on damaged files Pillow raises whatever its decoders stumble over
        raise NotAnImage(f"the image cannot be decoded: {error or type(error).__name__}") from error


def pixels(picture: Image.Image) -> np.ndarray:
    """What `decode` returns, of an opened picture."""
    scale = WORKING_SIDE / max(picture.size)
    if scale < 1:  # a JPEG is then decoded at a half, quarter or eighth of its size, which is several times faster
        picture.draft(None, (int(picture.width * scale), int(picture.height * scale)))
    upright = ImageOps.exif_transpose(picture)
    if upright.mode == "F":  # a TIFF of floating-point numbers, 0 to 1 or 0 to 255
        real = np.nan_to_num(np.asarray(upright), posinf=255)
        upright = Image.fromarray((real * (255 if real.max() <= 1 else 1)).clip(0, 255).astype(np.uint8))
    elif upright.mode.startswith("I"):  # 16 bits, or in a TIFF 32
        deep = np.maximum(np.asarray(upright).astype(np.int64), 0)
        most = int(deep.max())
        upright = Image.fromarray((deep >> (0 if most < 1 << 8 else max(16, most.bit_length()) - 8)).astype(np.uint8))
    transparent = upright.has_transparency_data
    mode = "L" if upright.mode in ("1", "L", "LA") else "RGB"
    upright = upright.convert(mode + "A" if transparent else mode)
    factor = max(upright.size) // WORKING_SIDE
    values = np.asarray(upright.reduce(factor) if factor > 1 else upright)
    if transparent:
        values = on_paper(values)
    if values.ndim == 3 and (values == values[..., :1]).all():  # grey, though stored as colours
        values = values[..., 0]
    return values


def on_paper(values: np.ndarray) -> np.ndarray:
    """The colours of (h, w, 2 or 4), whose last channel is opacity, laid on white; white ink is laid on black."""
    colour, opacity = values[..., :-1].astype(np.float32), values[..., -1:].astype(np.float32) / 255
    seen = float(opacity.mean())
    white_ink = seen < 0.5 and float((colour * opacity).mean()) > 0.75 * 255 * seen
    flat = colour * opacity + (0 if white_ink else 255) * (1 - opacity)
    return (flat + 0.5).astype(np.uint8)


def is_mnist(picture: np.ndarray) -> bool:
    """Whether a picture is MNIST's already: 28x28, grey, black at the edge, and centred or filled to the edge."""
    if picture.shape != (SIDE, SIDE) or picture.max() < 250:
        return False
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    if edge.mean() > 10:  # at most 8.3 in MNIST's training images
        return False
    longest = max(cv2.boundingRect(picture)[2:])
    centred = all(abs(place - SIDE / 2) < 0.6 for place in centre(picture))
    return longest > BOX or (longest >= BOX - 1 and centred)


def centre(picture: np.ndarray) -> tuple[float, float]:
    """Column and row of the centre of mass."""
    moments = cv2.moments(picture)
    return moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]


def framed(shape: tuple[int, ...]) -> np.ndarray:
    """A picture without its outermost pixels."""
    field = np.zeros(shape[:2], np.uint8)
    field[1:-1, 1:-1] = 1
    return field


def find_sheet(picture: np.ndarray) -> np.ndarray | None:
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


def eroded(mask: np.ndarray, reach: int) -> np.ndarray:
    """A mask without its outermost pixels, unless the picture's border cuts it there."""
    padded = cv2.copyMakeBorder(mask, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return cv2.erode(padded, kernel)[reach:-reach, reach:-reach]


def spread(picture: np.ndarray, sheet: np.ndarray) -> np.ndarray:
    """The picture with the sheet's paper going on where the desk was."""
    weight: np.ndarray = cv2.erode(shrink(sheet.astype(np.float32), 64), np.ones((3, 3), np.uint8))
    colour = shrink(picture, 64).astype(np.float32)
    colour = colour.reshape(*weight.shape, -1)  # (h, w, channels)
    mean = (colour * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)
    near = [cv2.GaussianBlur(np.ascontiguousarray(c * weight), (0, 0), 8) for c in np.moveaxis(colour, -1, 0)]
    total = cv2.GaussianBlur(weight, (0, 0), 8)[..., None]
    smooth = (np.dstack(near) + 1e-3 * mean) / (total + 1e-3)
    paper = cv2.resize(smooth, picture.shape[1::-1]).reshape(picture.shape).astype(np.uint8)
    return np.where(sheet.reshape(*sheet.shape, *[1] * (picture.ndim - 2)) > 0, picture, paper)


def grey(picture: np.ndarray) -> np.ndarray:
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def lift_ink(channel: np.ndarray, dark_ink: bool) -> np.ndarray:
    """How much of the paper's light each pixel lacks, 0 to 1, whatever the colours, the shadows and the polarity."""
    bright = channel if dark_ink else 255 - channel
    light = cv2.GaussianBlur(bright.astype(np.float32), (0, 0), BLUR + max(bright.shape) / 800)
    ink = 1 - light / np.maximum(paper(light), 1)
    return np.clip(ink, 0, 1)


def clearest_channel(picture: np.ndarray) -> tuple[np.ndarray, bool]:
    """The channel in which ink stands out most (brightness, red, green or blue), and whether ink is its dark side.

    Ink is what differs from the median around it: paper is the majority there, and the median keeps the edges of
    shadows. The widest median sees markers whole, the narrower ones forgive the corners of shadows and desks.
    """
    channels = [picture] if picture.ndim == 2 else [grey(picture), *cv2.split(picture)]
    best, channel, dark_ink = -1.0, channels[0], True
    for i, candidate in enumerate(channels):
        small = shrink(candidate, 96)
        around = [cv2.medianBlur(small, min(small.shape) // part | 1) for part in (2, 4, 6)]
        cubes = (small.astype(np.float32) - np.stack(around)) ** 3
        score = float(np.abs(cubes).mean()) * (2 if i == 0 else 1)  # the other channels are noisier in a JPEG
        if score > best:
            best, channel, dark_ink = score, candidate, bool(cubes.sum() <= 0)
    return channel, dark_ink


def paper(light: np.ndarray) -> np.ndarray:
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


def shrink(values: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(values.shape)
    if scale >= 1:
        return values
    size = max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale))
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def find_digit(ink: np.ndarray, field: np.ndarray, whole: bool = False) -> np.ndarray:
    """Which of the ink is the digit: the most massive thing within the field, and the parts that belong to it.

    What the edge of the field cuts (a finger, a neighbour, the desk) gives way to what lies within; with `whole` it
    is never the digit. Raises NothingToRead.
    """
    step = 1 + max(ink.shape) // 200
    sample = ink[::step, ::step]
    usual = float(np.median(sample))
    noise = 1.4826 * float(np.median(np.abs(sample - usual)))  # the standard deviation, were there no ink
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
    inked = mask > 0
    mass = np.bincount(labels[inked], weights=ink[inked], minlength=count)  # (count,)
    mass[0] = 0  # the paper
    longest = np.maximum(wide, high) - 2 * reach
    mass[longest < max(5, 0.02 * max(mask.shape))] = 0  # specks
    lines = np.maximum(wide / mask.shape[1], high / mask.shape[0]) > 0.95
    mass[lines & (np.minimum(wide, high) < 0.15 * min(mask.shape))] = 0  # a notebook's, from border to border
    cut = np.bincount(labels[inked & (field == 0)], minlength=count) > 0
    score = mass * np.where(cut, 0 if whole else 0.1, 1)
    main = int(score.argmax())
    if score[main] == 0:
        raise NothingToRead("there is no ink in the picture but specks and lines")
    if (score > 0.3 * score[main]).sum() > 15:
        raise NothingToRead("there are too many things in the picture to say which is the digit")
    gap_x = np.maximum(left - (left[main] + wide[main]), left[main] - (left + wide))
    gap_y = np.maximum(top - (top[main] + high[main]), top[main] - (top + high))
    near = np.maximum(gap_x, gap_y) < 0.3 * longest[main]
    parts = near & (mass > 0.06 * mass[main]) & (~cut | cut[main])
    return mask * parts[labels].astype(np.uint8)


def otsu(values: np.ndarray) -> float:
    """The threshold, 0 to 1, that parts the values best into low and high (Otsu 1979)."""
    threshold, _ = cv2.threshold((values * 255).astype(np.uint8).reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    return float(threshold) / 255


def traced(ink: np.ndarray, field: np.ndarray, whole: bool = False) -> tuple[np.ndarray, float]:
    """The digit with strokes of MNIST's width, longest side 20, its centre of mass in the middle; uint8 (28, 28).

    Also how wide its strokes were, in pixels of the 28. Raises NothingToRead.
    """
    mask = find_digit(ink, field, whole)
    level = float(np.median(ink[mask > 0]))
    left, top, width, height = cv2.boundingRect(mask)
    margin = 2 + max(width, height) // 20
    digit = ink * cv2.dilate(mask, np.ones((3, 3), np.uint8))
    digit = np.pad(digit[top : top + height, left : left + width], margin)
    scale = FINE / max(width, height)
    thinnest = max(1, round(0.6 / scale))  # a finer line would be lost when the digit shrinks
    strokes = resize(cv2.dilate(digit, np.ones((thinnest, thinnest), np.uint8)), scale) > level / 2
    if not strokes.any():
        raise NothingToRead("there is no ink in the picture but specks and lines")
    inside = cv2.distanceTransform(strokes.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - strokes.astype(np.uint8), cv2.DIST_L2, 5)
    stroke = 4 * float(inside[strokes].mean()) * BOX / FINE  # in a ribbon the mean distance is a quarter of the width
    widen = (float(np.clip(stroke, *STROKE)) - stroke) * FINE / BOX / 2
    drawn = np.clip(np.where(strokes, inside, 0.5 - outside) + widen, 0, 1)
    left, top, width, height = cv2.boundingRect((drawn > 0).astype(np.uint8))
    drawn = resize(drawn[top : top + height, left : left + width], BOX / max(width, height))
    return centred(np.clip(drawn * 255 + 0.5, 0, 255).astype(np.uint8)), stroke


def resize(values: np.ndarray, scale: float) -> np.ndarray:
    size = max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale))
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def centred(digit: np.ndarray) -> np.ndarray:
    """uint8 (28, 28) with the centre of mass of the digit (h, w <= 20) at (14, 14)."""
    x, y = centre(digit)
    height, width = digit.shape
    left = min(max(round(SIDE / 2 - x), 0), SIDE - width)
    top = min(max(round(SIDE / 2 - y), 0), SIDE - height)
    result = np.zeros((SIDE, SIDE), np.uint8)
    result[top : top + height, left : left + width] = digit
    return result
