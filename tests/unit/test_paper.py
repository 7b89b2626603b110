"""Where the paper is, and how much ink is on it, whatever the light and the colours."""

import numpy as np
import pytest
from helpers.pen_digits import draw_digit

from mnist_pipeline.reading.paper import choose_channel, extend_paper, find_paper, ink_density

Y, X = np.mgrid[:300, :400] / np.array([300, 400])[:, None, None]
ON_PAPER = (X > 0.12) & (X < 0.9) & (Y > 0.1)
CLEAN = np.asarray(draw_digit(), float)  # a seven of 150 pixels, brightness 20 on 245
INK, PAPER = CLEAN < 25, CLEAN > 240


@pytest.mark.parametrize("desk", [20, 120])
def test_paper_on_a_desk_is_found(desk: int) -> None:
    paper = find_paper(np.where(ON_PAPER, CLEAN, desk).astype(np.uint8))
    assert paper is not None
    assert not (paper > 0)[~ON_PAPER].any()
    assert (paper > 0)[ON_PAPER].mean() > 0.9


def test_a_shadow_with_a_soft_edge_is_no_paper() -> None:
    shadow = 1 - 0.6 / (1 + np.exp(-40 * (Y - 0.5)))
    assert find_paper((CLEAN * shadow).astype(np.uint8)) is None
    assert find_paper(CLEAN.astype(np.uint8)) is None


def test_the_desk_is_replaced_by_the_papers_colour() -> None:
    colour = CLEAN[..., None] * [1, 0.9, 0.8]
    picture = np.where(ON_PAPER[..., None], colour, 60).astype(np.uint8)
    paper = find_paper(picture)
    assert paper is not None
    extended = extend_paper(picture, paper)
    assert (extended[paper > 0] == picture[paper > 0]).all()
    difference = np.abs(extended[~ON_PAPER] - 245 * np.array([1, 0.9, 0.8]))
    assert np.median(difference) < 5
    assert difference.max() < 50  # where ink is near; the desk itself differs by 185


@pytest.mark.parametrize("dark_ink", [True, False])
def test_ink_density_does_not_depend_on_light_or_polarity(dark_ink: bool) -> None:
    lit = (CLEAN * (1 - 0.7 * X)).astype(np.uint8)
    ink = ink_density(lit if dark_ink else 255 - lit, dark_ink)
    assert ink.min() >= 0
    assert ink.max() <= 1
    assert np.median(ink[INK]) == pytest.approx(1 - 20 / 245, abs=0.02)
    assert ink[INK].min() > 0.6  # the edges are blurred
    assert np.median(ink[PAPER]) < 0.02


def test_the_channel_with_the_ink_is_chosen() -> None:
    ink = INK[..., None]
    red_on_green = np.where(ink, [200, 0, 0], [0, 105, 0]).astype(np.uint8)  # equally bright
    channel, dark_ink = choose_channel(red_on_green)
    assert np.array_equal(channel, red_on_green[..., 0])
    assert not dark_ink
    yellow_on_white = np.where(ink, [250, 230, 0], [255, 255, 255]).astype(np.uint8)
    channel, dark_ink = choose_channel(yellow_on_white)
    assert np.array_equal(channel, yellow_on_white[..., 2])
    assert dark_ink
