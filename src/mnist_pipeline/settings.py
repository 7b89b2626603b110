"""params.yaml as typed, validated objects. The stages alone read it; src/ takes plain arguments."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from optuna.distributions import BaseDistribution, json_to_distribution
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model, field_validator

from mnist_pipeline.console import PipelineError
from mnist_pipeline.data.catalogue import DATASETS
from mnist_pipeline.training.hyperparameters import Hyperparameters


class SettingsError(PipelineError):
    """params.yaml is wrong; the message names key, value and what is allowed, a line for each mistake."""


class Loader(yaml.SafeLoader):
    """Reads 1e-05, as DVC writes it, as a number; YAML 1.1 needs a dot in it."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what every generator of PyTorch, NumPy and Optuna takes


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Data(Section):
    dataset: Literal[*DATASETS]  # type: ignore[valid-type]
    source: str = Field(min_length=1)
    skip_damaged: bool
    reader: Literal["handwriting", "picture"] | None
    image_size: int | None = Field(ge=16, le=64, multiple_of=4)
    colour: Literal["grey", "rgb"] | None
    mirrors: list[str]
    validation_images: int = Field(ge=1, le=30_000)
    seed: Seed


TYPES: dict[str, Any] = get_type_hints(Hyperparameters, include_extras=True)  # with the ranges
# What a search space may hold: how to train, not how long, nor with which further images.
TUNABLE = [name for name in TYPES if name not in ("epochs", "outliers", "digit_forms")]
OPTIONAL: dict[str, Any] = {name: (kind | None, ...) for name, kind in TYPES.items()}  # each is there, and may be null
GivenHyperparameters: Any = create_model("GivenHyperparameters", __base__=Section, **OPTIONAL)


class Train(GivenHyperparameters):
    seed: Seed
    checkpoint_seconds: float = Field(ge=0, le=86_400)


LINE = ("type", "choices", "low", "high", "step", "log")  # what a line of the search space may hold


class Tune(Section):
    trials: int = Field(ge=1, le=100_000)
    seconds: float = Field(ge=1, le=10_000_000)
    images_per_trial: int = Field(ge=500, le=100_000_000)
    evaluations: int = Field(ge=1, le=1000)
    evaluation_images: int = Field(ge=100, le=30_000)
    pruner: Literal["halving", "median", "none"]
    retrained_trials: int = Field(ge=0, le=100)
    retraining_fraction: float = Field(ge=0.01, le=1)
    seed: Seed
    workers: int = Field(ge=1, le=10_000)
    storage: str
    search_space: dict[str, dict[str, Any]] = Field(min_length=1)
    initial_trials: list[dict[str, Any]]

    @field_validator("search_space")
    @classmethod
    def check_search_space(cls, search_space: dict[str, Any]) -> dict[str, Any]:
        for name, line in search_space.items():
            make_distribution(name, line)
        return search_space

    @field_validator("initial_trials")
    @classmethod
    def check_initial_trials(cls, initial_trials: list[dict[str, Any]], info: Any) -> list[dict[str, Any]]:
        space = info.data.get("search_space", TUNABLE)  # it is missing where it has mistakes of its own
        if unknown := [name for values in initial_trials for name in values if name not in space]:
            raise ValueError(f"{unknown[0]} is not in search_space ({', '.join(space)})")
        return [{name: convert(name, value) for name, value in values.items()} for values in initial_trials]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The search space, as Optuna's distributions."""
        return {name: make_distribution(name, line) for name, line in self.search_space.items()}


def make_distribution(name: str, line: dict[str, Any]) -> BaseDistribution:
    """Optuna's distribution of a hyperparameter, from its line of the search space. Raises ValueError."""
    if name not in TUNABLE:
        raise ValueError(f"{name} cannot be tuned; what can: {', '.join(TUNABLE)}")
    if unknown := [key for key in line if key not in LINE]:
        raise ValueError(f"{name}.{unknown[0]} is unknown; known here: {', '.join(LINE)}")
    if line.get("type") == "int" and any(isinstance(value, float) for value in line.values()):
        raise ValueError(f"{name} = {line}: a range of the type int holds whole numbers")
    for key in {"low", "high"} & line.keys():
        convert(name, line[key])
    if "choices" in line:
        line = line | {"choices": [convert(name, choice) for choice in line["choices"]]}
    try:
        return json_to_distribution(json.dumps(line))
    except KeyError as error:
        raise ValueError(f"{name}.{error.args[0]} is missing") from None
    except ValueError as error:
        raise ValueError(f"{name} = {line}: {error}") from None


def convert(name: str, value: Any) -> Any:
    """Convert a value to the type of a hyperparameter, and check its range."""
    try:
        return TypeAdapter(TYPES[name], config=Section.model_config).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{name} = {value!r}: {error.errors()[0]['msg']}") from None


class Archive(Section):
    max_drop: float = Field(ge=-1, le=1)


class Reading(Section):
    least: float | None = Field(ge=0, le=1)


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
        content = yaml.load(path.read_text(), Loader)
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {error}") from error
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise SettingsError("\n".join(explain(path, mistake) for mistake in error.errors())) from error


def explain(path: Path, mistake: Any) -> str:
    """One of pydantic's mistakes as a line: key, value, what is allowed."""
    place = mistake["loc"]
    key = ".".join(map(str, place))
    value, rule = mistake["input"], mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        model: Any = Settings if len(place) == 1 else Settings.model_fields[place[0]].annotation
        return f"{path}: {key} is unknown; known here: {', '.join(model.model_fields)}"
    if mistake["type"] == "missing":
        return f"{path}: {key} is missing"
    if mistake["type"] == "value_error" or isinstance(value, dict):  # the rule names the value
        return f"{path}: {key}: {rule}"
    return f"{path}: {key} = {value!r}: {rule}"
