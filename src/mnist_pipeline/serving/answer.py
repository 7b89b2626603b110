"""From the body of a request to the answer, independent of any server: generators, which steps.py describes."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..reading import SIDE, Form, Item, NotAnImage, NothingToRead, TooMuchWork, read_digits, read_image
from .recognition import DOUBT, MAX_DOUBTFUL, Found, Reading, Spent, look_again, recognise, softmax
from .requests import Body, is_json, parse_list
from .steps import Compute, Images, Logits, Network, Read, Steps, answer_all, compute, run_together

MAX_ITEMS = 512  # digits per request; with more, the requests behind it would wait too long
LIST_SECONDS = 4.0  # of reading, after which a list's other pictures get 413
LIST_BATCH = 32  # pictures of a list whose images are computed together
PATCH = 5  # pixels a side, of 28, of what an explanation covers: a little wider than a pen stroke


@dataclass(frozen=True)
class Rejected:
    """A picture that gets no prediction: the HTTP status that says so, and why."""

    status: int
    message: str


Picture: TypeAlias = list[Found] | Rejected  # what is answered to one


@dataclass(frozen=True)
class Response:
    """What a client gets: an HTTP status and JSON; the status of each picture that was rejected, each score `known`."""

    status: int
    body: bytes
    rejected: list[int] = field(default_factory=list)
    known: list[float] = field(default_factory=list)


class Model:
    """The model of an unpacked archive; `quiet_network`, if any, leaves the CPUs to others between its calls."""

    def __init__(self, info: dict[str, Any], network: Network, quiet_network: Network | None = None) -> None:
        self.info, self.network, self.quiet_network = info, network, quiet_network or network
        # Digits make numbers, so a picture may hold several of them. Anything else is one thing in each picture.
        self.is_digits = info["reader"] == "handwriting" and set(info["class_names"]) <= set("0123456789")
        self.score_name = "is_digit" if self.is_digits else "known"
        self.form = Form(info["reader"], info["image_size"], info["colour"], info["on_black"])
        # What an explanation covers things with: paper, or the mean of the training images.
        stands_on_zero = info["reader"] == "handwriting" or info["on_black"]
        self.empty = np.array([0.0 if stands_on_zero else mean for mean in info["normalisation"]["mean"]]) * 255
        self.read = read_digits if self.is_digits else partial(read_one, form=self.form)

    def answer(self, bodies: Sequence[Body], explain: Sequence[bool] = ()) -> list[Response]:
        """Answer requests in this thread, in batches; an error in one leaves the others as they are."""
        wanted = explain or [False] * len(bodies)
        return answer_all([self.answer_safely(*each) for each in zip(bodies, wanted, strict=True)], self.network)

    def find(self, pictures: Sequence[bytes]) -> list[tuple[list[Found], str]]:
        """What is answered to pictures, each sent alone: what was found, or nothing and the reason."""
        answers = answer_all([self.answer_picture(picture) for picture in pictures], self.network)
        return [([], found.message) if isinstance(found, Rejected) else (found, "") for found in answers]

    def logits(self, images: Images) -> Logits:
        """Calibrated logits (N, classes) of images (N, C, S, S), N of 1 or more."""
        return compute(self.network, images)

    def answer_safely(self, body: Body, explain: bool) -> Steps:
        """The steps from a request's body to its Response, which is status 500 where this code fails."""
        try:
            return (yield from self.answer_request(body, explain))
        except Exception as error:
            logging.getLogger(__name__).error("A request failed", exc_info=error)
            content = {"error": "the server failed; its log says why", "status": 500}
            return Response(500, json.dumps(content).encode(), [500])

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
            batch = [self.answer_picture(data, spent) for data in encoded[i : i + LIST_BATCH]]
            pictures += yield from run_together(batch)
        return self.encode(pictures, is_list=True)

    def answer_picture(self, data: bytes | ValueError, spent: Spent | None = None) -> Steps:
        """The steps from an encoded picture, or the error in its place, to what was found in it, or to Rejected.

        What is not known at a second look is left out; a picture in which nothing is known is rejected. `spent` is what
        the pictures before it in a list took.
        """
        if isinstance(data, ValueError):
            return Rejected(400, str(data))
        spent = spent or Spent()
        if spent.seconds > LIST_SECONDS or spent.items > MAX_ITEMS:
            return Rejected(413, "the pictures before it took all the time of this request; send fewer")
        reading = Reading(data, spent)
        try:
            items = yield from reading.ask(self.read)
            spent.items += len(items)
            found = yield from recognise(items, self.info)
            may_look_again = self.is_digits and spent.second_looks < MAX_DOUBTFUL
            if may_look_again and any(one.known < DOUBT for one in found):
                spent.second_looks += 1
                found = yield from look_again(reading, found, self.info)
        except NothingToRead as error:
            return Rejected(422, str(error))
        except TooMuchWork as error:
            return Rejected(413, str(error))
        except NotAnImage as error:
            return Rejected(400, str(error))
        return self.select(found)

    def select(self, found: Sequence[Found]) -> Picture:
        """What is known of what was found; Rejected if nothing is."""
        least = self.info["known"]["least"] if "known" in self.info else 0.0
        known = [one for one in found if one.known >= least]
        if not known:
            what = "digit" if self.is_digits else "picture of any known class"
            best = max(one.known for one in found)
            return Rejected(422, f"no {what} in it: the score {self.score_name} is {best:.3g}, below {least:.3g}")
        return [replace(one, unknown=len(found) - len(known)) for one in known]

    def describe(self, found: Sequence[Found]) -> dict[str, Any]:
        """The answer to a picture, as docs/answer.schema.json says."""
        digits = [self.describe_one(one) for one in found]
        if not self.is_digits:
            return digits[0] | {"model": self.info["weights"]}
        single = digits[0] if len(digits) == 1 else {"digit": None, "label": None}
        return single | {
            "probability": round(self.probability(found), 6),
            "is_digit": min(digit["is_digit"] for digit in digits),
            "number": "".join(digit["label"] for digit in digits),
            "digits": [digit | {"box": list(one.item.box)} for digit, one in zip(digits, found, strict=True)],
            "model": self.info["weights"],
        }

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
        described = {
            "digit": best,
            "label": self.info["class_names"][best],
            "probability": rounded[best],
            "probabilities": rounded,
        }
        return described | {self.score_name: round(found.known, 6)} if "known" in self.info else described

    def explain(self, found: list[Found]) -> Steps:
        """The steps to the Response of a picture of one thing, with what the network saw and each pixel's attribution.

        Occlusion (Zeiler and Fergus, arXiv 1311.2901): cover what is around a pixel, and see how much the
        log-probability of the prediction falls (natural logarithm; below 0: without what is covered it would rise).
        """
        if len(found) > 1:
            return self.encode([Rejected(400, f"an explanation takes one digit; {len(found)} were found")])
        image, best = found[0].item.image.reshape(self.form.shape), int(found[0].probabilities.argmax())
        copies, changed = occlude(image, self.empty)
        attribution = np.zeros(len(copies))
        before = softmax((yield Compute(image[None])))[0, best]
        if changed.any():
            after = softmax((yield Compute(copies[changed])))[:, best]
            attribution[changed] = np.log(before) - np.log(np.maximum(after, 1e-12))
        pixels = image[0]
        if self.form.reader == "picture":  # in RGB, rows first
            pixels = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
        heat = spread_cells(attribution, self.form.size).round(4)
        answer = self.describe(found) | {"image": pixels.tolist(), "attribution": heat.tolist()}
        return Response(200, json.dumps(answer).encode(), known=[found[0].known])

    def encode(self, pictures: Sequence[Picture], *, is_list: bool = False) -> Response:
        """The response with an answer for each picture, errors in their places."""
        answers: list[dict[str, Any]] = []
        rejected, known = [], []
        for picture in pictures:
            if isinstance(picture, Rejected):
                answers.append({"error": picture.message, "status": picture.status})
                rejected.append(picture.status)
            else:
                answers.append(self.describe(picture))
                known += [one.known for one in picture]
        if is_list:
            return Response(200, json.dumps({"predictions": answers}).encode(), rejected, known)
        return Response(rejected[0] if rejected else 200, json.dumps(answers[0]).encode(), rejected, known)


def read_one(data: bytes, form: Form) -> list[Item]:
    """The one thing that a picture shows, for models whose classes are no digits."""
    return [Item(read_image(data, form), (0, 0, form.size, form.size))]


def occlude(image: Images, empty: NDArray[np.float64]) -> tuple[Images, NDArray[np.bool_]]:
    """Cover a patch of an image, uint8 (C, S, S), around each pixel in turn, or around each cell of a larger image.

    Returns copies (cells * cells, C, S, S), 784 at most, and which of them differ from the image.
    """
    side = image.shape[-1]
    # Pixels of a cell, a side: the fewest with which the copies have no more pixels than those of a 28x28 image.
    step = next(step for step in range(1, side) if (-(-side // step) * side) ** 2 <= SIDE**4)
    centres = np.arange(0, side, step) + (step - 1) / 2
    near = np.abs(np.arange(side) - centres[:, None]) < PATCH / 2 * side / SIDE  # (cells, S)
    covered = (near[:, None, :, None] & near[None, :, None, :]).reshape(-1, 1, side, side)
    copies = np.where(covered, empty.round().astype(np.uint8)[:, None, None], image)
    return copies, (copies != image).any((1, 2, 3))


def spread_cells(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Values of an image's cells (cells * cells,) as those of its pixels (side, side)."""
    cells = round(len(values) ** 0.5)
    step = -(-side // cells)
    return values.reshape(cells, cells).repeat(step, 0).repeat(step, 1)[:side, :side]
