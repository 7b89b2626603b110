"""The web application of an archive's model: what TorchServe answers at the same addresses, without PyTorch."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from mnist_pipeline.serving.answer import Model
from mnist_pipeline.serving.answer import Response as Answer
from mnist_pipeline.serving.description import describe, write_page
from mnist_pipeline.serving.metrics import Metrics
from mnist_pipeline.serving.readers import Busy, Readers
from mnist_pipeline.serving.receiving import Admission, Refused, check_token, make_busy, read_body
from mnist_pipeline.serving.requests import is_json
from mnist_pipeline.serving.work import Work, is_cheap

GONE = 499  # the status that the metrics count where the client has gone before the answer


class Services:
    """What all requests share, also those to the model before and after a roll-out."""

    def __init__(self, readers: Readers | None = None) -> None:
        self.metrics, self.admission = Metrics(), Admission()
        self.work = Work(readers, self.metrics.count_batch)


def create_app(model: Model, *, page: Path | None = None, token: str = "", services: Services | None = None) -> FastAPI:
    """Make the application. `page` is a folder with index.html, shown at / in place of the API's description.

    Clients must send `Authorization: Bearer <token>`, unless `token` is empty.
    """
    app = FastAPI(
        title="Model mnist",
        description=f"Weights {model.info['weights']}",
        servers=[{"url": "."}],  # relative to openapi.json: a proxy may answer under a prefix
        docs_url=None,  # FastAPI's own page loads its scripts from the internet
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: show_error},
    )
    app.state.model, app.state.token, app.state.services = model, token, services or Services()
    described = describe(model)
    answering = {"/predictions/mnist": predict, "/explanations/mnist": explain}
    answering |= {"/v1/models/mnist:predict": predict, "/invocations": predict}  # as KServe's clients and SageMaker ask
    for address, endpoint in answering.items():
        app.post(address, **described)(endpoint)
        app.put(address, include_in_schema=False)(endpoint)  # what curl -T sends
    shown: dict[str, Callable[..., Any]] = {"/ping": show_life, "/ready": show_readiness}
    shown |= {"/model": show_model, "/metrics": show_metrics}
    for address, show in shown.items():
        app.get(address)(show)
        app.head(address, include_in_schema=False)(show)
    for address in ("/docs",) if page else ("/docs", "/"):
        app.add_route(address, show_description, include_in_schema=False)
    if page:
        app.router.default = Page(directory=page, html=True)  # what is at no other address
    return app


# What the docstrings of the endpoints say is shown on the page /docs.


async def predict(request: Request) -> Response:
    """What the picture shows, or each picture of a list."""
    return await answer(request)


async def explain(request: Request) -> Response:
    """The same for one digit, with the image that the network saw and what each pixel adds to the answer."""
    return await answer(request, explain=True)


def show_readiness() -> Response:
    """Whether a load balancer should send requests here."""
    return Response("ready")


def show_metrics(request: Request) -> Response:
    """Prometheus: requests, errors, latency, batch sizes."""
    services: Services = request.app.state.services
    try:
        check_token(request, request.app.state.token)
    except Refused as refused:
        return refused.response
    return services.metrics.show(services.work.count_waiting())


def show_life() -> dict[str, str]:
    """Whether the process is alive."""
    return {"status": "Healthy"}


def show_model(request: Request) -> dict[str, Any]:
    """The weights and the names of the classes."""
    info = request.app.state.model.info
    return {"weights": info["weights"], "class_names": info["class_names"]}


def show_description(request: Request) -> Response:
    return HTMLResponse(write_page(request.app.openapi()))


async def show_error(request: Request, error: HTTPException) -> Response:
    """The response where an address or a method does not exist."""
    headers = dict(error.headers or {})
    matching = [route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE]
    if methods := {method for route in matching for method in getattr(route, "methods", None) or ()}:
        headers["Allow"] = ", ".join(sorted(methods))
    return Refused(error.status_code, f"{request.method} {request.url.path}: {error.detail}", headers).response


async def answer(request: Request, explain: bool = False) -> Response:
    """Answer a request, or say why not, and count it."""
    start = time.perf_counter()
    services: Services = request.app.state.services
    answered: Answer | None = None
    client = request.client.host if request.client else ""
    try:
        check_token(request, request.app.state.token)
        with services.admission.admit(client) as place:
            answered = await compute_answer(request, await read_body(request, place), client, explain)
        response = Response(answered.body, answered.status, media_type="application/json")
    except Refused as refused:
        response = refused.response
    except Busy:
        response = make_busy().response
    except ClientDisconnect:
        response = Response(status_code=GONE)  # nobody gets it
    services.metrics.record(response.status_code, time.perf_counter() - start, answered)
    return response


async def compute_answer(request: Request, body: Any, client: str, explain: bool) -> Answer:
    """The answer to a request. Raises Busy and ClientDisconnect."""
    model, work = request.app.state.model, request.app.state.services.work
    is_single = not (explain or is_json(body))
    running = work.run(model.answer_request(body, explain), model, client, is_single=is_single)
    if is_single and is_cheap(body):
        return await running
    return await run_until_gone(running, request)


async def run_until_gone(running: Coroutine[Any, Any, Answer], request: Request) -> Answer:
    """What a coroutine returns; where the client goes before, it is given up. Raises ClientDisconnect."""
    answering, gone = asyncio.ensure_future(running), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        answering.cancel()
        gone.cancel()


class Page(StaticFiles):
    """The files of a page, which can only be read."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, {**scope, "method": "GET"})
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        return response
