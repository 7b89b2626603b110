"""From the body of a request to the answer, independent of any server.

What a request needs, and in which order, is written once, as generators: they ask for a picture to be read (`Read`) or
for images to be computed by the network (`Compute`), and are sent the result. A server that must not wait drives them
with processes that read and with batches of many requests (serving/work.py); `answer_all` drives them in this thread,
for TorchServe, the evaluation and the score. This file travels in the archive, with `reading` and the network.
"""

import json
import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..reading import (
    READERS,
    Item,
    NotAnImage,
    NothingToRead,
    Parts,
    TooMuchWork,
    find_parts,
    read_digits,
    read_otherwise,
)
from .requests import Body, is_json, parse_list

Digits: TypeAlias = NDArray[np.uint8]  # (N, 28, 28), ink 255 on paper 0
Logits: TypeAlias = NDArray[np.float32]  # calibrated, (N, classes)
Network: TypeAlias = Callable[[Digits], Logits]

BATCH = 64  # images per forward pass; a larger batch is not faster and takes more memory
MAX_ITEMS = 512  # digits per request; with more, the requests behind it would wait too long
DOUBT = 0.9  # what is known less than this is looked at more closely: in parts, or read in another way
SURE = 0.95  # parts, and what is found in another way, are answered only if they are known better than this
PRIOR = 0.3  # how likely it is, before they are seen, that a thing in doubt is parts that touch
MAX_DOUBTFUL = 16  # items of a picture, pictures of a list, so looked at: each takes as long as a dozen others
PICTURE_SECONDS = 2.0  # of processor time in which a picture must be read, where a server can stop it
LIST_SECONDS = 4.0  # of reading, after which a list's other pictures get 413
LIST_BATCH = 32  # pictures of a list whose images are computed together
PATCH = 5  # pixels a side of what an explanation covers: a little wider than a pen stroke


class Read(NamedTuple):
    """Asks for `read(data)`; what comes back is its result, or its error, and the seconds that it took.

    Attributes:
        read: a function that can be pickled.
        data: what a client sent.
        seconds: of processor time that it may take; where it is stopped then, TooMuchWork comes back.
    """

    read: Callable[[Any], Any]
    data: Any
    seconds: float = PICTURE_SECONDS


class Compute(NamedTuple):
    """Asks for the network's logits of images, one or more."""

    images: Digits


Steps: TypeAlias = Generator[Read | Compute, Any, Any]


@dataclass(frozen=True)
class Rejected:
    """A picture that gets no prediction: the HTTP status that says so, and why."""

    status: int
    message: str


@dataclass(frozen=True)
class Found:
    """Something in a picture, and what the network makes of it.

    Attributes:
        item: what was read.
        probabilities: (classes,), of each class if it is of one.
        known: 0 to 1, that it is of a class at all.
        is_part: whether it was part of another item.
        unknown: how many other things in the picture are not known.
    """

    item: Item
    probabilities: NDArray[np.float32]
    known: float
    is_part: bool = False
    unknown: int = 0


Picture: TypeAlias = list[Found] | Rejected  # what is answered to one


@dataclass(frozen=True)
class Response:
    """What a client gets: an HTTP status and JSON; the status of each picture that was rejected, each score `known`."""

    status: int
    body: bytes
    rejected: list[int] = field(default_factory=list)
    known: list[float] = field(default_factory=list)


class Model:
    """The model of an unpacked archive.

    Args:
        info: the archive's model_info.json.
        network: gives the calibrated logits.
        quiet_network: gives the same, and leaves the CPUs to others in between; None: there is but one.
    """

    def __init__(self, info: dict[str, Any], network: Network, quiet_network: Network | None = None) -> None:
        self.info, self.network, self.quiet_network = info, network, quiet_network or network
        # Digits make numbers, so a picture may hold several of them. Anything else is one thing in each picture.
        self.is_digits = info["reader"] == "handwriting" and set(info["class_names"]) <= set("0123456789")
        self.score_name = "is_digit" if self.is_digits else "known"
        self.read = read_digits if self.is_digits else partial(read_one, info["reader"])

    def answer(self, bodies: Sequence[Body], explain: Sequence[bool] = ()) -> list[Response]:
        """Answer requests in this thread, in batches; an error in one leaves the others as they are.

        Args:
            bodies: one for each request.
            explain: which requests also want to know what each pixel contributes; empty: none.

        Returns:
            One response for each request, in their order.
        """
        wanted = explain or [False] * len(bodies)
        answers = answer_all([self.answer_request(*each) for each in zip(bodies, wanted, strict=True)], self.network)
        return [encode_error(answer) if isinstance(answer, Exception) else answer for answer in answers]

    def find(self, pictures: Sequence[bytes]) -> list[tuple[list[Found], str]]:
        """What is answered to pictures, each sent alone: what was found, or nothing and the reason."""
        answers = raise_first(answer_all([self.answer_picture(picture) for picture in pictures], self.network))
        return [([], found.message) if isinstance(found, Rejected) else (found, "") for found in answers]

    def answer_request(self, body: Body, explain: bool = False) -> Steps:
        """The steps from a request's body to its Response."""
        if is_json(body):
            return (yield from self.answer_list(body, explain))
        assert isinstance(body, bytes | bytearray)  # what is parsed already is a list
        picture = yield from self.answer_picture(bytes(body))
        if explain and not isinstance(picture, Rejected):
            return (yield from self.explain(picture))
        return self.encode([picture])

    def answer_list(self, body: Body, explain: bool) -> Steps:
        """The steps from JSON with pictures to its Response: one picture after the other, for LIST_SECONDS."""
        if explain:
            return self.encode([Rejected(400, "an explanation takes one picture, not a list")])
        encoded, seconds = yield Read(parse_list, body)
        if isinstance(encoded, ValueError):
            return self.encode([Rejected(413 if isinstance(encoded, TooMuchWork) else 400, str(encoded))])
        spent = Spent(seconds)
        pictures: list[Picture] = []
        for i in range(0, len(encoded), LIST_BATCH):
            batch = [self.answer_listed(data, spent) for data in encoded[i : i + LIST_BATCH]]
            pictures += raise_first((yield from run_together(batch)))
        return self.encode(pictures, is_list=True)

    def answer_listed(self, data: bytes | ValueError, spent: "Spent") -> Steps:
        """The steps from a picture of a list, on which so much was spent before, to its answer."""
        if isinstance(data, ValueError):
            return Rejected(400, str(data))
        if spent.seconds > LIST_SECONDS or spent.items > MAX_ITEMS:
            return Rejected(413, "the pictures before it took all the time of this request; send fewer")
        return (yield from self.answer_picture(data, spent))

    def answer_picture(self, data: bytes, spent: "Spent | None" = None) -> Steps:
        """The steps from an encoded picture to what was found in it, or to Rejected.

        What the network does not know is taken apart; if it does not know the parts either, the picture is read in
        other ways, and the way that it knows best is taken. What it still does not know is left out; a picture in
        which it knows nothing is rejected.
        """
        reading = Reading(data, spent or Spent())
        try:
            items = yield from reading.ask(self.read)
            reading.spent.items += len(items)
            found = yield from self.look_at(items)
            may_look_again = self.is_digits and reading.spent.second_looks < MAX_DOUBTFUL
            if may_look_again and any(one.known < DOUBT for one in found):
                reading.spent.second_looks += 1
                found = yield from self.look_again(reading, found)
        except NothingToRead as error:
            return Rejected(422, str(error))
        except TooMuchWork as error:
            return Rejected(413, str(error))
        except NotAnImage as error:
            return Rejected(400, str(error))
        return self.select(found)

    def look_at(self, items: Sequence[Item]) -> Steps:
        """What the network makes of each item: a list of Found."""
        if not items:
            return []
        logits = yield Compute(np.stack([item.image for item in items]))
        known = np.where([item.on_paper for item in items], self.score(logits), 0)
        return [Found(*one) for one in zip(items, softmax(logits), known.tolist(), strict=True)]

    def look_again(self, reading: "Reading", found: list[Found]) -> Steps:
        """What is found where the parts of what is in doubt are looked at, and then other ways to read the picture."""
        doubtful = [k for k, one in enumerate(found) if one.known < DOUBT][:MAX_DOUBTFUL]
        parts = yield from reading.ask(partial(find_parts, wanted=doubtful))
        best = yield from self.replace_by_parts(found, dict(zip(doubtful, parts, strict=True)))
        if self.certainty(best) >= DOUBT:
            return best
        others = yield from reading.ask(partial(read_otherwise, most=MAX_DOUBTFUL))
        candidates = [best]
        for pairs in others:
            other = yield from self.look_at([item for item, _ in pairs])
            parts = {k: each for k, (_, each) in enumerate(pairs) if other[k].known < DOUBT}
            other = yield from self.replace_by_parts(other, parts)
            if self.certainty(other) > SURE:
                candidates.append(other)
        return max(candidates, key=self.certainty)

    def replace_by_parts(self, found: Sequence[Found], parts: dict[int, Parts]) -> Steps:
        """What was found, with the parts of some of it, by index, in their place where these are known better."""
        seen = yield from self.look_at([part for each in parts.values() for part in each.values()])
        rest, result = iter(seen), []
        for k, one in enumerate(found):
            path = best_path({pieces: next(rest) for pieces in parts.get(k, {})})
            known = [part.known for part in path]
            least, prior = (SURE, PRIOR) if one.item.touching else (self.info["known"]["least"], 1.0)
            is_better = path and min(known) > least and prior * np.prod(known) > one.known
            result += [replace(part, is_part=True) for part in path] if is_better else [one]
        return result

    def certainty(self, found: Sequence[Found]) -> float:
        """How well the network knows what was found in a picture, 0 to 1: the geometric mean of `known`.

        Parts of what was not known as a whole count less.
        """
        known = np.array([one.known * (PRIOR if one.is_part else 1) for one in found])
        return float(np.exp(np.log(np.maximum(known, 1e-9)).mean()))

    def select(self, found: Sequence[Found]) -> Picture:
        """What is known of what was found; Rejected if nothing is."""
        least = self.info["known"]["least"]
        if all(one.known >= least for one in found):
            return list(found)
        what = "digit" if self.is_digits else "picture of any known class"
        best = max(one.known for one in found)
        reason = f"no {what} in it: the score {self.score_name} is {best:.3g}, below {least:.3g}"
        known = [one for one in found if one.known >= least]
        return [replace(one, unknown=len(found) - len(known)) for one in known] or Rejected(422, reason)

    def score(self, logits: Logits) -> NDArray[np.float64]:
        """How sure it is that images are of any class, 0 to 1: (N,), of calibrated logits (N, classes).

        Where training had a further class, "none", whose logit is always 0, log(sum(exp(logits))) tells it from the
        others; a logistic function of it, fitted on validation images and on generated outliers, is a probability.
        """
        scores = log_sum_exp(logits * self.info["temperature"])
        return 1 / (1 + np.exp(-(self.info["known"]["slope"] * scores + self.info["known"]["offset"])))

    def logits(self, digits: Digits) -> Logits:
        """Calibrated logits (N, classes) of digits (N, 28, 28), N of 1 or more."""
        return compute(self.network, digits)

    def describe(self, found: Sequence[Found]) -> dict[str, Any]:
        """The answer to a picture, as docs/answer.schema.json says."""
        digits, model = [self.describe_one(one) for one in found], {"model": self.info["weights"]}
        if not self.is_digits:
            return digits[0] | model
        whole: dict[str, Any] = {
            "number": "".join(digit["label"] for digit in digits),
            "digits": [digit | {"box": list(one.item.box)} for digit, one in zip(digits, found, strict=True)],
        }
        probability, lowest = round(self.probability(found), 6), min(digit["is_digit"] for digit in digits)
        single = digits[0] if len(digits) == 1 else {"digit": None, "label": None}
        return single | {"probability": probability, "is_digit": lowest} | whole | model

    def probability(self, found: Sequence[Found]) -> float:
        """That a picture was read rightly as a whole: that everything found is a digit, and which one.

        A single one above DOUBT is taken for a digit. What is not known beside others may be a digit all the same,
        which the number then lacks.
        """
        known = [one.known for one in found]
        if len(found) == 1 and known[0] >= DOUBT:
            known = [1.0]
        return float(0.5 ** found[0].unknown * np.prod([one.probabilities.max() for one in found]) * np.prod(known))

    def describe_one(self, found: Found) -> dict[str, Any]:
        """Digit, label, probability, all probabilities and score of one item."""
        best = int(found.probabilities.argmax())
        rounded = found.probabilities.astype(float).round(6).tolist()  # as float32, JSON would show its rounding error
        return {
            "digit": best,
            "label": self.info["class_names"][best],
            "probability": rounded[best],
            "probabilities": rounded,
            self.score_name: round(found.known, 6),
        }

    def explain(self, found: list[Found]) -> Steps:
        """The steps to the Response of a picture of one digit, with the 28x28 image that the network saw and each
        pixel's attribution.

        Occlusion (Zeiler and Fergus, arXiv 1311.2901): remove the ink around a pixel, and see how much the
        log-probability of the prediction falls (natural logarithm; below 0: without that ink it would rise).
        """
        if len(found) > 1:
            return self.encode([Rejected(400, f"an explanation takes one digit; {len(found)} were found")])
        digit, best = found[0].item.image, int(found[0].probabilities.argmax())
        copies, changed = occlude(digit)  # (28 * 28, 28, 28), (28 * 28,)
        attribution = np.zeros(digit.size)
        before = softmax((yield Compute(digit[None])))[0, best]
        after = softmax((yield Compute(copies[changed])))[:, best]
        attribution[changed] = np.log(before) - np.log(np.maximum(after, 1e-12))
        heat = attribution.reshape(digit.shape).round(4).tolist()
        return self.encode([found], more={"image": digit.tolist(), "attribution": heat})

    def encode(
        self, pictures: Sequence[Picture], *, is_list: bool = False, more: dict[str, Any] | None = None
    ) -> Response:
        """The response with an answer for each picture, errors in their places; for one picture alone also `more`."""
        answers = [
            {"error": picture.message, "status": picture.status}
            if isinstance(picture, Rejected)
            else self.describe(picture) | (more or {})
            for picture in pictures
        ]
        rejected = [picture.status for picture in pictures if isinstance(picture, Rejected)]
        known = [one.known for picture in pictures if not isinstance(picture, Rejected) for one in picture]
        if is_list:
            return Response(200, json.dumps({"predictions": answers}).encode(), rejected, known)
        return Response(rejected[0] if rejected else 200, json.dumps(answers[0]).encode(), rejected, known)


@dataclass
class Spent:
    """What the pictures of one request took: seconds of reading, items that were read, pictures read a second time."""

    seconds: float = 0.0
    items: int = 0
    second_looks: int = 0


class Reading:
    """A picture, the seconds that its readings have left together, and what its request has spent."""

    def __init__(self, data: bytes, spent: Spent) -> None:
        self.data, self.spent, self.left = data, spent, PICTURE_SECONDS

    def ask(self, read: Callable[[bytes], Any]) -> Steps:
        """Ask for a reading in the time that is left, and return its result, or raise its error."""
        result, seconds = yield Read(read, self.data, self.left)
        self.left -= seconds
        self.spent.seconds += seconds
        if isinstance(result, Exception):
            raise result
        return result


def read_one(reader: str, data: bytes) -> list[Item]:
    """The one thing that a picture shows, for models whose classes are no digits."""
    image = READERS[reader](data)
    return [Item(image, (0, 0, *image.shape[::-1]))]


def answer_all(requests: Sequence[Steps], network: Network) -> list[Any]:
    """Run the steps of many requests in this thread: each one's result, or the exception that ended it."""
    steps, result = run_together(requests), None
    while True:
        try:
            wanted = steps.send(result)
        except StopIteration as end:
            return list(end.value)
        result = read_now(wanted) if isinstance(wanted, Read) else compute(network, wanted.images)


def run_together(requests: Sequence[Steps]) -> Steps:
    """The steps of many requests as those of one: readings in turn, and images that several ask for at a time at once.

    Returns:
        Each one's result, or the exception that ended it.
    """
    results: list[Any] = [None] * len(requests)
    waiting: dict[int, Any] = dict.fromkeys(range(len(requests)))  # what to send to each
    while waiting:
        wanted: dict[int, Digits] = {}
        for k, value in waiting.items():
            try:
                step = requests[k].send(value)
                while isinstance(step, Read):
                    step = requests[k].send((yield step))
                wanted[k] = step.images
            except StopIteration as end:
                results[k] = end.value
            except Exception as error:
                results[k] = error
        if not wanted:
            break
        logits = yield Compute(np.concatenate([*wanted.values()]))
        ends = np.cumsum([len(images) for images in wanted.values()])
        waiting = dict(zip(wanted, np.split(logits, ends[:-1]), strict=True))
    return results


def raise_first(results: list[Any]) -> list[Any]:
    """The results; where one of them is an exception, it is raised."""
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def read_now(wanted: Read) -> tuple[Any, float]:
    """What a reading gives in this process, or its error, and the seconds that it took."""
    start = time.perf_counter()
    try:
        result = wanted.read(wanted.data)
    except Exception as error:
        result = error
    return result, time.perf_counter() - start


def compute(network: Network, digits: Digits) -> Logits:
    """The network's logits of digits (N, 28, 28), N of 1 or more, BATCH at a time."""
    return np.concatenate([network(digits[i : i + BATCH]) for i in range(0, len(digits), BATCH)])


def encode_error(error: Exception) -> Response:
    """The response where this code failed, which goes to the log."""
    logging.getLogger(__name__).error("A request failed", exc_info=error)
    return Response(500, json.dumps({"error": "the server failed; its log says why", "status": 500}).encode(), [500])


def best_path(parts: dict[tuple[int, int], Found]) -> list[Found]:
    """The parts, side by side, that cover everything and are known best: whose product of `known` is largest.

    Args:
        parts: by the first and the last of the pieces that each consists of, as reading.Parts has them.

    Returns:
        From left to right; empty if no parts cover everything.
    """
    if not parts:
        return []
    best: dict[int, tuple[float, list[Found]]] = {0: (1.0, [])}
    for (first, last), part in sorted(parts.items(), key=lambda entry: entry[0][1]):
        if first in best:
            product = best[first][0] * part.known
            if product > best.get(last, (0.0, []))[0]:
                best[last] = product, [*best[first][1], part]
    end = max(last for _, last in parts)
    return best.get(end, (0.0, []))[1]


def log_sum_exp(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """log(sum(exp(logits))) along the classes: (N,)."""
    exact = logits.astype(np.float64)
    largest = exact.max(1)
    return np.asarray(largest + np.log(np.exp(exact - largest[:, None]).sum(1)))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (N, classes) of logits (N, classes)."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def occlude(digit: Digits) -> tuple[Digits, NDArray[np.bool_]]:
    """Remove the ink around each pixel in turn.

    Args:
        digit: uint8 (28, 28).

    Returns:
        Copies (784, 28, 28): copy k has the 5x5 patch around pixel k set to 0. And which copies differ from the
        digit, (784,).
    """
    height, width = digit.shape
    copies = np.repeat(digit[None], digit.size, 0).reshape(height, width, height, width)
    for y, x in np.ndindex(height, width):
        top, left = max(y - PATCH // 2, 0), max(x - PATCH // 2, 0)
        copies[y, x, top : y + PATCH // 2 + 1, left : x + PATCH // 2 + 1] = 0
    flat = copies.reshape(-1, height, width)
    return flat, (flat != digit).any((1, 2))
