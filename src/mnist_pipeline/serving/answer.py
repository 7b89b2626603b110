"""From what people send to what they get back, independent of any server: decode, predict, encode.

A request is a picture, or JSON with many: {"images": ["<base64>", ...]}. This file travels in the archive, together
with `reading` and the network, and imports nothing else of this project.

No request keeps the others waiting for long. What one may ask for is limited (413). Once a batch has taken
BATCH_SECONDS it starts small pictures alone, and after LAST_SECONDS nothing: the others get 503 and may be sent again.
"""

import base64
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..reading import (
    READERS,
    Item,
    NotAnImage,
    NothingToRead,
    Reading,
    Spend,
    TooMuchWork,
    read_digits,
    spend_freely,
)

Digits: TypeAlias = NDArray[np.uint8]  # (N, 28, 28), ink 255 on paper 0
Network: TypeAlias = Callable[[Digits], NDArray[np.float32]]  # digits -> calibrated logits (N, classes)
Reader: TypeAlias = Callable[[bytes, Spend], Reading]
Body: TypeAlias = bytes | bytearray | dict[str, Any] | list[Any]  # the last two: JSON that a server has parsed already

BATCH = 64  # images per forward pass; a larger batch is not faster and takes more memory
MAX_IMAGES = 256  # per request; with more, the requests behind it would wait too long
MAX_ITEMS = 512  # digits per request, for the same reason
REQUEST_SECONDS = 0.8  # that a request with several pictures may take, by an estimate
BATCH_SECONDS = 0.25  # of computing, after which a batch starts no further request but single small pictures
LAST_SECONDS = 0.5  # of computing, after which it starts none
SMALL_SECONDS = 0.05  # that a small picture takes at most, by an estimate: 640x480 pixels or so
NETWORK_SECONDS = 0.0005  # that the network takes for an image, on two cores
ITEM_SECONDS = 0.002  # that an image takes in all where it is in doubt
MAX_FIELDS = 100  # of a form that are looked at
DOUBT = 0.9  # what is known less than this is looked at more closely: in parts, or read in another way
SURE = 0.95  # parts, and what is found in another way, are answered only if they are known better than this
PRIOR = 0.3  # how likely it is, before they are seen, that a thing in doubt is parts that touch
MAX_DOUBTFUL = 16  # items of a picture, pictures of a request, so looked at: each takes as long as a dozen others
# An opening bracket, after white space and a byte order mark: of UTF-8, or of UTF-16 or UTF-32 with its zero bytes.
JSON_START = re.compile(rb"(?:(?:\xff\xfe|(?:\0\0)?\xfe\xff)[\s\0]*+|(?:\xef\xbb\xbf)?\s*+)[\[{]")
URL_SAFE = str.maketrans("-_", "+/")  # RFC 4648
PATCH = 5  # pixels a side of what an explanation covers: a little wider than a pen stroke


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


@dataclass(frozen=True)
class Request:
    """A decoded request: what was read in each picture, or why nothing was; and whether it is a list of pictures."""

    pictures: list[Reading | Rejected]
    is_list: bool = False


BUSY = Rejected(503, "the server is busy; send the request again")
RETRY_AFTER = "1"  # seconds, for the header Retry-After of BUSY


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
    """

    def __init__(self, info: dict[str, Any], network: Network) -> None:
        self.info, self.network = info, network
        # Digits make numbers, so a picture may hold several of them. Anything else is one thing in each picture.
        self.is_digits = info["reader"] == "handwriting" and set(info["class_names"]) <= set("0123456789")
        self.score_name = "is_digit" if self.is_digits else "known"

    def answer(self, bodies: Sequence[Body], explain: Sequence[bool] = ()) -> list[Response]:
        """Answer the requests that are waiting in one batch.

        Args:
            bodies: one for each request.
            explain: which requests also want to know what each pixel contributes; empty: none.

        Returns:
            One response for each request, in their order.
        """
        start, items = time.thread_time(), 0  # of this thread: that other programs keep it waiting does not count
        requests: list[Request | None] = []
        for body in bodies:
            taken = time.thread_time() - start + items * NETWORK_SECONDS if requests else 0.0
            request = None if taken > LAST_SECONDS else decode(body, self.read, is_late=taken > BATCH_SECONDS)
            requests.append(request)
            items += count_items(request.pictures) if request else 0
        begin = start + items * NETWORK_SECONDS
        recognised = self.recognise([request or Request([]) for request in requests], begin)
        responses: list[Response] = []
        for request, pictures, wanted in zip(requests, recognised, explain or [False] * len(bodies), strict=True):
            is_late = responses and time.thread_time() > begin + BATCH_SECONDS
            if request is None or pictures is None or (wanted and is_late):
                responses.append(self.encode(Request([]), [BUSY]))
            else:
                responses.append(self.explain(request, pictures) if wanted else self.encode(request, pictures))
        return responses

    def find(self, pictures: Sequence[bytes]) -> list[tuple[list[Found], str]]:
        """What is answered to pictures, each sent alone: what was found, or nothing and the reason."""
        read = [Request([read_picture(picture, self.read, spend_freely)]) for picture in pictures]
        recognised = [found for (found,) in filter(None, self.recognise(read))]
        return [([], found.message) if isinstance(found, Rejected) else (found, "") for found in recognised]

    def read(self, picture: bytes, spend: Spend) -> Reading:
        """What a picture holds: the digits, or for other models the one thing that is in it.

        Raises:
            NotAnImage: the bytes cannot be decoded.
            TooMuchWork: `spend` does not allow it.
            NothingToRead: there is nothing in the picture.
        """
        if self.is_digits:
            return read_digits(picture, spend)
        image = READERS[self.info["reader"]](picture, spend)
        return Reading([Item(image, (0, 0, *image.shape[::-1]))])

    def recognise(
        self, requests: Sequence[Request], begin: float = math.inf
    ) -> list[list[list[Found] | Rejected] | None]:
        """What the network makes of the pictures of each request, which were read.

        Args:
            requests: whose pictures were read.
            begin: by time.thread_time; BATCH_SECONDS later no more lists of pictures are looked at closely, and
                LAST_SECONDS later no pictures, but those of the first request.

        Returns:
            For each request what was found in its pictures; None for a request that this would have taken too long.
        """
        pictures = [picture for request in requests for picture in request.pictures]
        read = [picture for picture in pictures if not isinstance(picture, Rejected)]
        seen = iter(self.look_at([item for picture in read for item in picture.items]))
        settled = []
        for k, request in enumerate(requests):
            groups = [
                [] if isinstance(picture, Rejected) else [next(seen) for _ in picture.items]
                for picture in request.pictures
            ]
            deadline = begin + (BATCH_SECONDS if request.is_list else LAST_SECONDS) if k else math.inf
            settled.append(self.settle(request.pictures, groups, deadline))
        return settled

    def settle(
        self, pictures: Sequence[Reading | Rejected], groups: list[list[Found]], deadline: float
    ) -> list[list[Found] | Rejected] | None:
        """What is answered to a request's pictures, in each of which a group was found; None if it is too late for it.

        What the network does not know is taken apart; if it does not know the parts either, the picture is read in
        other ways, and the way that it knows best is taken. What it still does not know is left out; a picture in
        which it knows nothing is rejected.
        """
        doubted = [any(one.known < DOUBT for one in group) for group in groups]
        if any(doubted):
            if time.thread_time() > deadline:
                return None
            groups = self.separate(groups)
        budget = MAX_DOUBTFUL
        answers: list[list[Found] | Rejected] = []
        for picture, best, in_doubt in zip(pictures, groups, doubted, strict=True):
            if isinstance(picture, Rejected):
                answers.append(picture)
                continue
            if in_doubt and budget and self.certainty(best) < DOUBT:
                budget -= 1
                others = self.separate([self.look_at(items) for items in picture.others()])
                best = max([best, *(other for other in others if self.certainty(other) > SURE)], key=self.certainty)
            answers.append(self.select(best))
        return answers

    def certainty(self, found: Sequence[Found]) -> float:
        """How well the network knows what was found in a picture, 0 to 1: the geometric mean of `known`.

        Parts of what was not known as a whole count less.
        """
        known = np.array([one.known * (PRIOR if one.is_part else 1) for one in found])
        return float(np.exp(np.log(np.maximum(known, 1e-9)).mean()))

    def select(self, found: Sequence[Found]) -> list[Found] | Rejected:
        """What is known of what was found; Rejected if nothing is."""
        least = self.info["known"]["least"]
        if all(one.known >= least for one in found):
            return list(found)
        what = "digit" if self.is_digits else "picture of any known class"
        best = max(one.known for one in found)
        reason = f"no {what} in it: the score {self.score_name} is {best:.3g}, below {least:.3g}"
        known = [one for one in found if one.known >= least]
        return [replace(one, unknown=len(found) - len(known)) for one in known] or Rejected(422, reason)

    def look_at(self, items: Sequence[Item]) -> list[Found]:
        """The network's view of each item."""
        if not items:
            return []
        logits = self.logits(np.stack([item.image for item in items]))
        known = np.where([item.on_paper for item in items], self.score(logits), 0)
        return [Found(*one) for one in zip(items, softmax(logits), known.tolist(), strict=True)]

    def score(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """How sure it is that images are of any class, 0 to 1: (N,), of calibrated logits (N, classes).

        Where training had a further class, "none", whose logit is always 0, log(sum(exp(logits))) tells it from the
        others; a logistic function of it, fitted on validation images and on generated outliers, is a probability.
        """
        scores = log_sum_exp(logits * self.info["temperature"])
        return 1 / (1 + np.exp(-(self.info["known"]["slope"] * scores + self.info["known"]["offset"])))

    def separate(self, groups: list[list[Found]]) -> list[list[Found]]:
        """Groups of what was found, with the parts of what is not known in its place where these are known better."""
        doubtful = [one for group in groups for one in group if one.known < DOUBT][: MAX_DOUBTFUL * self.is_digits]
        parts = [one.item.parts() for one in doubtful]
        seen = iter(self.look_at([part for each in parts for part in each.values()]))
        paths = {}
        for one, each in zip(doubtful, parts, strict=True):
            path = best_path({pieces: next(seen) for pieces in each})
            known = [part.known for part in path]
            least, prior = (SURE, PRIOR) if one.item.touching else (self.info["known"]["least"], 1.0)
            if path and min(known) > least and prior * np.prod(known) > one.known:
                paths[id(one)] = [replace(part, is_part=True) for part in path]
        return [[part for one in group for part in paths.get(id(one), [one])] for group in groups]

    def logits(self, digits: Digits) -> NDArray[np.float32]:
        """Calibrated logits (N, classes) of digits (N, 28, 28), N of 1 or more."""
        return np.concatenate([self.network(digits[i : i + BATCH]) for i in range(0, len(digits), BATCH)])

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

    def encode(self, request: Request, pictures: Sequence[list[Found] | Rejected]) -> Response:
        """JSON for a request: an answer for each of its pictures, errors in their places."""
        answers = [
            {"error": picture.message, "status": picture.status}
            if isinstance(picture, Rejected)
            else self.describe(picture)
            for picture in pictures
        ]
        return respond(request, pictures, answers)

    def explain(self, request: Request, pictures: Sequence[list[Found] | Rejected]) -> Response:
        """Encode the answer to a picture of one digit with the 28x28 image that the network saw and each pixel's
        attribution.

        Occlusion (Zeiler and Fergus, arXiv 1311.2901): remove the ink around a pixel, and see how much the
        log-probability of the prediction falls (natural logarithm; below 0: without that ink it would rise).
        """
        if request.is_list:
            refusal = Rejected(400, "an explanation takes one picture, not a list")
            return self.encode(Request([refusal]), [refusal])
        (picture,) = pictures
        if isinstance(picture, Rejected):
            return self.encode(request, pictures)
        if len(picture) > 1:
            return self.encode(request, [Rejected(400, f"an explanation takes one digit; {len(picture)} were found")])
        digit, best = picture[0].item.image, int(picture[0].probabilities.argmax())
        copies, changed = occlude(digit)  # (28 * 28, 28, 28), (28 * 28,)
        attribution = np.zeros(digit.size)
        before = softmax(self.logits(digit[None]))[0, best]
        after = softmax(self.logits(copies[changed]))[:, best]
        attribution[changed] = np.log(before) - np.log(np.maximum(after, 1e-12))
        heat = attribution.reshape(digit.shape).round(4).tolist()
        return respond(request, pictures, [self.describe(picture) | {"image": digit.tolist(), "attribution": heat}])


def best_path(parts: dict[tuple[int, int], Found]) -> list[Found]:
    """The parts, side by side, that cover everything and are known best: whose product of `known` is largest.

    Args:
        parts: by the first and the last of the pieces that each consists of, as Item.parts gives them.

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


def decode(body: Body, read: Reader, *, is_late: bool = False) -> Request | None:
    """What a request's pictures hold; what is wrong with a picture stands in its place.

    Args:
        body: of the request.
        read: reads a picture.
        is_late: whether only a small picture may still be read; anything else gives None.
    """
    is_list = is_json(body)
    if is_late and is_list:
        return None
    try:
        encoded = parse_json(body) if is_list else [body]
    except ValueError as error:
        return Request([Rejected(400, str(error))])
    spent = 0.0
    most = SMALL_SECONDS if is_late else REQUEST_SECONDS if len(encoded) > 1 else math.inf  # one: its format's limit
    pictures: list[Reading | Rejected] = []

    def spend(seconds: float) -> None:
        nonlocal spent
        spent += seconds
        if spent > most:
            raise TooMuchWork

    try:
        for picture in encoded:
            pictures.append(read_picture(picture, read, spend))
            spend(ITEM_SECONDS * count_items(pictures[-1:]))
    except TooMuchWork:
        if is_late:
            return None
        return Request([Rejected(413, f"{len(encoded)} pictures of this size are too many for a request; send fewer")])
    if (count := count_items(pictures)) > MAX_ITEMS:
        return Request([Rejected(413, f"the pictures hold {count} digits; a request may hold {MAX_ITEMS}")])
    return Request(pictures, is_list)


def is_json(body: Body) -> bool:
    """Whether a request's body is a list of pictures as JSON; no picture starts with a bracket."""
    return isinstance(body, dict | list) or JSON_START.match(body) is not None


def count_items(pictures: Sequence[Reading | Rejected]) -> int:
    """How many images the network will be given."""
    return sum(len(picture.items) for picture in pictures if not isinstance(picture, Rejected))


def choose_body(fields: Mapping[str, Any]) -> Body:
    """The body of a request that came as a form: of its fields the first that is more than text, a name or a charset.

    `data` and `body` go before the others. Where all are text, it is the first that is not empty.
    """
    body = fields.get("body")
    if isinstance(body, bytes | bytearray) and body.startswith(b"--"):
        fields = split_form(bytes(body))
    named = [fields.get("data"), fields.get("body"), *fields.values()]
    filled: list[Body] = [each.encode() if isinstance(each, str) else each for each in named if each]
    return next((each for each in filled if not is_text(each)), filled[0] if filled else b"")


def split_form(body: bytes) -> dict[str, bytes]:
    """The fields of a form, multipart/form-data, as bytes by their names: a picture must not be taken for text.

    Its first line is the boundary (RFC 7578), so that it is read whatever the request's header calls it.
    """
    boundary, _, rest = body.partition(b"\r\n")
    fields = {}
    for part in rest.split(b"\r\n" + boundary, MAX_FIELDS)[:-1]:  # the last is what follows the form
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'\bname="?([^";\r\n]*)', head)
        fields[name[1].decode("latin-1") if name else ""] = content
    return fields


def is_text(body: Body) -> bool:
    """Whether a body is text, in UTF-8, and no JSON."""
    if isinstance(body, dict | list) or is_json(body):
        return False
    try:
        return "\0" not in body.decode()
    except UnicodeDecodeError:
        return False


def parse_json(body: Body) -> list[Any]:
    """The encoded pictures of a JSON request. Raises ValueError where it has another shape."""
    try:
        content: Any = body if isinstance(body, dict | list) else json.loads(body)
        pictures = content["images"] if "images" in content else content["instances"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"  # without the body, which the repr of a UnicodeDecodeError holds
        raise ValueError(f'not the JSON that is understood here, {{"images": ["<base64>", ...]}}: {reason}') from None
    if not isinstance(pictures, list) or not 0 < len(pictures) <= MAX_IMAGES:
        raise ValueError(f'"images" must be a list of 1 to {MAX_IMAGES} base64 strings')
    return pictures


def read_picture(picture: Any, read: Reader, spend: Spend) -> Reading | Rejected:
    """What a picture holds, which is bytes or base64; or why there is nothing. Raises TooMuchWork."""
    try:
        return read(bytes(picture) if isinstance(picture, bytes | bytearray) else decode_base64(picture), spend)
    except NothingToRead as error:
        return Rejected(422, str(error))
    except (ValueError, NotAnImage) as error:  # the first: no base64
        return Rejected(400, str(error))


def decode_base64(picture: Any) -> bytes:
    """The bytes of a base64 string: standard or URL-safe, with or without padding, line breaks and "data:...;base64,".

    KServe's clients put the string into an object, {"data": ...} or {"image": {"b64": ...}}.

    Raises:
        ValueError: it is something else.
    """
    while isinstance(picture, dict):
        picture = next((picture[key] for key in ("data", "b64", "image", "image_bytes") if key in picture), None)
    if not isinstance(picture, str):
        raise ValueError(f"a picture must be a base64 string, not {picture!r:.40}")
    text = "".join(picture.rpartition(",")[2].split()).translate(URL_SAFE).rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def respond(
    request: Request, pictures: Sequence[list[Found] | Rejected], answers: Sequence[dict[str, Any]]
) -> Response:
    """The response to a request whose pictures have these answers, with what the server's metrics count."""
    rejected = [picture.status for picture in pictures if isinstance(picture, Rejected)]
    known = [one.known for picture in pictures if not isinstance(picture, Rejected) for one in picture]
    if request.is_list:
        return Response(200, json.dumps({"predictions": answers}).encode(), rejected, known)
    return Response(answers[0].get("status", 200), json.dumps(answers[0]).encode(), rejected, known)


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
