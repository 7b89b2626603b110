"""From an HTTP request to its body, or to the response that refuses it before the model sees it."""

import asyncio
import hmac
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response

from mnist_pipeline.serving.answer import choose_body

MAX_BODY = 16 * 1024**2  # bytes, as in handlers/config.properties
MAX_SECONDS = 60.0  # in which a body must have come
URL_ENCODED = re.compile(rb"[\w.*+%~-]+=[!-~]*")  # curl says so of pictures and JSON, too, which have other bytes


class Refused(Exception):
    """A request that the model does not see, with the response that says why."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        content = json.dumps({"error": message, "status": status})
        self.response = Response(content, status, headers, "application/json")


def check_token(request: Request, token: str) -> None:
    """Raise Refused where the request lacks the token."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token and not (scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())):
        raise Refused(401, "the header Authorization must be: Bearer <token>", {"WWW-Authenticate": "Bearer"})


async def read_body(request: Request, receive: Callable[[int], None]) -> Any:
    """The body, or of a form the field with the picture.

    Args:
        request: whose body is read.
        receive: is told of the bytes that come.

    Raises:
        Refused: it is too long or comes too slowly.
    """
    length = int(request.headers.get("content-length", 0))
    if length > MAX_BODY:
        raise Refused(413, f"the body has {length} bytes; at most {MAX_BODY} are taken")
    body = bytearray()
    try:
        async with asyncio.timeout(MAX_SECONDS):
            async for part in request.stream():
                receive(len(part))
                body += part
                if len(body) > MAX_BODY:
                    raise Refused(413, f"the body has more than {MAX_BODY} bytes")
    except TimeoutError:
        raise Refused(408, f"the body was not received within {MAX_SECONDS:g} s") from None
    fields = {"body": bytes(body)}
    is_form = request.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded")
    if is_form and URL_ENCODED.fullmatch(body):
        pairs = parse_qsl(body.decode(), encoding="latin-1")  # any bytes
        fields = {name: value.encode("latin-1") for name, value in pairs}
    return choose_body(fields)
