"""Each field of a Fleet, changed alone: what it restarts, and that nothing rendered of it is dropped by a server.

The changes are made from the spec's own reference, so that a new field is looked at without being named here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from seawall.config.explain import FieldHelp, every
from seawall.decide.batch.rules import rules_of
from seawall.render.everything import render
from seawall.render.inputs import Group, Object
from seawall.render.names import batch_name
from seawall.testing.kube_strict import rewritten

BASE = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: llama-70b, namespace: llm}
spec:
  model:
    source: hf://meta-llama/Llama-3.1-70B-Instruct
    revision: abc123
    adapters: [{name: sql, source: "hf://example/sql", revision: abc}]
  hardware: {gpu: H100-80GB, cloud: gke, spot: {onDemandFloor: 1}, tolerations: [{key: team}]}
  scaling: {min: 2, max: 6, by: seawall, schedule: [{start: 0 8 * * *, end: 0 18 * * *, min: 3}]}
  rollout: {canary: {candidate: {extraArgs: ["--seed", "7"]}, steps: [{weight: 5}]}}
  gateway: {tenants: [{name: a}], keysSecret: keys, batch: {bucket: "s3://files/lane"}, store: managed}
"""
TEXTS: dict[str, Any] = {
    "model.source": "hf://example/other", "model.adapters.source": "hf://example/other",
    "model.config": {"hidden_size": 8192}, "model.servedNames": ["other"], "engine.version": "0.31.0",
    "model.allowQuantizations": ["fp8"],
    "engine.image": "registry.example/vllm:1", "engine.extraArgs": ["--seed", "9"], "engine.env": {"A": "b"},
    "hardware.gpu": "H200", "hardware.resource": "example.com/gpu", "hardware.cloud": "eks",
    "hardware.gpusPerReplica": 8, "hardware.tensorParallel": 8, "hardware.nodeLabels": {"a": "b"},
    "hardware.tolerations.value": "x",
    "scaling.by": "keda-gateway", "scaling.prometheus": "http://other.monitoring.svc:9090",
    "scaling.schedule.start": "0 7 * * *", "scaling.schedule.end": "0 19 * * *", "scaling.timezone": "Europe/Berlin",
    "scaling.min": 1, "scaling.max": 7, "scaling.gpuHoursPerDay": 900,
    "scaling.schedule.max": 5, "scaling.schedule.min": 4,
    "rollout.canary.candidate.source": "hf://example/other", "rollout.canary.candidate.version": "0.31.0",
    "rollout.canary.candidate.image": "registry.example/vllm:1",
    "rollout.canary.candidate.extraArgs": ["--seed", "8"],
    "cache.path": "/elsewhere", "cache.kind": "host-path", "cache.accessMode": "ReadOnlyMany", "cache.claim": "mine",
    "cache.image": "registry.example/weights@sha256:" + "0" * 64,
    "cache.dataSource": "snapshot/llama",
    "rollout.drain": "10m", "gateway.queueTimeout": "10m",
    "gateway.image": "registry.example/seawall:1", "gateway.replicas": 3, "gateway.store": "valkey://other:6379/0",
    "gateway.storeImage": "registry.example/valkey-server:1", "gateway.aliases": {"gpt": "llama-70b"},
    "gateway.route": "gateway-api", "gateway.hosts": ["llm.example.org"], "gateway.parentGateway": "infra/web",
    "gateway.allowedOrigins": ["https://chat.example.org"], "gateway.allowFields": ["priority"],
    "gateway.batch.store": "postgresql://lane@db/lane", "gateway.batch.bucket": "s3://files/other",
    "gateway.tenants.models": ["llama-70b"],
    "gateway.mediaHosts": ["example.org"],
    "metadata.labels": {"a": "b"}, "metadata.annotations": {"a": "b"},
}  # fmt: skip
"""Values for fields where another text, or one more, is not enough."""
BESIDE: dict[str, dict[str, Any]] = {
    "gateway.route": {"gateway": {"hosts": ["llm.example.org"], "parentGateway": "infra/web"}},
    "cache.accessMode": {"cache": {"dataSource": "snapshot/llama"}},
    "cache.dataSource": {"cache": {"accessMode": "ReadOnlyMany", "claim": "mine"}},
    "cache.image": {
        "cache": {"kind": "oci", "image": "registry.example/weights@sha256:" + "1" * 64},
        "model": {"adapters": []},
    },
    "pool": {
        "hardware": {"spot": None},
        "rollout": {"canary": None},
        "scaling": {"by": "none", "schedule": []},
    },
    "scaling.by": {"scaling": {"schedule": []}},
}
"""What else is to be said for the field to mean something."""
NOT_TRIED = {"metadata.name", "metadata.namespace", "apiVersion", "kind", "gateway.keysFile", "engine.kind"}
RESTART = {
    "gateway.image": "another program",
    "gateway.keeper": "a sidecar",
    "gateway.keysSecret": "a mount",
    "gateway.store": "whom it is connected to",
    "gateway.storeSecret": "a mount",
    "gateway.batch.secret": "a mount",
    "gateway.memory": "the container's bound",
    "gateway.queueTimeout": "how long a stopped gateway has to finish",
    "rollout.drain": "how long a stopped gateway has to finish",
}
"""Fields that restart gateways, and why these do; no other does."""
RESTART_LANE = {
    "gateway.image": "another program",
    "gateway.batch.secret": "a mount",
    "gateway.batch.storeSecret": "a mount",
    "gateway.batch.bucketSecret": "a mount",
}
OF_ITS_POD = {"gateway.batch.volume", "gateway.batch.storageClass"}
"""Fields of the lane that it does not read itself."""


def path_of(field: FieldHelp) -> str:
    return field.path.removeprefix("spec.")


FIELDS = {path_of(f): f for f in every() if not f.inner and path_of(f) not in NOT_TRIED}


def other_value(field: FieldHelp) -> Any:
    path = path_of(field)
    if path in TEXTS:
        return TEXTS[path]
    shown = yaml.safe_load(field.example)[path.rpartition(".")[2]]
    if field.kind == "true or false":
        return not yaml.safe_load(field.default)
    if field.kind.startswith("one of "):
        choices = field.kind.removeprefix("one of ").split(", ")
        return next(c for c in choices if c != field.default)
    if str(shown) != field.default:
        return shown
    if field.kind.startswith("a whole number"):
        return shown + 1
    if field.kind.startswith("a number"):
        return shown * 0.9 if "at most" in field.kind else shown * 2
    if field.kind in ("a duration", "a size", "tokens"):
        digits = str(shown).rstrip("smhkKMGiT")
        return f"{2 * float(digits):g}{str(shown)[len(digits) :]}"
    return f"{shown}-2" if isinstance(shown, str) else shown


def document(path: str, value: Any = None) -> dict[str, Any]:
    """The Fleet with what the field needs beside it, and with its value where one is given."""
    doc: dict[str, Any] = yaml.safe_load(BASE)
    for part, inner in (BESIDE.get(path) or BESIDE.get(path.partition(".")[0]) or {}).items():
        doc["spec"].setdefault(part, {}).update(inner)
    at: Any = doc if path.startswith("metadata.") else doc["spec"]
    *way, last = path.split(".")
    for part in way:
        at = at.setdefault(part, {"name": "shared", "capacity": 8} if part == "pool" else {})
        at = at[0] if isinstance(at, list) else at
    if value is not None:
        at[last] = value
    return doc


@pytest.fixture(scope="module")
def rendered(group: Callable[..., Group]) -> Callable[[str], tuple[Group, tuple[Object, ...]]]:
    @functools.cache
    def made(text: str) -> tuple[Group, tuple[Object, ...]]:
        found = group(text, lock="lock: 1\n")
        return found, tuple(render(found).objects)

    return made


def template(objects: tuple[Object, ...], name: str) -> Object | None:
    found = [o for o in objects if o["kind"] == "Deployment" and o["metadata"]["name"] == name]
    return found[0]["spec"]["template"] if found else None


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_restarts_what_cannot_read_it_again_and_is_stored_as_it_is_rendered(
    path: str, rendered: Callable[[str], tuple[Group, tuple[Object, ...]]]
) -> None:
    (old, before), (new, after) = (
        rendered(yaml.safe_dump(document(path, value))) for value in (None, other_value(FIELDS[path]))
    )
    restarted = template(before, old.gateway) != template(after, old.gateway)
    assert restarted == (path in RESTART), "the gateway"
    lane = batch_name(old)
    restarted = template(before, lane) != template(after, lane)
    told = path not in OF_ITS_POD and rules_of(w.fleet for w in old.members) != rules_of(
        w.fleet for w in new.members
    )
    assert restarted == (told or path in RESTART_LANE), "the batch lane, which reads its specs when it begins"
    stored = {f"{o['kind']}/{o['metadata']['name']}": p for o in after if (p := rewritten(o))}
    assert not stored


def test_the_fields_that_restart_gateways_are_told() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "gateway.md").read_text("utf-8")
    told = page.partition("On Kubernetes a changed Fleet restarts its gateways")[2].partition(
        "Every other field"
    )[0]
    assert set(re.findall(r"`([a-zA-Z.]+)`", told)) == RESTART.keys()


@pytest.mark.parametrize("change", ["valkey://b:6379/0", "rediss://a:6379/0", "managed", None])
def test_gateways_go_over_to_another_store(
    change: str | None, rendered: Callable[[str], tuple[Group, tuple[Object, ...]]]
) -> None:
    """They are connected to one when they begin."""
    templates = []
    for store in ("valkey://a:6379/0", change):
        doc = yaml.safe_load(BASE)
        doc["spec"]["gateway"]["store"] = store
        found, objects = rendered(yaml.safe_dump(doc))
        templates.append(template(objects, found.gateway))
    assert templates[0] != templates[1]
