"""A plain TorchServe handler: fp32 torch, each request on its own."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mnist_pipeline.training import model


class PlainHandler:
    def initialize(self, context: Any) -> None:
        self.network, _ = model.load_model(Path(context.system_properties["model_dir"]))

    def handle(self, rows: list[dict[str, Any]], context: Any) -> list[dict[str, Any]]:
        return [self.predict(row["body"]) for row in rows]

    def predict(self, body: bytes) -> dict[str, Any]:
        image = Image.open(io.BytesIO(body)).convert("L").resize((28, 28))
        with torch.inference_mode():
            probabilities = self.network(torch.from_numpy(np.array(image))[None, None]).softmax(1)[0]
        return {"digit": int(probabilities.argmax()), "probabilities": probabilities.tolist()}
