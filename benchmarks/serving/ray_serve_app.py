"""A peer: Ray Serve with the network and the reading code of an archive. MODEL names its folder, PORT the port."""

import asyncio
import os
import signal
import threading
from pathlib import Path

import cv2
import ray
from mnist_model.serving import answer, loading
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


# One replica, whose ONNX Runtime has a thread for each core, as this project's worker. Ray's page "Performance Tuning":
# raise max_ongoing_requests, by default 5, where an async replica should have more: here two batches.
@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class Mnist:
    def __init__(self) -> None:
        self.model = loading.load(Path(os.environ["MODEL"]))
        cv2.setNumThreads(1)  # as in handlers/mnist_handler.py

    # Ray's page "Dynamic Request Batching": a power of 2, and a wait well below the latency that is wanted; both are
    # those of handlers/model-config.yaml.
    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001)
    async def predict(self, bodies: list[bytes]) -> list[answer.Response]:
        # In a thread: Ray's throughput-optimised mode wants no blocking call in the event loop.
        return await asyncio.to_thread(self.model.answer, bodies)

    async def __call__(self, request: Request) -> Response:
        response = await self.predict(await request.body())
        return Response(response.body, response.status, media_type="application/json")


if __name__ == "__main__":
    ray.init("local", include_dashboard=False)
    logging = {"enable_access_log": False}  # none of the servers here writes a line for each request
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])}, logging_config=logging)
    serve.run(Mnist.bind(), logging_config=logging)  # type: ignore[attr-defined]  # of the decorated class
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    stopped.wait()
    serve.shutdown()  # HAProxy would go on without
