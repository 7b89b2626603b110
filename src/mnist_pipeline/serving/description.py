"""What the API's own page /docs shows of a request: an example, and what this model answers to it."""

import base64
import html
import io
import json
from typing import Any

from PIL import Image, ImageDraw

from mnist_pipeline.serving.answer import Model


def describe(model: Model) -> dict[str, Any]:
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


def write_page(description: dict[str, Any]) -> str:
    """The page /docs: addresses and an example, without scripts, and with links that hold under any prefix."""
    title, about = (html.escape(description["info"][key]) for key in ("title", "description"))
    rows = [
        f"<tr><td>{method.upper()}<td>{address.lstrip('/')}<td>{html.escape(operation.get('description', ''))}"
        for address, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    operation = description["paths"]["/predictions/mnist"]["post"]
    contents = operation["requestBody"]["content"], operation["responses"]["200"]["content"]
    sent, answered = (html.escape(json.dumps(each["application/json"]["example"], indent=2)) for each in contents)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ font: 1rem/1.5 sans-serif; margin: 2rem }} pre {{ white-space: pre-wrap; overflow-wrap: anywhere }}
td {{ padding-right: 1rem; vertical-align: top }}</style>
<h1>{title}</h1>
<p>{about}. For programs: <a href="openapi.json">openapi.json</a> (OpenAPI).</p>
<table>{"".join(rows)}</table>
<p>A picture is sent as the body, as a field of a form, or with others as JSON. Such as this, to predictions/mnist:</p>
<pre>{sent}</pre>
<p>The answer:</p>
<pre>{answered}</pre>
</html>
"""
