"""The state of an unfinished training in one file, which is replaced as a whole."""

import logging
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mnist_pipeline import files

# What reading a damaged file raises.
DAMAGED = (OSError, RuntimeError, EOFError, KeyError, TypeError, zipfile.BadZipFile, pickle.UnpicklingError)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps its state."""

    folder: Path  # holds nothing else
    fingerprint: str  # SHA-256 of everything that determines the result; with another, a checkpoint is ignored
    seconds: float = 30.0  # between two savings

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file by this state. Raises OSError, as on a full disk; the earlier file is kept."""
        try:
            with files.replacing(self.path) as unfinished:
                torch.save({"fingerprint": self.fingerprint, "state": dict(state)}, unfinished)
        except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError where the disk is full
            reason = str(error).splitlines()[0]
            raise OSError(
                f"the checkpoint {self.path} cannot be written ({reason}). Make room on the disk and run again, which "
                "resumes the training from its last checkpoint, or set train.checkpoint_seconds to 0 to write none"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last, its tensors on the CPU; None, with a logged reason, where it is unusable."""
        if not self.path.exists():
            return None
        try:
            with zipfile.ZipFile(self.path) as archive:
                if damaged := archive.testzip():  # torch.load does not verify checksums
                    raise zipfile.BadZipFile(f"the checksum of {damaged} differs")
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            if content["fingerprint"] == self.fingerprint:
                return dict(content["state"])
            log.warning("%s belongs to another training and is ignored: training starts again.", self.path)
        except DAMAGED as error:
            log.warning("%s is damaged and is ignored (%s): training starts again.", self.path, error)
        return None

    def remove(self) -> None:
        """Remove the folder: the training is done."""
        files.remove(self.folder)
