"""The pictures of an evaluation, whatever the classes are called and however many there are; a warning is an error."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mnist_pipeline import figures
from mnist_pipeline.evaluation import plots


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, in order."""
    kept: list[Figure] = []

    def save_and_keep(figure: Figure, path: Path) -> None:
        figures.save(figure, path)
        kept.append(figure)

    monkeypatch.setattr(plots, "save", save_and_keep)
    return kept


def test_names_are_drawn_as_they_are_and_shortened(tmp_path: Path, drawn: list[Figure]) -> None:
    names = ["$1$", r"\frac{", "_x", "a^b_c", "T-shirt/top", "", "ß", "y" * 15]
    labels = [*names[:-1], "y" * 13 + "…"]
    classes = np.arange(len(names))
    plots.draw_confusion(tmp_path / "confusion.png", classes, np.roll(classes, 1), names)
    assert [text.get_text() for text in drawn[0].axes[0].get_xticklabels()] == labels


@pytest.mark.parametrize("count", [30, 200])
def test_many_classes_make_a_legible_picture(count: int, tmp_path: Path, drawn: list[Figure]) -> None:
    actual = np.repeat(np.arange(count), 20)
    predicted = actual.copy()
    predicted[actual == count - 5] = 7  # the worst, of classes far apart
    plots.draw_confusion(tmp_path / "confusion.png", actual, predicted, [f"class {k}" for k in range(count)])
    with Image.open(tmp_path / "confusion.png") as picture:
        assert max(picture.size) < 2_000
    axis = drawn[0].axes[0]
    shown = [text.get_text() for text in axis.get_yticklabels()]
    assert len(shown) == plots.MOST_CLASSES
    assert axis.get_title(loc="left").startswith(f"Mistakes: 20 in {20 * count:,} test images")
    numbers = {text.get_position(): text.get_text() for text in axis.texts}
    assert numbers[shown.index("class 7"), shown.index(f"class {count - 5}")] == "20"


def test_many_mistakes_make_a_square_sheet(tmp_path: Path) -> None:
    """Not a column of 5 images a row: 400 mistakes would be 17,000 pixels high."""
    images = np.zeros((64, 1, 28, 28), np.uint8)
    plots.draw_mistakes(tmp_path / "mistakes.png", images, ["a at 99%\nis b (image 9)"] * 64, "Mistakes")
    with Image.open(tmp_path / "mistakes.png") as picture:
        assert 0.8 < picture.width / picture.height < 1.2
