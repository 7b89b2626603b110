"""saved_models/: the time-stamped weights and model_info.json; results/train/: the curves."""

import subprocess
import sys
from pathlib import Path

import torch.distributed as dist
import yaml

from mnist_pipeline import console, data, settings, train_model


def main() -> None:
    params = settings.load()
    if params.train.processes > 1 and not dist.is_torchelastic_launched():
        launch(params.train.processes)
        return
    tuned = yaml.safe_load(Path("results/tune/best_params.yaml").read_text())
    train_model.train_model(
        data.load(Path("data"), params.data.validation_images, params.data.seed),
        params.train.model_dump(),
        tuned,
        seed=params.train.seed,
        checkpoint_folder=Path("checkpoints"),
        checkpoint_seconds=params.train.checkpoint_seconds,
        model_folder=Path("saved_models"),
        results_folder=Path("results/train"),
    )


def launch(processes: int) -> None:
    """Run this stage once for each process, under torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    status = subprocess.run([*torchrun, __file__], check=False).returncode
    if status:
        raise ChildProcessError(f"training in {processes} processes failed with exit status {status}; see above")


if __name__ == "__main__":
    console.run(main)
