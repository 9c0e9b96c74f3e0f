"""The operator against the API double: what is wanted comes to be, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.unit.render.test_cel import broken_rules

from seawall.decide.drain import (
    ADVICE,
    CONDITIONS,
    TAINTS,
    Drain,
    NodeSeen,
    ReplicaSeen,
    Undrain,
    decide,
    deletion_costs,
)
from seawall.domain.labels import DELETION_COST, DRAINING
from seawall.drivers.kube import Kube
from seawall.operator.accounts import roles
from seawall.operator.crd import fleet_crd
from seawall.operator.lease import Leader
from seawall.operator.loop import Operator
from seawall.operator.manifests import operator_manifests
from seawall.operator.reconcile import desire
from seawall.testing.clock import StoryClock
from seawall.testing.kube_api import KubeApi
from seawall.testing.kube_rbac import rights_of
from seawall.testing.story import Story

ROOT = Path(__file__).parents[3]
SYSTEM = "seawall-system"
CLUSTER = operator_manifests(SYSTEM, everywhere=True)
OUTSIDE = ("", "", "pods/proxy", "get")
"""The operators of these stories run outside of their cluster, so the API server passes their questions on."""
RIGHTS = rights_of(CLUSTER, "seawall-operator", SYSTEM) | {OUTSIDE}


def example(name: str = "llama-70b-4xh100") -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((ROOT / "examples" / f"{name}.yaml").read_text())
    return data


class Running:
    """An operator at work, with the rights of its own manifests, while a test looks."""

    def __init__(self, api: KubeApi, kube: Kube) -> None:
        for role in roles(None):
            api.put(role)
        api.rights = RIGHTS
        clock = kube.clock = StoryClock()
        self._task = asyncio.ensure_future(Operator(kube, None, clock, resync_s=1.0).run())
        self.story = Story(clock, api, self._check)

    def _check(self) -> None:
        assert not self._task.done(), self._task

    async def __aenter__(self) -> Running:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, what: Callable[[], object], within_s: float = 30.0) -> None:
        await self.story.until(what, within_s)


async def test_a_fleet_becomes_objects_and_its_status_says_so(api: KubeApi, kube: Kube) -> None:
    fleet = api.put(example())
    name, ns = fleet["metadata"]["name"], fleet["metadata"]["namespace"]

    def status() -> dict[str, Any]:
        found: dict[str, Any] = api.objects("seawall.dev/v1alpha1", "fleets")[ns, name].get("status", {})
        return found

    async with Running(api, kube) as op:
        await op.until(lambda: status().get("phase") == "Progressing")
        deployments = api.objects("apps/v1", "deployments")
        assert (ns, name) in deployments
        owner = deployments[ns, name]["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["uid"]) == ("Fleet", fleet["metadata"]["uid"])
        claims = api.objects("v1", "persistentvolumeclaims").values()
        assert claims and all("ownerReferences" not in c["metadata"] for c in claims), (
            "weights outlive the fleet"
        )
        assert "finalizers" not in api.objects("seawall.dev/v1alpha1", "fleets")[ns, name]["metadata"]

        changed = api.objects("seawall.dev/v1alpha1", "fleets")[ns, name]
        changed["spec"]["scaling"] = {"min": 5, "max": 1}
        api.put(changed)
        await op.until(lambda: status().get("phase") == "Invalid")
        assert "max" in status()["reason"]
        changed = api.objects("seawall.dev/v1alpha1", "fleets")[ns, name]
        changed["spec"]["scaling"] = {"min": 2, "max": 3}
        api.put(changed)
        await op.until(lambda: status().get("phase") == "Progressing")
        for key, d in api.objects("apps/v1", "deployments").items():
            d["status"] = {"readyReplicas": 9, "updatedReplicas": 9, "availableReplicas": 9}
            d["spec"]["replicas"] = 2
            assert key[0] == ns
            api.put(d)
        await op.until(lambda: {c["type"]: c["reason"] for c in status()["conditions"]}["Ready"] == "NotUsed")
        assert "no gateway of this namespace serves it" in status()["reason"]
        gateway = {"name": "g", "namespace": ns, "labels": {"app.kubernetes.io/name": "seawall-gateway"}}
        api.put({"apiVersion": "v1", "kind": "Pod", "metadata": gateway, "status": {"phase": "Running"}})
        replica = {"fleet": name, "state": "ready"}
        tell = {"fleets": {name: {}}, "replicas": {"a": replica, "b": {**replica, "state": "evicted"}}}
        api.proxies[f"{ns}/g:9090"] = tell
        await op.until(lambda: "b is evicted" in status()["reason"])
        assert status()["ready"] == 1, "what clients get answers from"
        api.proxies[f"{ns}/g:9090"] = {**tell, "replicas": {"a": replica, "b": replica}}
        await op.until(lambda: status().get("phase") == "Ready")
        assert {c["type"]: c["status"] for c in status()["conditions"]} == dict.fromkeys(
            ("Planned", "Applied", "Ready", "UpToDate"), "True"
        )


async def test_lost_events_and_refusals_are_healed(api: KubeApi, kube: Kube) -> None:
    async with Running(api, kube) as op:
        api.faults.fail = 6
        api.faults.gone = 2
        api.put(example())
        await op.until(lambda: api.objects("apps/v1", "deployments"))
        api.break_watches()
        api.faults.drop_deleted = True
        api.put({**example("scale-to-zero")})
        await op.until(lambda: len(api.objects("apps/v1", "deployments")) >= 3)


def pod(name: str, node: str = "n1", fleet: str = "llama-70b", **notes: str) -> dict[str, Any]:
    labels = {"seawall.dev/fleet": fleet, "seawall.dev/role": "engine"}
    meta = {
        "name": name,
        "namespace": "llm",
        "labels": labels,
        "annotations": notes,
        "finalizers": ["test/hold"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": node},
        "status": {"phase": "Running"},
    }


def node(name: str, *taints: str) -> dict[str, Any]:
    spec = {"taints": [{"key": t, "effect": "NoSchedule"} for t in taints]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


async def test_a_spot_notice_drains_and_replaces_the_replica_at_once(api: KubeApi, kube: Kube) -> None:
    for n in ("n1", "n2"):
        api.put(node(n))
    api.put(pod("a", "n1"))
    api.put(pod("b", "n2"))

    def notes(name: str) -> dict[str, str]:
        found: dict[str, str] = api.objects("v1", "pods")["llm", name]["metadata"].get("annotations", {})
        return found

    async with Running(api, kube) as op:
        await op.until(lambda: sum("watch=true" in r and "/pods" in r for r in api.requests))
        api.put(node("n1", "karpenter.sh/disrupted"))
        await op.until(lambda: notes("a").get(DRAINING) == "true")
        # Evicted as well: its replacement starts now.
        await op.until(lambda: "deletionTimestamp" in api.objects("v1", "pods")["llm", "a"]["metadata"])
        assert DRAINING not in notes("b")
        api.put(node("n2", ADVICE[0]))
        await op.until(lambda: notes("b").get(DRAINING) == "true")
        assert "deletionTimestamp" not in api.objects("v1", "pods")["llm", "b"]["metadata"], (
            "advice may be withdrawn"
        )
        api.put(node("n2"))
        await op.until(lambda: DRAINING not in notes("b"))


@pytest.mark.parametrize("signal", [*TAINTS, *CONDITIONS])
def test_every_signal_drains_and_only_its_own_node(signal: str) -> None:
    one = NodeSeen("n1", frozenset({signal}), frozenset({signal}))
    replicas = [ReplicaSeen("ns", "a", "f", "n1", False), ReplicaSeen("ns", "b", "f", "n2", False)]
    (drain,) = decide({"n1": one, "n2": NodeSeen("n2", unschedulable=True)}, replicas)
    assert isinstance(drain, Drain)
    assert drain.name == "a"
    assert "n1" in drain.reason
    assert drain.replace == (signal not in ADVICE)


def test_a_drain_is_taken_back_only_when_the_node_is_seen_well() -> None:
    drained = [ReplicaSeen("ns", "a", "f", "n1", True)]
    assert decide({}, drained) == []
    assert isinstance(decide({"n1": NodeSeen("n1")}, drained)[0], Undrain)


def test_deletion_costs_follow_streams_without_chatter() -> None:
    assert deletion_costs({"a": 0, "b": 5, "c": 100}, {}) == {"b": 4, "c": 64}
    assert deletion_costs({"b": 7, "c": 127}, {"b": 4, "c": 64}) == {}


async def test_one_of_two_operators_leads_and_the_other_takes_over(api: KubeApi, kube: Kube) -> None:
    clock, at_work = StoryClock(), list[str]()
    story = Story(clock, api)

    def leader(name: str) -> tuple[Leader, Callable[[], Any]]:
        async def work() -> None:
            at_work.append(name)
            try:
                await clock.sleep(1e6)
            finally:
                at_work.remove(name)

        return Leader(kube, "llm", "op", name, clock), work

    (a, work_a), (b, _) = leader("a"), leader("b")
    task = asyncio.ensure_future(a.run(work_a))
    await story.until(lambda: at_work == ["a"])
    assert not await b.attempt()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert at_work == []
    assert not await b.attempt(), "the lease still runs"
    clock.advance(16)
    assert await b.attempt(), "it has not moved for its duration on our clock"
    assert not await a.attempt()
    await b.release()
    assert await a.attempt(), "released: no waiting"


def _untyped(schema: dict[str, Any], path: str) -> Iterator[str]:
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if "$ref" in schema or "anyOf" in schema or not (schema.get("type") or free):
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from _untyped(inner, f"{path}.{name}")
    if "items" in schema:
        yield from _untyped(schema["items"], f"{path}[]")


def test_the_crd_is_structural_and_takes_every_example() -> None:
    schema = fleet_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert not list(_untyped(schema, "fleet"))

    def plain(s: Any) -> Any:
        """OpenAPI 3.0's dialect -> JSON Schema, for checking instances."""
        if isinstance(s, list):
            return [plain(x) for x in s]
        if not isinstance(s, dict):
            return s
        out = {k: plain(v) for k, v in s.items() if not k.startswith(("x-", "nullable", "exclusive"))}
        if s.get("x-kubernetes-int-or-string"):
            out["type"] = ["integer", "string"]
        if s.get("properties") and isinstance(s["properties"], dict) and s.get("type") == "object":
            out["additionalProperties"] = False
        return out

    strict = plain(schema)
    for path in (ROOT / "examples").glob("*.yaml"):
        for doc in yaml.safe_load_all(path.read_text()):
            doc["metadata"] = {}
            jsonschema.validate(doc, {**strict, "properties": {**strict["properties"], "metadata": {}}})


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"scaling": {"min": 2, "max": 4}}, []),
        ({"scaling": {"min": 0}}, []),
        ({"scaling": {"min": 3, "max": 1}}, ["self.spec.scaling: max must not be less than min"]),
        ({"scaling": {"min": 3}}, ["self.spec.scaling: max must not be less than min"]),
        (
            {"model": {"source": "meta-llama/x"}},
            ["self.spec.model: source needs a scheme, such as hf://org/name"],
        ),
        ({}, []),
    ],
)
def test_the_cel_rules_of_the_crd_say_what_our_own_reader_says(spec: dict[str, Any], said: list[str]) -> None:
    fleet = example("smollm2")
    fleet["spec"] |= spec
    schema = fleet_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert list(broken_rules(schema, fleet)) == said
    fleet["metadata"] |= {"namespace": "llm", "uid": "u"}
    assert bool(desire(fleet).problem) == bool(said), desire(fleet).problem


def test_the_operators_own_objects_validate_and_ask_for_no_more_than_they_use() -> None:
    import kubernetes_validate

    forms = {True: CLUSTER, False: operator_manifests("llm", nodes=True)}
    for objects in forms.values():
        for obj in objects:
            kubernetes_validate.validate(obj, "1.36", strict=True)
    roles = [o for objects in forms.values() for o in objects if o["kind"] in ("ClusterRole", "Role")]
    granted = {
        (g, r, v)
        for o in roles
        for rule in o["rules"]
        for g in rule["apiGroups"]
        for r in rule["resources"]
        for v in rule["verbs"]
    }
    assert not any("*" in part for grant in granted for part in grant)
    assert ("", "secrets", "get") not in granted
    assert not {r for _, r, _ in granted} & {"pods/proxy", "roles"}
    assert not {r for _, r, v in granted if v == "delete"} & {
        "persistentvolumeclaims",
        "pods",
        "fleets",
        "nodes",
    }


def test_nobody_can_connect_to_the_operator() -> None:
    objects = {o["kind"]: o for o in CLUSTER}
    policy = objects["NetworkPolicy"]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy["spec"]
    pods = objects["Deployment"]["spec"]["template"]["metadata"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pods["labels"].items()
    assert policy["metadata"]["namespace"] == objects["Deployment"]["metadata"]["namespace"]


async def test_pod_deletion_costs_are_written_from_the_gateways_numbers(api: KubeApi, kube: Kube) -> None:
    fleet = api.put(example())
    ns = fleet["metadata"]["namespace"]
    for name in ("a", "b"):
        api.put({**pod(name), "metadata": {**pod(name)["metadata"], "namespace": ns}})
    gateway = {"name": "g", "namespace": ns, "labels": {"app.kubernetes.io/name": "seawall-gateway"}}
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": gateway, "status": {"phase": "Running"}})
    api.proxies[f"{ns}/g:9090"] = {"replicas": {"a": {"in_flight": 9}, "b": {"in_flight": 0}}}
    async with Running(api, kube) as op:
        await op.until(
            lambda: api.objects("v1", "pods")[ns, "a"]["metadata"]["annotations"].get(DELETION_COST) == "8"
        )
    assert DELETION_COST not in api.objects("v1", "pods")[ns, "b"]["metadata"]["annotations"]
