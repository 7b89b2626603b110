"""Train on a few hundred real digits, in a process of its own that a test can kill.

small_training.py DATA OUT [learning rate [seconds between two checkpoints; without them none is kept]]
"""

import sys
from dataclasses import replace
from pathlib import Path

from mnist_pipeline import console, data, train_model


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    whole = data.load(source, 200, 0)
    few = replace(whole, train=data.Examples(whole.train.images[:640], whole.train.labels[:640]))
    # An epoch of few images counts as one of 5,000: 0.128 of it are the 640 images.
    train_model.train_model(
        few,
        {"lr": float(sys.argv[3]) if len(sys.argv) > 3 else 1e-3, "batch_size": 32, "rotation": 10.0, "epochs": 0.128},
        {},
        seed=0,
        checkpoint_folder=out / "checkpoints",
        checkpoint_seconds=float(sys.argv[4]) if len(sys.argv) > 4 else 0.0,
        model_folder=out / "saved_models",
        results_folder=out / "results",
    )


if __name__ == "__main__":
    console.run(main)
