"""The schema of model_info.json, which lets a stranger rebuild or judge a model."""

from typing import Any, NotRequired, TypedDict


class ServingInfo(TypedDict):
    """Which ONNX file a CPU serves, and why; `archive` adds it."""

    format: str  # int8 or fp32
    file: str
    sha256: str
    reason: str
    validation_accuracy: dict[str, float]  # format -> 0..1
    versions: dict[str, str]


class KnownInfo(TypedDict):
    """How sure a model is that an image is of any of its classes; `archive` adds it."""

    slope: float  # the score is 1 / (1 + exp(-(slope * log(sum(exp(temperature * logits))) + offset)))
    offset: float
    least: float  # below this score nothing is answered, 0..1


class ModelDescription(TypedDict):
    """What `train` knows of a model."""

    class_names: list[str]
    reader: str  # how a picture becomes an image: reading.READERS
    image_size: int  # height and width of the images, pixels
    colour: str  # grey or rgb
    on_black: bool  # whether the training images stand on black; a picture with a bright border is then inverted
    normalisation: dict[str, list[float]]  # mean and std of the pixels, 0..1, a value for each channel
    temperature: float
    validation_accuracy: float  # 0..1
    hyperparameters: dict[str, dict[str, Any]]  # name -> value and source
    seed: int
    dataset: dict[str, Any]  # name, number of training and validation images, SHA-256 of each file
    device: str
    training_seconds: float
    started: str  # ISO 8601, UTC
    ended: str


class ModelInfo(ModelDescription):
    """The content of model_info.json."""

    weights: str  # file name
    sha256: str  # of the weights
    layers: list[dict[str, Any]]  # name, type and output shape of each layer
    parameters: int
    versions: dict[str, str]
    git_revision: str | None
    serving: NotRequired[ServingInfo]
    known: NotRequired[KnownInfo]
