"""deploy/: the manifests against Kubernetes' own schemas and each other, the images' definition, the page's code."""

import copy
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helpers import ROOT

VERSIONS = ("1.27", "1.37")  # the oldest that the manifests' header names, and the newest with schemas here
MANIFESTS = {each["kind"]: each for each in yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())}
POD = MANIFESTS["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]


def validate(manifest: dict[str, Any], version: str) -> None:
    """Hold a manifest to the schema of a version of Kubernetes, which knows every field."""
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"])
def test_kubernetes_knows_every_field_of_the_manifests(kind: str, version: str) -> None:
    validate(MANIFESTS[kind], version)


@pytest.mark.parametrize(
    ("right", "wrong"), [("readinessProbe", "readynessProbe"), ("resources", "resource"), ("securityContext", None)]
)
def test_a_misspelt_field_or_a_wrong_type_is_noticed(right: str, wrong: str | None) -> None:
    manifest = copy.deepcopy(MANIFESTS["Deployment"])
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    if wrong is None:
        container[right]["readOnlyRootFilesystem"] = "yes"
    else:
        container[wrong] = container.pop(right)
    with pytest.raises(kubernetes_validate.ValidationError, match=wrong or "'yes' is not of type"):
        validate(manifest, VERSIONS[-1])


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
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["spec"]["volumes"]}


def test_a_rollout_takes_no_pod_before_another_is_ready() -> None:
    assert MANIFESTS["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    _, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert POD["spec"]["terminationGracePeriodSeconds"] >= int(seconds) + 30


def test_manifest_and_image_agree() -> None:
    containerfile = (ROOT / "deploy/Containerfile").read_text()
    user = POD["spec"]["securityContext"]["runAsUser"]
    assert containerfile.count(f"\nUSER {user}:{user}\n") == 2
    assert f"\nEXPOSE {CONTAINER['ports'][0]['containerPort']}\n" in containerfile
