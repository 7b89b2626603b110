"""What a study maximises: the validation accuracy of a short training, or of a longer one that repeats it."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import optuna

from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.training import loop
from mnist_pipeline.training.hyperparameters import SHORTEST_EPOCH, Hyperparameters, adapt_to_size
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.tuning.search_space import Space, suggest
from mnist_pipeline.tuning.trials import RETRAINS


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The Optuna objective: trains with a trial's values and returns validation accuracy.

    Its fields are all that makes two trials comparable; a study with other ones is another study, under another name.

    Attributes:
        dataset: trials train on its training images and are evaluated on its validation images.
        space: the hyperparameters that are searched.
        fixed: the values of all others, and the default values of these; its epochs are those of the final training.
        images_per_trial: training images that a trial sees, never more than the final training does.
        retraining_fraction: part of the final training's images that a retraining sees.
        evaluations: how often a trial is evaluated, and may be pruned.
        evaluation_images: validation images of each evaluation; all of them where there are fewer.
        pruner: by which rule trials are pruned: halving, median, or none.
        seed: of each trial's network and images; retrainings have the next one.
    """

    dataset: Dataset
    space: Space
    fixed: Hyperparameters
    images_per_trial: int
    retraining_fraction: float
    evaluations: int
    evaluation_images: int
    pruner: str
    seed: int

    @property
    def name(self) -> str:
        """The study's name: the dataset's, and a digest of the fields and of the training code."""
        content = {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "dataset": self.dataset.checksums,
            "validation": hashlib.sha256(self.dataset.validation.images.numpy().tobytes()).hexdigest(),
            "space": {name: repr(distribution) for name, distribution in self.space.items()},
            "fixed": asdict(self.fixed),
            "code": loop.code(),
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{self.dataset.name}-{digest[:10]}"

    @property
    def final_images(self) -> int:
        """Training images that the final training sees, with the default number of epochs."""
        return round(self.fixed.epochs * max(len(self.dataset.train.labels), SHORTEST_EPOCH))

    @property
    def images_per_short_trial(self) -> int:
        """Training images that a trial sees before it may be trained again."""
        return min(self.images_per_trial, self.final_images)

    @property
    def images_per_retraining(self) -> int:
        """Training images that a retraining sees: more than a trial, unless the final training is as short."""
        return min(
            self.final_images, max(2 * self.images_per_trial, round(self.retraining_fraction * self.final_images))
        )

    def __call__(self, trial: optuna.Trial) -> float:
        """Train with a trial's values.

        A retraining is evaluated on all validation images, and never pruned. Its user attribute "mistakes" lists the
        indices of the images that it got wrong, so that two retrainings can be compared image by image.

        Returns:
            Accuracy on the validation images, 0..1.

        Raises:
            optuna.TrialPruned: the trial fell behind others.
            loop.Diverged: the loss became NaN or infinite.
        """
        values = suggest(trial, self.space)
        if RETRAINS not in trial.user_attrs:
            return self.train(values, self.images_per_short_trial, self.seed, trial)[1]
        validation = self.dataset.validation
        network, _ = self.train(values, self.images_per_retraining, self.seed + 1)
        wrong = predict(network, validation.images).argmax(1) != validation.labels
        trial.set_user_attr("mistakes", wrong.nonzero().flatten().tolist())
        return round(1 - wrong.double().mean().item(), 6)

    def train(
        self, values: dict[str, Any], images: int, seed: int, trial: optuna.Trial | None = None
    ) -> tuple[DigitNetwork, float]:
        """Train with some values on so many images; a trial that is given gets the evaluations, and may be pruned.

        Returns:
            The network, and its accuracy on the first `evaluation_images` validation images.
        """
        data, validation = self.dataset, self.dataset.validation
        epochs = images / max(len(data.train.labels), SHORTEST_EPOCH)
        network = loop.new_network(data, seed)

        def report(evaluation: loop.Evaluation) -> None:
            if trial is None:
                return
            trial.report(round(evaluation.validation_accuracy, 6), evaluation.number)
            if evaluation.number < self.evaluations and trial.should_prune():
                raise optuna.TrialPruned

        history = loop.fit(
            network,
            data.train,
            Examples(validation.images[: self.evaluation_images], validation.labels[: self.evaluation_images]),
            adapt_to_size(replace(self.fixed, **values, epochs=epochs), len(data.train.labels)),
            seed=seed,
            evaluations=self.evaluations if trial else 1,
            on_evaluation=report,
        )
        if trial:
            trial.set_user_attr("training_seconds", history[-1].seconds)
        return network, round(history[-1].validation_accuracy, 6)  # to as many digits as a float32 has
