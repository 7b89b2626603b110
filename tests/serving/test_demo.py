"""The page to draw on, in a real browser, before the real server."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from helpers.browser import Browser, browsing, chromium
from helpers.fastapi_server import running
from helpers.torchserve import Running
from PIL import Image, ImageDraw

STROKES = {
    "1": [(0.52, 0.18), (0.51, 0.5), (0.5, 0.82)],
    "7": [(0.3, 0.22), (0.5, 0.2), (0.68, 0.22), (0.6, 0.45), (0.5, 0.65), (0.43, 0.85)],
}
SAID = "document.querySelector('#status').innerText"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip("no Chromium here: chromium, chromium-browser or google-chrome")
    with browsing() as started:
        yield started


@pytest.fixture
def page(fastapi_server: Running, browser: Browser) -> Iterator[Browser]:
    """The page, freshly opened; whatever the test does, no script fails and the security policy holds."""
    browser.open(fastapi_server.service.inference)
    browser.wait(f"{SAID}.includes('Draw a digit')")
    yield browser
    assert browser.complaints == []


def read(page: Browser, digit: str) -> None:
    """Wait until the page shows this digit as read."""
    page.wait(f"{SAID}.includes('It reads {digit}')")
    assert page.text("#label") == digit


def test_a_number_is_read_and_each_digit_gets_a_frame(page: Browser) -> None:
    page.drag("#pad", [(0.25, 0.3), (0.25, 0.5), (0.24, 0.7)])
    page.drag("#pad", [(0.52, 0.32), (0.62, 0.3), (0.74, 0.32), (0.68, 0.5), (0.62, 0.7)])
    page.wait("document.querySelectorAll('.box').length === 2")
    assert page.evaluate("[...document.querySelectorAll('.box')].map(box => box.dataset.label).join('')") == "17"
    assert page.text("#label") == "17"
    pad, first = page.box("#pad"), page.box(".box")
    assert (first["x"] - pad["x"]) / pad["width"] == pytest.approx(0.21, abs=0.03)
    assert (first["y"] - pad["y"]) / pad["height"] == pytest.approx(0.27, abs=0.03)
    assert first["height"] / pad["height"] == pytest.approx(0.47, abs=0.04)
    page.drag("#pad", [(0.4, 0.1), (0.41, 0.12)])
    assert page.evaluate("document.querySelectorAll('.box').length") == 0  # they are of the drawing before


def test_reads_a_dropped_file_and_then_a_drawing_with_the_mouse(page: Browser) -> None:
    page.drop("#pad", ROOT / "handlers/digits/7.png")
    read(page, "7")
    page.drag("#pad", STROKES["1"])
    read(page, "1")
    number = "parseFloat(bar.innerText.replace('> ', ''))"
    shares = page.evaluate(f"[...document.querySelectorAll('#bars .percent')].map(bar => {number})")
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(100, abs=1)
    assert int(np.argmax(shares)) == 1
    assert page.text("#bars .best").startswith("1")


def test_is_used_with_the_keyboard_alone(page: Browser) -> None:
    reached = []
    for _ in range(3):
        page.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["pad", "clear", "choose"]
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    names = {node["name"]["value"] for node in tree if node.get("name")}
    assert {"Drawing area", "Clear", "Choose a photo"} <= names
    page.evaluate("document.querySelector('#pad').focus()")
    page.press(" ")
    page.press("ArrowDown", 20)
    page.press(" ")
    read(page, "1")
    page.press("Delete")
    assert page.evaluate(SAID) == "The pad is blank: draw a digit, or choose a photo."


def test_makes_a_photo_of_10_mb_smaller_and_says_so(page: Browser, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(210, 251, (3000, 4000, 3), np.uint8)  # noise makes the file large
    photo = Image.fromarray(pixels)
    points = [(1000 + 2000 * x, 500 + 2000 * y) for x, y in STROKES["7"]]
    ImageDraw.Draw(photo).line(points, fill=(30, 30, 60), width=130, joint="curve")
    photo.save(tmp_path / "photo.jpg", quality=100)
    assert (tmp_path / "photo.jpg").stat().st_size > 10_000_000  # more than is sent
    page.choose("#file", tmp_path / "photo.jpg")
    read(page, "7")
    assert re.search("made smaller before it was sent: 4000 . 3000 to 1600 . 1200 pixels", page.evaluate(SAID))


def test_says_what_cannot_be_read(page: Browser, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("seven")
    page.drop("#pad", tmp_path / "notes.txt")
    page.wait(f"{SAID}.includes('“notes.txt” is no picture')")
    Image.new("L", (300, 300), 255).save(tmp_path / "blank.png")
    page.drop("#pad", tmp_path / "blank.png")
    page.wait(f"{SAID}.includes('Nothing to read: ')")


def test_says_that_the_server_is_stopped(int8_archive: Path, browser: Browser) -> None:
    with running(int8_archive, "--page", str(ROOT / "demo")) as server:
        browser.open(server.service.inference)
        browser.wait(f"{SAID}.includes('Draw a digit')")
    browser.drag("#pad", STROKES["1"])
    browser.wait(f"{SAID}.includes('The server does not answer. Start it with “make serve”')")


def test_fits_a_telephone(page: Browser) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    page.drag("#pad", STROKES["7"])
    read(page, "7")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.box("#label")["bottom"] < 740  # the answer is seen without scrolling
    page.call("Emulation.clearDeviceMetricsOverride")
