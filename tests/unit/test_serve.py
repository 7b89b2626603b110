"""What the FastAPI server makes of its options, of the token and of forms, without a process."""

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from helpers.small_model import HANDLERS
from starlette.requests import Request

from mnist_pipeline import serve
from mnist_pipeline.serving.receiving import Admission, Refused, check_token, read_body

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
    monkeypatch.setitem(os.environ, "MNIST_PORT", "tcp://10.0.0.1:8080")
    with pytest.raises(SystemExit):
        serve.parse_options()


@pytest.mark.parametrize(("text", "token"), [("", ""), ("s3cret\n", "s3cret"), ("\t s3 cret\r\n", "s3 cret")])
def test_a_token_loses_the_white_space_around_it(text: str, token: str) -> None:
    assert serve.read_token(text) == token


@pytest.mark.parametrize("text", [" ", "a\nb", "a\0b", "sécret"])
def test_a_token_that_no_header_can_carry_is_refused(text: str) -> None:
    with pytest.raises(serve.ServeError, match="MNIST_TOKEN"):
        serve.read_token(text)


def make_request(body: bytes = b"", **headers: str) -> Request:
    """A request with these headers, whose names have underscores for hyphens."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


@pytest.mark.parametrize("header", ["Bearer s3cret", "bearer   s3cret "])
def test_the_scheme_of_a_token_has_no_case(header: str) -> None:
    check_token(make_request(authorization=header), "s3cret")


@pytest.mark.parametrize("header", ["s3cret", "Bearer", "Basic s3cret", "Bearer S3cret", "Bearer s\xe9"])
def test_another_token_is_refused(header: str) -> None:
    with pytest.raises(Refused):
        check_token(make_request(authorization=header), "s3cret")


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"note=seven&image=" + quote_from_bytes(SEVEN, "").encode(), FORM, SEVEN),
        (b"data=%7B%22images%22%3A+%5B%5D%7D", FORM.upper() + "; charset=utf-8", b'{"images": []}'),
        (SEVEN, FORM, SEVEN),
        (b'{"images": ["QUI="]}', FORM, b'{"images": ["QUI="]}'),
        (b"a=b", "image/png", b"a=b"),
        (b"a=b&" * 101, FORM, b"a=b&" * 101),
    ],
)
def test_a_form_of_another_kind_is_read_byte_for_byte(body: bytes, content_type: str, expected: bytes) -> None:
    request = make_request(body, content_type=content_type)
    with Admission().admit("") as hold:
        assert asyncio.run(read_body(request, hold)) == expected
