"""What both servers answer to what people send."""

import base64
import io
import json
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, quote_from_bytes

import numpy as np
import psutil
import pytest
import torch
from helpers import ROOT, fastapi_server, hostile, small_model, torchserve
from helpers.small_model import HANDLERS, encoded
from PIL import Image

from mnist_pipeline.data.dataset import Dataset
from mnist_pipeline.serving.answer import DOUBT
from mnist_pipeline.training.network import DigitNetwork

Server: TypeAlias = torchserve.Running | fastapi_server.Running
INT8_TOLERANCE = 0.1  # of a probability, on a hardly trained network; a trained one differs by 0.04 at most


@pytest.fixture(scope="module")
def images(digits: Dataset) -> torch.Tensor:
    return digits.validation.images[:40]


def ask(server: Server, bodies: list[bytes], **options: Any) -> list[dict[str, Any]]:
    """Every body in one request with many images."""
    pictures = [base64.b64encode(body).decode() for body in bodies]
    answer = server.service.predict(json.dumps({"images": pictures}).encode(), **options)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["predictions"])


def test_an_answer_says_digit_probability_and_model(server: Server, int8_archive: Path, images: torch.Tensor) -> None:
    answer = server.service.predict(encoded(images[0, 0]))
    content = answer.json()
    assert answer.headers["content-type"] == "application/json"
    keys = ["digit", "label", "probability", "probabilities", "is_digit", "number", "digits", "model"]
    assert list(content) == keys
    assert content["label"] == str(np.argmax(content["probabilities"]))
    assert content["model"] == small_model.info_of(int8_archive)["weights"]


def test_int8_answers_are_near_the_plain_ones(server: Server, trained: DigitNetwork, images: torch.Tensor) -> None:
    answers = ask(server, [encoded(image[0]) for image in images])
    served = np.array([answer["probabilities"] for answer in answers])
    assert np.abs(served - small_model.probabilities(trained, images).numpy()).max() < INT8_TOLERANCE


def make_form(*parts: tuple[str, bytes]) -> bytes:
    """The body of a form with the boundary XX: for each part the parameters of its header, and its content."""
    start = b"--XX\r\nContent-Disposition: form-data; "
    written = [start + about.encode() + b"\r\n\r\n" + content + b"\r\n" for about, content in parts]
    return b"".join(written) + b"--XX--\r\n"


def test_bodies_and_forms_are_read_as_programs_write_them(server: Server) -> None:
    form, url_encoded = "multipart/form-data; boundary=XX", "application/x-www-form-urlencoded"
    text = json.dumps({"images": [base64.b64encode(SEVEN).decode()]})
    part = ('name="image"', SEVEN)
    url = f"{server.service.inference}/predictions/mnist"
    expected = server.service.send("PUT", url, "inference", data=SEVEN).json()  # what curl -T sends
    assert expected["label"] == "7"
    sent = [
        (SEVEN, "image/png"),
        (make_form(part), 'Multipart/Form-Data; Boundary="XX"'),
        (make_form(('name="image"; filename="seven.png"\r\nContent-Type: image/png', SEVEN)), form),
        (make_form(('name="data"', b"seven"), part, ('name="image"', SEVEN)), form),
        (f"note=seven&image={quote_from_bytes(SEVEN, '')}".encode(), url_encoded),
        (make_form(('name="list"\r\nContent-Type: application/json', text.encode("utf-8-sig"))), form),
        (f"list={quote(text, safe='')}".encode(), url_encoded.upper()),
    ]
    for body, content_type in sent:
        answer = server.service.predict(body, headers={"content-type": content_type}).json()
        assert answer.get("predictions", [answer]) == [expected], (body[:200], content_type)
    for body in (make_form(), make_form(part)[:-20]):
        answer = server.service.predict(body, headers={"content-type": form})
        assert (answer.status_code, answer.json()["status"]) == (400, 400), answer.text


def test_base64_is_read_as_people_write_it(server: Server) -> None:
    plain = base64.b64encode(SEVEN).decode()
    lines = "\n".join(plain[k : k + 76] for k in range(0, len(plain), 76))
    url_safe = plain.translate(str.maketrans("+/", "-_")).rstrip("=")
    written = [plain, f"data:image/png;base64,{plain}", lines, url_safe]
    answer = server.service.predict(json.dumps({"images": [*written, "septé", "A", 7]}).encode()).json()
    assert [each.get("label", each.get("status")) for each in answer["predictions"]] == ["7"] * 4 + [400] * 3
    kserve = {"instances": [{"data": plain}, {"image": {"b64": plain}}]}
    url = f"{server.service.inference}/v1/models/mnist:predict"
    answer = server.service.send("POST", url, "inference", json=kserve).json()
    assert [each["label"] for each in answer["predictions"]] == ["7", "7"]


def test_the_documented_lines_of_curl_work(server: Server) -> None:
    block = (ROOT / "docs/serving.md").read_text().split("```bash\n")[1].split("```")[0]
    lines = block.splitlines()
    assert len(lines) == 5
    for line in lines:
        typed = line.replace("http://127.0.0.1:8080", server.service.inference)
        done = subprocess.run(["bash", "-c", typed], cwd=ROOT, capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        assert answer.get("predictions", [answer])[0]["label"] == "7", line


def test_no_header_of_a_client_disturbs_the_others(server: Server) -> None:
    """TorchServe passes every header on to the handler, in which `describe` asks for model_info.json."""

    def ask(describe: bool) -> tuple[int, bool]:
        answer = server.service.predict(SEVEN, headers={"describe": "True"} if describe else {})
        return answer.status_code, "hyperparameters" in answer.text

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, [True, False] * 120)) == {(200, False)}
    assert server.service.predict(b"", headers={"describe": "True"}).status_code == 400


def test_a_list_of_large_pictures_is_answered_as_far_as_its_time_reaches(server: Server) -> None:
    blank = base64.b64encode(encoded(Image.new("L", (7000, 3500)))).decode()
    answer = server.service.predict(json.dumps({"images": [blank] * 256}).encode())
    if isinstance(server, fastapi_server.Running) and answer.status_code == 503:
        return  # other tests took the time
    statuses = [each["status"] for each in answer.json()["predictions"]]
    read = statuses.index(413)
    assert statuses == [422] * read + [413] * (256 - read)
    assert read > 0


SEVEN = (HANDLERS / "digits" / "7.png").read_bytes()
LARGE_SEVEN = Image.open(io.BytesIO(SEVEN)).resize((280, 280))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(bytes(5_000_000), 400, id="5 MB of zeros"),
        pytest.param(hostile.write_png(20_000, 20_000, 2000), 413, id="decompression bomb"),
        pytest.param(b'{"images": [', 400, id="broken JSON"),
        pytest.param(b'{"images": ["' + bytes(range(128, 256)) * 50_000, 400, id="JSON in no encoding"),
        pytest.param(b"[" * 100_000, 400, id="JSON 100,000 deep"),
        pytest.param(encoded(np.full((28, 28), 255, np.uint8)), 422, id="blank"),
    ],
)
def test_what_cannot_be_read_is_said(server: Server, body: bytes, status: int) -> None:
    answer = server.service.predict(body, headers={"content-type": "application/octet-stream"})
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.json()["error"]


def test_a_body_over_the_limit_is_refused(server: Server) -> None:
    assert server.service.predict(bytes(17_000_000)).status_code == 413


def test_neighbours_of_a_bad_image_get_their_answers(server: Server, images: torch.Tensor) -> None:
    good = encoded(images[2, 0])
    expected = server.service.predict(good).json()
    answers = ask(server, [good, b"no image", encoded(np.full((28, 28), 255, np.uint8)), good])
    assert [answer.get("status", 200) for answer in answers] == [200, 400, 422, 200]
    assert answers[0]["digit"] == answers[3]["digit"] == expected["digit"]
    with ThreadPoolExecutor(16) as pool:  # in batches, as requests of their own
        together = pool.map(lambda body: server.service.predict(body).status_code, [good, b"no image"] * 100)
    assert list(together) == [200, 400] * 100


def test_torchserve_describes_the_model(torchserve_server: torchserve.Running, int8_archive: Path) -> None:
    server = torchserve_server
    (described,) = server.service.manage("GET", "/mnist", params={"customized": "true"})
    assert described["customizedMetadata"] == small_model.info_of(int8_archive)
    options = server.service.send("OPTIONS", f"{server.service.inference}/predictions/mnist", "inference")
    assert options.json()["info"]["title"].endswith("mnist")


def test_thousands_of_damaged_images_kill_nothing(server: Server) -> None:
    dice = random.Random(0)
    whole = [encoded(LARGE_SEVEN, kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")] + [SEVEN]
    before = processes(server)
    answers = []
    for _ in range(40):
        answers += ask(server, [damaged(dice.choice(whole), dice) for _ in range(50)])
    statuses = {answer.get("status", 200) for answer in answers}
    assert {200, 400, 422} <= statuses <= {200, 400, 413, 422}
    assert processes(server) == before


def damaged(picture: bytes, dice: random.Random) -> bytes:
    """A picture with some bytes changed, cut off, or doubled."""
    content = bytearray(picture)
    for _ in range(dice.randint(1, 20)):
        content[dice.randrange(len(content))] = dice.randrange(256)
    start, end = sorted(dice.randrange(len(content) + 1) for _ in range(2))
    return bytes(dice.choice([content, content[:end], content[:start] + content[end:], content + content[start:end]]))


def processes(server: Server) -> set[int]:
    """The process ids of the server's workers."""
    return {process.pid for process in psutil.Process(server.process.pid).children(recursive=True)}


def test_metrics_count_requests_errors_latency_scores_and_batches(server: Server, images: torch.Tensor) -> None:
    doubtful = min((encoded(image[0]) for image in images), key=lambda body: lowest_score(server, body))
    assert lowest_score(server, doubtful) < DOUBT
    before = settled_metrics(server)
    for body in [doubtful] * 5 + [b"no image"] * 2 + [encoded(np.full((28, 28), 255, np.uint8))]:
        server.service.predict(body)
    after = metrics(server)

    def grown(name: str, label: str = "") -> float:
        names = [key for key in after if key.split("{")[0] == name and label in key]
        return sum(after[key] - before.get(key, 0.0) for key in names)

    if isinstance(server, torchserve.Running):
        assert grown("ts_inference_requests_total") == 8
        assert grown("mnist_batches_total", 'Size="1"') == 8  # of requests; FastAPI's are of images
    else:
        assert [grown("mnist_requests_total", f'Status="{status}"') for status in (200, 400, 422)] == [5, 2, 1]
        assert grown("mnist_batches_total") >= 5
    assert [grown("mnist_errors_total", f'Status="{status}"') for status in (400, 422)] == [2, 1]
    assert grown("mnist_low_scores_total") == 5
    assert grown("mnist_latency_seconds_count") == grown("mnist_latency_seconds_bucket", 'le="10.0"') == 8
    assert 0 < grown("mnist_latency_seconds_sum") < 8


def lowest_score(server: Server, body: bytes) -> float:
    """The score is_digit of an answer; 1 where nothing was answered, or several digits."""
    content = server.service.predict(body).json()
    return float(content["is_digit"]) if content.get("digit") is not None else 1.0


def settled_metrics(server: Server) -> dict[str, float]:
    """The metrics once those of earlier requests are all there: the worker prints them in a thread of its own."""
    reading = metrics(server)
    for _ in range(60):
        time.sleep(0.5)
        previous, reading = reading, metrics(server)
        if all(previous.get(key) == value for key, value in reading.items() if key.startswith("mnist_")):
            return reading
    raise TimeoutError("the metrics of earlier requests were still changing after 30 s")


def metrics(server: Server) -> dict[str, float]:
    """What Prometheus would read."""
    text = server.service.send("GET", f"{server.service.metrics}/metrics", "management").text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in lines}
