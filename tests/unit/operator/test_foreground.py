"""Objects that are deleted in the foreground: they stay, marked, until what belongs to them is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.test_bad_days import plain
from tests.unit.operator.test_readiness import NS
from tests.unit.operator.verbs import Person

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
