"""From the body of a request to the answer, independent of any server: generators, which steps.py describes."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ..reading import Form, Item, NotAnImage, NothingToRead, TooMuchWork, read_digits, read_image
from .recognition import DOUBT, MAX_DOUBTFUL, Found, Reading, Spent, look_again, recognise
from .requests import Body, is_json, parse_list
from .steps import Images, Logits, Network, Read, Steps, answer_all, compute, run_together

MAX_ITEMS = 512  # digits per request; with more, the requests behind it would wait too long
LIST_SECONDS = 4.0  # of reading, after which a list's other pictures get 413
LIST_BATCH = 32  # pictures of a list whose images are computed together


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
        self.read = read_digits if self.is_digits else partial(read_one, form=self.form)

    def answer(self, bodies: Sequence[Body]) -> list[Response]:
        """Answer requests in this thread, in batches; an error in one leaves the others as they are."""
        return answer_all([self.answer_request(body) for body in bodies], self.network)

    def find(self, pictures: Sequence[bytes]) -> list[tuple[list[Found], str]]:
        """What is answered to pictures, each sent alone: what was found, or nothing and the reason."""
        answers = answer_all([self.answer_picture(picture, Spent()) for picture in pictures], self.network)
        return [([], found.message) if isinstance(found, Rejected) else (found, "") for found in answers]

    def logits(self, images: Images) -> Logits:
        """Calibrated logits (N, classes) of images (N, C, S, S), N of 1 or more."""
        return compute(self.network, images)

    def answer_request(self, body: Body) -> Steps:
        """The steps from a request's body to its Response, which is status 500 where this code fails."""
        try:
            if is_json(body):
                return (yield from self.answer_list(body))
            assert isinstance(body, bytes | bytearray)  # what is parsed already is a list
            return self.encode([(yield from self.answer_picture(bytes(body), Spent()))])
        except Exception as error:
            logging.getLogger(__name__).error("A request failed", exc_info=error)
            return self.encode([Rejected(500, "the server failed; its log says why")])

    def answer_list(self, body: Body) -> Steps:
        """The steps from JSON with pictures to its Response: one picture after the other, for LIST_SECONDS."""
        encoded, seconds = yield Read(parse_list, body)
        if isinstance(encoded, ValueError):
            return self.encode([reject(encoded)])
        spent = Spent(seconds)
        pictures: list[Picture] = []
        for i in range(0, len(encoded), LIST_BATCH):
            batch = [self.answer_picture(data, spent) for data in encoded[i : i + LIST_BATCH]]
            pictures += yield from run_together(batch)
        return self.encode(pictures, is_list=True)

    def answer_picture(self, data: bytes | ValueError, spent: Spent) -> Steps:
        """The steps from a picture, or the error in its place, to its answer; `spent` by the pictures before it."""
        if isinstance(data, ValueError):
            return reject(data)
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
        except (NotAnImage, NothingToRead) as error:
            return reject(error)
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

    def encode(self, pictures: Sequence[Picture], *, is_list: bool = False) -> Response:
        """The response with an answer for each picture, errors in their places."""
        rejected = [picture.status for picture in pictures if isinstance(picture, Rejected)]
        known = [one.known for picture in pictures if not isinstance(picture, Rejected) for one in picture]
        answers = [self.describe(picture) for picture in pictures]
        if is_list:
            return Response(200, json.dumps({"predictions": answers}).encode(), rejected, known)
        return Response(rejected[0] if rejected else 200, json.dumps(answers[0]).encode(), rejected, known)

    def describe(self, picture: Picture) -> dict[str, Any]:
        """The answer to a picture, as docs/answer.schema.json says, or its error."""
        if isinstance(picture, Rejected):
            return {"error": picture.message, "status": picture.status}
        digits = [self.describe_one(one) for one in picture]
        if not self.is_digits:
            return digits[0] | {"model": self.info["weights"]}
        single = digits[0] if len(digits) == 1 else {"digit": None, "label": None}
        return single | {
            "probability": round(self.probability(picture), 6),
            "is_digit": min(digit["is_digit"] for digit in digits),
            "number": "".join(digit["label"] for digit in digits),
            "digits": [digit | {"box": list(one.item.box)} for digit, one in zip(digits, picture, strict=True)],
            "model": self.info["weights"],
        }

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

    def probability(self, found: Sequence[Found]) -> float:
        """That a picture was read rightly as a whole: that everything found is a digit, and which one.

        A single one above DOUBT is taken for a digit. What is not known beside others may be a digit all the same,
        which the number then lacks.
        """
        known = [one.known for one in found]
        if len(found) == 1 and known[0] >= DOUBT:
            known = [1.0]
        return float(0.5 ** found[0].unknown * np.prod([one.probabilities.max() for one in found]) * np.prod(known))


def read_one(data: bytes, form: Form) -> list[Item]:
    """The one thing that a picture shows, for models whose classes are no digits."""
    return [Item(read_image(data, form), (0, 0, form.size, form.size))]


def reject(error: ValueError) -> Rejected:
    """What is answered where a picture or a list cannot be read."""
    status = 413 if isinstance(error, TooMuchWork) else 422 if isinstance(error, NothingToRead) else 400
    return Rejected(status, str(error))
