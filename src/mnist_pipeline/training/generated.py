"""Adds generated images to the training images: some of no class, and digits in forms that the dataset lacks."""

from collections.abc import Sequence

import numpy as np
import torch

from mnist_pipeline.centring import SIDE
from mnist_pipeline.data.catalogue import DIGITS
from mnist_pipeline.data.dataset import Examples
from mnist_pipeline.training.digit_forms import draw_digit_form
from mnist_pipeline.training.hyperparameters import HyperparameterError, Hyperparameters
from mnist_pipeline.training.outliers import choose_kinds, draw_outliers
from mnist_pipeline.training.step import OUTLIER

# Purposes of the random streams.
OUTLIERS, DIGIT_FORMS = 0, 1


def add_generated(train: Examples, hp: Hyperparameters, class_names: Sequence[str], seed: int) -> Examples:
    """The training images, and so many generated ones as the hyperparameters ask for; an outlier's label is OUTLIER.

    `outliers` and `digit_forms` are numbers of images for each training image, which are grey and 28x28; the latter are
    added only where the classes are the ten digits. The same seed gives the same images.
    """
    if not (hp.outliers or hp.digit_forms):
        return train
    if train.images.shape[1:] != (1, SIDE, SIDE):
        raise HyperparameterError(
            f"outliers = {hp.outliers:g} and digit_forms = {hp.digit_forms:g}, but generated images are grey and "
            f"{SIDE}x{SIDE}, and the training images are not; set both to 0"
        )
    images, labels = [train.images], [train.labels]
    count = round(hp.outliers * len(train.labels))
    if count:
        images.append(draw_outliers(count, choose_kinds(class_names), train, (seed, OUTLIERS)))
        labels.append(torch.full((count,), OUTLIER))
    count = round(hp.digit_forms * len(train.labels)) if tuple(class_names) == DIGITS else 0
    if count:
        rng = np.random.default_rng((seed, DIGIT_FORMS))
        forms, digits = zip(*[draw_digit_form(rng) for _ in range(count)], strict=True)
        images.append(torch.from_numpy(np.stack(forms))[:, None])
        labels.append(torch.tensor(digits))
    return Examples(torch.cat(images), torch.cat(labels))
