import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import small_training
from torch.nn import functional as F

from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.training import loop, model, runtime
from mnist_pipeline.training.checkpoint import Checkpoint
from mnist_pipeline.training.hyperparameters import HyperparameterError, Hyperparameters, resolve
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.training.step import make_optimizer


@pytest.fixture(scope="module")
def digits(mnist: Path) -> Dataset:
    """A few hundred real digits."""
    return small_training.dataset(mnist)


def weights_sha(out: Path) -> str:
    return str(json.loads((out / "saved_models" / "model_info.json").read_text())["sha256"])


@pytest.fixture(scope="module")
def uninterrupted(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a training of 20 steps left its model; at step 16 the network grows out of its crop."""
    out = tmp_path_factory.mktemp("uninterrupted")
    small_training.train(digits, out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-3), ("rmsprop", 3e-4), ("sgd", 0.05)])
def test_a_fit_learns_with_every_optimizer(digits: Dataset, optimizer: Any, lr: float) -> None:
    torch.manual_seed(0)
    hp = Hyperparameters(optimizer=optimizer, lr=lr, batch_size=32, epochs=1.0, crop=0.5)
    history = loop.fit(DigitNetwork(), digits.train, digits.validation, hp, evaluations=4)
    assert [evaluation.step for evaluation in history] == [5, 10, 15, 20]
    assert history[-1].loss < history[0].loss
    assert history[-1].validation_accuracy > 0.5


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    hp = Hyperparameters(lr=0.1, warmup=0.25)
    rates = [hp.lr_at(k / 100) for k in range(101)]
    assert max(rates) == rates[25] == pytest.approx(0.1)
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_every_epoch_visits_every_image_once(digits: Dataset) -> None:
    numbered = Examples(digits.train.images, torch.arange(640))
    hp = Hyperparameters(batch_size=64)
    epochs = [[loop.batch_at(10 * epoch + k, numbered, hp, seed=3).labels for k in range(10)] for epoch in range(2)]
    first, second = (torch.cat(batches) for batches in epochs)
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(640))
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_bfloat16_follows_fp32(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 against fp32; where the hardware has no bfloat16 the two are the same."""
    curves = []
    for fast in (True, False):
        torch.manual_seed(0)
        if not fast:
            monkeypatch.setattr(runtime, "has_bfloat16", lambda device: False)
        hp = Hyperparameters(optimizer="sgd", lr=0.01, batch_size=32, epochs=0.5)
        history = loop.fit(DigitNetwork(), digits.train, digits.validation, hp, evaluations=2)
        curves.append([evaluation.loss for evaluation in history])
    assert curves[0] == pytest.approx(curves[1], rel=0.02)


def test_a_step_of_sgd_is_the_textbooks(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """One SGD step of `fit`, in fp32, against the gradient written out."""
    monkeypatch.setattr(runtime, "has_bfloat16", lambda device: False)
    few = Examples(digits.train.images[:8], digits.train.labels[:8])
    torch.manual_seed(0)
    network = DigitNetwork()
    before = network.output_layer.weight.detach().clone()
    logits = network(few.images.contiguous(memory_format=torch.channels_last))
    F.cross_entropy(F.pad(logits, (0, 1)), few.labels).backward()  # with the class that has the logit 0
    gradient = network.output_layer.weight.grad
    assert gradient is not None
    torch.manual_seed(0)
    network = DigitNetwork()
    plain = {"momentum": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0, "warmup": 0.0}
    hp = Hyperparameters(optimizer="sgd", lr=0.1, batch_size=8, epochs=1.0, **plain)
    loop.fit(network, few, few, hp, evaluations=1)
    torch.testing.assert_close(network.output_layer.weight.detach(), before - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_a_batch_larger_than_the_data_is_refused(digits: Dataset) -> None:
    hp = Hyperparameters(batch_size=1000)
    with pytest.raises(HyperparameterError, match="batch_size = 1000, but there are 640 training images"):
        loop.fit(DigitNetwork(), digits.train, digits.validation, hp)


def test_the_model_says_where_each_hyperparameter_came_from() -> None:
    hp, sources = resolve(
        {"lr": 0.5, "optimizer": None}, {"optimizer": "sgd", "lr": 0.1}, DATASETS["MNIST"].hyperparameters
    )
    assert (hp.lr, hp.optimizer, hp.crop) == (0.5, "sgd", DATASETS["MNIST"].hyperparameters["crop"])
    assert sources["lr"] == {"value": 0.5, "source": "params.yaml"}
    assert sources["optimizer"] == {"value": "sgd", "source": "tune"}
    assert sources["crop"]["source"] == "dataset"
    assert sources["warmup"]["source"] == "default"
    assert resolve({}, {}, DATASETS["FashionMNIST"].hyperparameters)[0].flip == 0.5


@pytest.mark.parametrize(("optimizer", "usual"), [("adam", 0.05), ("sgd", 0.001), ("rmsprop", 0.001)])
def test_weight_decay_is_what_was_given_or_found_or_the_optimizers(optimizer: str, usual: float) -> None:
    for given, tuned, expected, source in (
        (None, {}, usual, "optimizer"),
        (None, {"weight_decay": 0.3}, 0.3, "tune"),
        (0.0, {"weight_decay": 0.3}, 0.0, "params.yaml"),
    ):
        hp, sources = resolve({"optimizer": optimizer, "weight_decay": given}, tuned, {})
        assert sources["weight_decay"] == {"value": expected, "source": source}
        assert make_optimizer(torch.nn.Linear(1, 1), hp).param_groups[0]["weight_decay"] == expected


def test_no_two_random_streams_of_a_training_share_a_seed() -> None:
    """For the first and the last seeds that params.yaml allows."""
    purposes = (loop.ORDER, loop.AUGMENTATION)
    streams = [(seed, purpose, index) for seed in (0, 1, 2**32 - 1) for purpose in purposes for index in range(50)]
    assert len({loop.stream_seed(*stream) for stream in streams}) == len(streams)


# Trainings that are interrupted and resumed.


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(uninterrupted: Path, digits: Dataset, tmp_path: Path) -> None:
    small_training.train(digits, tmp_path)
    assert weights_sha(tmp_path) == weights_sha(uninterrupted)
    small_training.train(digits, tmp_path / "another", seed=2**32 - 1)
    assert weights_sha(tmp_path / "another") != weights_sha(uninterrupted)


class Interrupted(Exception):
    pass


def train_until(step: int, digits: Dataset, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, or resume, until the checkpoint of a step is written."""
    save = Checkpoint.save

    def save_and_interrupt(self: Checkpoint, state: dict[str, Any]) -> None:
        if state["progress"]["step"] == step:
            save(self, state)
            raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", save_and_interrupt)
        with pytest.raises(Interrupted):
            small_training.train(digits, out, checkpoint_seconds=1e-9)  # after each step
    assert not (out / "saved_models").exists()


@pytest.mark.slow
def test_interrupted_at_several_moments_it_ends_with_the_weights_of_an_uninterrupted_run(
    uninterrupted: Path,
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    moments = (1, 7, 15, 16, 19)
    for step in moments:
        train_until(step, digits, tmp_path, monkeypatch)
    small_training.train(digits, tmp_path, checkpoint_seconds=3600.0)
    resumed = [record.getMessage() for record in caplog.records if "resuming at step" in record.getMessage()]
    assert resumed == [f"resuming at step {step} of 20" for step in moments]
    assert weights_sha(tmp_path) == weights_sha(uninterrupted)
    assert not (tmp_path / "checkpoints").exists()


def test_another_training_does_not_resume_from_a_checkpoint(digits: Dataset) -> None:
    hp = Hyperparameters()
    trainings = [(digits, asdict(hp)), (digits, asdict(replace(hp, lr=0.1)))]
    trainings.append((replace(digits, validation=digits.train), asdict(hp)))
    fingerprints = [loop.fingerprint(*training) for training in trainings]
    assert len(set(fingerprints)) == 3
    assert loop.fingerprint(digits, asdict(hp)) == fingerprints[0]


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_at_once_and_leaves_no_model(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(loop.Diverged, match=r"the loss became .* \(learning rate .*, batch of 32, adam\)"):
        small_training.train(digits, tmp_path, lr=1e30)
    assert not (tmp_path / "saved_models").exists()


# The model that a training leaves.


@pytest.mark.slow
def test_a_model_comes_back_as_it_was_saved(uninterrupted: Path) -> None:
    network, info = model.load_model(uninterrupted / "saved_models")
    assert not network.training
    assert info["hyperparameters"]["lr"] == {"value": 1e-3, "source": "params.yaml"}
    assert info["hyperparameters"]["weight_decay"] == {"value": 0.05, "source": "optimizer"}
    assert {"temperature", "layers", "dataset", "versions", "git_revision", "started", "ended"} <= info.keys()
    state = torch.load(uninterrupted / "saved_models" / info["weights"], weights_only=True)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in state.items())


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_named(uninterrupted: Path, tmp_path: Path) -> None:
    info = json.loads((uninterrupted / "saved_models" / "model_info.json").read_text())
    index = tmp_path / "model_info.json"
    index.write_text(json.dumps(info))
    (tmp_path / info["weights"]).write_bytes(b"half")
    with pytest.raises(model.ModelError, match="is damaged"):
        model.load_model(tmp_path)
    for content in ("[]", "{", json.dumps({"weights": info["weights"]})):
        index.write_text(content)
        with pytest.raises(model.ModelError, match="holds no complete model"):
            model.load_model(tmp_path)
    (tmp_path / info["weights"]).write_bytes((uninterrupted / "saved_models" / info["weights"]).read_bytes())
    index.write_text(json.dumps(info | {"class_names": ["a", "b"]}))
    with pytest.raises(model.ModelError, match="holds the model of another version"):
        model.load_model(tmp_path)
