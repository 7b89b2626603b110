"""What a study maximises: the validation accuracy of a short training, or of a longer one that repeats it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_pipeline.data.dataset import Dataset, Examples
from mnist_pipeline.training import loop
from mnist_pipeline.training.hyperparameters import SHORTEST_EPOCH, Hyperparameters, adapt_to_size
from mnist_pipeline.training.inference import predict
from mnist_pipeline.training.network import DigitNetwork
from mnist_pipeline.tuning.trials import RETRAINS

Space = Mapping[str, BaseDistribution]  # the values that a trial may take, by the name of the hyperparameter


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The Optuna objective: trains with a trial's values and returns validation accuracy.

    Its fields are all that makes two trials comparable; a study with other ones is another study, under another name.
    """

    dataset: Dataset
    space: Space
    fixed: Hyperparameters  # the values of what is not searched, and the default values of what is
    images_per_trial: int  # training images that a trial sees
    images_per_retraining: int  # likewise
    evaluations: int  # how often a trial is evaluated, and may be pruned
    evaluation_images: int  # validation images of each evaluation; all of them where there are fewer
    pruner: str  # a name in study.PRUNERS
    seed: int  # of each trial's network and images; retrainings have the next one

    @property
    def name(self) -> str:
        """The study's name: the dataset's, and a digest of the fields and of the training code."""
        settings = vars(self) | {
            "dataset": self.dataset.name,
            "space": {name: repr(distribution) for name, distribution in self.space.items()},
            "fixed": asdict(self.fixed),
        }
        return f"{self.dataset.name}-{loop.fingerprint(self.dataset, settings)[:10]}"

    def __call__(self, trial: optuna.Trial) -> float:
        """Train with a trial's values; return the accuracy on the first `evaluation_images` validation images, 0..1.

        A retraining is evaluated on all validation images, and never pruned. Its user attribute "mistakes" lists the
        indices of the images that it got wrong, so that two retrainings can be compared image by image.

        Raises:
            optuna.TrialPruned: the trial fell behind others.
            loop.Diverged: the loss became NaN or infinite.
        """
        values = suggest(trial, self.space)
        if RETRAINS in trial.user_attrs:
            validation = self.dataset.validation
            network, _ = self.train(values, self.images_per_retraining, self.seed + 1, evaluations=1)
            wrong = predict(network, validation.images).argmax(1) != validation.labels
            trial.set_user_attr("mistakes", wrong.nonzero().flatten().tolist())
            return round(1 - wrong.double().mean().item(), 6)

        def report(evaluation: loop.Evaluation) -> None:
            trial.report(round(evaluation.validation_accuracy, 6), evaluation.number)
            if evaluation.number < self.evaluations and trial.should_prune():
                raise optuna.TrialPruned

        options = {"evaluations": self.evaluations, "on_evaluation": report}
        _, last = self.train(values, self.images_per_trial, self.seed, **options)
        trial.set_user_attr("seconds_per_image", last.seconds / self.images_per_trial)
        return round(last.validation_accuracy, 6)  # to as many digits as a float32 has

    def train(
        self, values: Mapping[str, Any], images: int, seed: int, **options: Any
    ) -> tuple[DigitNetwork, loop.Evaluation]:
        """Train with some values on so many images, with options of `loop.fit`; return network and last evaluation."""
        data, validation = self.dataset, self.dataset.validation
        epochs = images / max(len(data.train.labels), SHORTEST_EPOCH)
        network = loop.new_network(data, seed)
        history = loop.fit(
            network,
            data.train,
            Examples(validation.images[: self.evaluation_images], validation.labels[: self.evaluation_images]),
            adapt_to_size(replace(self.fixed, **values, epochs=epochs), len(data.train.labels)),
            seed=seed,
            **options,
        )
        return network, history[-1]


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Sample a trial's values, by name."""
    values: dict[str, Any] = {}
    for name, distribution in space.items():
        match distribution:
            case CategoricalDistribution(choices=choices):
                values[name] = trial.suggest_categorical(name, choices)
            case IntDistribution(low=low, high=high, step=step, log=log):
                values[name] = trial.suggest_int(name, low, high, step=step, log=log)
            case FloatDistribution(low=low, high=high, step=step, log=log):
                values[name] = trial.suggest_float(name, low, high, step=step, log=log)
    return values
