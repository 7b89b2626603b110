"""What both servers answer to what people send."""

import base64
import io
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from helpers import ROOT, hostile, small_model
from helpers.pen_digits import encode
from helpers.small_model import HANDLERS
from helpers.torchserve import Running
from PIL import Image

from mnist_pipeline.data.dataset import Dataset
from mnist_pipeline.serving.answer import DOUBT

SEVEN = (HANDLERS / "digits" / "7.png").read_bytes()
BASE64 = base64.b64encode(SEVEN).decode()
LINES = "\n".join(BASE64[k : k + 76] for k in range(0, len(BASE64), 76))
URL_SAFE = BASE64.translate(str.maketrans("+/", "-_")).rstrip("=")
BLANK = encode(np.full((28, 28), 255, np.uint8))


@pytest.fixture(scope="module")
def images(digits: Dataset) -> torch.Tensor:
    return digits.validation.images[:40]


def write_list(*pictures: object) -> bytes:
    return json.dumps({"images": pictures}).encode()


def test_both_servers_give_the_same_answer_to_every_digit(
    torchserve_server: Running, fastapi_server: Running, images: torch.Tensor
) -> None:
    for image in images:
        answers = [server.service.predict(encode(image[0])) for server in (torchserve_server, fastapi_server)]
        assert [answer.headers["content-type"] for answer in answers] == ["application/json"] * 2
        assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        pytest.param(encode(Image.open(io.BytesIO(SEVEN)).resize((280, 280)), "JPEG"), [200], id="large"),
        pytest.param(write_list(BASE64, f"data:image/png;base64,{BASE64}", LINES, URL_SAFE), [200] * 4, id="base64"),
        pytest.param(write_list(BASE64, "septé", "A", 7, BASE64), [200, 400, 400, 400, 200], id="no base64"),
        pytest.param(write_list(base64.b64encode(BLANK).decode(), BASE64), [422, 200], id="a blank one in a list"),
        pytest.param(BLANK, [422], id="blank"),
        pytest.param(b"", [400], id="nothing"),
        pytest.param(bytes(5_000_000), [400], id="5 MB of zeros"),
        pytest.param(hostile.write_png(20_000, 20_000, 2000), [413], id="decompression bomb"),
        pytest.param(b'{"images": [', [400], id="broken JSON"),
        pytest.param(b'{"images": ["' + bytes(range(128, 256)) * 50_000, [400], id="JSON in no encoding"),
        pytest.param(b"[" * 100_000, [400], id="JSON 100,000 deep"),
    ],
)
def test_both_servers_give_the_same_answer_to_whatever_is_sent(
    torchserve_server: Running, fastapi_server: Running, body: bytes, statuses: list[int]
) -> None:
    headers = {"content-type": "application/octet-stream"}
    answer, other = (server.service.predict(body, headers=headers) for server in (torchserve_server, fastapi_server))
    content = answer.json()
    assert (other.status_code, other.json()) == (answer.status_code, content)
    predictions = content.get("predictions", [content])
    assert [each.get("status", 200) for each in predictions] == statuses
    assert all(each["label"] == "7" if "label" in each else each["error"] for each in predictions)
    assert answer.status_code == (200 if "predictions" in content else statuses[0])


def test_a_body_over_the_limit_is_refused(server: Running) -> None:
    assert server.service.predict(bytes(17_000_000)).status_code == 413


def test_forms_are_read_as_programs_write_them(server: Running) -> None:
    part = b'--XX\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    two_parts = part % (b"data", b"seven") + part % (b"image", SEVEN) + b"--XX--\r\n"
    expected = server.service.predict(SEVEN).json()
    for body, content_type in (
        (two_parts, 'Multipart/Form-Data; Boundary="XX"'),
        (f"note=seven&image={quote(SEVEN, safe='')}".encode(), "application/x-www-form-urlencoded"),
        (f"list={quote(write_list(BASE64), safe='')}".encode(), "application/x-www-form-urlencoded"),
    ):
        answer = server.service.predict(body, headers={"content-type": content_type}).json()
        assert answer.get("predictions", [answer]) == [expected], (body[:200], content_type)
    cut_off = server.service.predict(two_parts[:-20], headers={"content-type": "multipart/form-data; boundary=XX"})
    assert (cut_off.status_code, cut_off.json()["status"]) == (400, 400), cut_off.text


def test_the_documented_lines_of_curl_work(server: Running) -> None:
    block = (ROOT / "docs/serving.md").read_text().split("```bash\n")[1].split("```")[0]
    lines = block.splitlines()
    assert len(lines) == 5
    for line in lines:
        typed = line.replace("http://127.0.0.1:8080", server.service.inference)
        done = subprocess.run(["bash", "-c", typed], cwd=ROOT, capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        assert answer.get("predictions", [answer])[0]["label"] == "7", line


def test_requests_of_a_batch_get_their_own_answers(server: Running) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda body: server.service.predict(body).status_code, [SEVEN, b"no image"] * 100)
    assert list(answers) == [200, 400] * 100


def test_no_header_of_a_client_disturbs_the_others(torchserve_server: Running) -> None:
    """TorchServe passes every header on to the handler, in which `describe` asks for model_info.json."""

    def ask(headers: dict[str, str]) -> tuple[int, bool]:
        answer = torchserve_server.service.predict(SEVEN, headers=headers)
        return answer.status_code, "hyperparameters" in answer.text

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, [{"describe": "True"}, {}] * 120)) == {(200, False)}


def test_a_list_of_large_pictures_is_answered_as_far_as_its_time_reaches(torchserve_server: Running) -> None:
    blank = base64.b64encode(encode(Image.new("L", (7000, 3500)))).decode()
    answer = torchserve_server.service.predict(write_list(*[blank] * 256))
    statuses = [each["status"] for each in answer.json()["predictions"]]
    read = statuses.index(413)
    assert statuses == [422] * read + [413] * (256 - read)
    assert read > 0


def test_torchserve_describes_the_model(torchserve_server: Running, int8_archive: Path) -> None:
    (described,) = torchserve_server.service.manage("GET", "/mnist", params={"customized": "true"})
    assert described["customizedMetadata"] == small_model.info_of(int8_archive)


def test_metrics_count_requests_errors_latency_scores_and_batches(server: Running, images: torch.Tensor) -> None:
    pictures = [encode(image[0]) for image in images]
    answers = [server.service.predict(picture).json() for picture in pictures]
    scores = [answer["is_digit"] if answer.get("digit") is not None else 1.0 for answer in answers]
    assert min(scores) < DOUBT
    doubtful = pictures[int(np.argmin(scores))]
    before = settled_metrics(server)
    for body in [doubtful] * 5 + [b"no image"] * 2 + [BLANK]:
        server.service.predict(body)
    after = settled_metrics(server)

    def grown(name: str, label: str = "") -> float:
        names = [key for key in after if key.split("{")[0] == name and label in key]
        return sum(after[key] - before.get(key, 0.0) for key in names)

    if server.service.management:
        assert grown("ts_inference_requests_total") == 8
        assert grown("mnist_batches_total", 'Size="1"') == 8  # of requests; FastAPI's are of images
    else:
        assert [grown("mnist_requests_total", f'Status="{status}"') for status in (200, 400, 422)] == [5, 2, 1]
        assert grown("mnist_batches_total") >= 5
    assert [grown("mnist_errors_total", f'Status="{status}"') for status in (400, 422)] == [2, 1]
    assert grown("mnist_low_scores_total") == 5
    assert grown("mnist_latency_seconds_count") == grown("mnist_latency_seconds_bucket", 'le="10.0"') == 8
    assert 0 < grown("mnist_latency_seconds_sum") < 8


def settled_metrics(server: Running) -> dict[str, float]:
    """The metrics once they have stopped growing: TorchServe's worker prints them in a thread of its own."""
    reading: dict[str, float] = {}
    while True:
        previous = reading
        text = server.service.send("GET", f"{server.service.metrics}/metrics", "management").text
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(("mnist_", "ts_inference"))]
        reading = {name: float(value) for name, value in lines}
        if reading == previous:
            return reading
        time.sleep(0.5)
