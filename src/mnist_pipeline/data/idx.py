"""The IDX format of MNIST's home page: a header with type and shape, then the values, most significant byte first."""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file of bytes that is known to be complete. What is not used stays on the disk."""
    content = np.memmap(path, np.uint8, mode="c")
    start = 4 + 4 * int(content[3])
    shape = content[4:start].view(">u4").tolist()
    return content[start:].reshape(shape)


def write_idx(path: Path, array: UInt8[np.ndarray, "..."]) -> str:
    """Write an array of bytes as an IDX file, and return the file's SHA-256."""
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    content = np.ascontiguousarray(array).data
    digest = hashlib.sha256(header)
    digest.update(content)
    with path.open("wb") as file:
        file.write(header)
        file.write(content)
    return digest.hexdigest()
