"""The baseline: a FastAPI app that runs the network in fp32, one image per request. MODEL names the model folder."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import FastAPI, Request
from PIL import Image

from mnist_pipeline.training import model

app = FastAPI()
network, info = model.load_model(Path(os.environ["MODEL"]))


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    image = Image.open(io.BytesIO(await request.body())).convert("L").resize((28, 28))
    with torch.inference_mode():
        probabilities = network(torch.from_numpy(np.array(image))[None, None]).softmax(1)[0]
    return {"digit": int(probabilities.argmax()), "probabilities": probabilities.tolist()}
