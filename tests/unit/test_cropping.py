import pytest
import torch
from torch.nn import functional as F

from mnist_pipeline import cropping, training
from mnist_pipeline.network import DigitNetwork


def network_and_images() -> tuple[DigitNetwork, torch.Tensor]:
    torch.manual_seed(0)
    return DigitNetwork(classes=26), torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)


def test_a_cropped_network_sees_what_zeros_around_its_features_would_give_the_whole_one() -> None:
    network, images = network_and_images()
    small = cropping.cropped(network.eval())
    seen: list[torch.Tensor] = []
    small.conv3_2.register_forward_hook(lambda *call: seen.append(call[2]))
    logits = small(cropping.crop(images))
    x = F.pad(seen[0], (1, 1, 1, 1)).permute(0, 2, 3, 1).flatten(1)
    expected = network.output_layer(F.relu(network.fc2(F.relu(network.fc1(x)))))
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(
    "hp",
    [
        training.Hyperparameters(optimizer="adam"),
        training.Hyperparameters(optimizer="rmsprop"),
        training.Hyperparameters(optimizer="sgd"),
        training.Hyperparameters(optimizer="sgd", momentum=0.0),
    ],
)
def test_what_a_cropped_network_learnt_grows_into_the_whole_one(hp: training.Hyperparameters) -> None:
    network, images = network_and_images()
    untouched = network.fc1.weight.detach().clone().view(-1, 7, 7, 512)
    small = cropping.cropped(network.train())
    learnt, fresh = training.make_optimizer(small, hp), training.make_optimizer(network, hp)
    small(cropping.crop(images)).square().sum().backward()
    learnt.step()
    cropping.grow(small, learnt, network, fresh)

    for name, value in small.state_dict().items():
        its = network.state_dict()[name]
        assert torch.equal(value, its if value.shape == its.shape else cropping.middle(its).flatten(1)), name
    border = torch.ones(7, 7, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert torch.equal(network.fc1.weight.view(-1, 7, 7, 512)[:, border], untouched[:, border])
    for name, value in learnt.state[small.fc1.weight].items():
        grown = fresh.state[network.fc1.weight][name]
        if name == "step":
            assert grown == value == 1
        else:
            assert torch.equal(cropping.middle(grown).flatten(1), value)
            assert (grown.view(-1, 7, 7, 512)[:, border] == 0).all()
    assert bool(learnt.state[small.fc1.weight]) == (hp.optimizer != "sgd" or hp.momentum > 0)
    network(images).square().sum().backward()
    fresh.step()
    assert not torch.equal(network.fc1.weight.view(-1, 7, 7, 512)[:, border], untouched[:, border])
