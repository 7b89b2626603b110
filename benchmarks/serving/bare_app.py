"""A bare FastAPI app with this project's network and reader, in batches as they come: no limits, deadlines or metrics.

MODEL names the folder of an unpacked archive.
"""

import asyncio
import os
from pathlib import Path

from fastapi import FastAPI, Request, Response

from mnist_pipeline.serving import loading

app = FastAPI()
model = loading.load(Path(os.environ["MODEL"]))
waiting: list[tuple[bytes, asyncio.Future[bytes]]] = []
tasks: list[asyncio.Task[None]] = []


async def answer_waiting() -> None:
    while waiting:
        batch = waiting[:32]
        del waiting[:32]
        answers = await asyncio.to_thread(model.answer, [body for body, _ in batch])
        for (_, answered), answer in zip(batch, answers, strict=True):
            answered.set_result(answer.body)


@app.post("/predict")
async def predict(request: Request) -> Response:
    waiting.append((await request.body(), answered := asyncio.get_running_loop().create_future()))
    if not tasks or tasks[0].done():
        tasks[:] = [asyncio.create_task(answer_waiting())]
    return Response(await answered, media_type="application/json")
