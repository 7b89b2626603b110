"""What a study maximises: the validation accuracy of a short training."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

import optuna
import torch

from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.training import loop
from mnist_pipeline.training.hyperparameters import SHORTEST_EPOCH, Hyperparameters, adapt_to_size
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.training.runtime import best_device
from mnist_pipeline.tuning.search_space import Parameter, suggest


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The Optuna objective: trains with a trial's values and returns validation accuracy.

    Its fields are all that makes two trials comparable; a study with other ones is another study, under another name.

    Attributes:
        dataset: trials train on its training images and are evaluated on its validation images.
        space: the hyperparameters that are searched.
        fixed: the values of all others.
        images_per_trial: training images that a trial sees.
        evaluations: how often a trial is evaluated, and may be pruned.
        evaluation_images: validation images of each evaluation; all of them where there are fewer.
        pruner: by which rule trials are pruned: median, percentile (the worst quarter), halving, or none.
        n_warmup_steps: evaluations before a trial may be pruned.
        seed: of each trial's network and images.
    """

    dataset: Dataset
    space: Mapping[str, Parameter]
    fixed: Hyperparameters
    images_per_trial: int
    evaluations: int
    evaluation_images: int
    pruner: str
    n_warmup_steps: int
    seed: int

    @property
    def name(self) -> str:
        """The study's name: the dataset's, and a digest of the fields and of the training code."""
        content = {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "dataset": self.dataset.checksums,
            "validation": hashlib.sha256(self.dataset.validation.images.numpy().tobytes()).hexdigest(),
            "space": {name: [repr(parameter.distribution), parameter.when] for name, parameter in self.space.items()},
            "fixed": asdict(self.fixed),
            "code": loop.code(),
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{self.dataset.name}-{digest[:10]}"

    def __call__(self, trial: optuna.Trial) -> float:
        """Train with a trial's values.

        Returns:
            Accuracy on the validation images, 0..1.

        Raises:
            optuna.TrialPruned: the trial fell behind others.
            loop.Diverged: the loss became NaN or infinite.
        """
        train, validation = self.dataset.train, self.dataset.validation
        epochs = self.images_per_trial / max(len(train.labels), SHORTEST_EPOCH)
        chosen = replace(self.fixed, epochs=epochs, **suggest(trial, self.space))
        torch.manual_seed(self.seed)
        classes, data = len(self.dataset.class_names), self.dataset
        network = DigitNetwork(classes, data.mean, data.std, data.image_size)

        def report(evaluation: loop.Evaluation) -> None:
            trial.report(round(evaluation.validation_accuracy, 6), evaluation.number)
            if evaluation.number < self.evaluations and trial.should_prune():
                raise optuna.TrialPruned

        history = loop.fit(
            network.to(best_device()),
            train,
            Examples(validation.images[: self.evaluation_images], validation.labels[: self.evaluation_images]),
            adapt_to_size(chosen, len(train.labels)),
            seed=self.seed,
            evaluations=self.evaluations,
            on_evaluation=report,
        )
        return round(history[-1].validation_accuracy, 6)  # to as many digits as a float32 has
