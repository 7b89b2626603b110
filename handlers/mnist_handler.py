"""TorchServe's adapter: it turns the server's rows into calls of `answer`, and the responses back.

`mnist_model` travels in the archive: src/mnist_pipeline/serving/archive.py says what is in it.
"""

import json
import logging
import time
from pathlib import Path
from typing import Any

import cv2
from mnist_model.serving import answer, loading
from mnist_model.serving.requests import choose_body
from ts.metrics.metric_type_enum import MetricTypes

METRICS = {  # name -> kind, unit, dimensions: as metrics.yaml has them
    "mnist_batches_total": (MetricTypes.COUNTER, "count", ["Size"]),
    "mnist_errors_total": (MetricTypes.COUNTER, "count", ["Status"]),
    "mnist_low_scores_total": (MetricTypes.COUNTER, "count", []),
    "mnist_latency_seconds": (MetricTypes.HISTOGRAM, "s", []),
}


class MnistHandler:
    """TorchServe creates one per worker, calls `initialize` once and then `handle` with each batch of requests."""

    def initialize(self, context: Any) -> None:
        """Load the model from the unpacked archive."""
        self.model = loading.load(Path(context.system_properties["model_dir"]))
        cv2.setNumThreads(1)  # the network's threads need the CPUs more
        self.metrics = {name: find_metric(context.metrics, name) for name in METRICS}
        silence_all_but_metrics()

    def handle(self, rows: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch of requests: one body for each, status and content type set in the context."""
        start = time.perf_counter()
        # The management API asks what the model is: a row without a field, as is that of an empty form.
        if not any(rows) and context.get_request_header(0, "describe") == "True":
            return [json.dumps(self.model.info).encode() for _ in rows]
        responses = self.model.answer([choose_body(row) for row in rows])
        for i, response in enumerate(responses):
            context.set_response_status(response.status, idx=i)
            context.set_response_content_type(i, "application/json")
        self.record(responses, time.perf_counter() - start)
        return [response.body for response in responses]

    def record(self, responses: list[answer.Response], seconds: float) -> None:
        """Count the batch, rejected pictures, low scores, and each request's time: TorchServe reads a line for each."""
        self.metrics["mnist_batches_total"].add_or_update(1, [str(len(responses))])
        for response in responses:
            self.metrics["mnist_latency_seconds"].add_or_update(seconds, [])
            for status in response.rejected:
                self.metrics["mnist_errors_total"].add_or_update(1, [str(status)])
            if low := sum(score < answer.DOUBT for score in response.known):
                self.metrics["mnist_low_scores_total"].add_or_update(low, [])


def find_metric(cache: Any, name: str) -> Any:
    """A metric of metrics.yaml; where the server runs under other settings it is made here, and not shown."""
    kind, unit, dimensions = METRICS[name]
    if name in cache.cache.get(kind, {}):
        return cache.get_metric(name, kind)
    return cache.add_metric_to_cache(name, unit, dimensions, kind)


def silence_all_but_metrics() -> None:
    """Hide the line that TorchServe's worker logs for each batch. Metrics are log lines too: those of METRICS stay."""
    logging.getLogger().setLevel(logging.WARNING)
    metrics = logging.getLogger("ts.metrics.caching_metric")
    metrics.setLevel(logging.INFO)
    metrics.addFilter(lambda record: record.levelno > logging.INFO or "]mnist_" in record.getMessage())
