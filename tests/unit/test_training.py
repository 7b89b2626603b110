import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional as F

from mnist_pipeline import data, model, recipe, training, winograd
from mnist_pipeline.augmentation import Augmentation
from mnist_pipeline.network import DigitNetwork

SCRIPT = ROOT / "tests/helpers/small_training.py"
OFTEN = ("1e-3", "0.01")  # the usual learning rate, and a checkpoint after every step


@pytest.fixture(scope="module")
def digits(mnist: Path) -> data.Dataset:
    """A few hundred real digits."""
    whole = data.load(mnist, 200, 0)
    return replace(whole, train=data.Examples(whole.train.images[:640], whole.train.labels[:640]))


def begin(mnist: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(mnist), str(out), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """What the process said on stderr; it must succeed."""
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    return said


def weights_sha(out: Path) -> str:
    return str(json.loads((out / "saved_models" / "model_info.json").read_text())["sha256"])


@pytest.fixture(scope="module")
def uninterrupted(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    finish(begin(mnist, out))
    return out


def test_a_fit_learns(digits: data.Dataset) -> None:
    torch.manual_seed(0)
    network = DigitNetwork()
    hp = training.Hyperparameters(batch_size=32, epochs=1.0, crop=0.5)
    history = training.fit(network, digits.train, digits.validation, hp, reports=4)
    assert [report.step for report in history] == [5, 10, 15, 20]
    assert history[-1].loss < history[0].loss
    assert history[-1].validation_accuracy > 0.5


@pytest.mark.parametrize("optimizer", ["rmsprop", "sgd"])
def test_the_other_optimizers_learn_too(digits: data.Dataset, optimizer: str) -> None:
    torch.manual_seed(0)
    hp = training.Hyperparameters(optimizer=optimizer, lr=0.02 if optimizer == "sgd" else 3e-4, batch_size=64, crop=0.5)
    history = training.fit(DigitNetwork(), digits.train, digits.validation, hp, reports=2)
    assert history[-1].loss < history[0].loss


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    hp = training.Hyperparameters(lr=0.1, warmup=0.25)
    rates = [hp.lr_at(k / 100) for k in range(101)]
    assert max(rates) == rates[25] == pytest.approx(0.1)
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_every_pass_visits_every_image_once(digits: data.Dataset) -> None:
    numbered = data.Examples(digits.train.images, torch.arange(640))
    hp = training.Hyperparameters(batch_size=64)
    passes = [[training.batch_at(10 * epoch + k, numbered, hp, seed=3).labels for k in range(10)] for epoch in range(2)]
    first, second = (torch.cat(batches) for batches in passes)
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(640))
    assert not torch.equal(first, second)


def test_bfloat16_follows_fp32(digits: data.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path against the plain one; where the hardware has no bfloat16 the two are the same."""
    from mnist_pipeline import compute

    curves = []
    for fast in (True, False):
        torch.manual_seed(0)
        if not fast:
            monkeypatch.setattr(compute, "has_bfloat16", lambda device: False)
        hp = training.Hyperparameters(optimizer="sgd", lr=0.01, batch_size=32, epochs=0.5)
        history = training.fit(DigitNetwork(), digits.train, digits.validation, hp, reports=2)
        curves.append([report.loss for report in history])
    assert curves[0] == pytest.approx(curves[1], rel=0.02)


def test_no_step_asks_the_device_for_a_value() -> None:
    """On tensors without content, where asking for a value is an error: on a GPU it would wait for all steps before."""
    for kind in (torch.bfloat16, torch.float32):
        winograd.transforms(7, kind)  # constants, kept from step to step: real ones
    training.epoch_order.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        some = Augmentation(rotation=10.0, translation=1.0, scaling=0.08, elasticity=0.5, flip=0.1)
        hp = training.Hyperparameters(batch_size=64, augmentation=some)
        examples = data.Examples(torch.zeros(128, 1, 28, 28, dtype=torch.uint8), torch.zeros(128, dtype=torch.int64))
        network = DigitNetwork()
        batch = training.batch_at(1, examples, hp, seed=0)
        loss = training.learn(network, training.make_optimizer(network, hp), batch, 1e-3, 0.05)
        with pytest.raises(DataDependentOutputException):
            loss.item()
    training.epoch_order.cache_clear()


def test_a_plain_step_is_the_textbooks(digits: data.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """One SGD step of `fit`, in fp32, against the gradient written out."""
    from mnist_pipeline import compute

    monkeypatch.setattr(compute, "has_bfloat16", lambda device: False)
    few = data.Examples(digits.train.images[:8], digits.train.labels[:8])
    torch.manual_seed(0)
    network = DigitNetwork()
    before = network.output_layer.weight.detach().clone()
    logits = network(few.images.contiguous(memory_format=torch.channels_last))
    F.cross_entropy(logits, few.labels).backward()
    gradient = network.output_layer.weight.grad
    assert gradient is not None
    torch.manual_seed(0)
    network = DigitNetwork()
    hp = training.Hyperparameters(
        optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, label_smoothing=0.0, batch_size=8, warmup=0.0
    )
    training.fit(network, few, few, hp, reports=1)
    torch.testing.assert_close(network.output_layer.weight.detach(), before - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_a_batch_larger_than_the_data_is_refused(digits: data.Dataset) -> None:
    hp = training.Hyperparameters(batch_size=1000)
    with pytest.raises(ValueError, match="batch_size = 1000, but there are 640 training images"):
        training.fit(DigitNetwork(), digits.train, digits.validation, hp)


def test_the_model_says_where_each_hyperparameter_came_from() -> None:
    hp, sources = recipe.choose({"lr": 0.5, "optimizer": None}, {"optimizer": "sgd", "lr": 0.1}, "MNIST")
    assert (hp.lr, hp.optimizer, hp.crop) == (0.5, "sgd", recipe.by_dataset("MNIST")["crop"])
    assert sources["lr"] == {"value": 0.5, "source": "params.yaml"}
    assert sources["optimizer"] == {"value": "sgd", "source": "tune"}
    assert sources["crop"]["source"] == "dataset"
    assert sources["warmup"]["source"] == "default"
    assert recipe.choose({}, {}, "FashionMNIST")[0].augmentation.flip == 0.5


def test_the_same_seed_gives_the_same_weights(uninterrupted: Path, mnist: Path, tmp_path: Path) -> None:
    finish(begin(mnist, tmp_path))
    assert weights_sha(tmp_path) == weights_sha(uninterrupted)


def test_killed_at_several_moments_it_ends_with_the_weights_of_an_uninterrupted_run(
    uninterrupted: Path, mnist: Path, tmp_path: Path
) -> None:
    index, kills, seen = tmp_path / "checkpoints" / "checkpoint.json", 0, -1
    for moment in (1, 7, 14, 17):  # at 16 of 20 the network grows out of its crop
        process = begin(mnist, tmp_path, *OFTEN)
        while process.poll() is None and seen < moment:
            if index.exists():
                seen = json.loads(index.read_text())["progress"]["step"]
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        assert not (tmp_path / "saved_models").exists()
    assert kills == 4
    assert "going on at step" in finish(begin(mnist, tmp_path, *OFTEN))
    assert weights_sha(tmp_path) == weights_sha(uninterrupted)
    assert not (tmp_path / "checkpoints").exists()


def test_a_truncated_or_foreign_checkpoint_is_said_and_not_used(
    uninterrupted: Path, mnist: Path, tmp_path: Path
) -> None:
    def kill_after_a_checkpoint() -> None:
        process = begin(mnist, tmp_path, *OFTEN)
        while not (tmp_path / "checkpoints" / "checkpoint.json").exists():
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.communicate()

    kill_after_a_checkpoint()
    for slot in (tmp_path / "checkpoints").glob("slot*"):
        os.truncate(slot, slot.stat().st_size // 2)
    said = finish(begin(mnist, tmp_path, *OFTEN))
    assert "bytes, not" in said
    assert "starting anew" in said
    assert weights_sha(tmp_path) == weights_sha(uninterrupted)
    kill_after_a_checkpoint()
    assert "belongs to another training: starting anew" in finish(begin(mnist, tmp_path, "2e-3", "0.01"))


def test_a_loss_that_is_no_number_stops_at_once_and_leaves_no_model(mnist: Path, tmp_path: Path) -> None:
    process = begin(mnist, tmp_path, "1e30")
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 1
    assert "Diverged: the loss became" in said
    assert "learning rate" in said
    assert "batch of 32" in said
    assert "Traceback" not in said
    assert not (tmp_path / "saved_models").exists()


def test_ctrl_c_says_how_to_go_on(mnist: Path, tmp_path: Path) -> None:
    process = begin(mnist, tmp_path, *OFTEN)
    while not (tmp_path / "checkpoints" / "checkpoint.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "`dvc repro` goes on" in said
    assert "Traceback" not in said


def test_a_model_comes_back_as_it_was_saved(uninterrupted: Path) -> None:
    network, info = model.load(uninterrupted / "saved_models")
    assert not network.training
    assert info["hyperparameters"]["lr"] == {"value": 1e-3, "source": "params.yaml"}
    assert {"temperature", "layers", "dataset", "versions", "git_revision", "started", "ended"} <= info.keys()
    state = torch.load(uninterrupted / "saved_models" / info["weights"], weights_only=True)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in state.items())


def test_a_truncated_model_is_not_loaded(uninterrupted: Path, tmp_path: Path) -> None:
    info = json.loads((uninterrupted / "saved_models" / "model_info.json").read_text())
    (tmp_path / "model_info.json").write_text(json.dumps(info))
    (tmp_path / info["weights"]).write_bytes(b"half")
    with pytest.raises(model.ModelError, match="is damaged"):
        model.load(tmp_path)
    with pytest.raises(model.ModelError, match="holds no whole model"):
        model.load(tmp_path / "none")
