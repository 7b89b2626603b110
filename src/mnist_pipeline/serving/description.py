"""What the API's own page /docs shows of a request: an example, and what this model answers to it."""

import base64
import io
import json
from typing import Any

from PIL import Image, ImageDraw

from mnist_pipeline.serving.archived import ArchivedModel


def describe(model: ArchivedModel) -> dict[str, Any]:
    """The arguments of FastAPI's decorators that describe a request and its answers."""
    picture = Image.new("L", (56, 56), 255)
    ImageDraw.Draw(picture).line([(18, 14), (38, 12), (24, 44)], 0, 4)
    file = io.BytesIO()
    picture.save(file, "PNG")
    (answered,) = model.answer([file.getvalue()], [False])
    sent = {"images": [base64.b64encode(file.getvalue()).decode()]}
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "properties": {"data": binary["schema"]}}}
    body = {"image/*": binary, "application/json": {"example": sent}, "multipart/form-data": form}
    example = {"content": {"application/json": {"example": json.loads(answered.body)}}}
    statuses = {400: "no picture", 413: "too large", 422: "nothing to read in it", 503: "busy, send it again"}
    responses = {status: {"description": text} for status, text in statuses.items()}
    return {"openapi_extra": {"requestBody": {"content": body}}, "responses": {200: example} | responses}
