"""The state of an unfinished training, on disk often and at little cost.

Two slots take turns. A slot is a memory-mapped file that tensors are copied into, up to 340 MB in some 75 ms; the small
`checkpoint.json`, replaced at once when a slot is full, says which slot counts.
A process killed in the middle of a copy leaves the other slot whole.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_pipeline.errors import PipelineError

log = logging.getLogger(__name__)


class CheckpointError(PipelineError):
    """A checkpoint that was changed while it was being read."""


class Checkpoint:
    """A training's state in a folder.

    Args:
        folder: made when missing; holds nothing else.
        question: digest of all that the training depends on; a checkpoint of another question is not used.
    """

    def __init__(self, folder: Path, question: str) -> None:
        self.folder, self.question = folder, question
        self.index = folder / "checkpoint.json"
        self.slot = 0

    def save(self, tensors: Sequence[Tensor], progress: Mapping[str, Any]) -> None:
        """Write tensors and a JSON-able progress; where the tensors' shapes have changed, slots are made anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.slot = 1 - self.slot
        path = self.folder / f"slot{self.slot}"
        size = sum(room_of(tensor) for tensor in tensors)
        whole = path.exists() and path.stat().st_size == size
        memory = np.memmap(path, np.uint8, "r+" if whole else "w+", shape=(size,))
        for tensor, room in zip(tensors, rooms(memory, tensors), strict=True):
            room.copy_(tensor)
        content = {
            "question": self.question,
            "slot": self.slot,
            "bytes": size,
            "xor": fingerprint(memory),
            "progress": progress,
        }
        beside = self.index.with_suffix(".new")
        beside.write_text(json.dumps(content))
        beside.replace(self.index)

    def load(self) -> dict[str, Any] | None:
        """The progress of a whole checkpoint of this question, or None; why one is not used is logged."""
        try:
            content = json.loads(self.index.read_text())
            path = self.folder / f"slot{content['slot']}"
            if content["question"] != self.question:
                log.warning("%s belongs to another training: starting anew", self.folder)
            elif (size := path.stat().st_size) != content["bytes"]:
                log.warning(
                    "%s has %d bytes, not %d: starting anew",
                    path,
                    size,
                    content["bytes"],
                )
            elif fingerprint(np.memmap(path, np.uint8, "r")) != content["xor"]:
                log.warning("%s is damaged (its checksum differs): starting anew", path)
            else:
                self.slot = content["slot"]
                return dict(content["progress"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is not a checkpoint (%s): starting anew", self.index, error)
        return None

    def restore(self, tensors: Sequence[Tensor]) -> None:
        """Fill tensors, in the order they were saved in, from the slot that `load` found whole.

        Raises:
            CheckpointError: the tensors take another number of bytes than the slot has.
        """
        memory = np.memmap(self.folder / f"slot{self.slot}", np.uint8, "c")
        if memory.size != (size := sum(room_of(tensor) for tensor in tensors)):
            raise CheckpointError(
                f"{self.folder} holds {memory.size} bytes of state where {size} are needed; remove it to start again"
            )
        for tensor, room in zip(tensors, rooms(memory, tensors), strict=True):
            tensor.copy_(room)

    def remove(self) -> None:
        """Forget everything: the training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint(memory: np.ndarray) -> int:
    """All 64-bit words of a slot, XORed: as fast as memory is read; a CRC-32 took eight times as long."""
    return int(np.bitwise_xor.reduce(memory.view(np.uint64)))


def room_of(tensor: Tensor) -> int:
    """Bytes that a tensor takes in a slot: its own, rounded up so that the next one is aligned."""
    return -(-tensor.numel() * tensor.element_size() // 64) * 64


def rooms(memory: np.ndarray, tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """The places of tensors in a slot, as tensors that share its memory."""
    parts = torch.from_numpy(memory).split([room_of(tensor) for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        yield (part[: tensor.numel() * tensor.element_size()].view(tensor.dtype).view(tensor.shape))
