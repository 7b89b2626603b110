"""The lines of docs/deploy.md for AWS Lambda, with the events that API Gateway sends."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

pytest.importorskip("mangum", reason="the extras are not installed: make extras")

pytestmark = [pytest.mark.extras, pytest.mark.slow]


def make_event(method: str, path: str, body: bytes = b"") -> dict[str, Any]:
    """An event of API Gateway's HTTP API, format 2.0, with a binary body."""
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "image/png", "content-length": str(len(body)), "host": "example.org"},
        "requestContext": {"http": http, "stage": "$default", "requestId": "1"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def test_the_lines_answer_api_gateways_events(int8_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/deploy.md").read_text(), re.DOTALL)
    monkeypatch.setenv("MNIST_ARCHIVE", str(int8_archive))
    names: dict[str, Any] = {}
    exec(lines, names)
    picture = (ROOT / "tests/images/seven.png").read_bytes()
    for _ in range(2):  # Mangum starts and ends the application with each
        answer = names["handler"](make_event("POST", "/predictions/mnist", picture), None)
        assert answer["statusCode"] == 200, answer
        assert json.loads(answer["body"])["label"] == "7"
    assert names["handler"](make_event("POST", "/predictions/mnist", b"no picture"), None)["statusCode"] == 400
