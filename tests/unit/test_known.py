"""The score that says whether the network knows what it sees."""

import torch

from mnist_pipeline.serving.known import fit_known
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
    assert fit_known(known, unknown, temperature=0.5, least=0.25) == found | {"least": 0.25}
