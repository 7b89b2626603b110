"""The figures on files and photographs, of test images that are no digits too."""

from pathlib import Path

import numpy as np
import torch

from mnist_pipeline.data.dataset import Examples, load_test
from mnist_pipeline.evaluation import robustness, unknown
from mnist_pipeline.serving.archived import open_archive
from mnist_pipeline.training import digit_forms, outliers


def test_all_of_mnist_can_be_drawn_again(mnist: Path) -> None:
    test = load_test(mnist)
    assert torch.equal(robustness.keep_strokes(test).images, test.images)


def test_what_is_no_digit_is_left_out_of_photographs_and_a_mistake_as_a_file(
    mnist: Path, int8_archive: Path, tmp_path: Path
) -> None:
    test = load_test(mnist)
    blank, full, dark = (torch.full((1, 1, 28, 28), value, dtype=torch.uint8) for value in (0, 255, 60))
    odd = Examples(
        torch.cat([blank, full, test.images[:20], dark]), torch.cat([torch.tensor([0, 0]), test.labels[:21]])
    )
    kept = robustness.keep_strokes(odd)
    assert torch.equal(kept.images, test.images[:20])
    assert torch.equal(kept.labels, test.labels[:20])
    with open_archive(int8_archive) as (served, _):
        figures = robustness.measure_files(served, odd)
        logits = served.logits(test.images[:20, 0].numpy())
        right = (logits.argmax(1) == test.labels[:20].numpy()) & (served.score(logits) > 0.5)
        assert (right.sum() - 2) / 23 <= figures["accuracy"] <= 20 / 23  # what is in doubt may be read in another way
        photographs = robustness.measure_photographs(served, kept, 100, 0, tmp_path / "sheet.png")
        numbers = robustness.measure_numbers(served, kept, 5, 0, tmp_path / "numbers.png")
    assert photographs["photographs"] == 20
    assert photographs["accuracy"] + photographs["nothing_found"] + photographs["several_found"] <= 1
    assert numbers["numbers"] == 5
    assert 0 <= numbers["wrong_and_sure"] <= 1 - numbers["accuracy"]
    for name in ("sheet", "numbers"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_what_is_unknown_is_measured(int8_archive: Path) -> None:
    with open_archive(int8_archive) as (served, _):
        least = served.info["known"]["least"]
        figures = unknown.measure_unknown(served, np.linspace(0.5, 1, 200), 20, 0)
        assert served.info["known"]["least"] == least
    assert set(figures) == {"letters", "look_alikes", "scribbles"}
    assert [each["pictures"] for each in figures.values()] == [20, 20, 20]
    for each in figures.values():
        assert 0 <= each["answered_if_99_percent_of_digits_are"] <= 1
        assert 0 <= each["auroc"] <= 1


def test_the_fonts_that_measure_are_not_those_that_train() -> None:
    assert not set(unknown.UNSEEN_FONTS) & {*outliers.FONTS, *digit_forms.PRINTED}
