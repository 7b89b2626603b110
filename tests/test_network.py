import torch
from torch.nn import functional as F

from mnist_pipeline import model
from mnist_pipeline.network import DigitNetwork

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


def test_of_the_images_middle_fc1_sees_what_zeros_around_it_would_give() -> None:
    torch.manual_seed(0)
    network = DigitNetwork(classes=26).eval()
    images = torch.randint(0, 256, (2, 1, 20, 20), dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    hook = network.conv3_2.register_forward_hook(lambda *call: seen.append(call[2]))
    logits = network(images)
    hook.remove()
    x = F.pad(seen[0], (1, 1, 1, 1)).permute(0, 2, 3, 1).flatten(1)
    expected = network.output_layer(F.relu(network.fc2(F.relu(network.fc1(x)))))
    torch.testing.assert_close(logits, expected)
    logits.sum().backward()
    assert network.fc1.weight.grad is not None
    rim = network.fc1.weight.grad.view(1000, 7, 7, 512)[:, [0, 6]]
    assert (rim == 0).all()


def test_no_convolution_has_a_bias_beside_its_batchnorm() -> None:
    names = [name for name, _ in DigitNetwork().named_parameters()]
    assert [name for name in names if name.startswith("conv") and name.endswith("0.bias")] == []
