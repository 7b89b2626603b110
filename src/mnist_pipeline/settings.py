"""params.yaml as typed, validated objects. The stages alone read it; src/ takes plain arguments."""

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
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
Value = str | int | float | bool


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


class Categorical(Section):
    type: Literal["categorical"]
    choices: list[Value] = Field(min_length=1)
    when: dict[str, list[Value]] | None = None

    @property
    def distribution(self) -> CategoricalDistribution:
        return CategoricalDistribution(self.choices)


class Range(Section):
    """A range of numbers; Optuna says whether one is possible."""

    log: bool = False
    when: dict[str, list[Value]] | None = None

    @model_validator(mode="after")
    def check_range(self) -> "Range":
        with warnings.catch_warnings(action="error", category=UserWarning):  # such as: not divisible by the step
            try:
                _ = self.distribution
            except UserWarning as warning:
                raise ValueError(str(warning)) from None
        return self

    @property
    def distribution(self) -> BaseDistribution:
        raise NotImplementedError


class IntRange(Range):
    type: Literal["int"]
    low: int
    high: int
    step: int = 1

    @property
    def distribution(self) -> IntDistribution:
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)


class FloatRange(Range):
    type: Literal["float"]
    low: Real
    high: Real
    step: Real | None = None

    @property
    def distribution(self) -> FloatDistribution:
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


KINDS: dict[str, type[Section]] = {"categorical": Categorical, "int": IntRange, "float": FloatRange}
Parameter = Annotated[Categorical | IntRange | FloatRange, Field(discriminator="type")]


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
    trials: int = Field(ge=1, le=100_000)
    seconds: Real = Field(ge=1, le=10_000_000)
    images_per_trial: int = Field(ge=500, le=100_000_000)
    evaluations: int = Field(ge=1, le=1000)
    evaluation_images: int = Field(ge=100, le=30_000)
    pruner: Literal["median", "percentile", "halving", "none"]
    n_warmup_steps: int = Field(ge=0, le=1000)
    seed: Seed
    workers: int = Field(ge=1, le=10_000)
    storage: str
    search_space: dict[str, Parameter] = Field(min_length=1)
    initial_trials: list[dict[str, Value]]

    @field_validator("search_space")
    @classmethod
    def type_search_space(cls, search_space: dict[str, Parameter]) -> dict[str, Parameter]:
        """Convert every value to the type that its hyperparameter has in `Train`, and check its range."""
        typed: dict[str, Parameter] = {}
        for name, parameter in search_space.items():
            if name not in TUNABLE:
                raise ValueError(f"{name} cannot be tuned; what can: {', '.join(TUNABLE)}")
            changes: dict[str, Any] = {}
            if isinstance(parameter, Categorical):
                choices = [convert(f"{name}.choices", value, name) for value in parameter.choices]
                if twice := [value for place, value in enumerate(choices) if value in choices[:place]]:
                    raise ValueError(f"{name}.choices: {twice[0]!r} is listed twice")
                changes["choices"] = choices
            else:
                for end in ("low", "high"):
                    convert(f"{name}.{end}", getattr(parameter, end), name)
            if parameter.when is not None:
                changes["when"] = {}
                for other, values in parameter.when.items():
                    if other not in typed:
                        raise ValueError(f"{name}.when: {other} is not listed before {name}")
                    place = f"{name}.when.{other}"
                    changes["when"][other] = [possible_value(place, value, other, typed[other]) for value in values]
            typed[name] = parameter.model_copy(update=changes)
        return typed

    @field_validator("initial_trials")
    @classmethod
    def type_initial_trials(cls, initial_trials: list[dict[str, Value]], info: Any) -> list[dict[str, Value]]:
        """Convert every value as `type_search_space` does, and check that the search space has it."""
        space: dict[str, Parameter] | None = info.data.get("search_space")
        if space is None:  # it has mistakes of its own
            return initial_trials
        typed: list[dict[str, Value]] = []
        for point in initial_trials:
            if unknown := [name for name in point if name not in space]:
                raise ValueError(f"{unknown[0]} is not in search_space ({', '.join(space)})")
            typed.append({name: possible_value(name, value, name, space[name]) for name, value in point.items()})
        return typed


def convert(place: str, value: Any, name: str) -> Any:
    """Convert a value to the type of the hyperparameter `name` in `Train`, and check its range."""
    field: FieldInfo = Train.model_fields[name]
    try:
        return TypeAdapter(field.rebuild_annotation(), config=Section.model_config).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{place}: {value!r}: {error.errors()[0]['msg']}") from error


def possible_value(place: str, value: Any, name: str, parameter: Parameter) -> Any:
    """Convert a value as `convert` does, and check that the parameter `name` of the search space can take it."""
    typed = convert(place, value, name)
    if isinstance(parameter, Categorical):
        if typed not in parameter.choices:
            raise ValueError(f"{place} = {value!r} is none of its choices, {', '.join(map(str, parameter.choices))}")
        return typed
    if not parameter.low <= typed <= parameter.high:
        raise ValueError(f"{place} = {value!r} is not within {parameter.low} to {parameter.high}")
    step = parameter.step
    if step and abs((steps := (typed - parameter.low) / step) - round(steps)) > 1e-8:
        raise ValueError(f"{place} = {value!r} is not {parameter.low} plus a multiple of {step}")
    return int(typed) if isinstance(parameter, IntRange) else typed


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
    kind = place.pop(3) if place[1:2] == ["search_space"] and len(place) > 3 else None  # pydantic adds the `type`
    key, value, rule = ".".join(place), mistake["input"], mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        return f"{path}: {key} is unknown; known here: {', '.join(list_known_keys(place, kind))}"
    if mistake["type"] == "missing":
        return f"{path}: {key} is missing"
    if mistake["type"] == "union_tag_not_found":
        return f"{path}: {key}.type is missing; it is one of {', '.join(KINDS)}"
    if mistake["type"] == "union_tag_invalid":
        return f"{path}: {key}.type = {mistake['ctx']['tag']!r} is none of {', '.join(KINDS)}"
    if mistake["type"] == "value_error" or isinstance(value, dict):  # the rule names the value
        return f"{path}: {key}: {rule}"
    return f"{path}: {key} = {value!r}: {rule}"


def list_known_keys(place: list[str], kind: str | None) -> Any:
    """The keys that are known where an unknown one was found; `kind`: the type of a parameter of the search space."""
    if kind:
        return KINDS[kind].model_fields
    return Settings.model_fields if len(place) == 1 else Settings.model_fields[place[0]].annotation.model_fields  # type: ignore[union-attr]
