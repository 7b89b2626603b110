import re
from pathlib import Path

import pytest
import yaml
from helpers import REFERENCE, ROOT
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_pipeline import settings

PARAMS = REFERENCE / "params.yaml"


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
    settings.load(ROOT / "params.yaml")
    assert settings.load(PARAMS).train.lr is None


def test_a_number_as_dvc_writes_it_is_a_number(tmp_path: Path) -> None:
    assert settings.load(changed(tmp_path, train__lr="1e-05")).train.lr == 1e-5


INT = {"type": "int", "low": 0, "high": 2}
FLOAT = {"type": "float", "low": 0.1, "high": 1.0}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train__lr", "fast", "train.lr = 'fast'"),
        ("train__lr", -1.0, "train.lr = -1.0"),
        ("train__lr", True, "train.lr = True"),
        ("train__optimizer", "adamm", "train.optimizer = 'adamm'"),
        ("train__learning_rate", 0.1, "train.learning_rate is unknown; known here: optimizer, lr, batch_size"),
        ("train__batch_size", 2.5, "train.batch_size = 2.5"),
        ("training", {}, "training is unknown; known here: data, tune, train, archive, reading, evaluate"),
        ("data__dataset", "cifar", "data.dataset = 'cifar'"),
        ("tune__trials", 0, "tune.trials = 0"),
        ("tune__search_space", {}, "tune.search_space: "),
        ("tune__search_space__speed", INT, "tune.search_space: speed cannot be tuned; what can: optimizer, lr,"),
        ("tune__search_space__lr", [0.1, 1.0], "tune.search_space.lr = [0.1, 1.0]: "),
        ("tune__search_space__lr", {"low": 0.1, "high": 1.0}, "tune.search_space: lr.type is missing"),
        ("tune__search_space__lr", FLOAT | {"type": "flaot"}, "Unknown distribution type: flaot"),
        ("tune__search_space__lr", {"type": "float", "low": 0.1}, "tune.search_space: lr.high is missing"),
        ("tune__search_space__lr", FLOAT | {"lgo": True}, "lr.lgo is unknown; known here: type, choices, low, high,"),
        ("tune__search_space__lr", FLOAT | {"low": "a"}, "tune.search_space: lr = 'a'"),
        ("tune__search_space__lr", FLOAT | {"low": 2.0}, "`low <= high` must hold"),
        ("tune__search_space__scaling", INT | {"high": 0.5}, "a range of the type int holds whole numbers"),
        ("tune__search_space__optimizer__choices", ["adamm"], "tune.search_space: optimizer = 'adamm'"),
        ("tune__search_space__batch_size__choices", [], "tune.search_space: batch_size = "),
        ("tune__initial_trials", [{"momentun": 0.9}], "tune.initial_trials: momentun is not in search_space"),
        ("tune__initial_trials", [{"lr": True}], "tune.initial_trials: lr = True"),
        ("train__lr", float("nan"), "train.lr = nan"),
        ("train__seed", -1, "train.seed = -1"),
    ],
)
def test_a_mistake_is_said_with_its_key_and_value(tmp_path: Path, key: str, value: object, says: str) -> None:
    """pydantic and Optuna say what is wrong with a value, in words of their own."""
    with pytest.raises(settings.SettingsError) as error:
        settings.load(changed(tmp_path, **{key: value}))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_the_search_space_is_optunas_also_where_yaml_1_1_reads_numbers_as_strings(tmp_path: Path) -> None:
    space = """
      optimizer: {type: categorical, choices: [adam, sgd]}
      batch_size: {type: categorical, choices: [64, 128]}
      lr: {type: categorical, choices: [1e-3, 1e-4, 0.5]}
      warmup: {type: float, low: 1e-5, high: 5e-1, log: true}
      momentum: {type: float, low: 5e-1, high: 9e-1, step: 1e-1}
      rotation: {type: int, low: 0, high: 10, step: 5}
    """
    first = "[{optimizer: sgd, batch_size: 64, lr: 1e-4, momentum: 7e-1, rotation: 5}]"
    written = yaml.safe_load(space)
    assert written["lr"]["choices"] == ["1e-3", "1e-4", 0.5]  # the trap that this test is about
    path = changed(tmp_path, tune__search_space=written, tune__initial_trials=yaml.safe_load(first))
    tune = settings.load(path).tune
    assert tune.distributions == {
        "optimizer": CategoricalDistribution(["adam", "sgd"]),
        "batch_size": CategoricalDistribution([64, 128]),
        "lr": CategoricalDistribution([0.001, 0.0001, 0.5]),
        "warmup": FloatDistribution(1e-5, 0.5, log=True),
        "momentum": FloatDistribution(0.5, 0.9, step=0.1),
        "rotation": IntDistribution(0, 10, step=5),
    }
    point = {"optimizer": "sgd", "batch_size": 64, "lr": 0.0001, "momentum": 0.7, "rotation": 5.0}
    assert repr(tune.initial_trials) == repr([point])


@pytest.mark.parametrize(
    ("change", "says"),
    [(("epochs:", "epoch:"), r"train\.epochs is missing"), (("train:", "train: ["), r"params\.yaml")],
)
def test_a_missing_key_and_a_file_that_is_no_yaml_are_named(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text().replace(*change))
    with pytest.raises(settings.SettingsError, match=says):
        settings.load(path)


def test_the_ranges_in_the_comments_of_params_yaml_are_those_of_the_settings() -> None:
    documented: dict[str, tuple[float, float]] = {}
    section = ""
    for line in PARAMS.read_text().splitlines():
        if heading := re.match(r"(\w+):", line):
            section = heading[1]
        if key := re.match(r"  (\w+):", line):
            name = f"{section}.{key[1]}"
        if found := re.search(r"#.*\((-?[\d.e-]+) to (-?[\d.e-]+)[,)]", line):
            documented[name] = (float(found[1]), float(found[2]))
    allowed = {}
    for section, field in settings.Settings.model_fields.items():
        for name, schema in field.annotation.model_json_schema()["properties"].items():  # type: ignore[union-attr]
            for kind in schema.get("anyOf", [schema]):  # several where it may be null
                if "minimum" in kind:
                    allowed[f"{section}.{name}"] = (kind["minimum"], kind["maximum"])
    assert documented == allowed
    assert len(allowed) > 25
