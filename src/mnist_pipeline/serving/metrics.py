"""What Prometheus reads of the FastAPI server: the names and meanings of handlers/metrics.yaml."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mnist_pipeline.serving.answer import DOUBT, Response


class Metrics:
    """Counts of one application."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter("mnist_requests", "Requests by status.", ["Status"], registry=registry)
        self.errors = Counter("mnist_errors", "Pictures without an answer by status.", ["Status"], registry=registry)
        self.low_scores = Counter("mnist_low_scores", f"Digits with a score below {DOUBT}.", registry=registry)
        self.batches = Counter("mnist_batches", "Batches by their images.", ["Size"], registry=registry)
        self.latency = Histogram("mnist_latency_seconds", "From a request to its response.", registry=registry)
        self.waiting = Gauge("mnist_waiting_requests", "Readings and computations that wait.", registry=registry)

    def record(self, status: int, seconds: float, answered: Response | None) -> None:
        self.requests.labels(str(status)).inc()
        self.latency.observe(seconds)
        if answered:
            for rejected in answered.rejected:
                self.errors.labels(str(rejected)).inc()
            self.low_scores.inc(sum(score < DOUBT for score in answered.known))

    def count_batch(self, size: int) -> None:
        self.batches.labels(str(size)).inc()
