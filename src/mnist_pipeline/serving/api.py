"""The web application of an archive's model: what TorchServe answers at the same addresses, without TorchServe.

It imports no PyTorch. What is read and answered is the archive's own code; this turns HTTP into its calls and back.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from mnist_pipeline.serving.answer import BUSY, RETRY_AFTER
from mnist_pipeline.serving.archived import ArchivedModel
from mnist_pipeline.serving.batching import Batcher, Busy
from mnist_pipeline.serving.description import describe
from mnist_pipeline.serving.metrics import Metrics
from mnist_pipeline.serving.receiving import Refused, check_token, read_body


def create_app(model: ArchivedModel, *, page: Path | None = None, token: str = "") -> FastAPI:
    """Make the application.

    Args:
        model: what `open_archive` opens.
        page: a folder with index.html, shown at /; None shows the description of the API there.
        token: what a client must send as `Authorization: Bearer <token>`; empty: nothing.
    """
    metrics = Metrics()
    batcher = Batcher(model, metrics.count_batch)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    app = FastAPI(title="Model mnist", description=f"Weights {model.info['weights']}", lifespan=lifespan)
    app.state.draining = False

    async def answer(request: Request, explain: bool = False) -> Response:
        start, answered = time.perf_counter(), None
        try:
            check_token(request, token)
            with batcher.admit() as receive:
                answered = await batcher.answer(await read_body(request, receive), explain)
            response = Response(answered.body, answered.status, media_type="application/json")
        except Refused as refused:
            response = refused.response
        except Busy:
            response = Refused(BUSY.status, BUSY.message, {"Retry-After": RETRY_AFTER}).response
        metrics.record(response.status_code, time.perf_counter() - start, answered)
        if app.state.draining:
            response.headers["Connection"] = "close"  # the client's next request goes to the process that takes over
        return response

    async def predict(request: Request) -> Response:
        """What the picture shows, or each picture of a list."""
        return await answer(request)

    async def explain(request: Request) -> Response:
        """The same for one digit, with the image that the network saw and what each pixel adds to the answer."""
        return await answer(request, explain=True)

    described = describe(model)
    addresses = {"/predictions/mnist": predict, "/explanations/mnist": explain}
    # As KServe's clients and SageMaker ask.
    addresses |= {"/v1/models/mnist:predict": predict, "/invocations": predict}
    for address, endpoint in addresses.items():
        app.post(address, **described)(endpoint)
        app.put(address, include_in_schema=False)(endpoint)  # what curl -T sends
    app.get("/ping")(lambda: {"status": "Healthy"})
    app.get("/model")(lambda: {"weights": model.info["weights"], "class_names": model.info["class_names"]})

    @app.get("/ready")
    def show_readiness() -> Response:
        """Whether a load balancer should send requests here."""
        return Response("draining" if app.state.draining else "ready", 503 if app.state.draining else 200)

    @app.get("/metrics")
    def show_metrics(request: Request) -> Response:
        try:
            check_token(request, token)
        except Refused as refused:
            return refused.response
        return metrics.show(batcher.count_waiting())

    if page:
        app.mount("/", StaticFiles(directory=page, html=True))
    return app
