"""What `seawall status` shows of a cluster: fleets, replicas with phase and reason, queue, scaler, rollout.

Few requests (one page of 500 Pods each), and of every Pod only a line is kept: 10,000 Pods fit in a few MB.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from seawall.decide.scale.keda import PAUSED
from seawall.diagnose.phase import leaving, paused, phase_of, refused_pods
from seawall.domain.labels import DECIDED, ENGINES, FLEET, GROUP, ROLE
from seawall.domain.told import GatewayState
from seawall.drivers import kube_gateways
from seawall.drivers.kube import (
    AUTOSCALER,
    DEPLOYMENT,
    EVENT,
    POD,
    SCALED_OBJECT,
    Kube,
    Object,
    ObjectKind,
    Refused,
    Select,
    key_of,
)
from seawall.operator.cordons import Cordons

UNSCALED = "nothing scales it: KEDA has not looked at its ScaledObject (is KEDA's operator running?)"
SHOWN = 50
"""Replicas that are listed one by one; the rest is counted by phase."""


@dataclass(frozen=True)
class ReplicaLine:
    """One Pod in a line."""

    name: str
    phase: str
    reason: str
    node: str
    group: str
    restarts: int
    since: str = ""
    """When its phase began, as far as the Pod's conditions tell: RFC 3339."""


@dataclass
class FleetView:
    """One fleet as the cluster has it now."""

    name: str
    namespace: str
    desired: int = 0
    ready: int = 0
    updated: int = 0
    rollout: str = ""
    refused: bool = False
    """The API server takes no Pods of it; `rollout` says why."""
    scaler: str = ""
    phases: dict[str, int] = field(default_factory=dict)
    replicas: list[ReplicaLine] = field(default_factory=list)
    """Those that are not simply ready first."""
    deployed: bool = False
    """A Deployment of the fleet's engines says how many replicas are wanted."""
    usable: int | None = None
    """Replicas that every gateway of the fleet uses now; None: the gateways could not be asked."""
    silent: str = ""
    """Why they could not."""
    unused: str = ""
    """Why a gateway does not use a replica, in its own words."""
    unscaled: str = ""
    """Why nothing scales the fleet; empty where something does, or should not."""
    woken: bool = False
    """Something starts a replica when the first request comes: a ScaledObject that works."""
    unread: list[str] = field(default_factory=list)
    """What the cluster did not let be read, with the code of its refusal: nothing is known of it."""
    store: str = ""
    """How the store stands that its gateways share; empty: they share none."""
    queued: int | None = None
    in_flight: int | None = None
    ttft_p95_s: float | None = None


async def look(
    kube: Kube,
    namespace: str | None,
    fleet: str | None = None,
    ask_gateways: bool = True,
    shown: int | None = SHOWN,
) -> list[FleetView]:
    """All fleets of a namespace (None: of the cluster), or one. `shown`: replicas listed of each."""
    labels = f"{FLEET}={fleet}" if fleet else FLEET
    views: dict[tuple[str, str], FleetView] = {}
    await kube.list(Select(DEPLOYMENT, namespace, labels=labels), lambda o: _deployment(o, views))
    pods = await kube.list(Select(POD, namespace, labels=f"{labels},{ENGINES}"), _line)
    for (where, _), (name, line) in sorted(pods.items()):
        view = views.setdefault((where, name), FleetView(name, where))
        view.phases[line.phase] = view.phases.get(line.phase, 0) + 1
        view.replicas.append(line)
    for view in views.values():
        if not view.deployed:
            # A replica that spans nodes belongs to a LeaderWorkerSet: its leaders, which are there, say how many.
            view.desired, view.ready = sum(view.phases.values()), view.phases.get("ready", 0)
        view.replicas.sort(key=lambda r: (r.phase == "ready", r.name))
        if shown is not None:
            del view.replicas[shown:]
    cordons = Cordons(kube)
    for view in views.values():
        view.replicas = [replace(r, reason=await cordons.named(r.reason)) for r in view.replicas]
    await _scalers(kube, namespace, labels, views)
    await _decisions(kube, namespace, labels, views)
    if ask_gateways:
        await _gateways(kube, namespace, views)
    return sorted(views.values(), key=lambda v: (v.namespace, v.name))


def _fleet_of(obj: Object) -> str:
    return str(((obj.get("metadata") or {}).get("labels") or {}).get(FLEET, ""))


def _deployment(obj: Object, views: dict[tuple[str, str], FleetView]) -> None:
    labels = (obj.get("metadata") or {}).get("labels") or {}
    if labels.get(ROLE, "engine") != "engine":
        return
    namespace, name = key_of(obj)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    view = views.setdefault((namespace, _fleet_of(obj)), FleetView(_fleet_of(obj), namespace))
    desired = int(spec.get("replicas", 1))
    view.deployed = True
    view.desired += desired
    view.ready += int(status.get("readyReplicas") or 0)
    view.updated += int(status.get("updatedReplicas") or 0)
    conditions = {c.get("type"): c for c in status.get("conditions") or []}
    progress = conditions.get("Progressing") or {}
    updated = int(status.get("updatedReplicas") or 0)
    generation = int((obj.get("metadata") or {}).get("generation") or 0)
    seen = int(status.get("observedGeneration", generation)) >= generation
    behind = updated < desired or not seen or int(status.get("replicas") or 0) > updated
    missing = int(status.get("replicas") or 0) < desired
    if gone := leaving(obj):
        view.rollout = gone
    elif behind and (stopped := paused(obj)):
        view.rollout = stopped
    elif (behind or missing) and (refusal := refused_pods(obj)):
        view.rollout = refusal
        view.refused = True
    elif progress.get("reason") == "ProgressDeadlineExceeded":
        view.rollout = f"{name} is stuck: {str(progress.get('message'))[:200]}"
    elif updated < desired or not seen:
        view.rollout = f"{name}: {updated if seen else 0} of {desired} replicas are new"
    elif (old := int(status.get("replicas") or 0) - updated) > 0:
        view.rollout = f"{name}: all {updated} new replicas are made, {old} old ones still run"


def _line(pod: Object) -> tuple[str, ReplicaLine]:
    phase, reason = phase_of(pod)
    labels = (pod.get("metadata") or {}).get("labels") or {}
    restarts = sum(
        int(c.get("restartCount") or 0) for c in (pod.get("status") or {}).get("containerStatuses") or []
    )
    node = str((pod.get("spec") or {}).get("nodeName") or "")
    group = str(labels.get(GROUP, "stable"))
    line = ReplicaLine(key_of(pod)[1], phase, reason, node, group, restarts, _since(pod, phase))
    return _fleet_of(pod), line


def _since(pod: Object, phase: str) -> str:
    """The last change of the Pod's readiness, else when it was made; of one that drains, when it was told to stop."""
    meta, status = pod.get("metadata") or {}, pod.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or []}
    ready = conditions.get("Ready") or {}
    told = meta.get("deletionTimestamp") if phase == "draining" else ready.get("lastTransitionTime")
    return str(told or meta.get("creationTimestamp") or "")


async def _scalers(
    kube: Kube, namespace: str | None, labels: str, views: dict[tuple[str, str], FleetView]
) -> None:
    """The scaler's last word: the HPA's own condition messages, or why KEDA is not ready."""

    def hpa(obj: Object) -> tuple[str, str]:
        status = obj.get("status") or {}
        found = {c.get("type"): c for c in status.get("conditions") or []}
        for kind in ("AbleToScale", "ScalingActive"):
            c = found.get(kind) or {}
            # At zero an HPA rests: who wakes the fleet is KEDA.
            if c.get("status") == "False" and c.get("reason") != "ScalingDisabled":
                return _fleet_of(obj), f"cannot scale: {str(c.get('message'))[:200]}"
        current, desired = status.get("currentReplicas", 0), status.get("desiredReplicas", 0)
        limited = found.get("ScalingLimited") or {}
        why = f", {limited.get('message')}" if limited.get("status") == "True" else ""
        return _fleet_of(obj), f"{current} -> {desired} replicas{why}"

    def keda(obj: Object) -> tuple[str, str]:
        unscaled, text = _by_keda(obj)
        view = views.get((key_of(obj)[0], _fleet_of(obj)))
        if view is not None:
            view.unscaled, view.woken = unscaled, not unscaled
        return _fleet_of(obj), text

    for kind, told in ((AUTOSCALER, hpa), (SCALED_OBJECT, keda)):
        try:
            found = await kube.list(Select(kind, namespace, labels=labels), told)
        except Refused as e:
            _unread(views, kind, e)
            continue
        for (where, _), (fleet, text) in found.items():
            view = views.get((where, fleet))
            if view is not None and text:
                view.scaler = f"{view.scaler}; {text}" if view.scaler else text


def _by_keda(obj: Object) -> tuple[str, str]:
    """What KEDA's conditions of a ScaledObject mean: why nothing scales it (empty: something does), what is said."""
    found = {c.get("type"): c for c in (obj.get("status") or {}).get("conditions") or []}
    ready, message = found.get("Ready") or {}, str((found.get("Ready") or {}).get("message"))[:200]
    notes = (obj.get("metadata") or {}).get("annotations") or {}
    if (found.get("Paused") or {}).get("status") == "True":
        by = ", ".join(sorted(n for n in notes if n.startswith(PAUSED))) or PAUSED
        text = f"KEDA is paused by the annotation {by}"
        return text, text
    if not found:
        return UNSCALED, UNSCALED
    if ready.get("status") == "False":
        text = f"KEDA is not ready: {message}"
        return text, text
    if (found.get("Fallback") or {}).get("status") == "True":
        return "", "blind: KEDA runs on its fallback"
    if ready.get("status") == "Unknown" and ready.get("reason"):
        return "", message
    return "", ""


def _unread(views: dict[tuple[str, str], FleetView], kind: ObjectKind, e: Refused) -> None:
    """A kind that is not served has no objects; one that is refused may have any."""
    if not e.unserved:
        for view in views.values():
            view.unread.append(f"{kind.plural} ({e.code})")


async def _decisions(
    kube: Kube, namespace: str | None, labels: str, views: dict[tuple[str, str], FleetView]
) -> None:
    """The last change that our own scaler has decided, and why: its newest event of each fleet."""
    select = Select(EVENT, namespace, labels=labels, fields=f"reason={DECIDED}")
    try:
        found = await kube.list(
            select, lambda o: (_fleet_of(o), str(o.get("lastTimestamp")), o.get("message"))
        )
    except Refused as e:
        _unread(views, EVENT, e)
        return  # whoever may not read events is told the rest
    newest: dict[tuple[str, str], tuple[str, object]] = {}
    for (where, _), (fleet, at, message) in found.items():
        newest[where, fleet] = max(newest.get((where, fleet), ("", "")), (at, message), key=lambda e: e[0])
    for key, (at, message) in newest.items():
        if (view := views.get(key)) is not None:
            text = f"decided at {at}: {str(message)[:300]}"
            view.scaler = f"{view.scaler}; {text}" if view.scaler else text


async def _gateways(kube: Kube, namespace: str | None, views: dict[tuple[str, str], FleetView]) -> None:
    """Queue, latency and which replicas are used, of all gateways."""
    try:
        answers = await kube_gateways.ask(kube, namespace)
    except Refused as e:
        for view in views.values():
            view.silent = e.message
        return
    for where in {where for where, _ in views}:
        state = answers.of(where)
        silent = next((f"{pod}: {why}" for (ns, pod), why in answers.silent.items() if ns == where), "")
        for view in (v for v in views.values() if v.namespace == where):
            heed(view, state, silent)


def heed(view: FleetView, state: GatewayState, silent: str = "") -> None:
    """Fills in what the gateways of the fleet's namespace tell. `silent`: why one of them told nothing."""
    told, mine = state.fleets.get(view.name), state.of(view.name)
    view.store = state.store.sentence if state.store is not None else ""
    if told is not None:
        view.queued, view.in_flight, view.ttft_p95_s = told.queued, told.in_flight, told.ttft_p95_s
    if silent:
        view.silent = silent
        return
    view.usable = sum(r.state == "ready" for r in mine.values())
    unused = sorted((r.state == "draining", n, r) for n, r in mine.items() if r.state != "ready")
    view.unused = ""
    if told is None:
        view.unused = "no gateway of this namespace serves it"
    elif unused:
        _, name, r = unused[0]
        view.unused = f"{name} is {r.state}{f': {r.reason}' if r.reason else ''}"
    elif view.usable < view.desired:
        view.unused = "the gateway knows no more replicas"
