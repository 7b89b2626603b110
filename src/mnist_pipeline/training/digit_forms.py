"""Draws digits in forms that MNIST's writers hardly used and half the world does.

A 1 with a flag, a 4 with a closed top, a 7 with a bar, a 0 with a slash or a dot, a 9 with a hook or an open loop, and
all ten as they are printed.
"""

import numpy as np

from mnist_pipeline.training.drawing import Ink, Points, draw_glyph, draw_strokes, smooth

PRINTED = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "STIXGeneralBol")


def draw_digit_form(rng: np.random.Generator) -> tuple[Ink, int]:
    """Draw a digit in one of these forms: uint8 (28, 28), and which digit it is."""
    _, digit, draw = FORMS[rng.choice(len(FORMS), p=[share for share, *_ in FORMS])]
    if draw is None:
        digit = int(rng.integers(10))
        return draw_glyph(str(digit), str(rng.choice(PRINTED)), rng.uniform(-0.5, 1.5), random_warp(rng)), digit
    strokes = [stroke + rng.normal(0, 0.012, stroke.shape) for stroke in draw(rng)]
    warp = random_warp(rng)
    return draw_strokes([smooth(stroke) @ warp.T for stroke in strokes], rng.uniform(1.8, 4.2)), digit


def random_warp(rng: np.random.Generator) -> Points:
    """A slant and a change of proportions, (2, 2)."""
    return np.array([[rng.uniform(0.8, 1.2), rng.normal(-0.08, 0.15)], [rng.normal(0, 0.04), 1]])


def draw_flagged_1(rng: np.random.Generator) -> list[Points]:
    """A stem, a flag that falls by 28 to 70 degrees, and at times a base."""
    angle, length = np.deg2rad(rng.uniform(28, 70)), rng.uniform(0.2, 0.8)
    tip = np.array([-length * np.cos(angle), length * np.sin(angle)])
    bend = tip / 2 + rng.normal(0, 0.03, 2)
    strokes = [np.array([tip, bend, (0, 0), (0, 0), (0, 0), (0, 1)])]
    if rng.random() < 0.3:
        strokes.append(np.array([(-rng.uniform(0.15, 0.4), 1), (rng.uniform(0.15, 0.4), 1)]))
    return strokes


def draw_closed_4(rng: np.random.Generator) -> list[Points]:
    """A stem with a triangle at its left, whose lower side may cross it."""
    corner = np.array([-rng.uniform(0.35, 0.75), rng.uniform(0.25, 0.65)])
    crossing = np.array([0, np.clip(corner[1] + rng.normal(0.03, 0.08), 0.3, 0.75)])
    beyond = crossing + (crossing - corner) * rng.choice([0.05, rng.uniform(0, 0.5)])
    return [np.repeat([(0, 0), corner, beyond], 3, 0), np.array([(0, 0), (0, rng.uniform(0.9, 1.1))])]


def draw_marked_0(rng: np.random.Generator) -> list[Points]:
    """An oval with a slash through it, or a dot or a short line in it; or a plain one, which may be wide."""
    width = rng.uniform(0.5, 1.15)
    angles = np.linspace(0, 2 * np.pi, 13) - np.pi / 2
    oval = np.column_stack([np.cos(angles) * width / 2, np.sin(angles) / 2])
    kind = rng.integers(5)
    if kind >= 3:
        return [oval + rng.normal(0, 0.02, oval.shape)]
    if kind == 0:
        reach, slope = rng.uniform(0.7, 1.2), rng.uniform(-0.3, 0.3)
        end = np.array([width / 2 * (1 + slope), -0.5 * (1 - slope)]) * reach * 0.72
        return [oval, np.stack([-end, end])]
    length = 0.01 if kind == 1 else rng.uniform(0.1, 0.35)
    return [oval, np.array([(0, -length / 2), (0, length / 2)])]


def draw_barred_7(rng: np.random.Generator) -> list[Points]:
    """A roof, a stem and a bar across it."""
    left, foot = -rng.uniform(0.45, 0.75), np.array([-rng.uniform(0.1, 0.45), 1])
    middle, half = foot * rng.uniform(0.4, 0.6), rng.uniform(0.12, 0.3)
    roof = [(left, rng.normal(0.02, 0.03)), (0, 0), (0, 0), (0, 0), foot]
    if rng.random() < 0.3:
        roof.insert(0, (left, rng.uniform(0.08, 0.2)))
    tilt = rng.normal(0, 0.04)
    bar = np.array([half, -tilt])
    return [np.array(roof), np.stack([middle - bar, middle + bar])]


def draw_hooked_9(rng: np.random.Generator) -> list[Points]:
    """A loop that may stay open, and a stem that may end in a hook."""
    width, height = rng.uniform(0.45, 0.7), rng.uniform(0.38, 0.55)
    turn = 2 * np.pi - rng.uniform(-0.1, 1.0)  # below 2 pi: the loop is open
    angles = np.linspace(0, -turn, 12) + rng.uniform(-0.5, 0)
    loop = np.column_stack([np.cos(angles) * width / 2, np.sin(angles) * height / 2 + height / 2])
    hook = rng.uniform(0, 1.3) * width
    foot = [(width / 2, 0.9), (width / 2 - hook / 2, 1.02), (width / 2 - hook, 1.0 - rng.uniform(0, 0.1))]
    if hook > 0.5 * width and rng.random() < 0.4:  # the hook turns up again
        foot.append((width / 2 - hook * rng.uniform(1, 1.2), rng.uniform(0.6, 0.95)))
    stem = np.array([(width / 2, height * rng.uniform(0, 0.4)), (width / 2, 0.6), *(foot if hook > 0.1 else foot[:1])])
    return [loop, stem]


def draw_crossed_6(rng: np.random.Generator) -> list[Points]:
    """A stem that bends to the right at its top, and a loop that starts left of it or stays open."""
    width, height = rng.uniform(0.5, 0.8), rng.uniform(0.4, 0.6)
    top = np.array([(rng.uniform(0.6, 1) * width, rng.uniform(0, 0.15)), (0.5 * width, 0), (0.1 * width, 0.3)])
    bowl = np.array([(0, 0.75), (0.15 * width, 1), (0.6 * width, 1), (width, 1 - height / 2)])
    reach = rng.uniform(-0.3, 0.3)  # below 0: beyond the stem
    end = np.array([(0.7 * width, 1 - height), (0.3 * width, 1.02 - height), (reach * width, 1.1 - height)])
    return [np.concatenate([top, bowl, end])]


FORMS = (  # the share of each form, the digit, and what draws it
    (0.27, 1, draw_flagged_1),
    (0.11, 4, draw_closed_4),
    (0.14, 0, draw_marked_0),
    (0.08, 7, draw_barred_7),
    (0.15, 9, draw_hooked_9),
    (0.07, 6, draw_crossed_6),
    (0.18, -1, None),  # printed, any digit
)
