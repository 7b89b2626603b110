"""What the network makes of what was read in a picture, and the second look at what it does not know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..reading import Item, Parts, find_parts, read_otherwise
from .steps import PICTURE_SECONDS, Logits, Read, Steps, run_together

DOUBT = 0.9  # what is known less than this is looked at more closely: in parts, or read in another way
SURE = 0.95  # parts, and what is found in another way, are answered only if they are known better than this
PRIOR = 0.3  # how likely it is, before they are seen, that a thing in doubt is parts that touch
MAX_DOUBTFUL = 16  # items of a picture, pictures of a list, so looked at: each takes as long as a dozen others


@dataclass(frozen=True)
class Found:
    """Something in a picture, and what the network makes of it."""

    item: Item
    probabilities: NDArray[np.float32]  # (classes,), of each class if it is of one
    known: float  # 0 to 1, that it is of a class at all
    is_part: bool = False  # whether it was part of another item
    unknown: int = 0  # how many other things in the picture are not known


@dataclass
class Spent:
    """What the pictures of one request took."""

    seconds: float = 0.0  # of reading
    items: int = 0  # that were read
    second_looks: int = 0  # pictures that were looked at again


@dataclass
class Reading:
    """A picture, what its request has spent, and the seconds that all readings of the picture have left."""

    data: bytes
    spent: Spent
    left: float = PICTURE_SECONDS

    def ask(self, read: Callable[[bytes], Any]) -> Steps:
        """Ask for a reading in the time that is left, and return its result, or raise its error."""
        result, seconds = yield Read(read, self.data, self.left)
        self.left -= seconds
        self.spent.seconds += seconds
        if isinstance(result, Exception):
            raise result
        return result


def recognise(items: Sequence[Item], info: dict[str, Any]) -> Steps:
    """The steps to what the network makes of each item: a list of Found. `info` is the archive's model_info.json."""
    if not items:
        return []
    images = np.stack([item.image for item in items])
    logits = yield images.reshape(len(items), -1, *images.shape[-2:])
    if "known" in info:
        known = np.where([item.on_paper for item in items], score_known(logits, info), 0)
    else:  # a model that was not taught what is of no class
        known = np.ones(len(items))
    return [Found(*one) for one in zip(items, softmax(logits), known.tolist(), strict=True)]


def score_known(logits: Logits, info: dict[str, Any]) -> NDArray[np.float64]:
    """How sure it is that images are of any class, 0 to 1: (N,), of calibrated logits (N, classes).

    Where training had a further class, "none", whose logit is always 0, log(sum(exp(logits))) tells it from the
    others; a logistic function of it, fitted on validation images and on generated outliers, is a probability.
    """
    scaled = (logits * info["temperature"]).astype(np.float64)
    largest = scaled.max(1)
    scores = largest + np.log(np.exp(scaled - largest[:, None]).sum(1))
    return np.asarray(1 / (1 + np.exp(-(info["known"]["slope"] * scores + info["known"]["offset"]))))


def softmax(logits: Logits) -> NDArray[np.float32]:
    """Probabilities (N, classes) of logits (N, classes)."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def look_again(reading: Reading, found: list[Found], info: dict[str, Any]) -> Steps:
    """The steps to what is found where what is in doubt is taken apart, or the picture read in other ways."""
    doubtful = [k for k, one in enumerate(found) if one.known < DOUBT][:MAX_DOUBTFUL]
    parts = yield from reading.ask(partial(find_parts, wanted=doubtful))
    best = yield from replace_by_parts(found, parts, info)
    if certainty(best) >= DOUBT:
        return best
    candidates = [best]
    for pairs in (yield from reading.ask(partial(read_otherwise, most=MAX_DOUBTFUL))):
        other = yield from recognise([item for item, _ in pairs], info)
        other = yield from replace_by_parts(other, [parts for _, parts in pairs], info)
        if certainty(other) > SURE:
            candidates.append(other)
    return max(candidates, key=certainty)


def replace_by_parts(found: Sequence[Found], parts: Sequence[Parts], info: dict[str, Any]) -> Steps:
    """The steps to what was found, with the parts of each thing in its place if the network knows them better."""
    chosen = yield from run_together([choose_parts(one, each, info) for one, each in zip(found, parts, strict=True)])
    return [part for each in chosen for part in each]


def choose_parts(one: Found, parts: Parts, info: dict[str, Any]) -> Steps:
    """The steps to the best parts of a thing in doubt, or to the thing itself: a list of Found."""
    if one.known >= DOUBT:
        return [one]
    seen = yield from recognise(list(parts.values()), info)
    path = best_path(dict(zip(parts, seen, strict=True)))
    known = [part.known for part in path]
    least, prior = (SURE, PRIOR) if one.item.touching else (info["known"]["least"], 1.0)
    is_better = path and min(known) > least and prior * np.prod(known) > one.known
    return [replace(part, is_part=True) for part in path] if is_better else [one]


def best_path(parts: dict[tuple[int, int], Found]) -> list[Found]:
    """The parts, side by side, that cover everything and whose product of `known` is largest; empty if none do."""
    best: dict[int, tuple[float, list[Found]]] = {0: (1.0, [])}  # of the paths that end at each piece: product, parts
    for (first, last), part in sorted(parts.items(), key=lambda entry: entry[0][1]):
        if first in best:
            product = best[first][0] * part.known
            if product > best.get(last, (0.0, []))[0]:
                best[last] = product, [*best[first][1], part]
    end = max((last for _, last in parts), default=0)
    return best[end][1] if end in best else []


def certainty(found: Sequence[Found]) -> float:
    """How well a picture is known, 0 to 1: the geometric mean of `known`, in which parts count less."""
    known = np.array([one.known * (PRIOR if one.is_part else 1) for one in found])
    return float(np.exp(np.log(np.maximum(known, 1e-9)).mean()))
