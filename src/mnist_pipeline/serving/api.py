"""The web application of an archive's model: what TorchServe answers at the same addresses, without PyTorch."""

import asyncio
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from mnist_pipeline.serving.answer import Model
from mnist_pipeline.serving.answer import Response as Answer
from mnist_pipeline.serving.metrics import Metrics
from mnist_pipeline.serving.readers import Busy, Readers
from mnist_pipeline.serving.receiving import Admission, Refused, check_token, read_body
from mnist_pipeline.serving.requests import Body, is_json
from mnist_pipeline.serving.work import Work, is_cheap

GONE = 499  # the status that the metrics count where the client has gone before the answer
# What /openapi.json says of a request and its answers.
CONTENT = {
    "image/*": {"schema": {"type": "string", "format": "binary"}},
    "application/json": {"example": {"images": ["<base64>"]}},
}
STATUSES = {400: "no picture", 413: "too large", 422: "nothing to read in it", 503: "busy, send it again"}


def create_app(model: Model, *, page: Path | None = None, token: str = "", readers: Readers | None = None) -> FastAPI:
    """Make the application, which answers with `app.state.model`: another one may take its place at any time.

    `page` is a folder with index.html, which is shown at /. Clients must send `Authorization: Bearer <token>`, unless
    `token` is empty. Without readers a picture has no deadline.
    """
    app = FastAPI(
        title="Model mnist",
        servers=[{"url": "."}],  # relative to openapi.json: a proxy may answer under a prefix
        docs_url=None,  # FastAPI's own page loads its scripts from the internet
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: show_error},
    )
    metrics = Metrics()
    work = Work(readers, metrics.count_batch)
    metrics.waiting.set_function(work.count_waiting)
    app.state.model, app.state.token, app.state.metrics = model, token, metrics
    app.state.admission, app.state.work = Admission(), work
    responses: dict[int | str, dict[str, Any]] = {status: {"description": text} for status, text in STATUSES.items()}
    # The last two: as KServe's clients and SageMaker ask.
    for address in ("/predictions/mnist", "/v1/models/mnist:predict", "/invocations"):
        app.post(address, openapi_extra={"requestBody": {"content": CONTENT}}, responses=responses)(predict)
        app.put(address, include_in_schema=False)(predict)  # what curl -T sends
    shown = (("/ping", show_life), ("/ready", show_life), ("/model", show_model), ("/metrics", show_metrics))
    for address, show in shown:
        app.get(address)(show)
        app.head(address, include_in_schema=False)(show)
    if page:
        app.router.default = StaticFiles(directory=page, html=True)  # what is at no other address
    return app


# What the docstrings of the endpoints say is shown in /openapi.json.


async def predict(request: Request) -> Response:
    """What the picture shows, or each picture of a list."""
    start = time.perf_counter()
    state = request.app.state
    answered: Answer | None = None
    client = request.client.host if request.client else ""
    try:
        check_token(request, state.token)
        with state.admission.admit(client) as hold:
            answered = await answer(request, await read_body(request, hold), client)
        response = Response(answered.body, answered.status, media_type="application/json")
    except Refused as refused:
        response = await show_error(request, refused)
    except Busy:
        busy = HTTPException(503, "the server is busy; send the request again", {"Retry-After": "1"})
        response = await show_error(request, busy)
    except ClientDisconnect:
        response = Response(status_code=GONE)  # nobody gets it
    state.metrics.record(response.status_code, time.perf_counter() - start, answered)
    return response


async def answer(request: Request, body: Body, client: str) -> Answer:
    """The answer to a request; where the client goes before, it is given up. Raises Busy and ClientDisconnect."""
    work: Work = request.app.state.work
    running = work.answer(request.app.state.model, body, client)
    if is_cheap(body) and not is_json(body):
        return await running  # over before a client could go
    answering, gone = asyncio.ensure_future(running), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        answering.cancel()
        gone.cancel()


def show_life() -> dict[str, str]:
    """Whether the process is alive, and ready to answer."""
    return {"status": "Healthy"}


def show_model(request: Request) -> dict[str, Any]:
    """The weights and the names of the classes."""
    info = request.app.state.model.info
    return {"weights": info["weights"], "class_names": info["class_names"]}


def show_metrics(request: Request) -> Response:
    """Prometheus: requests, errors, latency, batch sizes."""
    check_token(request, request.app.state.token)
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def show_error(request: Request, error: HTTPException) -> Response:
    """The response to a request that the model does not see."""
    headers = dict(error.headers or {})
    if error.status_code == 405:
        matching = [route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE]
        methods = {method for route in matching for method in route.methods} or {"GET", "HEAD"}  # the page's files
        headers["Allow"] = ", ".join(sorted(methods))
    return JSONResponse({"error": error.detail, "status": error.status_code}, error.status_code, headers)
