"""What a request is answered, without a server: decode, predict, encode."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
from helpers import ROOT
from helpers.pen_digits import FOUR, TWO, draw_digit, encode, likeness
from helpers.pen_digits import SEVEN as SEVEN_STROKES
from helpers.small_model import FORM, HANDLERS, encoded
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
BLANK = encoded(np.full((28, 28), 255, np.uint8))


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


def draw_number(*places: tuple[float, float], height: float = 100) -> bytes:
    """A 7 and a 4 in turn, at these places of a picture."""
    picture = Image.new("L", (600, 400), 245)
    for k, place in enumerate(places):
        strokes = (SEVEN_STROKES, FOUR)[k % 2]
        picture = ImageChops.darker(picture, draw_digit(strokes, (600, 400), height, place, 10))
    return encode(picture)


def test_several_digits_are_a_number_in_reading_order(numbers: answer.Model) -> None:
    picture = draw_number((60, 30), (200, 40), (330, 35), (70, 230), (220, 220))
    (response,) = numbers.answer([picture])
    content = content_of(response)
    assert (content["digit"], content["label"], content["number"]) == (None, None, "74747")
    assert [digit["label"] for digit in content["digits"]] == list("74747")
    product = np.prod([digit["probability"] * digit["is_digit"] for digit in content["digits"]])
    assert content["probability"] == pytest.approx(product, abs=1e-4)
    assert content["is_digit"] == min(digit["is_digit"] for digit in content["digits"])
    for digit, (x, y) in zip(content["digits"], [(60, 30), (200, 40), (330, 35), (70, 230), (220, 220)], strict=True):
        left, top, width, height = digit["box"]
        assert (left, top, width, height) == pytest.approx((x, y - 5, 80, 110), abs=14)


def test_boxes_are_in_pixels_of_the_picture_that_was_sent(numbers: answer.Model) -> None:
    small = draw_digit(SEVEN_STROKES, (400, 300), 150, (130, 70))
    (whole,) = content_of(numbers.answer([encode(small)])[0])["digits"]
    for times in (2, 7):
        large = encode(small.resize((400 * times, 300 * times)), "JPEG")
        (found,) = content_of(numbers.answer([large])[0])["digits"]
        assert found["box"] == pytest.approx([times * value for value in whole["box"]], abs=4 * times)


def test_digits_that_touch_are_told_apart(numbers: answer.Model) -> None:
    (apart,) = numbers.answer([draw_number((150, 100), (300, 100))])
    (touching,) = numbers.answer([draw_number((150, 100), (226, 100))])
    assert content_of(apart)["number"] == content_of(touching)["number"] == "74"


def test_what_is_no_digit_is_refused_with_its_score(numbers: answer.Model) -> None:
    (response,) = numbers.answer([encode(draw_digit(TWO))])
    assert response.status == 422
    assert content_of(response)["error"].startswith("no digit in it: the score is_digit is ")


def test_what_is_no_digit_is_left_out_of_a_number(numbers: answer.Model) -> None:
    picture = ImageChops.darker(
        Image.open(io.BytesIO(draw_number((60, 30), (200, 40)))), draw_digit(TWO, (600, 400), 100, (400, 30), 10)
    )
    content = content_of(numbers.answer([encode(picture)])[0])
    assert content["number"] == "74"
    (alone,) = numbers.answer([draw_number((60, 30), (200, 40))])
    assert content["probability"] == pytest.approx(content_of(alone)["probability"] / 2, rel=0.05)


def test_doubt_whether_it_is_a_digit_lowers_the_probability(model: answer.Model) -> None:
    sure = answer.Found(answer.Item(np.zeros((28, 28), np.uint8), (0, 0, 1, 1)), np.array([0.1, 0.9], np.float32), 0.95)
    doubtful = replace(sure, known=0.5)
    assert model.probability([sure]) == pytest.approx(0.9)
    assert model.probability([doubtful]) == pytest.approx(0.45)
    assert model.probability([replace(sure, unknown=1)]) == pytest.approx(0.45)
    assert model.probability([sure, doubtful]) == pytest.approx(0.9 * 0.95 * 0.9 * 0.5)


@pytest.mark.parametrize("limit", ["MAX_ITEMS", "LIST_SECONDS"])
def test_pictures_that_a_list_has_no_room_for_are_refused_in_their_places(
    numbers: answer.Model, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(answer, limit, 0)
    picture = draw_number((60, 30), (200, 40))
    if limit == "LIST_SECONDS":
        monkeypatch.setattr(steps.time, "perf_counter", iter([0.0, 0.0, *map(float, range(10))]).__next__)
    (response,) = numbers.answer([as_json(picture, picture, picture)])
    first, *others = content_of(response)["predictions"]
    assert (response.status, first["number"]) == (200, "74")
    assert [other["status"] for other in others] == [413, 413]
    assert others[0]["error"] == "the pictures before it took all the time of this request; send fewer"


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
    validator = jsonschema.Draft202012Validator(schema)
    for example in schema["examples"]:
        validator.validate(example)
    one, two, explained = numbers.answer(
        [draw_number((60, 30)), draw_number((60, 30), (200, 40)), draw_number((60, 30))], [False, False, True]
    )
    for response in (one, two, explained):
        assert response.status == 200
        validator.validate(content_of(response))


def test_an_explanation_takes_one_digit(numbers: answer.Model) -> None:
    (response,) = numbers.answer([draw_number((60, 30), (200, 40))], [True])
    assert (response.status, content_of(response)["error"]) == (400, "an explanation takes one digit; 2 were found")


def test_the_best_parts_cover_everything() -> None:
    def part(known: float) -> answer.Found:
        return answer.Found(answer.Item(np.zeros((28, 28), np.uint8), (0, 0, 1, 1)), np.ones(1, np.float32), known)

    parts = {(0, 1): part(0.9), (1, 2): part(0.2), (2, 3): part(0.9), (0, 2): part(0.7), (1, 3): part(0.6)}
    assert [one.known for one in best_path(parts)] == [0.7, 0.9]
    assert best_path({(0, 1): part(0.9), (2, 3): part(0.9)}) == []
    assert best_path({}) == []


def content_of(response: answer.Response) -> Any:
    return json.loads(response.body)


def as_json(*pictures: bytes) -> bytes:
    return json.dumps({"images": [base64.b64encode(picture).decode() for picture in pictures]}).encode()


def test_an_answer_says_digit_label_probabilities_and_model(model: answer.Model) -> None:
    (response,) = model.answer([SEVEN])
    content = content_of(response)
    assert (response.status, response.rejected) == (200, [])
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


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"images": [', "not the JSON that is understood here"),
        (b'{"pictures": []}', "not the JSON that is understood here"),
        (b"[" * 100_000, "not the JSON that is understood here"),
        ({"images": []}, '"images" must be a list of 1 to 256 base64 strings'),
        ({"images": ["A"] * 257}, '"images" must be a list of 1 to 256 base64 strings'),
        ({"images": "A"}, '"images" must be a list of 1 to 256 base64 strings'),
    ],
    ids=["broken", "no images", "deep", "none", "257", "no list"],
)
def test_json_of_another_shape_is_refused(model: answer.Model, body: Any, message: str) -> None:
    (response,) = model.answer([body])
    assert (response.status, response.rejected) == (400, [400])
    assert message in content_of(response)["error"]


@pytest.mark.parametrize(
    "encode_text",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: text.encode("utf-32"),
        lambda text: b"\0\0\xfe\xff" + text.encode("utf-32-be"),
        lambda text: text.encode("utf-16-le"),
        lambda text: (" \r\n\t" * 100 + text).encode(),
        lambda text: ("\r\n" * 100 + text).encode("utf-8-sig"),
        lambda text: ("\r\n" * 100 + text).encode("utf-16"),
    ],
    ids=["UTF-8", "UTF-16", "UTF-16 BE", "UTF-32", "UTF-32 BE", "no BOM", "space", "UTF-8, space", "UTF-16, space"],
)
def test_json_is_read_as_editors_and_shells_write_it(model: answer.Model, encode_text: Callable[[str], bytes]) -> None:
    plain, written = model.answer([as_json(SEVEN), encode_text(as_json(SEVEN).decode())])
    assert written.status == 200
    assert written == plain


@pytest.mark.parametrize("body", [b"\0" * 5_000_000, b"\xff\xd8\xff{", b"\0\0\0[", b"BM{", b" " * 100 + SEVEN])
def test_what_only_resembles_json_is_none(body: bytes) -> None:
    assert not is_json(body)


def test_an_error_does_not_repeat_the_body(model: answer.Model) -> None:
    (response,) = model.answer([b'{"images": ["' + 100_000 * b"\xff"])
    assert (response.status, len(response.body) < 500) == (400, True)


def as_form(*parts: tuple[str, bytes], boundary: bytes = b"----XX") -> bytes:
    """The body of a form: for each part the parameters of its Content-Disposition, and its content."""
    start = b"--" + boundary + b"\r\nContent-Disposition: form-data; "
    return b"".join(start + about.encode() + b"\r\n\r\n" + content + b"\r\n" for about, content in parts) + (
        b"--" + boundary + b"--\r\n"
    )


IMAGE = ('name="image"', SEVEN)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"body": SEVEN}, SEVEN),
        ({"data": b"", "image": SEVEN}, SEVEN),
        ({"x": "1", "body": SEVEN}, SEVEN),
        ({"data": b"seven", "image": SEVEN}, SEVEN),
        ({"image": "seven"}, b"seven"),
        ({"note": "a", "other": {"images": []}}, {"images": []}),
        ({}, b""),
        ({"body": as_form(IMAGE)}, SEVEN),
        ({"body": as_form(IMAGE, boundary=b"")}, SEVEN),
        ({"body": as_form(('name=image; filename=""', SEVEN))}, SEVEN),
        ({"body": as_form(('filename="name=x"; name="a"\r\nContent-Type: text/plain; charset=utf-16', SEVEN))}, SEVEN),
        ({"body": as_form(('name="_charset_"', b"utf-16"), ('name="note"', "é".encode()), IMAGE)}, SEVEN),
        ({"body": as_form(('name="image"', b""), IMAGE)}, SEVEN),
        ({"body": as_form(('name="a"', as_json(SEVEN)), ('name="b"', SEVEN))}, as_json(SEVEN)),
        ({"body": as_form(('name="a"', SEVEN), ('name="data"', as_json(SEVEN)))}, as_json(SEVEN)),
        ({"body": as_form(("", SEVEN))}, SEVEN),
        ({"body": as_form()}, b""),
        ({"body": as_form(IMAGE)[:-20]}, b""),
        ({"body": as_form(*[('name="a"', b"x")] * 200_000)}, b"x"),
        ({"body": b"--"}, b""),
    ],
)
def test_of_a_form_the_picture_is_chosen_byte_for_byte(fields: dict[str, Any], expected: Any) -> None:
    assert choose_body(fields) == expected


@pytest.mark.parametrize("picture", ["????", "é", 7, None, ["A"]])
def test_what_is_no_base64_is_that_pictures_error(model: answer.Model, picture: Any) -> None:
    good = base64.b64encode(SEVEN).decode()
    (response,) = model.answer([{"images": [good, picture]}])
    first, second = content_of(response)["predictions"]
    assert "digit" in first
    assert second["status"] == 400


def test_more_digits_than_a_forward_pass_takes_stay_in_order(model: answer.Model) -> None:
    dice = np.random.default_rng(0)
    digits = dice.integers(0, 2, (steps.BATCH + 5, 1, 28, 28), np.uint8)
    np.testing.assert_array_equal(model.logits(digits), count_ink(digits))


def test_an_explanation_finds_the_ink_that_decides(model: answer.Model) -> None:
    plain, explained = model.answer([SEVEN, SEVEN], explain=[False, True])
    content = content_of(explained)
    assert content.items() >= content_of(plain).items()
    image, attribution = np.array(content["image"]), np.array(content["attribution"])
    assert image.shape == attribution.shape == (28, 28)
    np.testing.assert_array_equal(image, read_digit(SEVEN))
    y, x = np.unravel_index(np.abs(attribution).argmax(), attribution.shape)
    assert (image[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] > 0).sum() > 10
    assert attribution[0, 0] == 0  # no ink near


def test_an_explanation_takes_one_picture(model: answer.Model) -> None:
    many, broken = model.answer([as_json(SEVEN, SEVEN), b"no picture"], explain=[True, True])
    assert (many.status, content_of(many)["error"]) == (400, "an explanation takes one picture, not a list")
    assert broken.status == 400


@pytest.mark.parametrize(("side", "cells"), [(16, 16), (32, 16), (40, 14), (64, 11)])
def test_occlusion_of_a_larger_image_has_no_more_pixels_to_compute(side: int, cells: int) -> None:
    image = np.random.default_rng(0).integers(0, 100, (3, side, side), np.uint8)
    copies, changed = answer.occlude(image, np.array([200.0, 210.0, 220.0]))
    assert copies.shape == (cells**2, 3, side, side)
    assert copies.size <= 3 * 28**4
    assert changed.all()
    assert (copies != image).any((0, 1)).all()  # every pixel is covered once
    assert set(copies[copies >= 200].tolist()) == {200, 210, 220}
    spread = answer.spread_cells(np.arange(cells**2, dtype=float), side)
    assert spread.shape == (side, side)
    assert (spread[0, 0], spread[-1, -1]) == (0, cells**2 - 1)


def test_occlusion_removes_a_patch_around_each_pixel() -> None:
    digit = np.zeros((28, 28), np.uint8)
    digit[10, 10] = 255
    copies, changed = answer.occlude(digit[None], np.zeros(1))
    assert copies.shape == (784, 1, 28, 28)
    assert changed.reshape(28, 28)[8:13, 8:13].all()
    assert changed.sum() == 25
    assert copies[changed].sum() == 0
    assert (copies[~changed] == digit).all()
