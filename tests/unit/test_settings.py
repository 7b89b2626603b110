from pathlib import Path

import pytest
import yaml
from helpers import ROOT

from mnist_pipeline import settings

PARAMS = ROOT / "params.yaml"


def changed(folder: Path, **changes: object) -> Path:
    """params.yaml with dotted keys changed, written as DVC does."""
    content = yaml.safe_load(PARAMS.read_text())
    for dotted, value in changes.items():
        *sections, key = dotted.split("__")
        place = content
        for section in sections:
            place = place[section]
        place[key] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_the_repositorys_own_parameters_are_valid() -> None:
    assert settings.load(PARAMS).train.lr is None


def test_a_number_as_dvc_writes_it_is_a_number(tmp_path: Path) -> None:
    assert settings.load(changed(tmp_path, train__lr="1e-05")).train.lr == 1e-5


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train__lr", "fast", "train.lr = 'fast': Input should be a valid number"),
        ("train__lr", -1.0, "train.lr = -1.0: Input should be greater than or equal to 0.0000001"),
        ("train__lr", True, "train.lr = True"),
        ("train__optimizer", "adamm", "train.optimizer = 'adamm': Input should be 'adam', 'rmsprop' or 'sgd'"),
        ("train__learning_rate", 0.1, "train.learning_rate is unknown; known here: optimizer, lr, batch_size"),
        ("train__batch_size", 2.5, "train.batch_size = 2.5: Input should be a valid integer"),
        ("training", {}, "training is unknown; known here: data, tune, train, evaluate, archive"),
        ("data__dataset", "CIFAR10", "data.dataset = 'CIFAR10': Input should be 'MNIST'"),
        ("tune__trials", 0, "tune.trials = 0"),
        ("tune__search_space__lr", {"type": "float", "low": 1.0, "high": 0.1}, "low = 1.0 lies above high = 0.1"),
        ("tune__search_space__lr", {"type": "float", "low": 0.0, "high": 0.1, "log": True}, "begins above 0"),
        ("tune__search_space__lr", {"type": "flaot", "low": 0.0, "high": 0.1}, "tune.search_space.lr"),
        ("tune__search_space__speed", {"type": "int", "low": 1, "high": 2}, "search_space.speed cannot be tuned"),
        (
            "tune__search_space__lr",
            {"type": "float", "low": 0.0, "high": 0.1},
            "search_space.lr: 0.0: Input should be gr",
        ),
        ("tune__search_space__lr", {"type": "float", "low": 1e-3}, "tune.search_space.lr.high is missing"),
        ("tune__search_space__lr", {"type": "float", "low": "a", "high": 0.1}, "tune.search_space.lr.low = 'a': Input"),
        (
            "tune__search_space__lr",
            {"type": "float", "low": 0.1, "high": 1, "lgo": True},
            "search_space.lr.lgo is unknown",
        ),
        ("tune__search_space__lr", {"low": 0.1, "high": 1.0}, "tune.search_space.lr.type is missing; it is one of cat"),
        (
            "tune__search_space__lr",
            {"type": "flaot"},
            "tune.search_space.lr.type = 'flaot' is none of categorical, int",
        ),
        ("tune__search_space__lr", [0.1, 1.0], "tune.search_space.lr = [0.1, 1.0]: "),
        (
            "tune__search_space__optimizer__choices",
            ["adamm"],
            "search_space.optimizer: 'adamm': Input should be 'adam'",
        ),
        ("tune__search_space__batch_size__choices", [], "tune.search_space.batch_size.choices = []: "),
        (
            "tune__search_space__momentum__when",
            {"optimiser": ["sgd"]},
            "momentum.when: optimiser is not asked before mo",
        ),
        (
            "tune__search_space__momentum__when",
            {"optimizer": ["sdg"]},
            "when.optimizer = 'sdg' is none of its choices, ",
        ),
        ("tune__search_space__lr__step", 0.1, "log and step exclude each other"),
        ("tune__first", [{"momentun": 0.9}], "first: momentun is not in search_space"),
        ("tune__first", [{"lr": 0.9}], "first: lr = 0.9 is not within 0.0001 to 0.3"),
        ("tune__first", [{"batch_size": 48}], "first: batch_size = 48 is none of its choices, 64, 128, 256"),
    ],
)
def test_a_mistake_is_said_with_its_key_and_what_is_allowed(tmp_path: Path, key: str, value: object, says: str) -> None:
    with pytest.raises(settings.SettingsError) as error:
        settings.load(changed(tmp_path, **{key: value}))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    content = yaml.safe_load(PARAMS.read_text())
    del content["train"]["epochs"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(settings.SettingsError, match=r"train\.epochs is missing"):
        settings.load(path)


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train: [")
    with pytest.raises(settings.SettingsError, match=r"params\.yaml"):
        settings.load(path)
