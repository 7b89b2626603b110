"""What a request is answered, without a server: decode, predict, encode."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from helpers.small_model import HANDLERS, encoded

from mnist_pipeline.serving import answer

SEVEN = (HANDLERS / "digits/7.png").read_bytes()
BLANK = encoded(np.full((28, 28), 255, np.uint8))


def count_ink(digits: np.ndarray) -> np.ndarray:
    """Logits (N, 3) that say how dark a digit is: class 2 where a fifth of its pixels has ink."""
    ink = (digits > 0).mean((1, 2), dtype=np.float32)
    return np.stack([0 * ink, 2.5 * ink, 25 * ink - 4], 1)


@pytest.fixture
def model() -> answer.Model:
    info = {"class_names": ["none", "light", "dark"], "reader": "handwriting", "weights": "20260101-000000.pth"}
    return answer.Model(info, count_ink)


def content_of(response: answer.Response) -> Any:
    return json.loads(response.body)


def as_json(*pictures: bytes) -> bytes:
    return json.dumps({"images": [base64.b64encode(picture).decode() for picture in pictures]}).encode()


def test_an_answer_says_digit_label_probabilities_and_model(model: answer.Model) -> None:
    (response,) = model.answer([SEVEN])
    content = content_of(response)
    assert (response.status, response.rejected) == (200, [])
    assert list(content) == ["digit", "label", "probability", "probabilities", "model"]
    digit = model.find_digit(SEVEN)
    assert digit is not None
    logits = count_ink(digit[None])[0]
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


@pytest.mark.parametrize("picture", ["????", "é", 7, None, ["A"]])
def test_what_is_no_base64_is_that_pictures_error(model: answer.Model, picture: Any) -> None:
    good = base64.b64encode(SEVEN).decode()
    (response,) = model.answer([{"images": [good, picture]}])
    first, second = content_of(response)["predictions"]
    assert "digit" in first
    assert second["status"] == 400


def test_more_digits_than_a_forward_pass_takes_stay_in_order(model: answer.Model) -> None:
    dice = np.random.default_rng(0)
    digits = dice.integers(0, 2, (answer.BATCH + 5, 28, 28), np.uint8)
    np.testing.assert_array_equal(model.logits(digits), count_ink(digits))


def test_an_explanation_finds_the_ink_that_decides(model: answer.Model) -> None:
    plain, explained = model.answer([SEVEN, SEVEN], explain=[False, True])
    content = content_of(explained)
    assert content.items() >= content_of(plain).items()
    image, attribution = np.array(content["image"]), np.array(content["attribution"])
    assert image.shape == attribution.shape == (28, 28)
    np.testing.assert_array_equal(image, model.find_digit(SEVEN))
    y, x = np.unravel_index(np.abs(attribution).argmax(), attribution.shape)
    assert (image[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] > 0).sum() > 10
    assert attribution[0, 0] == 0  # no ink near


def test_an_explanation_takes_one_picture(model: answer.Model) -> None:
    many, broken = model.answer([as_json(SEVEN, SEVEN), b"no picture"], explain=[True, True])
    assert (many.status, content_of(many)["error"]) == (400, "an explanation takes one picture, not a list")
    assert broken.status == 400


def test_occlusion_removes_a_patch_around_each_pixel() -> None:
    digit = np.zeros((28, 28), np.uint8)
    digit[10, 10] = 255
    copies, changed = answer.occlude(digit)
    assert copies.shape == (784, 28, 28)
    assert changed.reshape(28, 28)[8:13, 8:13].all()
    assert changed.sum() == 25
    assert copies[changed].sum() == 0
    assert (copies[~changed] == digit).all()
