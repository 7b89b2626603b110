"""The score that says whether the network knows what it sees."""

import torch

from mnist_pipeline.data.dataset import Examples
from mnist_pipeline.serving.known import draw_unseen_outliers, fit_known
from mnist_pipeline.serving.recognition import score_known


def draw_logits(count: int, mean: float, seed: int) -> torch.Tensor:
    """Logits (count, 10) whose log(sum(exp())) is about `mean`."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 10, generator=generator)
    level = mean + 0.3 * torch.randn(count, 1, generator=generator)
    return logits + level - logits.logsumexp(1, keepdim=True)


def test_the_score_separates_what_it_was_fitted_on_and_is_the_servers() -> None:
    known, unknown = draw_logits(2000, 4, 0) * 2, draw_logits(1000, -2, 1) * 2
    found = fit_known(known, unknown, temperature=0.5)
    info = {"temperature": 0.5, "known": found}
    good, bad = score_known(known.numpy(), info), score_known(unknown.numpy(), info)
    assert good.min() > 0.5 > bad.max()
    assert (good < found["least"]).sum() in (0, 1, 2)  # of 2,000: 99.9 % pass


def test_a_least_score_that_was_asked_for_is_kept() -> None:
    assert fit_known(draw_logits(50, 4, 0), draw_logits(50, -2, 1), 1.0, 0.25)["least"] == 0.25


def test_there_are_as_many_unseen_outliers_as_validation_images() -> None:
    images = torch.randint(0, 255, (40, 1, 28, 28), dtype=torch.uint8)
    validation = Examples(images, torch.arange(40) % 10)
    drawn = draw_unseen_outliers(validation, list("0123456789"))
    assert drawn.shape == (40, 1, 28, 28)
    assert torch.equal(drawn, draw_unseen_outliers(validation, list("0123456789")))
