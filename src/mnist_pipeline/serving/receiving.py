"""From an HTTP request to its body, or to the response that refuses it before the model sees it."""

import asyncio
import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from fastapi import HTTPException, Request

from mnist_pipeline.serving.readers import Busy
from mnist_pipeline.serving.requests import MAX_FIELDS, Body, choose_body

MAX_BODY = 16 * 1024**2  # bytes, as in handlers/config.properties
MAX_REQUESTS = 1024  # that are received, wait or are answered
MAX_BYTES = 256 * 1024**2  # of their bodies; one client may have half of it
WINDOW_SECONDS, WINDOW_BYTES = 4.0, 64 * 1024  # in each such time so many bytes of a body must come: 16 KiB/s
DRAIN_BYTES = 16 * MAX_BODY  # of a body that is too long, which are read and thrown away before the answer
URL_ENCODED = re.compile(rb"[\w.*+%~-]+=[!-~]*")  # curl says so of pictures and JSON, too, which have other bytes

Hold: TypeAlias = Callable[[int], None]  # counts bytes of a request's body


class Refused(HTTPException):
    """A request that the model does not see: the status, the reason and headers of its response."""


class Admission:
    """Counts the requests and bytes that are there, and refuses what is too much."""

    def __init__(self) -> None:
        self.requests = 0
        self.bytes: Counter[str] = Counter()  # by client

    @contextmanager
    def admit(self, client: str) -> Iterator[Hold]:
        """Admit a client's request before its body is received; what is yielded counts its bytes. Both raise Busy."""
        if self.requests >= MAX_REQUESTS:
            raise Busy
        held: list[int] = []

        def hold(length: int) -> None:
            if self.bytes[client] + length > MAX_BYTES // 2 or self.bytes.total() + length > MAX_BYTES:
                raise Busy
            self.bytes[client] += length
            held.append(length)

        self.requests += 1
        try:
            yield hold
        finally:
            self.requests -= 1
            self.bytes[client] -= sum(held)
            self.bytes += Counter()  # forgets clients without bytes


def check_token(request: Request, token: str) -> None:
    """Raise Refused where the request lacks the token."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token and not (scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())):
        raise Refused(401, "the header Authorization must be: Bearer <token>", {"WWW-Authenticate": "Bearer"})


async def read_body(request: Request, hold: Hold) -> Body:
    """The body, or of a form the field with the picture. Raises Refused, Busy and ClientDisconnect."""
    body = await receive(request, hold)
    fields: dict[str, Any] = {"body": body}
    is_form = request.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded")
    if is_form and URL_ENCODED.fullmatch(body):
        with suppress(ValueError):  # more fields than a form has
            pairs = parse_qsl(body.decode(), encoding="latin-1", max_num_fields=MAX_FIELDS)  # any bytes
            fields = {name: value.encode("latin-1") for name, value in pairs}
    return choose_body(fields)


async def receive(request: Request, hold: Hold) -> bytes:
    """The bytes of a body. Raises Refused, Busy and ClientDisconnect."""
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    total = in_window = 0
    try:
        async with asyncio.timeout(WINDOW_SECONDS) as window:
            async for part in request.stream():
                total, in_window = total + len(part), in_window + len(part)
                if in_window >= WINDOW_BYTES:
                    in_window = 0
                    window.reschedule(loop.time() + WINDOW_SECONDS)
                if total <= MAX_BODY:
                    hold(len(part))
                    parts.append(part)
                elif total > DRAIN_BYTES:
                    break
    except TimeoutError:
        rate = f"{WINDOW_BYTES / WINDOW_SECONDS / 1024:g} KiB a second"
        raise Refused(408, f"the body came too slowly; send {rate}", {"Connection": "close"}) from None
    if total > MAX_BODY:
        raise Refused(413, f"the body has more than {MAX_BODY} bytes", {"Connection": "close"})
    return b"".join(parts)
