"""The pictures of an evaluation, whatever the classes are called and however many there are; a warning is an error."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mnist_pipeline import figures
from mnist_pipeline.evaluation import plots

STRANGE = ["$1", "$7", r"\frac{", "_x", "a^b_c", "猫", "九", "عربي", "९", "", " ", "a\nb", "ß", "x" * 40, "x" * 41]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, in order."""
    kept: list[Figure] = []

    def save_and_keep(figure: Figure, path: Path) -> None:
        figures.save(figure, path)
        kept.append(figure)

    monkeypatch.setattr(plots, "save", save_and_keep)
    return kept


def size(path: Path) -> tuple[int, int]:
    """Width and height of a picture in pixels."""
    with Image.open(path) as picture:
        return picture.size


def dark(path: Path) -> int:
    """How many pixels of a picture are dark."""
    with Image.open(path) as picture:
        return int((np.asarray(picture.convert("L")) < 128).sum())


def test_what_the_font_cannot_draw_is_a_number() -> None:
    labels = figures.class_labels(STRANGE)
    assert labels[:5] == STRANGE[:5]
    assert labels[5:] == ["#5", "#6", "#7", "#8", "#9", "#10", "#11", "ß", "#13", "#14"]
    assert figures.class_labels(["#1", "猫", "#2", "x#"]) == ["#0", "#1", "#2", "x#"]
    assert figures.class_labels(["T-shirt/top", "y" * 15]) == ["T-shirt/top", "y" * 13 + "…"]


def test_any_name_can_be_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    count = len(STRANGE)
    actual = np.arange(count)
    plots.draw_confusion(tmp_path / "confusion.png", actual, np.roll(actual, 1), STRANGE)
    labels = figures.class_labels(STRANGE)
    plots.draw_mistakes(
        tmp_path / "mistakes.png", np.zeros((count, 3, 32, 32), np.uint8), [f"{x} at 3%" for x in labels], "$"
    )
    axis = drawn[0].axes[0]
    assert [text.get_text() for text in axis.get_xticklabels()] == labels
    assert "class k, counted from 0, of class_names in model_info.json" in axis.get_title(loc="left")
    assert [axis.get_title() for axis in drawn[1].axes if axis.get_title()] == [f"{x} at 3%" for x in labels]


def test_a_dollar_sign_is_drawn_as_one(tmp_path: Path) -> None:
    """Not taken for mathematics, where `$1$` would be an italic 1 without its dollars."""
    blank = np.zeros((1, 1, 28, 28), np.uint8)
    for name, title in (("dollars", "$1$"), ("one", "1")):
        plots.draw_mistakes(tmp_path / f"{name}.png", blank, [title], "heading")
    assert dark(tmp_path / "dollars.png") > dark(tmp_path / "one.png") + 20


def test_two_hundred_classes_make_a_legible_picture(tmp_path: Path, drawn: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    names = [f"class {k}" for k in range(200)]
    actual = np.repeat(np.arange(200), 20)
    predicted = actual.copy()
    predicted[actual == 150] = 7  # the worst, of classes far apart
    wrong = rng.choice(len(actual), 300, replace=False)
    predicted[wrong] = rng.integers(0, 200, 300)
    plots.draw_confusion(tmp_path / "confusion.png", actual, predicted, names)
    assert max(size(tmp_path / "confusion.png")) < 2_000
    axis = drawn[0].axes[0]
    shown = [text.get_text() for text in axis.get_yticklabels()]
    assert len(shown) == plots.MOST_CLASSES
    assert {"class 7", "class 150"} < set(shown)
    assert shown[-1] == "all others"
    assert axis.get_title(loc="left").startswith(
        f"{(actual != predicted).sum()} mistakes in 4,000 test images\nThe 29 of"
    )
    numbers = {text.get_position(): int(text.get_text()) for text in axis.texts}
    assert sum(numbers.values()) == 4_000
    worst = shown.index("class 7"), shown.index("class 150")
    assert numbers[worst] == ((actual == 150) & (predicted == 7)).sum() >= 15


def test_thirty_classes_are_all_shown(tmp_path: Path, drawn: list[Figure]) -> None:
    actual = np.arange(30)
    plots.draw_confusion(tmp_path / "confusion.png", actual, actual, [f"{k}" for k in range(30)])
    assert [text.get_text() for text in drawn[0].axes[0].get_xticklabels()] == [f"{k}" for k in range(30)]


@pytest.mark.slow
def test_many_mistakes_make_a_square_sheet(tmp_path: Path) -> None:
    """Not a column of 5 images a row: 400 mistakes would be 17,000 pixels high."""
    images = np.zeros((100, 1, 28, 28), np.uint8)
    plots.draw_mistakes(tmp_path / "mistakes.png", images, ["a at 99%\nis b (image 9)"] * 100, "Mistakes")
    width, height = size(tmp_path / "mistakes.png")
    assert 0.8 < width / height < 1.2
