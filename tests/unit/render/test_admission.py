"""What a real API server, its admission and its controllers refuse or never finish, and no schema holds.

Written from Kubernetes' own validation (pkg/apis/*/validation) and the Pod Security Standard `restricted`. Every
example in every packaging is asked, and fleets whose names are as long as a name may be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from seawall.render.everything import render
from seawall.render.inputs import Group, Object
from seawall.render.replica.weights import job_pattern

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
NAME_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
ENV = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
PORT = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]([a-z0-9]|-(?!-))*(?<!-)")
UNITS = {"": 1, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
AS_LABEL = {"Service", "Deployment", "Job", "LeaderWorkerSet", "Namespace", "ScaledObject"}
"""Their names become label values or DNS names of what they make."""
GIVEN_CLASSES = {"system-cluster-critical", "system-node-critical"}


def amount(text: str) -> float:
    m = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text)
    assert m and m[2] in UNITS, f"{text} is no quantity"
    return float(m[1]) * UNITS[m[2]]


def templates(obj: Object) -> Iterator[Object]:
    spec = obj.get("spec", {})
    if obj["kind"] in ("Deployment", "Job"):
        yield spec["template"]
    if obj["kind"] == "LeaderWorkerSet":
        yield spec["leaderWorkerTemplate"]["leaderTemplate"]
        yield spec["leaderWorkerTemplate"]["workerTemplate"]


def containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def check_metadata(metadata: Object, kind: str) -> None:
    name = metadata.get("name", "x")
    assert SUBDOMAIN.fullmatch(name) and len(name) <= 253, f"{kind} {name}"
    if kind in AS_LABEL:
        assert LABEL.fullmatch(name), f"{kind} {name}"
    if kind == "Service":
        assert name[0].isalpha(), name
    for key in (*metadata.get("labels", {}), *metadata.get("annotations", {})):
        prefix, _, part = key.rpartition("/")
        assert NAME_PART.fullmatch(part) and (not prefix or SUBDOMAIN.fullmatch(prefix)), key
    for key, value in metadata.get("labels", {}).items():
        assert value == "" or NAME_PART.fullmatch(value), f"{kind} {name}: {key}: {value}"
    assert len(json.dumps(metadata.get("annotations", {}))) < 256 * 1024


def check_container(container: Object, pod: Object) -> None:
    name, volumes = container["name"], {v["name"] for v in pod.get("volumes", [])}
    assert LABEL.fullmatch(name)
    ports = [p["name"] for p in container.get("ports", [])]
    assert len(ports) == len(set(ports)) and all(map(PORT.fullmatch, ports)), ports
    names = [e["name"] for e in container.get("env", [])]
    assert len(names) == len(set(names)) and all(map(ENV.fullmatch, names)), names
    assert {m["name"] for m in container.get("volumeMounts", [])} <= volumes, name
    requests, limits = container["resources"]["requests"], container["resources"].get("limits", {})
    for what, asked in requests.items():
        assert amount(asked) <= amount(limits.get(what, asked)), f"{name} {what}"
        assert "/" not in what or limits[what] == asked, f"{name}: {what} cannot be overcommitted"
    assert {"cpu", "memory"} <= set(requests), name
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container.get(kind, {})
        for field in ("periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold"):
            assert probe.get(field, 1) >= 1, f"{name} {kind}.{field}"
        assert kind == "readinessProbe" or probe.get("successThreshold", 1) == 1
        assert len({"exec", "httpGet", "tcpSocket", "grpc"} & set(probe)) == bool(probe)
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds")
    assert pause is None or 1 <= pause < pod["terminationGracePeriodSeconds"]


def check_pod(template: Object, kind: str) -> None:
    pod, tags = template["spec"], template["metadata"]["labels"]
    check_metadata(template["metadata"], "Pod")
    names = [c["name"] for c in containers(pod)]
    assert len(names) == len(set(names))
    volumes = [v["name"] for v in pod.get("volumes", [])]
    assert len(volumes) == len(set(volumes)) and all(map(LABEL.fullmatch, volumes))
    for container in containers(pod):
        check_container(container, pod)
    assert pod.get("restartPolicy", "Always") in (("Never", "OnFailure") if kind == "Job" else ("Always",))
    for spread in pod.get("topologySpreadConstraints", []):
        match = spread["labelSelector"]["matchLabels"]
        assert match.items() <= tags.items()
        assert not set(spread.get("matchLabelKeys", [])) & set(match)
        # One node, one zone, or a surge on full nodes must not leave a Pod waiting for ever.
        assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    for toleration in pod.get("tolerations", []):
        assert toleration.get("operator") != "Exists" or "value" not in toleration
    check_scratch(pod)


def check_scratch(pod: Object) -> None:
    """Scratch volumes that are filled to their own limits do not get the Pod evicted or killed."""
    limits = [c["resources"].get("limits", {}) for c in pod["containers"]]
    disk = sum(amount(x["ephemeral-storage"]) for x in limits if "ephemeral-storage" in x)
    memory = sum(amount(x["memory"]) for x in limits)
    scratch = [v["emptyDir"] for v in pod.get("volumes", []) if "emptyDir" in v]
    assert all("sizeLimit" in s for s in scratch)
    assert sum(amount(s["sizeLimit"]) for s in scratch if s.get("medium") != "Memory") <= disk
    assert sum(amount(s["sizeLimit"]) for s in scratch if s.get("medium") == "Memory") < memory


def check_restricted(pod: Object) -> None:
    """Pod Security Standard `restricted`, as of Kubernetes 1.37, for every container and init container."""
    kinds = {k for v in pod.get("volumes", []) for k in v} - {"name"}
    assert kinds <= {"configMap", "emptyDir", "secret", "persistentVolumeClaim", "projected", "downwardAPI",
                     "csi", "ephemeral", "image"}  # fmt: skip
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod)
    whole = pod.get("securityContext", {})
    for container in containers(pod):
        own = container.get("securityContext", {})
        assert own.get("allowPrivilegeEscalation") is False and not own.get("privileged")
        assert own["capabilities"]["drop"] == ["ALL"] and not own["capabilities"].get("add")
        assert own.get("runAsNonRoot", whole.get("runAsNonRoot")) is True
        assert own.get("runAsUser", whole.get("runAsUser")) != 0
        assert own.get("seccompProfile", whole.get("seccompProfile"))["type"] == "RuntimeDefault"
        assert all("hostPort" not in p for p in container.get("ports", []))
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert "host" not in container.get(probe, {}).get("httpGet", {})


def check_workload(obj: Object) -> None:
    spec = obj["spec"]
    if obj["kind"] != "Deployment":
        return
    match = spec["selector"]["matchLabels"]
    assert match.items() <= spec["template"]["metadata"]["labels"].items()
    assert spec["progressDeadlineSeconds"] > spec.get("minReadySeconds", 0)
    rolling = spec["strategy"].get("rollingUpdate")
    assert (rolling is None) == (spec["strategy"]["type"] == "Recreate")
    assert rolling is None or rolling["maxSurge"] or rolling["maxUnavailable"]
    starting = [c["startupProbe"] for c in containers(spec["template"]["spec"]) if "startupProbe" in c]
    budget = sum(p["periodSeconds"] * p["failureThreshold"] for p in starting)
    assert budget < spec["progressDeadlineSeconds"], "reported as failed while it may still start"


def check_object(obj: Object) -> None:
    kind, spec = obj["kind"], obj.get("spec", {})
    if kind == "ConfigMap":
        assert sum(len(v.encode()) for v in obj["data"].values()) < 2**20
        assert all(re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", k) for k in obj["data"])
    if kind == "PersistentVolumeClaim":
        assert amount(spec["resources"]["requests"]["storage"]) > 0 and len(spec["accessModes"]) == 1
    if kind == "PodDisruptionBudget":
        assert ("maxUnavailable" in spec) != ("minAvailable" in spec)
    if kind == "HorizontalPodAutoscaler":
        assert 1 <= spec.get("minReplicas", 1) <= spec["maxReplicas"]
    if kind == "ScaledObject":
        assert 0 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
        assert "idleReplicaCount" not in spec or spec["idleReplicaCount"] < spec["minReplicaCount"]
        names = [t.get("name") for t in spec["triggers"]]
        assert len(names) == len(set(names))
        assert all(t["type"] not in ("cpu", "memory") for t in spec["triggers"]) or "fallback" not in spec
    if kind == "Service":
        ports = [p["name"] for p in spec["ports"]]
        assert len(ports) == len(set(ports)) and all(map(LABEL.fullmatch, ports))
    if kind == "HTTPRoute":
        assert len(spec["rules"]) <= 16 and len(spec.get("hostnames", [])) <= 16


def check_all(objects: list[Object]) -> None:
    keys = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
    assert len(keys) == len(set(keys))
    classes = {o["metadata"]["name"] for o in objects if o["kind"] == "PriorityClass"} | GIVEN_CLASSES
    levels = {
        o["metadata"]["name"]: o["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
        for o in objects
        if o["kind"] == "Namespace"
    }
    for obj in objects:
        check_metadata(obj["metadata"], obj["kind"])
        check_object(obj)
        for template in templates(obj):
            check_pod(template, obj["kind"])
            check_workload(obj)
            pod = template["spec"]
            assert pod.get("priorityClassName") in {None, *classes}, (
                "its class exists nowhere: Pods are refused"
            )
            if levels.get(obj["metadata"].get("namespace")) != "privileged":
                check_restricted(pod)


def test_every_example_is_admitted_in_every_packaging(forms: dict[str, list[Object]]) -> None:
    for form, objects in forms.items():
        try:
            check_all(objects)
        except AssertionError as e:
            raise AssertionError(f"{form}: {e}") from e


VARIANTS = {
    "plain": "",
    "canary": "  rollout: {canary: {candidate: {version: 0.31.0, source: 'hf://a/b', revision: c}}}\n"
    "  gateway: {route: gateway-api, parentGateway: infra/web, hosts: [llm.example.com]}\n",
    "pool": "  gateway: {route: inference-pool, parentGateway: infra/web}\n",
    "hpa": "",
    "spot": "",
    "adapters": "",
    "node-local": "  cache: {kind: node-local, tokenSecret: hub}\n",
    "oci": "  cache: {kind: oci, image: 'models/llama@sha256:0000'}\n",
}
CHANGES: dict[str, Any] = {
    "hpa": ("scaling: {", "scaling: {by: hpa, "),
    "spot": ("cloud: gke}", "cloud: gke, spot: {onDemandFloor: 1}}"),
    "adapters": ("revision: abc123", "revision: abc123, adapters: [{name: A_b.C, source: 'hf://o/a'}]"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fleet_with_the_longest_name_is_admitted(
    variant: str, group: Callable[..., Group], llama: str
) -> None:
    text = llama.replace("name: llama-70b", f"name: {'l' * 53}").replace(*CHANGES.get(variant, ("", "")))
    check_all(list(render(group(text + VARIANTS[variant])).objects))


@pytest.mark.parametrize("name", ["l" * 53, "llama-70b"])
def test_the_alert_on_weights_knows_every_loader_job(
    name: str, group: Callable[..., Group], llama: str
) -> None:
    text = llama.replace("name: llama-70b", f"name: {name}") + VARIANTS["canary"]
    found = group(text)
    jobs = [o["metadata"]["name"] for o in render(found).objects if o["kind"] == "Job"]
    assert len(jobs) == 2
    for job in jobs:
        # The second is what the Helm chart makes of it for another image.
        for written in (job, f"{job[:56].rstrip('-')}-0a1b2c"):
            assert re.fullmatch(job_pattern(found.first), written), written
    assert not re.fullmatch(job_pattern(found.first), "another-weights-00000000")
