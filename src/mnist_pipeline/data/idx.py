"""The IDX format of MNIST's home page: a header with type and shape, then the values, most significant byte first."""

import gzip
import zlib

import numpy as np
from jaxtyping import Integer, UInt8

TYPES = {8: "u1", 12: ">i4"}  # the type codes that MNIST and its relatives use


def read_idx(content: bytes) -> Integer[np.ndarray, "..."]:
    """Read the array of an IDX file that is known to be complete: uint8 or int32, of any shape."""
    code, dimensions = content[2:4]
    shape = np.frombuffer(content, ">u4", dimensions, 4)
    return np.frombuffer(content, TYPES[code], offset=4 + 4 * dimensions).reshape(shape)


def write_idx(array: UInt8[np.ndarray, "..."]) -> bytes:
    """Write an array of bytes as the content of an IDX file."""
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def decompress(content: bytes) -> bytes:
    """Decompress gzip data; other data is returned as it is.

    Raises:
        gzip.BadGzipFile: the data starts as gzip does and is damaged.
    """
    try:
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, OSError, zlib.error) as error:
        raise gzip.BadGzipFile(f"a gzip file is corrupt: {error}") from error
