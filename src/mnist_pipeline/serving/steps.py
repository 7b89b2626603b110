"""The steps of a request: generators that ask for readings and computations, and are sent the results.

`answer_all` drives them in this thread, for TorchServe, the evaluation and the score; serving/work.py does so with
reader processes and with batches of many requests.
"""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Images: TypeAlias = NDArray[np.uint8]  # (N, C, S, S), of the network's channels and size
Logits: TypeAlias = NDArray[np.float32]  # calibrated, (N, classes)
Network: TypeAlias = Callable[[Images], Logits]

BATCH = 64  # images per forward pass; a larger batch is not faster and takes more memory
PICTURE_SECONDS = 2.0  # of processor time in which a picture must be read, where a server can stop it


class Read(NamedTuple):
    """Asks for `read(data)`; what comes back is its result, or its error, and the seconds that it took."""

    read: Callable[[Any], Any]  # a function that can be pickled
    data: Any  # what a client sent
    seconds: float = PICTURE_SECONDS  # of processor time that it may take; TooMuchWork comes back if it is stopped


Steps: TypeAlias = Generator[Read | Images, Any, Any]  # images, one or more, ask for the network's logits


def answer_all(requests: Sequence[Steps], network: Network) -> list[Any]:
    """Run the steps of many requests in this thread: each one's result."""
    steps, result = run_together(requests), None
    while True:
        try:
            wanted = steps.send(result)
        except StopIteration as end:
            return list(end.value)
        result = read_now(wanted) if isinstance(wanted, Read) else compute(network, wanted)


def run_together(requests: Sequence[Steps]) -> Steps:
    """Run many requests' steps as one, to each one's result: the images of all are computed in one batch."""
    results: list[Any] = [None] * len(requests)
    waiting: dict[int, Any] = dict.fromkeys(range(len(requests)))  # what to send to each
    while waiting:
        wanted: dict[int, Images] = {}
        for k, value in waiting.items():
            try:
                step = requests[k].send(value)
                while isinstance(step, Read):
                    step = requests[k].send((yield step))
                wanted[k] = step
            except StopIteration as end:
                results[k] = end.value
        if not wanted:
            break
        logits = yield np.concatenate([*wanted.values()])
        ends = np.cumsum([len(images) for images in wanted.values()])
        waiting = dict(zip(wanted, np.split(logits, ends[:-1]), strict=True))
    return results


def read_now(wanted: Read) -> tuple[Any, float]:
    """What a reading gives in this process, or its error, and the seconds that it took."""
    start = time.perf_counter()
    try:
        result = wanted.read(wanted.data)
    except Exception as error:
        result = error
    return result, time.perf_counter() - start


def compute(network: Network, images: Images) -> Logits:
    """The network's logits of images, one or more, BATCH at a time."""
    return np.concatenate([network(images[i : i + BATCH]) for i in range(0, len(images), BATCH)])
