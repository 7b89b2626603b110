"""The figures on files and photographs, of test images that are no digits too."""

from pathlib import Path

import torch

from mnist_pipeline.data.dataset import Examples, load_test
from mnist_pipeline.evaluation import robustness
from mnist_pipeline.serving.archived import open_archive


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
        logits = torch.from_numpy(served.logits(odd.images[:, 0].numpy()))
        figures = robustness.measure_files(served, odd, logits)
        wrong = served.logits(test.images[:20, 0].numpy()).argmax(1) != test.labels[:20].numpy()
        assert figures["accuracy"] == (20 - wrong.sum()) / 23
        photographs = robustness.measure_photographs(served, kept, 100, 0, tmp_path / "sheet.png")
    assert photographs["photographs"] == 20
