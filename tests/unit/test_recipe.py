"""How many images a training sees and how many a step takes: of few images, and on a slow processor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_pipeline.training.hyperparameters import Hyperparameters, adapt_to_size, record_adaptation, resolve


@pytest.mark.parametrize(
    ("images", "batch_size", "epochs", "expected"),
    [
        (55_000, 64, 4.0, (64, 4.0)),  # MNIST: as it was told
        (5_000, 10_000, 4.0, (5_000, 4.0)),
        (4_999, 256, 4.0, (256, 20_000 / 4_999)),
        (412, 64, 4.0, (51, 20_000 / 412)),
        (28, 64, 2.0, (16, 10_000 / 28)),
        (28, 4, 2.0, (4, 10_000 / 28)),
        (5, 64, 4.0, (5, 4_000.0)),
    ],
)
def test_few_images_make_small_batches_and_more_epochs(
    images: int, batch_size: int, epochs: float, expected: tuple[int, float]
) -> None:
    hp = Hyperparameters(batch_size=batch_size, epochs=epochs, lr=0.3)
    adapted = adapt_to_size(hp, images)
    assert (adapted.batch_size, adapted.epochs, adapted.lr) == (expected[0], pytest.approx(expected[1]), 0.3)


@given(
    images=st.integers(2, 100_000), batch_size=st.sampled_from([1, 8, 64, 128, 256]), epochs=st.floats(0.001, 10_000)
)
def test_every_number_of_images_can_be_trained_on(images: int, batch_size: int, epochs: float) -> None:
    adapted = adapt_to_size(Hyperparameters(batch_size=batch_size, epochs=epochs), images)
    assert 1 <= adapted.batch_size <= min(images, batch_size)
    assert adapted.epochs >= epochs
    assert adapted.epochs * images == pytest.approx(epochs * max(images, 5_000))


def test_what_was_adapted_is_recorded_and_said(caplog: pytest.LogCaptureFixture) -> None:
    resolved, sources = resolve({"epochs": 4.0}, {"batch_size": 64}, {})
    with caplog.at_level("INFO"):
        recorded = record_adaptation(sources, adapt_to_size(resolved, 137), 137)
    assert recorded["batch_size"] == {
        "value": 17,
        "source": "number of training images",
        "instead_of": {"value": 64, "source": "tune"},
    }
    assert recorded["epochs"]["instead_of"] == {"value": 4.0, "source": "params.yaml"}
    assert caplog.messages == [
        "batch_size = 64 is too large for 137 training images: 17 is used.",
        "epochs = 4 is too short for 137 training images: 146 is used.",
    ]
