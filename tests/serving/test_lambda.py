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


def test_the_lines_answer_api_gateways_events(int8_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/deploy.md").read_text(), re.DOTALL)
    monkeypatch.setenv("MNIST_ARCHIVE", str(int8_archive))
    names: dict[str, Any] = {}
    exec(lines, names)
    path = "/predictions/mnist"
    http = {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"}
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "image/png", "host": "example.org"},
        "requestContext": {"http": http, "stage": "$default", "requestId": "1"},
        "isBase64Encoded": True,
    }
    seven = (ROOT / "tests/images/seven.png").read_bytes()
    for body, status in ((seven, 200), (seven, 200), (b"no picture", 400)):  # Mangum starts the application each time
        answer = names["handler"](event | {"body": base64.b64encode(body).decode()}, None)
        assert answer["statusCode"] == status, answer
        assert json.loads(answer["body"]).get("label") == ("7" if status == 200 else None)
