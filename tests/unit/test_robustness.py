"""The figures on files and photographs, of test images that are no digits too."""

from pathlib import Path

import torch

from mnist_pipeline import data, robustness
from mnist_pipeline.network import DigitNetwork


def test_all_of_mnist_can_be_drawn_again(mnist: Path) -> None:
    test = data.load_test(mnist)
    assert torch.equal(robustness.keep_strokes(test).images, test.images)


def test_what_is_no_digit_is_left_out_of_photographs_and_a_mistake_as_a_file(mnist: Path, tmp_path: Path) -> None:
    test = data.load_test(mnist)
    blank, full, dark = (torch.full((1, 1, 28, 28), value, dtype=torch.uint8) for value in (0, 255, 60))
    odd = data.Examples(
        torch.cat([blank, full, test.images[:20], dark]), torch.cat([torch.tensor([0, 0]), test.labels[:21]])
    )
    kept = robustness.keep_strokes(odd)
    assert torch.equal(kept.images, test.images[:20])
    assert torch.equal(kept.labels, test.labels[:20])
    network = DigitNetwork().eval()
    right = torch.nn.functional.one_hot(odd.labels, 10).float()
    assert robustness.as_files(network, odd, right)["accuracy"] == 20 / 23
    figures = robustness.as_photographs(network, kept, 1.0, 100, 0, tmp_path / "sheet.png")
    assert figures["photographs"] == 20
