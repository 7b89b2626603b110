"""A peer: LitServe with the network and the reading code of an archive. MODEL names its folder, PORT the port."""

import os
from pathlib import Path
from typing import Annotated

import cv2
import litserve
from fastapi import Body, Response
from mnist_model.serving import answer, loading


class MnistAPI(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = loading.load(Path(os.environ["MODEL"]))
        cv2.setNumThreads(1)  # as in handlers/mnist_handler.py

    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    def predict(self, bodies: list[bytes]) -> list[answer.Response]:
        return self.model.answer(bodies)

    def encode_response(self, response: answer.Response) -> Response:
        return Response(response.body, response.status, media_type="application/json")


if __name__ == "__main__":
    # LitServe's page "Batching" asks for these two; the values are those of handlers/model-config.yaml. (A timeout of 0
    # makes its worker poll without a pause.)
    api = MnistAPI(max_batch_size=32, batch_timeout=0.001)
    # LitServer's docstring: fast_queue (ZeroMQ) above 100 requests/s, and as many API servers as workers, which is the
    # default. One worker, whose ONNX Runtime has a thread for each core, as this project's.
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run("127.0.0.1", int(os.environ["PORT"]), log_level="warning", generate_client_file=False)
