"""A plain TorchServe handler: fp32 torch, each request on its own."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mnist_model.training.network import DigitNetwork
from PIL import Image


class PlainHandler:
    def initialize(self, context: Any) -> None:
        folder = Path(context.system_properties["model_dir"])
        info = json.loads((folder / "model_info.json").read_text())
        self.network = DigitNetwork(len(info["class_names"]), **info["normalisation"])
        self.network.load_state_dict(torch.load(folder / info["weights"], weights_only=True))
        self.network.eval()

    def handle(self, rows: list[dict[str, Any]], context: Any) -> list[dict[str, Any]]:
        return [self.predict(row["body"]) for row in rows]

    def predict(self, body: bytes) -> dict[str, Any]:
        image = Image.open(io.BytesIO(body)).convert("L").resize((28, 28))
        with torch.inference_mode():
            probabilities = self.network(torch.from_numpy(np.array(image))[None, None]).softmax(1)[0]
        return {"digit": int(probabilities.argmax()), "probabilities": probabilities.tolist()}
