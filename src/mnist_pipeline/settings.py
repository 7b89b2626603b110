"""params.yaml as typed, validated objects. The stages alone read it; src/ takes plain arguments."""

import json
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, json_to_distribution
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from pydantic.fields import FieldInfo

from mnist_pipeline.console import PipelineError


class SettingsError(PipelineError):
    """params.yaml is wrong; the message names key, value and what is allowed, a line for each mistake."""


def number(value: Any) -> Any:
    """DVC writes 1e-05, which YAML 1.1 reads as a string."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Real = Annotated[float, BeforeValidator(number)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what every generator of PyTorch, NumPy and Optuna takes


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Data(Section):
    dataset: Literal[
        "MNIST",
        "FashionMNIST",
        "KMNIST",
        "QMNIST",
        "EMNIST-digits",
        "EMNIST-letters",
        "USPS",
        "CIFAR10",
        "CIFAR100",
        "SVHN",
        "STL10",
        "EuroSAT",
        "folder",
    ]
    source: str = Field(min_length=1)
    skip_damaged: bool
    reader: Literal["handwriting", "picture"] | None
    image_size: int | None = Field(ge=16, le=64, multiple_of=4)
    colour: Literal["grey", "rgb"] | None
    mirrors: list[str]
    validation_images: int = Field(ge=1, le=30_000)
    seed: Seed


class Train(Section):
    optimizer: Literal["adam", "rmsprop", "sgd"] | None
    lr: Real | None = Field(ge=1e-7, le=10)
    batch_size: int | None = Field(ge=1, le=10_000)
    momentum: Real | None = Field(ge=0, le=0.999)
    epochs: Real | None = Field(ge=0.001, le=10_000)
    warmup: Real | None = Field(ge=0, le=0.9)
    weight_decay: Real | None = Field(ge=0, le=1)
    label_smoothing: Real | None = Field(ge=0, le=0.5)
    crop: Real | None = Field(ge=0, le=0.95)
    rotation: Real | None = Field(ge=0, le=45)
    translation: Real | None = Field(ge=0, le=8)
    scaling: Real | None = Field(ge=0, le=0.5)
    elasticity: Real | None = Field(ge=0, le=8)
    flip: Real | None = Field(ge=0, le=1)
    outliers: Real | None = Field(ge=0, le=10)
    digit_forms: Real | None = Field(ge=0, le=10)
    seed: Seed
    checkpoint_seconds: Real = Field(ge=0, le=86_400)


# What a search space may hold: how to train, not how long, nor with which further images.
NOT_TUNABLE = ("epochs", "outliers", "digit_forms", "seed", "checkpoint_seconds")
TUNABLE = tuple(name for name in Train.model_fields if name not in NOT_TUNABLE)


class Tune(Section):
    model_config = ConfigDict(arbitrary_types_allowed=True)  # Optuna's distributions

    trials: int = Field(ge=1, le=100_000)
    seconds: Real = Field(ge=1, le=10_000_000)
    images_per_trial: int = Field(ge=500, le=100_000_000)
    evaluations: int = Field(ge=1, le=1000)
    evaluation_images: int = Field(ge=100, le=30_000)
    pruner: Literal["halving", "median", "none"]
    retrained_trials: int = Field(ge=0, le=100)
    retraining_fraction: Real = Field(ge=0.01, le=1)
    seed: Seed
    workers: int = Field(ge=1, le=10_000)
    storage: str
    search_space: dict[str, BaseDistribution] = Field(min_length=1)
    initial_trials: list[dict[str, Any]]

    @field_validator("search_space", mode="before")
    @classmethod
    def make_distributions(cls, search_space: Any) -> Any:
        """Make Optuna's distribution of each line of the search space."""
        if not isinstance(search_space, dict):
            raise ValueError("it is a list of hyperparameters, each with its type and its range")
        return {name: make_distribution(name, line) for name, line in search_space.items()}

    @field_validator("initial_trials")
    @classmethod
    def check_initial_trials(cls, initial_trials: list[dict[str, Any]], info: Any) -> list[dict[str, Any]]:
        """Convert every value to the type of its hyperparameter, which the search space must have."""
        space: dict[str, BaseDistribution] | None = info.data.get("search_space")
        if space is None:  # it has mistakes of its own
            return initial_trials
        typed = []
        for values in initial_trials:
            if unknown := [name for name in values if name not in space]:
                raise ValueError(f"{unknown[0]} is not in search_space ({', '.join(space)})")
            typed.append({name: convert(name, value, name) for name, value in values.items()})
        return typed


RANGE = {"type", "low", "high", "step", "log"}
KEYS = {"categorical": {"type", "choices"}, "int": RANGE, "float": RANGE}


def make_distribution(name: str, line: Any) -> BaseDistribution:
    """Make Optuna's distribution of a line of the search space; its values have the type and range of `Train`."""
    if name not in TUNABLE:
        raise ValueError(f"{name} cannot be tuned; what can: {', '.join(TUNABLE)}")
    kind = line.get("type") if isinstance(line, dict) else None
    if not isinstance(kind, str) or kind not in KEYS:
        raise ValueError(f"{name} = {line!r}: it needs a type, which is one of {', '.join(KEYS)}")
    if unknown := [key for key in line if key not in KEYS[kind]]:
        raise ValueError(f"{name}.{unknown[0]} is unknown; known here: {', '.join(sorted(KEYS[kind]))}")
    if kind == "categorical":
        return CategoricalDistribution(read_choices(name, line.get("choices")))
    ends = {end: convert(f"{name}.{end}", line.get(end), name) for end in ("low", "high")}
    whole, step, log = kind == "int", number(line.get("step")), line.get("log", False)
    for end, value in (*ends.items(), ("step", step)):
        is_right = isinstance(value, int | float) and not isinstance(value, bool) and not (whole and value % 1)
        if not is_right and not (end == "step" and value is None):
            raise ValueError(f"{name}.{end} = {value!r}, but it has to be a {'whole ' * whole}number")
    if not whole and isinstance(ends["low"], int):
        raise ValueError(f"{name}.type = 'float', but its values are whole numbers: int or categorical")
    if not isinstance(log, bool):
        raise ValueError(f"{name}.log = {log!r}, but it is true or false")
    try:
        with warnings.catch_warnings(action="error", category=UserWarning):  # such as: not divisible by the step
            return json_to_distribution(json.dumps({"type": kind, **ends, "step": step, "log": log}))
    except (ValueError, UserWarning) as error:
        raise ValueError(f"{name}: {error}") from None


def read_choices(name: str, choices: Any) -> list[Any]:
    """Convert the choices of a hyperparameter, of which there is at least one, and none twice."""
    if not isinstance(choices, list) or not choices:
        raise ValueError(f"{name}.choices = {choices!r}, but it is a list of values: [a, b]")
    typed = [convert(f"{name}.choices", value, name) for value in choices]
    if twice := [value for place, value in enumerate(typed) if value in typed[:place]]:
        raise ValueError(f"{name}.choices: {twice[0]!r} is listed twice")
    return typed


def convert(place: str, value: Any, name: str) -> Any:
    """Convert a value to the type of the hyperparameter `name` in `Train`, and check its range."""
    field: FieldInfo = Train.model_fields[name]
    if value is None:
        raise ValueError(f"{place} has no value")
    try:
        return TypeAdapter(field.rebuild_annotation(), config=Section.model_config).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{place}: {value!r}: {error.errors()[0]['msg']}") from error


class Archive(Section):
    max_drop: Real = Field(ge=-1, le=1)


class Reading(Section):
    least: Real | None = Field(ge=0, le=1)


class Evaluate(Section):
    mistakes: int = Field(ge=1, le=400)


class Settings(Section):
    data: Data
    tune: Tune
    train: Train
    archive: Archive
    reading: Reading
    evaluate: Evaluate


def load(path: Path = Path("params.yaml")) -> Settings:
    """Read and validate the parameters.

    Raises:
        SettingsError: the file is missing, is not YAML, or one of its keys or values is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {error}") from error
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise SettingsError("\n".join(explain(path, mistake) for mistake in error.errors())) from error


def explain(path: Path, mistake: Any) -> str:
    """One of pydantic's mistakes as a line: key, value, what is allowed."""
    place = [str(part) for part in mistake["loc"]]
    key, value, rule = ".".join(place), mistake["input"], mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        return f"{path}: {key} is unknown; known here: {', '.join(list_known_keys(place))}"
    if mistake["type"] == "missing":
        return f"{path}: {key} is missing"
    if mistake["type"] == "value_error" or isinstance(value, dict):  # the rule names the value
        return f"{path}: {key}: {rule}"
    return f"{path}: {key} = {value!r}: {rule}"


def list_known_keys(place: list[str]) -> Any:
    """The keys that are known where an unknown one was found."""
    return Settings.model_fields if len(place) == 1 else Settings.model_fields[place[0]].annotation.model_fields  # type: ignore[union-attr]
