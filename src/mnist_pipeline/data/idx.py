"""The IDX format of MNIST's home page: a header with type and shape, then the values, most significant byte first."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Integer, UInt8

PART = 2**24  # bytes of a file that are read or written at a time
TYPES = {8: "u1", 12: ">i4"}  # the type codes that MNIST and its relatives use


def read_idx(content: bytes) -> Integer[np.ndarray, "..."]:
    """Read the array of an IDX file that is known to be complete: uint8 or int32, of any shape."""
    code, dimensions = content[2:4]
    shape = np.frombuffer(content, ">u4", dimensions, 4)
    return np.frombuffer(content, TYPES[code], offset=4 + 4 * dimensions).reshape(shape)


def read_shape(file: BinaryIO) -> list[int]:
    """Read the header of an IDX file that is known to be complete: the shape of the array that follows."""
    dimensions = file.read(4)[3]
    return np.frombuffer(file.read(4 * dimensions), ">u4").tolist()


def write_idx(path: Path, array: UInt8[np.ndarray, "..."]) -> str:
    """Write an array of bytes as an IDX file, and return the file's SHA-256."""
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    digest = hashlib.sha256(header)
    with path.open("wb") as file:
        file.write(header)
        for part in np.array_split(array, max(1, array.nbytes // PART)):  # a copy of all would double the memory
            content = part.tobytes()
            digest.update(content)
            file.write(content)
    return digest.hexdigest()


def decompress(content: bytes) -> bytes:
    """Decompress gzip data; other data is returned as it is. Raises gzip.BadGzipFile where it is damaged."""
    try:
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, OSError, zlib.error) as error:
        raise gzip.BadGzipFile(f"a gzip file is corrupt: {error}") from error
