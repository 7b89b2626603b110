"""The images that are generated for training: outliers, and digits in other forms."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_pipeline.data.catalogue import DIGITS
from mnist_pipeline.data.dataset import Dataset, load
from mnist_pipeline.training import digit_forms, outliers
from mnist_pipeline.training.generated import add_generated
from mnist_pipeline.training.hyperparameters import Hyperparameters
from mnist_pipeline.training.step import OUTLIER, open_set_loss


@pytest.fixture(scope="module")
def few(mnist: Path) -> Dataset:
    return load(mnist, 1000, 0)


@pytest.mark.parametrize("kind", outliers.KINDS)
def test_every_kind_of_outlier_has_ink_and_differs(kind: str, few: Dataset) -> None:
    drawn = outliers.draw_outliers(30, (kind,), few.validation, 0)
    assert drawn.shape == (30, 1, 28, 28)
    assert drawn.dtype == torch.uint8
    assert (drawn.amax((1, 2, 3)) > 100).all()
    assert len(drawn.unique(dim=0)) > 25
    assert drawn.equal(outliers.draw_outliers(30, (kind,), few.validation, 0))
    assert not drawn.equal(outliers.draw_outliers(30, (kind,), few.validation, 1))


def test_only_digits_have_all_kinds_of_outliers() -> None:
    assert outliers.choose_kinds(DIGITS) == tuple(outliers.KINDS)
    for names in (("a", "b"), ("1", "0")):
        assert not {"letters", "turned digits"} & set(outliers.choose_kinds(names))


def test_forms_of_digits_are_as_mnist_holds_digits() -> None:
    rng = np.random.default_rng(0)
    forms, digits = zip(*[digit_forms.draw_digit_form(rng) for _ in range(200)], strict=True)
    assert set(digits) == set(range(10))
    for form in forms:
        assert form.shape == (28, 28)
        assert 15 <= max(np.ptp(np.flatnonzero(form.max(axis) > 60)) + 1 for axis in (0, 1)) <= 20
        for axis in (0, 1):
            assert abs(np.average(np.arange(28), weights=form.sum(axis, dtype=float)) - 13.5) < 1.5


def test_so_many_are_added_as_were_asked_for(few: Dataset) -> None:
    hp = Hyperparameters(outliers=0.1, digit_forms=0.05)
    more = add_generated(few.validation, hp, DIGITS, 0)
    assert torch.equal(more.images[:1000], few.validation.images)
    assert torch.equal(more.labels[:1000], few.validation.labels)
    assert (more.labels[1000:1100] == OUTLIER).all()
    assert len(more.labels) == len(more.images) == 1150
    assert (more.labels[1100:] >= 0).all()
    again, other = (add_generated(few.validation, hp, DIGITS, seed) for seed in (0, 1))
    assert torch.equal(again.images, more.images)
    assert not torch.equal(other.images, more.images)
    garments = [f"garment {k}" for k in range(10)]
    assert len(add_generated(few.validation, hp, garments, 0).labels) == 1100
    assert add_generated(few.validation, Hyperparameters(), DIGITS, 0).images.equal(few.validation.images)


def test_the_loss_has_one_class_more_whose_logit_is_0() -> None:
    logits, labels = torch.tensor([[2.0, -1.0], [-3.0, -4.0]]), torch.tensor([0, OUTLIER])
    total = logits.exp().sum(1) + 1
    expected = -torch.stack([(logits[0, 0].exp() / total[0]).log(), (1 / total[1]).log()]).mean()
    assert open_set_loss(logits, labels, 0.0).item() == pytest.approx(expected.item(), abs=1e-6)
    assert open_set_loss(logits, labels, 0.1) > 0
