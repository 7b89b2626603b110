import pytest
import torch
from torch.nn import functional as F

from mnist_pipeline.data.dataset import Examples
from mnist_pipeline.training.hyperparameters import Hyperparameters
from mnist_pipeline.training.network import DigitNetwork, crop, middle
from mnist_pipeline.training.step import Learner


def network_and_images() -> tuple[DigitNetwork, torch.Tensor]:
    torch.manual_seed(0)
    return DigitNetwork(classes=26), torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)


def border(weight: torch.Tensor) -> torch.Tensor:
    """What `middle` leaves out of fc1's weights: a copy in which the middle is 0."""
    weight = weight.detach().clone()
    middle(weight).zero_()
    return weight


def test_a_cropped_network_computes_what_the_full_one_does_with_zeros_around_its_features() -> None:
    network, images = network_and_images()
    small = network.eval().cropped()
    features: list[torch.Tensor] = []
    small.conv3_2.register_forward_hook(lambda *call: features.append(call[2]))
    logits = small(crop(images))
    x = F.pad(features[0], (1, 1, 1, 1)).permute(0, 2, 3, 1).flatten(1)
    expected = network.output_layer(F.relu(network.fc2(F.relu(network.fc1(x)))))
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(
    "hp",
    [
        Hyperparameters(optimizer="adam"),
        Hyperparameters(optimizer="rmsprop"),
        Hyperparameters(optimizer="sgd"),
        Hyperparameters(optimizer="sgd", momentum=0.0),
    ],
)
def test_a_cropped_learner_grows_with_its_weights_and_its_optimizers_state(hp: Hyperparameters) -> None:
    network, images = network_and_images()
    before = border(network.fc1.weight)
    learner = Learner(network.train(), hp, cropped=True)
    batch = Examples(images, torch.tensor([0, 1]))
    learner.step(batch, 1e-3)
    small, source = learner.network, learner.optimizer
    learner.grow()

    assert learner.network is network
    for name, value in small.state_dict().items():
        target = network.state_dict()[name]
        assert torch.equal(value, target if value.shape == target.shape else middle(target).flatten(1)), name
    assert torch.equal(border(network.fc1.weight), before)
    for name, value in source.state[small.fc1.weight].items():
        grown = learner.optimizer.state[network.fc1.weight][name]
        if name == "step":
            assert grown == value == 1
        elif value is not None:
            assert torch.equal(middle(grown).flatten(1), value)
            assert (border(grown) == 0).all()
    assert bool(source.state[small.fc1.weight]) == (hp.optimizer != "sgd" or hp.momentum > 0)
    learner.step(batch, 1e-3)
    assert not torch.equal(border(network.fc1.weight), before)
