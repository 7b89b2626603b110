"""What the FastAPI server makes of its options and of bodies, without a process."""

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.small_model import HANDLERS
from starlette.requests import Request

from mnist_pipeline import serve
from mnist_pipeline.serving.receiving import Admission, read_body

SEVEN = (HANDLERS / "digits/7.png").read_bytes()


@pytest.mark.parametrize("host", ["", "192.0.2.1", "127.0.0.1"])
def test_an_address_that_cannot_be_opened_is_named(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(serve.ServeError, match="--host"):
        serve.listen(host, taken.getsockname()[1])


def test_the_environments_values_lose_the_white_space_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["serve"])
    values = {"PORT": "8081\n", "HOST": " ::1\n", "CERTIFICATE": "\n", "ARCHIVE": "a.mar\n", "TOKEN": "\n"}
    for name, value in values.items():
        monkeypatch.setitem(os.environ, f"MNIST_{name}", value)
    options = serve.parse_options()
    assert (options.port, options.host, options.certificate, options.archive) == (8081, "::1", None, Path("a.mar"))
    with pytest.raises(serve.ServeError, match="MNIST_TOKEN"):  # of white space alone; it must not mean "no token"
        serve.read_token(options.token)
    assert serve.read_token("\t s3 cret\r\n") == "s3 cret"
    monkeypatch.setitem(os.environ, "MNIST_PORT", "tcp://10.0.0.1:8080")
    with pytest.raises(SystemExit):
        serve.parse_options()


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "sécret"])
def test_a_token_that_no_header_can_carry_is_refused(text: str) -> None:
    with pytest.raises(serve.ServeError, match="MNIST_TOKEN"):
        serve.read_token(text)


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(SEVEN, FORM), (b'{"images": ["QUI="]}', FORM), (b"a=b", "image/png"), (b"a=b&" * 101, FORM)],
)
def test_what_is_no_form_is_left_as_it_is(body: bytes, content_type: str) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request({"type": "http", "headers": [(b"content-type", content_type.encode())]}, receive)
    with Admission().admit("") as hold:
        assert asyncio.run(read_body(request, hold)) == body
