"""What a request is answered, without a server: decode, predict, encode."""

import base64
import io
import json
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
from helpers import ROOT
from helpers.pen_digits import FOUR, TWO, draw_digit, encode, likeness
from helpers.pen_digits import SEVEN as SEVEN_STROKES
from helpers.small_model import FORM, HANDLERS
from PIL import Image, ImageChops

from mnist_pipeline.reading import read_digit, read_digits
from mnist_pipeline.serving import answer, steps
from mnist_pipeline.serving.recognition import best_path
from mnist_pipeline.serving.requests import choose_body, is_json

SEVEN = (HANDLERS / "digits/7.png").read_bytes()
INFO = {
    **FORM,
    "weights": "20260101-000000.pth",
    "temperature": 1.0,
    "known": {"slope": 1.0, "offset": 0.0, "least": 0.3},
}
BLANK = encode(np.full((28, 28), 255, np.uint8))


def count_ink(digits: np.ndarray) -> np.ndarray:
    """Logits (N, 3) that say how dark a digit is: class 2 where a fifth of its pixels has ink."""
    ink = (digits > 0).mean((1, 2, 3), dtype=np.float32)
    return np.stack([0 * ink, 2.5 * ink, 25 * ink - 4], 1)


@pytest.fixture
def model() -> answer.Model:
    return answer.Model(INFO | {"class_names": ["none", "light", "dark"]}, count_ink)


def match(digits: np.ndarray) -> np.ndarray:
    """Logits (N, 2) that say how like a 7 and how like a 4 a digit is; both are below 0 where it is like neither."""
    patterns = [read_digit(encode(draw_digit(strokes))) for strokes in (SEVEN_STROKES, FOUR)]
    return np.array([[60 * likeness(digit[0], pattern) - 46 for pattern in patterns] for digit in digits], np.float32)


@pytest.fixture
def numbers() -> answer.Model:
    """A model of two digits, which knows a 7 and a 4 and nothing else."""
    return answer.Model(INFO | {"class_names": ["7", "4"]}, match)


def content_of(response: answer.Response) -> Any:
    return json.loads(response.body)


def as_json(*pictures: bytes) -> bytes:
    return json.dumps({"images": [base64.b64encode(picture).decode() for picture in pictures]}).encode()


def draw_number(*places: tuple[float, float], height: float = 100) -> bytes:
    """A 7 and a 4 in turn, at these places of a picture."""
    picture = Image.new("L", (600, 400), 245)
    for k, place in enumerate(places):
        strokes = (SEVEN_STROKES, FOUR)[k % 2]
        picture = ImageChops.darker(picture, draw_digit(strokes, (600, 400), height, place, 10))
    return encode(picture)


def test_several_digits_are_a_number_in_reading_order(numbers: answer.Model) -> None:
    places = [(60, 30), (200, 40), (330, 35), (70, 230), (220, 220)]
    content = content_of(numbers.answer([draw_number(*places)])[0])
    assert (content["digit"], content["label"], content["number"]) == (None, None, "74747")
    assert [digit["label"] for digit in content["digits"]] == list("74747")
    product = np.prod([digit["probability"] * digit["is_digit"] for digit in content["digits"]])
    assert content["probability"] == pytest.approx(product, abs=1e-4)
    assert content["is_digit"] == min(digit["is_digit"] for digit in content["digits"])
    for digit, (x, y) in zip(content["digits"], places, strict=True):
        assert digit["box"] == pytest.approx((x, y - 5, 80, 110), abs=14)


def test_boxes_are_in_pixels_of_the_picture_that_was_sent(numbers: answer.Model) -> None:
    small = draw_digit(SEVEN_STROKES, (400, 300), 150, (130, 70))
    large = small.resize((2800, 2100))  # which is read at a smaller size
    whole, found = (content_of(each)["digits"][0] for each in numbers.answer([encode(small), encode(large, "JPEG")]))
    assert found["box"] == pytest.approx([7 * value for value in whole["box"]], abs=28)


def test_digits_that_touch_are_told_apart_and_what_is_no_digit_is_refused(numbers: answer.Model) -> None:
    touching, other = numbers.answer([draw_number((150, 100), (226, 100)), encode(draw_digit(TWO))])
    assert content_of(touching)["number"] == "74"
    assert other.status == 422
    assert content_of(other)["error"].startswith("no digit in it: the score is_digit is ")


def test_what_is_no_digit_is_left_out_of_a_number_and_makes_it_less_sure(numbers: answer.Model) -> None:
    number = draw_number((60, 30), (200, 40))
    two = draw_digit(TWO, (600, 400), 100, (400, 30), 10)
    alone, with_two = numbers.answer([number, encode(ImageChops.darker(Image.open(io.BytesIO(number)), two))])
    assert content_of(with_two)["number"] == content_of(alone)["number"] == "74"
    assert content_of(with_two)["probability"] == pytest.approx(content_of(alone)["probability"] / 2, rel=0.05)


def make_found(best: float, known: float) -> answer.Found:
    """Something whose likelier class of two has a probability of `best`."""
    item = answer.Item(np.zeros((28, 28), np.uint8), (0, 0, 1, 1))
    return answer.Found(item, np.array([1 - best, best], np.float32), known)


def test_doubt_whether_it_is_a_digit_lowers_the_probability(model: answer.Model) -> None:
    sure, doubtful = make_found(0.9, 0.95), make_found(0.9, 0.5)
    assert model.probability([sure]) == pytest.approx(0.9)
    assert model.probability([doubtful]) == pytest.approx(0.45)
    assert model.probability([replace(sure, unknown=1)]) == pytest.approx(0.45)
    assert model.probability([sure, doubtful]) == pytest.approx(0.9 * 0.95 * 0.9 * 0.5)


def test_the_best_parts_cover_everything() -> None:
    known = {(0, 1): 0.9, (1, 2): 0.2, (2, 3): 0.9, (0, 2): 0.7, (1, 3): 0.6}
    parts = {place: make_found(0.9, each) for place, each in known.items()}
    assert best_path(parts) == [parts[0, 2], parts[2, 3]]
    assert best_path({place: parts[place] for place in [(0, 1), (2, 3)]}) == []


@pytest.mark.parametrize("limit", ["MAX_ITEMS", "LIST_SECONDS"])
def test_pictures_that_a_list_has_no_room_for_are_refused_in_their_places(
    numbers: answer.Model, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(answer, limit, 0)
    if limit == "LIST_SECONDS":  # the first picture takes a second
        monkeypatch.setattr(steps.time, "perf_counter", iter([0.0, 0.0, *map(float, range(10))]).__next__)
    (response,) = numbers.answer([as_json(*[draw_number((60, 30), (200, 40))] * 3)])
    first, *others = content_of(response)["predictions"]
    assert (response.status, first["number"]) == (200, "74")
    assert [other["status"] for other in others] == [413, 413]


def test_an_error_in_one_request_leaves_the_others(numbers: answer.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes) -> list[answer.Item]:
        if data == b"broken":
            raise RuntimeError("a bug")
        return read_digits(data)

    monkeypatch.setattr(numbers, "read", read)
    responses = numbers.answer([draw_number((60, 30)), b"broken", draw_number((60, 30))])
    assert [response.status for response in responses] == [200, 500, 200]


def test_answers_follow_their_schema(numbers: answer.Model) -> None:
    schema = json.loads((ROOT / "docs/answer.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    responses = numbers.answer([draw_number((60, 30)), draw_number((60, 30), (200, 40))])
    for example in [*schema["examples"], *map(content_of, responses)]:
        jsonschema.Draft202012Validator(schema).validate(example)


def test_of_classes_that_are_no_digits_one_is_answered(model: answer.Model) -> None:
    content = content_of(model.answer([SEVEN])[0])
    assert list(content) == ["digit", "label", "probability", "probabilities", "known", "model"]
    logits = count_ink(read_digit(SEVEN)[None, None])[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    assert content["probabilities"] == pytest.approx(expected.tolist(), abs=1e-6)
    assert content["digit"] == int(logits.argmax())
    assert content["label"] == model.info["class_names"][content["digit"]]
    assert content["probability"] == max(content["probabilities"])
    assert content["model"] == "20260101-000000.pth"


def test_requests_of_a_batch_get_the_answers_that_they_get_alone(model: answer.Model) -> None:
    bodies = [SEVEN, b"no picture", as_json(SEVEN, BLANK, SEVEN), BLANK, as_json(b"no picture"), SEVEN]
    together = model.answer(bodies)
    assert together == [model.answer([body])[0] for body in bodies]
    assert [response.status for response in together] == [200, 400, 200, 422, 200, 200]
    assert [response.rejected for response in together] == [[], [400], [422], [422], [400], []]
    many = content_of(together[2])["predictions"]
    assert many[0] == many[2] == content_of(together[0])
    assert many[1] == content_of(together[3])


def test_json_of_another_shape_is_refused(model: answer.Model) -> None:
    shapes: list[answer.Body] = [b'{"pictures": []}', b"[1]", {"images": []}, {"images": ["A"] * 257}]
    shapes.append(b'{"images": ["' + 100_000 * b"\xff")
    for response in model.answer(shapes):
        assert (response.status, response.rejected) == (400, [400])
        assert len(response.body) < 500  # the body is not repeated


def test_json_is_read_as_editors_and_shells_write_it(model: answer.Model) -> None:
    text = "\r\n" * 100 + as_json(SEVEN).decode()
    expected, *written = model.answer([as_json(SEVEN), *map(text.encode, ["utf-8-sig", "utf-16", "utf-32"])])
    assert expected.status == 200
    assert written == [expected] * 3
    for body in (b"\0" * 5_000_000, b"\xff\xd8\xff{", b" " * 100 + SEVEN):
        assert not is_json(body)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"body": SEVEN}, SEVEN),
        ({"data": b"seven", "image": SEVEN}, SEVEN),
        ({"image": "seven"}, b"seven"),
        ({"note": "a", "other": {"images": []}}, {"images": []}),
        ({"body": b"--X\r\n\r\nx\r\n" * 200_000 + b"--X--"}, b"x"),
    ],
)
def test_of_a_form_the_picture_is_chosen(fields: dict[str, Any], expected: Any) -> None:
    assert choose_body(fields) == expected
