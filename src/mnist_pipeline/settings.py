"""params.yaml as typed, validated objects. The stages alone read it; src/ takes plain arguments."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)


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
    def names_are_known(self) -> "Tune":
        asked: list[str] = []
        for name, parameter in self.search_space.items():
            if name not in TUNABLE:
                raise ValueError(f"search_space.{name} cannot be tuned; what can: {', '.join(TUNABLE)}")
            if unknown := set(parameter.when or {}) - set(asked):
                raise ValueError(f"search_space.{name}.when: {', '.join(unknown)} is not asked before {name}")
            asked.append(name)
        for values in self.first:
            if unknown := set(values) - set(asked):
                raise ValueError(f"first: {', '.join(unknown)} is not in search_space ({', '.join(asked)})")
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
    crop: Real | None = Field(ge=0, le=1)
    rotation: Real | None = Field(ge=0, le=45)
    translation: Real | None = Field(ge=0, le=8)
    scaling: Real | None = Field(ge=0, le=0.5)
    elasticity: Real | None = Field(ge=0, le=8)
    flip: Real | None = Field(ge=0, le=1)
    seed: int = Field(ge=0)
    processes: int = Field(ge=1, le=64)
    checkpoint_seconds: Real = Field(ge=0, le=86_400)


class Evaluate(Section):
    mistakes: int = Field(ge=1, le=400)
    photographs: int = Field(ge=0, le=10_000)
    seed: int = Field(ge=0)


class Archive(Section):
    version: str = Field(pattern=r"^\d+(\.\d+)*$")
    int8: bool
    max_drop: Real = Field(ge=0, le=1)


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
    key = ".".join(str(part) for part in mistake["loc"])
    value, rule = mistake["input"], mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        known = Settings.model_fields if len(mistake["loc"]) == 1 else section_fields(mistake["loc"][0])
        return f"{path}: {key} is unknown; known here: {', '.join(known)}"
    if mistake["type"] == "missing":
        return f"{path}: {key} is missing"
    if isinstance(value, dict):
        return f"{path}: {key}: {rule}"
    return f"{path}: {key} = {value!r}: {rule}"


def section_fields(name: str) -> Any:
    """The keys that a section of params.yaml may have."""
    return Settings.model_fields[name].annotation.model_fields  # type: ignore[union-attr]
