"""params.yaml as typed, validated objects. The stages alone read it; src/ takes plain arguments."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo


class SettingsError(ValueError):
    """params.yaml is wrong; the message names key, value and what is allowed, a line for each mistake."""


def number(value: Any) -> Any:
    """DVC writes 1e-05, which YAML 1.1 reads as a string."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Real = Annotated[float, BeforeValidator(number)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Data(Section):
    dataset: Literal[
        "MNIST",
        "FashionMNIST",
        "KMNIST",
        "QMNIST",
        "EMNIST-digits",
        "EMNIST-letters",
        "folder",
    ]
    source: str | None
    skip_damaged: bool
    reader: Literal["handwriting", "picture"] | None
    mirrors: list[str]
    validation_images: int = Field(ge=1, le=30_000)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def folder_has_source(self) -> "Data":
        if (self.dataset == "folder") != (self.source is not None):
            raise ValueError("data.source names a folder when data.dataset is `folder`, and is null otherwise")
        return self


class Categorical(Section):
    type: Literal["categorical"]
    choices: list[str | int | float | bool] = Field(min_length=1)
    when: dict[str, list[str | int | float | bool]] | None = None


class Range(Section):
    @model_validator(mode="after")
    def range_is_possible(self) -> "Range":
        low, high, step, log = (getattr(self, name) for name in ("low", "high", "step", "log"))
        if low > high:
            raise ValueError(f"low = {low} lies above high = {high}")
        if log and step is not None:
            raise ValueError("log and step exclude each other")
        if log and low <= 0:
            raise ValueError(f"low = {low}, but a log range begins above 0")
        if step is not None and step <= 0:
            raise ValueError(f"step = {step}, but a step is above 0")
        return self


class IntRange(Range):
    type: Literal["int"]
    low: int
    high: int
    step: int | None = None
    log: bool = False
    when: dict[str, list[str | int | float | bool]] | None = None


class FloatRange(Range):
    type: Literal["float"]
    low: Real
    high: Real
    step: Real | None = None
    log: bool = False
    when: dict[str, list[str | int | float | bool]] | None = None


KINDS: dict[str, type[Section]] = {"categorical": Categorical, "int": IntRange, "float": FloatRange}
Parameter = Annotated[Categorical | IntRange | FloatRange, Field(discriminator="type")]
# What a search space may hold: the fields of `Train` that say how to learn, not how long.
TUNABLE = (
    "optimizer",
    "lr",
    "batch_size",
    "momentum",
    "warmup",
    "weight_decay",
    "label_smoothing",
    "crop",
    "rotation",
    "translation",
    "scaling",
    "elasticity",
    "flip",
)


class Tune(Section):
    trials: int = Field(ge=1, le=100_000)
    seconds: Real = Field(ge=1, le=10_000_000)
    images_per_trial: int = Field(ge=500, le=100_000_000)
    reports: int = Field(ge=1, le=1000)
    report_images: int = Field(ge=100, le=30_000)
    pruner: Literal["median", "percentile", "halving", "none"]
    patience: int = Field(ge=0, le=1000)
    seed: int = Field(ge=0)
    workers: int = Field(ge=1, le=10_000)
    storage: str
    search_space: dict[str, Parameter] = Field(min_length=1)
    first: list[dict[str, str | int | Real | bool]]

    @model_validator(mode="after")
    def space_is_possible(self) -> "Tune":
        asked: dict[str, Parameter] = {}
        for name, parameter in self.search_space.items():
            place = f"search_space.{name}"
            if name not in TUNABLE:
                raise ValueError(f"{place} cannot be tuned; what can: {', '.join(TUNABLE)}")
            ends = parameter.choices if isinstance(parameter, Categorical) else [parameter.low, parameter.high]
            for value in ends:
                check(place, value, Train.model_fields[name])
            for other, values in (parameter.when or {}).items():
                if other not in asked:
                    raise ValueError(f"{place}.when: {other} is not asked before {name}")
                for value in values:
                    check_possible(f"{place}.when.{other}", value, asked[other])
            asked[name] = parameter
        for point in self.first:
            for name, value in point.items():
                if name not in asked:
                    raise ValueError(f"first: {name} is not in search_space ({', '.join(asked)})")
                check_possible(f"first: {name}", value, asked[name])
        return self


class Train(Section):
    optimizer: Literal["adam", "rmsprop", "sgd"] | None
    lr: Real | None = Field(ge=1e-7, le=10)
    batch_size: int | None = Field(ge=1, le=10_000)
    momentum: Real | None = Field(ge=0, le=0.999)
    epochs: Real = Field(ge=0.001, le=10_000)
    warmup: Real = Field(ge=0, le=0.9)
    weight_decay: Real = Field(ge=0, le=1)
    label_smoothing: Real = Field(ge=0, le=0.5)
    crop: Real | None = Field(ge=0, le=0.95)
    rotation: Real | None = Field(ge=0, le=45)
    translation: Real | None = Field(ge=0, le=8)
    scaling: Real | None = Field(ge=0, le=0.5)
    elasticity: Real | None = Field(ge=0, le=8)
    flip: Real | None = Field(ge=0, le=1)
    seed: int = Field(ge=0)
    processes: int = Field(ge=1, le=64)
    checkpoint_seconds: Real = Field(ge=0, le=86_400)


def check(place: str, value: Any, field: FieldInfo) -> None:
    """Hold a value to a field's type and range."""
    try:
        TypeAdapter(field.rebuild_annotation(), config=Section.model_config).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{place}: {value!r}: {error.errors()[0]['msg']}") from error


def check_possible(place: str, value: Any, parameter: Parameter) -> None:
    """Hold a value to what a parameter of the search space can be."""
    if isinstance(parameter, Categorical):
        if value not in parameter.choices:
            raise ValueError(f"{place} = {value!r} is none of its choices, {', '.join(map(str, parameter.choices))}")
    elif isinstance(value, str | bool) or not parameter.low <= value <= parameter.high:
        raise ValueError(f"{place} = {value!r} is not within {parameter.low} to {parameter.high}")


class Evaluate(Section):
    mistakes: int = Field(ge=1, le=400)
    photographs: int = Field(ge=0, le=10_000)
    seed: int = Field(ge=0)


class Archive(Section):
    max_drop: Real = Field(ge=-1, le=1)


class Settings(Section):
    data: Data
    tune: Tune
    train: Train
    evaluate: Evaluate
    archive: Archive


def load(path: Path = Path("params.yaml")) -> Settings:
    """Read and validate the parameters.

    Raises:
        SettingsError: the file is missing, is not YAML, or a key or value in it is wrong.
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
        return f"{path}: {key} is unknown; known here: {', '.join(fields_beside(place, kind))}"
    if mistake["type"] == "missing":
        return f"{path}: {key} is missing"
    if mistake["type"] == "union_tag_not_found":
        return f"{path}: {key}.type is missing; it is one of {', '.join(KINDS)}"
    if mistake["type"] == "union_tag_invalid":
        return f"{path}: {key}.type = {mistake['ctx']['tag']!r} is none of {', '.join(KINDS)}"
    if isinstance(value, dict):
        return f"{path}: {key}: {rule}"
    return f"{path}: {key} = {value!r}: {rule}"


def fields_beside(place: list[str], kind: str | None) -> Any:
    """The keys that may stand where an unknown one does; `kind` is that of a parameter of the search space."""
    if kind:
        return KINDS[kind].model_fields
    return Settings.model_fields if len(place) == 1 else Settings.model_fields[place[0]].annotation.model_fields  # type: ignore[union-attr]
