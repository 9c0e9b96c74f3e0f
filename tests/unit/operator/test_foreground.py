"""Objects that are deleted in the foreground: they stay, marked, until what belongs to them is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.test_bad_days import FLEETS, plain
from tests.unit.operator.test_operator import Running
from tests.unit.operator.test_readiness import NS
from tests.unit.operator.verbs import Person

from seawall.drivers.kube import connect
from seawall.operator.wait import judge
from seawall.testing.kube_api import SERVED, KubeApi

DEPLOYMENTS = "apps/v1/deployments"


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        double.served = dict(SERVED)
        double.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        yield double


def pod_of(owner: dict[str, Any], name: str) -> dict[str, Any]:
    """A Pod that runs, and drains for minutes when it is told to stop."""
    belongs = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner["metadata"]["name"]}
    belongs |= {"uid": owner["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}
    meta = {"name": name, "namespace": NS, "ownerReferences": [belongs]}
    spec = {"nodeName": "n1", "terminationGracePeriodSeconds": 300}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def test_the_double_keeps_an_owner_until_what_blocks_it_is_gone(api: KubeApi, tmp_path: Path) -> None:
    person = Person(api, tmp_path)
    assert person.type("apply", person.writes(plain("one")), "--yes", "--no-wait").code == 0
    made = api.objects("apps/v1", "deployments")[NS, "one"]
    api.put(pod_of(made, "p0"))
    api.delete(DEPLOYMENTS, NS, "one", foreground=True)
    marked = api.objects("apps/v1", "deployments")[NS, "one"]["metadata"]
    assert marked["finalizers"] == ["foregroundDeletion"] and marked["deletionTimestamp"]
    assert api.objects("v1", "pods")[NS, "p0"]["metadata"]["deletionTimestamp"], "its Pod was told to stop"
    api.remove("v1", "pods", "p0", NS)
    assert (NS, "one") not in api.objects("apps/v1", "deployments")


def test_a_deployment_that_leaves_is_told_and_made_anew_when_it_is_gone(api: KubeApi, tmp_path: Path) -> None:
    person = Person(api, tmp_path)
    file = person.writes(plain("one"))
    assert person.type("apply", file, "--yes", "--no-wait").code == 0
    made = api.objects("apps/v1", "deployments")[NS, "one"]
    api.put(pod_of(made, "p0"))
    api.delete(DEPLOYMENTS, NS, "one", foreground=True)

    said = " ".join(person.type("status", "-n", NS).out.split())
    assert "one is being deleted, and waits for what belongs to it" in said
    going = api.objects("apps/v1", "deployments")[NS, "one"]
    assert "is being deleted" in judge([going], [], []).step

    begun, looks = len(api.requests), list[str]()

    def its_pod_ends(asked: str) -> None:
        """At the second look of the apply itself, after all dry runs."""
        writing = any(r.startswith("PATCH") and "dryRun" not in r for r in api.requests[begun:])
        if writing and asked.startswith("GET") and "/deployments/one" in asked and "gateway" not in asked:
            looks.append(asked)
            if len(looks) == 2:
                api.remove("v1", "pods", "p0", NS)

    api.faults.meanwhile = its_pod_ends
    again = person.type("apply", file, "--yes", "--no-wait")
    assert again.code == 0, again.text
    assert "leaving; waiting until it is gone" in again.text
    new = api.objects("apps/v1", "deployments")[NS, "one"]["metadata"]
    assert new["uid"] != made["metadata"]["uid"] and "deletionTimestamp" not in new


async def test_a_fleet_that_is_deleted_in_the_foreground_waits_for_its_engines(
    api: KubeApi, tmp_path: Path
) -> None:
    """`kubectl delete fleet --cascade=foreground` comes back when the last stream has ended, and not before."""
    api.put(plain("one"))
    async with connect(kubeconfig=api.kubeconfig(tmp_path)) as kube, Running(api, kube) as op:

        def deployments() -> dict[tuple[str, str], dict[str, Any]]:
            return api.objects("apps/v1", "deployments")

        await op.until(lambda: (NS, "one") in deployments())
        await op.until(lambda: api.objects(*FLEETS)[NS, "one"].get("status", {}).get("applied"))
        claims = set(api.objects("v1", "persistentvolumeclaims"))
        api.put(pod_of(deployments()[NS, "one"], "p0"))
        api.delete("seawall.dev/v1alpha1/fleets", NS, "one", foreground=True)
        assert api.objects("v1", "pods")[NS, "p0"]["metadata"]["deletionTimestamp"], (
            "told to stop, and drains"
        )
        begun = len(api.requests)
        await op.until(lambda: len(api.requests) > begun + 5)
        assert (NS, "one") in api.objects(*FLEETS) and (NS, "one") in deployments()
        assert not [r for r in api.requests[begun:] if r.startswith("PATCH") and "/deployments" in r]
        api.remove("v1", "pods", "p0", NS)
        assert (NS, "one") not in api.objects(*FLEETS)
        assert not deployments()
        assert set(api.objects("v1", "persistentvolumeclaims")) == claims, "weights stay"
