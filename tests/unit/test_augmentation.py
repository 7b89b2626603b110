from typing import Any

import pytest
import torch

from mnist_pipeline.training.augmentation import augment
from mnist_pipeline.training.hyperparameters import Hyperparameters


def bar() -> torch.Tensor:
    """Four copies of a vertical stroke left of the middle, (4, 1, 28, 28)."""
    image = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
    image[:, :, 6:22, 8:11] = 255
    return image


def centres(images: torch.Tensor) -> torch.Tensor:
    """Centre of mass (row, column) of each image, (N, 2)."""
    mass = images.double().squeeze(1)
    places = torch.arange(28).double()
    return torch.stack([(mass.sum(3 - axis) * places).sum(1) / mass.sum((1, 2)) for axis in (1, 2)], 1)


def test_no_change_is_asked_for_and_none_is_made() -> None:
    images = bar()
    assert augment(images, Hyperparameters(), torch.Generator()) is images


@pytest.mark.parametrize("change", ["rotation", "translation", "scaling", "elasticity"])
def test_each_image_is_changed_in_its_own_way_and_the_same_seed_repeats_it(change: str) -> None:
    values: dict[str, Any] = {change: 0.3 if change == "scaling" else 3.0}
    hp = Hyperparameters(**values)
    first, again = (augment(bar(), hp, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_a_translation_is_in_pixels_and_within_its_bound() -> None:
    hp = Hyperparameters(translation=3.0)
    moved = centres(augment(bar().repeat(50, 1, 1, 1), hp, torch.Generator().manual_seed(0)))
    distance = (moved - centres(bar())[0]).abs()
    assert 2.5 < distance.max() <= 3.05


def test_a_rotation_keeps_a_centred_strokes_centre() -> None:
    image = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    image[:, :, 6:22, 13:15] = 255
    turned = augment(image, Hyperparameters(rotation=30.0), torch.Generator().manual_seed(0))
    assert (centres(turned) - 13.5).abs().max() < 0.2


def test_a_flip_is_a_mirror_image() -> None:
    assert torch.equal(augment(bar(), Hyperparameters(flip=1.0), torch.Generator()), bar().flip(3))
