import copy

import torch

from mnist_pipeline.training import model
from mnist_pipeline.training.network import DigitNetwork

TABLE = {
    "conv1": [32, 28, 28],
    "conv2_1": [64, 14, 14],
    "conv2_2": [64, 14, 14],
    "conv3_1": [512, 7, 7],
    "conv3_2": [512, 7, 7],
    "fc1": [1000],
    "fc2": [500],
    "output_layer": [10],
}


def test_every_layers_output_is_the_tables() -> None:
    assert {row["name"]: row["output"] for row in model.layers(DigitNetwork())} == TABLE


def test_the_parallel_convolutions_are_summed_and_the_others_follow_each_other() -> None:
    """The forward pass again, slowly, from the table's words."""
    torch.manual_seed(0)
    network = DigitNetwork().eval()
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    pool, relu = torch.nn.MaxPool2d(2), torch.nn.ReLU()
    x = pool(network.conv1((images / 255 - 0.1307) / 0.3081))
    x = pool(network.conv2_1(x) + network.conv2_2(x))
    x = network.conv3_2(network.conv3_1(x)).permute(0, 2, 3, 1).reshape(3, -1)  # pixel by pixel
    expected = network.output_layer(relu(network.fc2(relu(network.fc1(x)))))
    torch.testing.assert_close(network(images), expected)


def test_the_temperature_divides_the_logits_in_evaluation_mode_alone() -> None:
    torch.manual_seed(0)
    network, images = DigitNetwork().eval(), torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    logits = network(images)
    training = copy.deepcopy(network).train()(images)
    network.temperature.fill_(2.0)
    torch.testing.assert_close(network(images), logits / 2)
    torch.testing.assert_close(network.train()(images), training)
