"""What a cluster serves lags behind what we ask of it: older definitions, groups that are away or not listed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.test_bad_days import phase, plain
from tests.unit.operator.test_cluster_changes import applied
from tests.unit.operator.test_each_refusal import changed
from tests.unit.operator.test_pools import NS, Cluster
from tests.unit.operator.verbs import Person

from seawall.cli.fleets import group_of
from seawall.drivers.kube import Kube
from seawall.drivers.kube_refusal import passing, refused
from seawall.errors import ClusterError
from seawall.operator.apply import apply, changes, delete
from seawall.operator.crd import fleet_crd
from seawall.render.everything import render
from seawall.testing.kube_api import SERVED, KubeApi

CRD_ONLY = "seawall operator manifests --crd-only | kubectl apply --server-side -f -"


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        double.served = dict(SERVED)
        double.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        yield double


@pytest.fixture
def person(api: KubeApi, tmp_path: Path) -> Person:
    return Person(api, tmp_path)


def older(*lost: str) -> dict[str, Any]:
    """The definition of a release that did not know these fields yet, such as `spec.pool`."""
    made = fleet_crd()
    for path in lost:
        at = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        *parents, last = path.split(".")
        for part in parents:
            at = at["properties"][part]
        del at["properties"][last]
    return made


def scaled(name: str) -> dict[str, Any]:
    fleet = plain(name)
    fleet["spec"]["scaling"] = {"min": 1, "max": 3, "by": "keda-gateway"}
    return fleet


async def test_a_field_that_the_clusters_definition_does_not_know_is_refused_with_the_cure(
    api: KubeApi, person: Person
) -> None:
    api.put(older("spec.traffic"))
    api.put(plain("one"))
    wanted = plain("one")
    wanted["spec"]["traffic"] = {"maxContext": "1k"}
    said = await person.types("apply", person.writes(wanted), "--yes", "--no-wait")
    assert said.code == 3
    assert ".spec.traffic: field not declared in schema" in said.text
    assert CRD_ONLY in said.text and "nothing was changed" in said.text


def test_no_patience_mends_a_field_that_is_not_known() -> None:
    text = b'{"message": "failed to create typed patch object (a/b; keda.sh/v1alpha1, Kind=ScaledObject): .spec.x: '
    e = refused(500, text + b'field not declared in schema", "reason": ""}')
    assert not passing(e) and "upgrade what provides it" in e.cure
    assert passing(refused(500, b'{"message": "etcdserver: request timed out", "reason": ""}'))


async def test_an_operator_whose_definition_is_older_says_so_once_and_serves(
    api: KubeApi, kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    """The server drops what it does not know of a status, with a warning that nobody reads."""
    api.put(older("status.pool", "status.objects", "status.scaler"))
    api.put(scaled("one"))
    with caplog.at_level(logging.WARNING, "seawall.operator"):
        async with Cluster(api, kube) as c:
            await c.until(lambda: applied(api, "one"))
            await c.passes(5)
    told = [r.getMessage() for r in caplog.records if CRD_ONLY in r.getMessage()]
    assert len(told) == 1 and "objects" in told[0]


async def test_a_group_that_is_away_keeps_nothing_else_from_being_made(api: KubeApi, kube: Kube) -> None:
    api.put(scaled("one"))
    api.faults.stale = {"keda.sh/v1alpha1"}
    async with Cluster(api, kube) as c:
        await c.until(lambda: phase(api, "one") == "Refused")
        assert "ScaledObject/one: Kubernetes says 503" in c.status("one")["reason"]
        assert (NS, "one") in api.objects("apps/v1", "deployments")
        assert api.objects("autoscaling/v2", "horizontalpodautoscalers"), "and what comes after it"
        api.faults.stale = set()
        await c.until(lambda: api.objects("keda.sh/v1alpha1", "scaledobjects"))
        await c.until(lambda: applied(api, "one"))


async def test_what_is_not_listed_among_the_groups_is_found_and_made(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    """The list of groups may lag behind by seconds; the group's own page does not."""
    api.faults.unlisted = {"keda.sh/v1alpha1", "seawall.dev/v1alpha1"}
    api.put(scaled("two"))
    said = await person.types("apply", person.writes(scaled("one")), "--yes", "--no-wait")
    assert said.code == 0, said.text
    assert (NS, "one") in api.objects("keda.sh/v1alpha1", "scaledobjects")
    said = await person.types("delete", person.writes(scaled("one")), "--yes", "--no-wait")
    assert said.code == 0 and not api.objects("keda.sh/v1alpha1", "scaledobjects"), said.text


async def test_a_group_that_is_away_stops_a_person_before_the_first_change(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    group = group_of((person.writes(scaled("one")),))
    objects = list(render(group).objects)
    kube.patience_s = 60.0
    api.faults.stale = {"keda.sh/v1alpha1"}
    began = kube.clock.now()
    with pytest.raises(ClusterError, match="503"):
        await changes(kube, objects, group.gateway, NS)
    assert kube.clock.now() - began >= 60, "it may be back in a moment, and is waited for"
    api.faults.stale = set()
    await apply(kube, objects, group.gateway, NS)
    api.faults.stale, since = {"keda.sh/v1alpha1"}, len(api.requests)
    with pytest.raises(ClusterError, match="503"):
        await delete(kube, group.gateway, NS, False, lambda ref, verb: None)
    assert not changed(api, since)
