"""Before anything is written: every right, a dry run of every object, Secrets that somebody has to make."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.test_bad_days import plain
from tests.unit.operator.verbs import Person

from seawall.drivers.kube import Kube
from seawall.operator.preflight import missing_secrets
from seawall.testing.kube_api import SERVED, KubeApi

NS = "llm"
WRITES = ("PATCH", "POST", "PUT", "DELETE")


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        double.served = dict(SERVED)
        double.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        yield double


@pytest.fixture
def person(api: KubeApi, tmp_path: Path) -> Person:
    return Person(api, tmp_path)


def written(api: KubeApi) -> list[str]:
    """Requests that changed something: neither a dry run nor a question about rights."""
    return [
        r
        for r in api.requests
        if r.startswith(WRITES) and "dryRun=All" not in r and "selfsubjectaccess" not in r
    ]


def test_a_right_that_is_missing_stops_an_apply_before_its_first_object(api: KubeApi, person: Person) -> None:
    api.faults.deny = {"create services", "patch services", "get deployments"}
    said = person.type("apply", person.writes(plain("one")), "--yes", "--no-wait")
    assert said.code == 3
    for right in ("create services in llm", "patch services in llm", "get deployments in llm"):
        assert right in said.text
    assert "nothing was changed" in said.text
    assert not written(api)


def test_a_right_that_is_missing_stops_a_delete_before_its_first_object(api: KubeApi, person: Person) -> None:
    file = person.writes(plain("one"))
    assert person.type("apply", file, "--yes", "--no-wait").code == 0
    before = len(written(api))
    api.faults.deny = {"delete services"}
    said = person.type("delete", file, "--yes")
    assert said.code == 3
    assert "you may not delete services in llm" in said.text
    assert len(written(api)) == before
    api.faults.deny = set()
    assert person.type("delete", file, "--yes").code == 0


def test_what_is_to_be_pruned_needs_its_right_too(api: KubeApi, person: Person) -> None:
    scaled = plain("one")
    scaled["spec"]["scaling"] = {"min": 1, "max": 3, "by": "keda-prometheus"}
    assert person.type("apply", person.writes(scaled), "--yes", "--no-wait").code == 0
    before = len(written(api))
    api.faults.deny = {"delete scaledobjects"}
    said = person.type("apply", person.writes(plain("one")), "--yes", "--no-wait")
    assert said.code == 3
    assert "delete scaledobjects in llm" in said.text
    assert len(written(api)) == before


def conflicts(api: KubeApi, *kinds: tuple[str, str]) -> None:
    """Somebody else holds another value of a field of each of these objects."""
    for version, plural in kinds:
        for obj in api.objects(version, plural).values():
            obj["metadata"].setdefault("labels", {})["app.kubernetes.io/managed-by"] = "argocd"
            path = "\x1f".join(("metadata", "labels", "app.kubernetes.io/managed-by"))
            obj["metadata"]["managedFields"] = [
                {"manager": "argocd", "operation": "Apply", "fieldsV1": {"paths": [path]}}
            ]
            api.put(obj)


def test_all_conflicts_are_told_before_anything_is_changed_and_diff_says_the_same(
    api: KubeApi, person: Person
) -> None:
    file = person.writes(plain("one"))
    assert person.type("apply", file, "--yes", "--no-wait").code == 0
    conflicts(api, ("v1", "services"), ("policy/v1", "poddisruptionbudgets"))
    before = len(written(api))
    changed = plain("one")
    changed["spec"]["scaling"] = {"min": 2, "max": 2, "by": "none"}
    file = person.writes(changed)
    said = person.type("apply", file, "--yes", "--no-wait")
    assert said.code == 3
    assert "Service/one" in said.text and "PodDisruptionBudget/one" in said.text
    assert "managed by argocd" in said.text and "--force-conflicts" in said.text
    assert "nothing was changed" in said.text
    assert len(written(api)) == before

    told = person.type("diff", file)
    assert told.code == 1
    assert "refused Service/one" in told.text
    assert "managed by argocd" in told.text
    rows = json.loads(person.type("diff", file, "-o", "json").out)["changes"]
    refused = {r["object"] for r in rows if r["verb"] == "refused"}
    assert {"Service/one", "PodDisruptionBudget/one"} <= refused
    told = person.type("diff", file, "--force-conflicts")
    assert "refused" not in told.text
    assert person.type("apply", file, "--yes", "--no-wait", "--force-conflicts").code == 0
    assert person.type("diff", file).code == 0


def test_what_cannot_change_is_told_before_its_neighbours_are_changed(api: KubeApi, person: Person) -> None:
    fleet = plain("one")
    fleet["spec"]["engine"] = {"kind": "vllm"}
    fleet["spec"]["cache"] = {"storageClass": "fast"}
    assert person.type("apply", person.writes(fleet), "--yes", "--no-wait").code == 0
    before = len(written(api))
    fleet["spec"]["cache"] = {"storageClass": "slow"}
    said = person.type("apply", person.writes(fleet), "--yes", "--no-wait")
    assert said.code == 3
    assert "PersistentVolumeClaim" in said.text and "A volume only grows" in said.text
    assert len(written(api)) == before


def test_secrets_that_nobody_made_are_named_with_the_command_that_makes_them(
    api: KubeApi, person: Person
) -> None:
    fleet = plain("one")
    fleet["spec"]["engine"] = {"kind": "vllm"}
    fleet["spec"]["cache"] = {"tokenSecret": "hub"}
    fleet["spec"]["gateway"] = {"tenants": [{"name": "a"}], "keysSecret": "keys"}
    fleet["spec"]["gateway"] |= {"route": "ingress", "hosts": ["llm.example.org"], "tlsSecret": "cert"}
    file = person.writes(fleet)
    said = person.type("apply", file, "--yes", "--no-wait")
    assert said.code == 0, said.text
    for command in (
        "kubectl create secret generic hub -n llm --from-literal=token=...",
        "kubectl create secret generic keys -n llm --from-file=keys=FILE",
        "kubectl create secret tls cert -n llm --cert=tls.crt --key=tls.key",
    ):
        assert command in said.text
    for name, keys in (("hub", ["token"]), ("keys", ["keys"]), ("cert", ["tls.crt", "tls.key"])):
        data = dict.fromkeys(keys, "eA==")
        meta = {"name": name, "namespace": NS}
        api.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
    assert "kubectl create secret" not in person.type("apply", file, "--yes", "--no-wait").text


def test_the_doctor_finds_them_too(api: KubeApi, person: Person) -> None:
    fleet = plain("one")
    fleet["spec"]["gateway"] = {"tenants": [{"name": "a"}], "keysSecret": "keys"}
    file = person.writes(fleet)
    said = person.type("doctor", file, "-o", "json")
    rows = [c for c in json.loads(said.out)["checks"] if c["name"] == "Secrets"]
    assert [(c["verdict"], c["cure"].partition(" --")[0]) for c in rows] == [
        ("fail", "kubectl create secret generic keys -n llm")
    ]
    meta = {"name": "keys", "namespace": NS}
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"keys": "eA=="}})
    rows = [
        c
        for c in json.loads(person.type("doctor", file, "-o", "json").out)["checks"]
        if c["name"] == "Secrets"
    ]
    assert [(c["verdict"], c["why"]) for c in rows] == [("ok", "keys")]


async def test_a_secret_that_lacks_a_key_or_cannot_be_read(api: KubeApi, kube: Kube) -> None:
    env = [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}]
    maybe = [{"name": "U", "valueFrom": {"secretKeyRef": {"name": "other", "key": "x", "optional": True}}}]
    pod: dict[str, Any] = {"kind": "Pod", "spec": {"containers": [{"env": env + maybe}]}}
    meta = {"name": "hub", "namespace": NS}
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"password": "eA=="}})
    ((what, command),) = await missing_secrets(kube, [pod], NS)
    assert what == "Secret llm/hub (token)"
    assert "--from-literal=token=..." in command
    api.faults.forbid = {"GET secrets"}
    assert await missing_secrets(kube, [pod], NS) == [], "who may not look cannot be told"


KEEPERS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "external": ("external-secrets.io/v1", "externalsecrets", "ExternalSecret", {"target": {"name": "hub"}}),
    "sealed": (
        "bitnami.com/v1alpha1",
        "sealedsecrets",
        "SealedSecret",
        {"template": {"metadata": {"name": "hub"}}},
    ),
    "certificate": ("cert-manager.io/v1", "certificates", "Certificate", {"secretName": "hub"}),
}


@pytest.mark.parametrize(("version", "plural", "kind", "spec"), KEEPERS.values(), ids=KEEPERS)
async def test_a_secret_that_a_controller_makes_is_not_to_be_made_by_hand(
    api: KubeApi, kube: Kube, version: str, plural: str, kind: str, spec: dict[str, Any]
) -> None:
    """Its maker's own word helps; a Secret made by hand would stand in its way."""
    api.served[version] = plural
    ref = {"secretKeyRef": {"name": "hub", "key": "token"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "env": [{"valueFrom": ref}]}
    keeper = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": "keeper", "namespace": NS},
        "spec": spec,
    }
    api.put(keeper)
    ((what, command),) = await missing_secrets(kube, [pod], NS)
    assert f"{kind} keeper is to make it, and has not yet" in what
    why = {
        "type": "Ready",
        "status": "False",
        "reason": "SecretSyncedError",
        "message": "vault: permission denied",
    }
    api.put({**keeper, "status": {"conditions": [why]}})
    ((what, command),) = await missing_secrets(kube, [pod], NS)
    assert "vault: permission denied" in what
    assert command == f"kubectl describe {kind.lower()} keeper -n {NS}"
    api.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hub", "namespace": NS},
            "data": {"token": "eA=="},
        }
    )
    assert await missing_secrets(kube, [pod], NS) == []
