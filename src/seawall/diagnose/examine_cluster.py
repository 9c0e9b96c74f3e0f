"""Reads from a cluster the facts that the doctor judges: few requests, each paged, each kept small.

What may not be read becomes None: the check then says that it could not look.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from seawall.diagnose.doctor import ClusterFacts, NodeFacts
from seawall.domain.labels import FLEET, PART_OF
from seawall.domain.spec import Fleet
from seawall.drivers.kube import (
    CRD,
    DEPLOYMENT,
    LIMIT_RANGE,
    NAMESPACE,
    NODE,
    POD,
    QUOTA,
    SERVICE,
    STORAGE_CLASS,
    Kube,
    Object,
    ObjectKind,
    Refused,
    Select,
    key_of,
)
from seawall.drivers.kube_deployers import deployer_of
from seawall.errors import InputError

T = TypeVar("T")
Kinds = frozenset[tuple[str, str]]
"""(apiVersion, kind)"""
AT_ONCE = 6
DAEMON_SET = ObjectKind("apps/v1", "DaemonSet", "daemonsets")
_PLUGIN = re.compile(r"nvidia.*(device-plugin|dra)|gpu-device-plugin|amdgpu|kubelet-plugin", re.I)


async def examine_cluster(kube: Kube, fleet: Fleet, kinds: Kinds) -> ClusterFacts:
    """All facts. `kinds`: what the fleet is rendered to."""
    namespace, resource = fleet.metadata.namespace, fleet.spec.hardware.resource
    operator = Select(DEPLOYMENT, labels=f"{PART_OF}=keda-operator")
    plugin = Select(DAEMON_SET)
    return ClusterFacts(
        version=await _maybe(_version(kube)),
        nodes=await _maybe(nodes_of(kube, resource)),
        device_plugin=await _maybe(_any(kube, plugin, lambda o: bool(_PLUGIN.search(key_of(o)[1])))),
        crds=await _maybe(_crds(kube)),
        keda_ready=await _maybe(_any(kube, operator, _available)),
        prometheus=await _prometheus(kube, fleet.spec.scaling.prometheus),
        storage_classes=await _maybe(_classes(kube)),
        namespace_labels=await _labels(kube, namespace),
        quotas=await _maybe(_quotas(kube, namespace)),
        denied=await _denied(kube, namespace, kinds),
        foreign_managers=await _maybe(_foreign(kube, fleet)) or {},
        limit_ranges=await _maybe(_ranges(kube, namespace)) or (),
    )


async def _maybe(facts: Awaitable[T]) -> T | None:
    try:
        return await facts
    except Refused:
        return None


async def _version(kube: Kube) -> str:
    return str((await kube.request("GET", "/version")).get("gitVersion"))


async def nodes_of(kube: Kube, resource: str) -> tuple[NodeFacts, ...]:
    """The nodes of a cluster: how many GPUs each offers, how many are held. Refused when they may not be read."""

    def gpus(pod: Object) -> tuple[str, int]:
        spec = pod.get("spec") or {}
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return "", 0
        asked = [
            ((c.get("resources") or {}).get("limits") or {}).get(resource, 0)
            for c in spec.get("containers", [])
        ]
        return spec.get("nodeName") or "", sum(_count(a) for a in asked)

    def node(obj: Object) -> NodeFacts:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        taints = tuple(
            (t.get("key", ""), t.get("value", ""), t.get("effect", "")) for t in spec.get("taints") or []
        )
        conditions = status.get("conditions") or []
        ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
        labels = (obj.get("metadata") or {}).get("labels") or {}
        allocatable = _count((status.get("allocatable") or {}).get(resource, 0))
        cordoned = bool(spec.get("unschedulable"))
        return NodeFacts(key_of(obj)[1], labels, taints, ready and not cordoned, allocatable, 0, cordoned)

    nodes = await kube.list(Select(NODE), node)
    used: dict[str, int] = {}
    if any(n.allocatable_gpus for n in nodes.values()):
        for where, count in (await kube.list(Select(POD), gpus)).values():
            used[where] = used.get(where, 0) + count
    return tuple(replace(n, used_gpus=used.get(n.name, 0)) for n in nodes.values())


def _count(value: object) -> int:
    return int(str(value)) if str(value).isdigit() else 0


async def _any(kube: Kube, select: Select, test: Callable[[Object], bool]) -> bool:
    return any((await kube.list(select, test)).values())


def _available(obj: Object) -> bool:
    return bool((obj.get("status") or {}).get("availableReplicas"))


async def _crds(kube: Kube) -> dict[str, tuple[str, ...]]:
    def served(obj: Object) -> tuple[str, ...]:
        return tuple(v["name"] for v in (obj.get("spec") or {}).get("versions", []) if v.get("served"))

    return {name: versions for (_, name), versions in (await kube.list(Select(CRD), served)).items()}


async def _prometheus(kube: Kube, address: str) -> int | str:
    """Asks through the API server's service proxy: from outside, a cluster address does not resolve."""
    parts = urlsplit(address)
    host = (parts.hostname or "").split(".")
    if len(host) < 2 or not host[0]:
        return "the address is not that of a Service (http://name.namespace.svc:9090)"
    path = SERVICE.path(host[1], f"{parts.scheme}:{host[0]}:{parts.port or 9090}", "proxy/api/v1/query")
    try:
        answer = await kube.request("GET", path, {"query": "count(up)"})
        result = answer["data"]["result"]
        return int(float(result[0]["value"][1])) if result else 0
    except Refused as e:
        return f"HTTP {e.code}"
    except Exception as e:
        # Whatever stands behind the proxy may answer anything; all of it means the same here.
        return type(e).__name__


async def _classes(kube: Kube) -> dict[str, dict[str, object]]:
    def facts(obj: Object) -> dict[str, object]:
        notes = (obj.get("metadata") or {}).get("annotations") or {}
        default = notes.get("storageclass.kubernetes.io/is-default-class") == "true"
        kept = {k: obj.get(k) for k in ("provisioner", "allowVolumeExpansion", "volumeBindingMode")}
        return {**kept, "default": default}

    return {name: f for (_, name), f in (await kube.list(Select(STORAGE_CLASS), facts)).items()}


async def _labels(kube: Kube, namespace: str) -> dict[str, str] | None:
    try:
        found = await kube.get(NAMESPACE, None, namespace)
    except Refused:
        return {}
    return None if found is None else dict((found.get("metadata") or {}).get("labels") or {})


async def _quotas(kube: Kube, namespace: str) -> dict[str, tuple[float, float]]:
    from seawall.domain.units import parse_bytes

    def number(text: Any) -> float:
        try:
            return float(text)
        except (TypeError, ValueError):
            try:
                return float(parse_bytes(text))
            except ValueError:
                return 0.0

    def rows(obj: Object) -> dict[str, tuple[float, float]]:
        status = obj.get("status") or {}
        used = status.get("used") or {}
        return {r: (number(used.get(r, 0)), number(hard)) for r, hard in (status.get("hard") or {}).items()}

    tightest: dict[str, tuple[float, float]] = {}
    for quota in (await kube.list(Select(QUOTA, namespace), rows)).values():
        for resource, (used, hard) in quota.items():
            known = tightest.get(resource)
            if known is None or hard - used < known[1] - known[0]:
                tightest[resource] = (used, hard)
    return tightest


async def _ranges(kube: Kube, namespace: str) -> tuple[str, ...]:
    def told(obj: Object) -> str:
        limits = [x for x in (obj.get("spec") or {}).get("limits", []) if x.get("type") == "Container"]
        capped = {k: v for x in limits for k, v in (x.get("max") or {}).items()}
        return f"{key_of(obj)[1]} caps a container at {capped}" if capped else ""

    return tuple(t for t in (await kube.list(Select(LIMIT_RANGE, namespace), told)).values() if t)


async def _denied(kube: Kube, namespace: str, kinds: Kinds) -> tuple[str, ...]:
    """Rights that are missing of those that an apply and the looks after it need: to create and patch each kind
    that is rendered and served. The namespace itself may be somebody else's."""
    needed = [("list", POD), ("list", NODE)]
    for version, name in sorted(kinds):
        try:
            kind = await kube.kind_of({"apiVersion": version, "kind": name})
        except InputError:
            continue  # told by the check of custom resources
        if kind != NAMESPACE:
            needed += [("create", kind), ("patch", kind)]
    at_once = asyncio.Semaphore(AT_ONCE)

    async def may(verb: str, kind: ObjectKind) -> bool:
        async with at_once:
            return await kube.may(verb, kind, namespace if kind.namespaced else None)

    answers = await asyncio.gather(*(may(*right) for right in needed))
    return tuple(
        f"{verb} {kind.plural}" for (verb, kind), may in zip(needed, answers, strict=True) if not may
    )


async def _foreign(kube: Kube, fleet: Fleet) -> dict[str, str]:
    """Objects of this fleet whose spec some GitOps controller or hand manages."""

    def manager(obj: Object) -> str:
        entries = (obj.get("metadata") or {}).get("managedFields") or []
        edited = any(str(e.get("manager", "")).startswith("kubectl-edit") for e in entries)
        return deployer_of({"kind": "Deployment", **obj}) or ("kubectl-edit" if edited else "")

    labels = f"{FLEET}={fleet.name}"
    found = await kube.list(Select(DEPLOYMENT, fleet.metadata.namespace, labels=labels), manager)
    return {f"Deployment/{name}": m for (_, name), m in found.items() if m}
