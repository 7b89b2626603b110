"""The bytes of a request -> the encoded pictures in it: a picture, a form with one, or JSON with many."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

Body: TypeAlias = bytes | bytearray | dict[str, Any] | list[Any]  # the last two: JSON that a server has parsed already

MAX_IMAGES = 256  # per request; with more, the requests behind it would wait too long
MAX_FIELDS = 100  # of a form that are looked at
# An opening bracket, after white space and a byte order mark: of UTF-8, or of UTF-16 or UTF-32 with its zero bytes.
JSON_START = re.compile(rb"(?:(?:\xff\xfe|(?:\0\0)?\xfe\xff)[\s\0]*+|(?:\xef\xbb\xbf)?\s*+)[\[{]")
URL_SAFE = str.maketrans("-_", "+/")  # RFC 4648


def is_json(body: Body) -> bool:
    """Whether a request's body is a list of pictures as JSON; no picture starts with a bracket."""
    return isinstance(body, dict | list) or JSON_START.match(body) is not None


def choose_body(fields: Mapping[str, Any]) -> Body:
    """The picture or JSON in a form: its first field that is more than text, `data` and `body` before the others."""
    body = fields.get("body")
    if isinstance(body, bytes | bytearray) and body.startswith(b"--"):
        fields = split_form(bytes(body))
    named = [fields.get("data"), fields.get("body"), *fields.values()]
    filled: list[Body] = [each.encode() if isinstance(each, str) else each for each in named if each]
    return next((each for each in filled if not is_text(each)), filled[0] if filled else b"")


def split_form(body: bytes) -> dict[str, bytes]:
    """The fields of multipart/form-data by their names; its first line is the boundary (RFC 7578)."""
    boundary, _, rest = body.partition(b"\r\n")
    fields = {}
    for part in rest.split(b"\r\n" + boundary, MAX_FIELDS)[:-1]:  # the last is what follows the form
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'\bname="?([^";\r\n]*)', head)
        fields[name[1].decode("latin-1") if name else ""] = content
    return fields


def is_text(body: Body) -> bool:
    """Whether a body is text, in UTF-8, and no JSON."""
    if isinstance(body, dict | list) or is_json(body):
        return False
    try:
        return "\0" not in body.decode()
    except UnicodeDecodeError:
        return False


def parse_list(body: Body) -> list[bytes | ValueError]:
    """The pictures of a JSON request, or errors in their places; raises ValueError where it has another shape."""
    try:
        content: Any = body if isinstance(body, dict | list) else json.loads(body)
        pictures = content["images"] if "images" in content else content["instances"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"  # without the body, which the repr of a UnicodeDecodeError holds
        raise ValueError(f'not the JSON that is understood here, {{"images": ["<base64>", ...]}}: {reason}') from None
    if not isinstance(pictures, list) or not 0 < len(pictures) <= MAX_IMAGES:
        raise ValueError(f'"images" must be a list of 1 to {MAX_IMAGES} base64 strings')
    return [decode_base64(picture) for picture in pictures]


def decode_base64(picture: Any) -> bytes | ValueError:
    """The bytes of a base64 string, or the error where it is something else.

    It may be standard or URL-safe, with or without padding, with line breaks and "data:...;base64,". KServe's clients
    put the string into an object, {"data": ...} or {"image": {"b64": ...}}.
    """
    while isinstance(picture, dict):
        picture = next((picture[key] for key in ("data", "b64", "image", "image_bytes") if key in picture), None)
    if not isinstance(picture, str):
        return ValueError(f"a picture must be a base64 string, not {picture!r:.40}")
    text = "".join(picture.rpartition(",")[2].split()).translate(URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        return error
