"""A cluster -> recorded facts, in the form that `facts.py` reads. Fills it from plain API objects and judges nothing.

Bounded: one page of 500 objects at a time, without what no rule reads (managedFields, images of nodes); logs only of
containers that are in trouble, metrics only of some replicas. What may not be read is left out.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from seawall.diagnose.facts import meta
from seawall.diagnose.phase import phase_of
from seawall.domain.labels import FLEET, HTTP_PORT, ROLE
from seawall.drivers import kube_gateways
from seawall.drivers.kube import (
    AUTOSCALER,
    BUDGET,
    CLAIM,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    EVENT,
    JOB,
    NODE,
    POD,
    QUOTA,
    REPLICA_SET,
    SCALED_OBJECT,
    SERVICE,
    Kube,
    Object,
    ObjectKind,
    Refused,
    Select,
    key_of,
)
from seawall.engines.vllm import metrics as vllm
from seawall.errors import ClusterError

LISTS: dict[str, ObjectKind] = {
    "pods": POD, "events": EVENT, "nodes": NODE, "claims": CLAIM, "budgets": BUDGET, "quotas": QUOTA,
    "deployments": DEPLOYMENT, "replicasets": REPLICA_SET, "hpas": AUTOSCALER, "scaledobjects": SCALED_OBJECT,
    "services": SERVICE, "endpointslices": ENDPOINT_SLICE, "jobs": JOB,
}  # fmt: skip
LOGGED_PODS = 30
SCRAPED_PODS = 20
MAX_METRICS = 4 * 2**20
_SERIES = frozenset((*vllm.MARKS, vllm.PREFILL_S, vllm.PREFILLED_TOKENS))


async def collect(kube: Kube, namespace: str, fleet: str = "", pause_s: float = 5.0) -> dict[str, Any]:
    """Facts of a namespace as JSON-able data. `pause_s` lies between the two looks at the metrics."""
    facts: dict[str, Any] = {"taken_at": _now(kube), "namespace": namespace, "fleet": fleet, "unread": {}}
    for key, kind in LISTS.items():
        try:
            where = namespace if kind.namespaced else None
            facts[key] = [o for o in (await kube.list(Select(kind, where), _lean)).values() if o]
        except Refused as e:
            if e.code == 401 or key == "pods":
                raise  # who sees no Pod has nothing to diagnose; silence would read as health
            facts[key] = None
            if not e.unserved:
                facts["unread"][kind.plural] = str(e.code)
    facts["events"] = [*(facts["events"] or []), *await _of_machines(kube, namespace, facts["unread"])]
    pods = [p for p in facts["pods"] or [] if not fleet or _belongs(p, fleet)]
    troubled = [p for p in pods if phase_of(p)[0] not in ("ready", "done") or _restarts(p)][:LOGGED_PODS]
    facts["logs"] = await _logs(kube, namespace, troubled)
    engines = [p for p in pods if (meta(p).get("labels") or {}).get(ROLE) == "engine"]
    running = [p for p in engines if (p.get("status") or {}).get("phase") == "Running"][:SCRAPED_PODS]
    facts["metrics_before"] = await _metrics(kube, namespace, running)
    if any(facts["metrics_before"].values()):
        facts["metrics_apart_s"] = pause_s
        await asyncio.sleep(pause_s)
        facts["metrics"] = await _metrics(kube, namespace, running)
    facts |= await _gateways(kube, namespace)
    facts["taken_at"] = _now(kube)
    return facts


_MACHINES = ("NodeClaim", "NodePool", "Machine", "MachineSet")
"""Kinds of an autoscaler's objects that belong to no namespace."""


async def _of_machines(kube: Kube, namespace: str, unread: dict[str, str]) -> list[Object]:
    """Events about machines that an autoscaler asks for: of objects without a namespace they lie in `default`."""
    if namespace == "default":
        return []
    try:
        found = await kube.list(Select(EVENT, "default"), _lean)
    except Refused as e:
        if not e.unserved:
            unread["events in the namespace default"] = str(e.code)
        return []
    return [o for o in found.values() if o and (o.get("involvedObject") or {}).get("kind") in _MACHINES]


def _lean(obj: Object) -> Object:
    slim = {**obj, "metadata": {k: v for k, v in meta(obj).items() if k != "managedFields"}}
    status = obj.get("status")
    if isinstance(status, dict) and "images" in status:
        slim["status"] = {k: v for k, v in status.items() if k != "images"}
    return slim


def _belongs(pod: Object, fleet: str) -> bool:
    labels = meta(pod).get("labels") or {}
    return labels.get(FLEET) == fleet or key_of(pod)[1].startswith(fleet)


def _restarts(pod: Object) -> bool:
    return any(c.get("restartCount") for c in (pod.get("status") or {}).get("containerStatuses") or [])


async def _logs(kube: Kube, namespace: str, pods: list[Object]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for pod in pods:
        status, name = pod.get("status") or {}, key_of(pod)[1]
        states = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
        for state in states:
            container = str(state.get("name"))
            for previous in (True, False):
                if previous and not state.get("restartCount"):
                    continue
                text = await kube.logs(namespace, name, container, previous)
                if text:
                    texts[f"{name}/{container}" + ("/previous" if previous else "")] = text
    return texts


async def _metrics(kube: Kube, namespace: str, pods: list[Object]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}

    async def scrape(pod: str) -> tuple[str, str]:
        try:
            async with asyncio.timeout(5):
                return pod, str(
                    await kube.request("GET", POD.path(namespace, f"{pod}:{HTTP_PORT}", "proxy/metrics"))
                )
        except (ClusterError, TimeoutError, ValueError):
            return pod, ""

    for pod, text in await asyncio.gather(*(scrape(key_of(p)[1]) for p in pods)):
        for line in text[:MAX_METRICS].splitlines():
            name = line.partition("{")[0].partition(" ")[0]
            if name in _SERIES:
                try:
                    value = float(line.rsplit(" ", 1)[-1])
                except ValueError:
                    continue
                series = found.setdefault(name, {})
                series[pod] = series.get(pod, 0.0) + value
    return found


async def _gateways(kube: Kube, namespace: str) -> dict[str, Any]:
    """What every gateway tells, by itself and all as one, and who told nothing; nothing at all where none runs."""
    try:
        answers = await kube_gateways.ask(kube, namespace)
    except ClusterError:
        return {"gateway": {}}
    return {
        "gateway": asdict(answers.of(namespace)) if answers.states else {},
        "gateways": {
            pod: asdict(state) for (where, pod), state in answers.states.items() if where == namespace
        },
        "silent_gateways": {pod: why for (where, pod), why in answers.silent.items() if where == namespace},
    }


def _now(kube: Kube) -> str:
    """The time by the server's clock, as it stands in its objects."""
    return datetime.fromtimestamp(kube.server_time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
