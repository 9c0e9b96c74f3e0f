"""A person's verbs over Fleets that an operator keeps: the Fleet object is what they change, or they change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.test_bad_days import FLEETS, plain
from tests.unit.operator.test_cluster_changes import DEPLOYMENTS, applied, change
from tests.unit.operator.test_pools import NS, Cluster
from tests.unit.operator.verbs import Person

from seawall.drivers.kube import FIELD_MANAGER, OPERATOR_MANAGER, Kube
from seawall.operator.crd import fleet_crd
from seawall.testing.kube_api import SERVED, KubeApi


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        double.served = dict(SERVED)
        double.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        double.put(fleet_crd())
        yield double


@pytest.fixture
def person(api: KubeApi, tmp_path: Path) -> Person:
    return Person(api, tmp_path)


def ours(api: KubeApi) -> list[dict[str, Any]]:
    """Everything that was made of Fleets."""
    stores = [(v, p.partition(":")[0]) for v, ps in SERVED.items() for p in ps.split()]
    made = [o for s in stores for o in api.objects(*s).values()]
    return [o for o in made if o["metadata"].get("ownerReferences")]


def managers(obj: dict[str, Any]) -> set[str]:
    return {m["manager"] for m in obj["metadata"]["managedFields"] if m["operation"] == "Apply"}


async def test_apply_over_an_operators_fleet_changes_the_fleet_object(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    api.put(plain("one"))
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "one"))
        before = {(o["kind"], o["metadata"]["name"]) for o in ours(api)}
        canary = {**api.objects(*DEPLOYMENTS)[NS, "one"]}
        canary["metadata"] = {**canary["metadata"], "name": "one-canary"}
        api.put(canary)
        wanted = plain("one")
        wanted["spec"]["scaling"] = {"min": 2, "max": 2, "by": "none"}
        file = person.writes(wanted)
        said = await person.types("diff", file)
        assert said.code == 1
        assert "change  Fleet/one" in said.text
        said = await person.types("apply", file, "--yes", "--no-wait")
        assert said.code == 0, said.text
        assert "Fleet/one" in said.text
        await c.until(lambda: api.objects(*DEPLOYMENTS)[NS, "one"]["spec"]["replicas"] == 2)
        assert {(o["kind"], o["metadata"]["name"]) for o in ours(api)} == {
            *before,
            ("Deployment", "one-canary"),
        }
        assert not [n for _, n in api.objects("v1", "configmaps") if n.endswith("-inventory")]
        for obj in ours(api):
            if obj["metadata"]["name"] != "one-canary":
                assert managers(obj) == {OPERATOR_MANAGER}, (
                    "a person's verbs and the operator are two managers"
                )
        said = await person.types("diff", file)
        assert said.code == 0, said.text
    api.rights = None
    await kube.request("DELETE", f"/apis/{FLEETS[0]}/namespaces/{NS}/fleets/one")
    assert not ours(api), "deleting the Fleet deletes what was made of it"


async def test_what_the_operator_keeps_is_not_a_persons_to_delete(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    api.put(plain("one"))
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "one"))
        said = await person.types("delete", person.writes(plain("one")), "--yes")
        assert said.code == 2
        assert "kubectl delete fleet one -n llm" in said.text
        assert (NS, "one") in api.objects(*DEPLOYMENTS)
        file = person.writes(plain("one"), plain("two"), name="both.yaml")
        said = await person.types("apply", file, "--yes", "--no-wait")
        assert said.code == 2
        assert "one: kept by the operator" in said.text
        assert (NS, "two") not in api.objects(*DEPLOYMENTS), "nothing was begun"


async def test_a_fleet_that_goes_over_to_the_operator_is_let_go_of(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    """Applied by a person first: what the operator drops later must not stay for ever by the older apply."""
    first = plain("one")
    first["spec"]["engine"] = {"kind": "sim", "env": {"SIDE": "old"}}
    said = await person.types("apply", person.writes(first), "--yes", "--no-wait")
    assert said.code == 0, said.text

    def env() -> list[str]:
        container = api.objects(*DEPLOYMENTS)[NS, "one"]["spec"]["template"]["spec"]["containers"][0]
        return [e["name"] for e in container.get("env", [])]

    assert "SIDE" in env()
    api.put(first)
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "one"))
        assert managers(api.objects(*DEPLOYMENTS)[NS, "one"]) == {OPERATOR_MANAGER}
        change(api, "one", engine={"kind": "sim"})
        await c.until(lambda: "SIDE" not in env())
        # The person's inventory still lists it all: none of it is the person's to prune any more.
        said = await person.types("delete", person.writes(first), "--yes")
        assert said.code == 2, said.text
        assert (NS, "one") in api.objects(*DEPLOYMENTS)
    assert FIELD_MANAGER not in {m for o in ours(api) for m in managers(o)}


async def test_a_fleet_object_that_would_not_become_what_the_file_says_is_refused(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    theirs = plain("one")
    theirs["spec"]["traffic"] = {"maxContext": "1k"}
    api.put(theirs)
    said = await person.types("apply", person.writes(plain("one")), "--yes", "--no-wait")
    assert said.code == 2
    assert "spec.traffic holds what somebody else set" in said.text
    assert "kubectl replace -f" in said.text


async def test_apply_waits_for_the_operator_and_tells_what_it_refuses(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    api.put(plain("one"))
    stored = api.objects(*FLEETS)[NS, "one"]
    verdict = {"observedGeneration": 99, "phase": "Invalid", "reason": "it does not fit"}
    api.put({**stored, "status": verdict})
    said = await person.types("apply", person.writes(plain("one")), "--yes")
    assert said.code == 1
    assert "Fleet one: it does not fit" in said.text


async def test_a_canary_that_a_person_begins_stays_the_fleets_own(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    fleet = plain("one")
    candidate = {"extraArgs": ["--sim-seed", "7"], "weight": 10}
    fleet["spec"]["rollout"]["canary"] = {"steps": [{"weight": 10, "hold": 1}], "candidate": candidate}
    uid = api.put(fleet)["metadata"]["uid"]
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "one"))
        del candidate["weight"]
        said = await person.types("rollout", "start", person.writes(fleet), "--detach")
        assert said.code == 0, said.text
        for name in ("one", "one-canary"):
            made = api.objects(*DEPLOYMENTS)[NS, name]
            assert [o["uid"] for o in made["metadata"]["ownerReferences"]] == [uid]
            assert managers(made) == {OPERATOR_MANAGER}
    api.rights = None
    await kube.request("DELETE", f"/apis/{FLEETS[0]}/namespaces/{NS}/fleets/one")
    assert not ours(api), "and goes with it"
