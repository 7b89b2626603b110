"""deploy/: the manifests against Kubernetes' own schemas, each other and the images; the images' health check."""

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helpers import ROOT

VERSIONS = ("1.27", "1.37")  # the oldest that the manifests' header names, and the newest with schemas here
MANIFESTS = {each["kind"]: each for each in yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())}
POD = MANIFESTS["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"])
def test_kubernetes_knows_every_field_of_the_manifests(kind: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[kind], version, strict=True)


def test_the_manifests_name_each_other() -> None:
    labels = POD["metadata"]["labels"].items()
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert MANIFESTS[kind]["spec"]["selector"]["matchLabels"].items() <= labels
    assert MANIFESTS["Service"]["spec"]["selector"].items() <= labels
    target = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = MANIFESTS["Deployment"]
    assert target == {key: deployment[key] for key in ("apiVersion", "kind")} | {"name": deployment["metadata"]["name"]}
    ports = {port["name"] for port in CONTAINER["ports"]}
    assert {port["targetPort"] for port in MANIFESTS["Service"]["spec"]["ports"]} <= ports
    assert {CONTAINER[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "readiness", "liveness")} <= ports
    volumes = {volume["name"] for volume in POD["spec"]["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == volumes


def test_manifest_and_image_agree() -> None:
    # For a Service `mnist`, Kubernetes would otherwise set MNIST_PORT to tcp://ADDRESS:80 in each pod.
    assert POD["spec"]["enableServiceLinks"] is False
    containerfile = (ROOT / "deploy/Containerfile").read_text()
    user = POD["spec"]["securityContext"]["runAsUser"]
    assert containerfile.count(f"\nUSER {user}:{user}\n") == 2
    assert f"\nEXPOSE {CONTAINER['ports'][0]['containerPort']}\n" in containerfile


class Server(BaseHTTPRequestHandler):
    """Answers `/ready` with 200 and anything else with 503."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()
        self.wfile.write(b"READY")

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def test_the_health_check_fails_unless_the_server_says_that_it_is_ready() -> None:
    def check(*arguments: str, **environment: str) -> int:
        command = [sys.executable, str(ROOT / "deploy/healthcheck.py"), *arguments]
        proxy = {"http_proxy": "http://127.0.0.1:9"}  # which is not to be asked
        done = subprocess.run(command, env=proxy | environment, stderr=subprocess.PIPE, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        port = str(server.server_port)
        assert check(MNIST_PORT=port) == check(MNIST_PORT=f"{port}\n") == 0
        assert check(f"http://127.0.0.1:{port}/ready", "READY") == 0
        assert check(f"http://127.0.0.1:{port}/ready", "UNLOADED") == 1
        assert check(f"http://127.0.0.1:{port}/models/mnist", "READY") == 1
        server.shutdown()
    assert check(MNIST_PORT=port) == check(MNIST_PORT="99999") == check(MNIST_PORT="abc") == 1
