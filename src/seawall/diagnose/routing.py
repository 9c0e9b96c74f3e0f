"""Why requests do not reach a replica that runs: endpoints, Services, the gateway's own picture. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from seawall.decide.truth.standing import WRONG
from seawall.diagnose.cause import Cause, CauseCertainty, rule
from seawall.diagnose.facts import Facts, Object, condition, items, name_of, part
from seawall.domain.labels import FLEET
from seawall.domain.told import GatewayState, ReplicaState, read
from seawall.domain.units import counted


def _ready(pod: Object) -> bool:
    return condition(pod, "Ready").get("status") == "True" and not part(pod, "metadata").get(
        "deletionTimestamp"
    )


def _each(facts: Facts) -> Iterator[tuple[str, GatewayState]]:
    """(gateway's Pod, what it told) of every gateway; of a recording that holds only their sum, that."""
    asked = facts.gateways or ({"the gateway": facts.gateway} if facts.gateway else {})
    for name, document in asked.items():
        try:
            yield name, read(document)
        except ValueError:
            continue


def _none_ready(pods: int) -> str:
    return "its only Pod is not ready" if pods == 1 else f"none of its {pods} Pods is ready"


def _told(facts: Facts) -> GatewayState:
    """The state that the gateway told; an empty one where nothing can be read."""
    try:
        return read(facts.gateway)
    except ValueError:
        return GatewayState()


@rule
def services(facts: Facts) -> Iterator[Cause]:
    """Services without endpoints: no Pod has the labels, or none is ready."""
    for service in facts.services:
        selector, name = part(service, "spec", "selector"), name_of(service)
        slices = [
            s
            for s in facts.endpointslices
            if part(s, "metadata", "labels").get("kubernetes.io/service-name") == name
        ]
        endpoints = [e for s in slices for e in items(s, "endpoints")]
        serving = [e for e in endpoints if part(e, "conditions").get("ready") is not False]
        if not selector or serving or not facts.pods:
            continue
        picked = [
            p
            for p in facts.pods
            if all(part(p, "metadata", "labels").get(k) == v for k, v in selector.items())
        ]
        if not picked:
            wanted = ", ".join(f"{k}={v}" for k, v in selector.items())
            yield Cause(
                id="route/selects-nothing",
                certainty="certain",
                subject=f"Service/{name}",
                weight=82,
                what=f"its selector {wanted} fits no Pod: clients get connection refused or 503",
                evidence=(f"{counted(len(facts.pods), 'Pod')} in sight, 0 selected",),
                do="kubectl get pods --show-labels; make selector and labels agree",
            )
        elif any(_ready(p) for p in picked):
            yield Cause(
                id="route/stale-endpoints",
                certainty="likely",
                subject=f"Service/{name}",
                weight=70,
                what="ready Pods are selected and the Service has no ready endpoint: a port name that "
                "does not exist, or endpoints lag behind",
                evidence=(f"{counted(len(picked), 'Pod')} selected",),
                do=f"kubectl get endpointslices -l kubernetes.io/service-name={name} -o yaml; check "
                "targetPort's name",
            )
        else:
            yield Cause(
                id="route/none-ready",
                certainty="certain",
                subject=f"Service/{name}",
                weight=35,
                what=f"it has no ready endpoint: {_none_ready(len(picked))}",
                evidence=(f"{counted(len(endpoints), 'endpoint')}, 0 ready",),
                do="see the Pods' causes",
                kind="symptom",
            )


@rule
def gateway(facts: Facts) -> Iterator[Cause]:
    """What the gateway itself says: no replica, or none that it would use."""
    told = _told(facts)
    for fleet, state in told.fleets.items():
        mine = told.of(fleet)
        if any(r.state == "ready" for r in mine.values()):
            continue
        ready = [
            p for p in facts.pods if _ready(p) and part(p, "metadata", "labels").get(FLEET) in (fleet, None)
        ]
        what, certainty, do = _why_none(fleet, mine, len(ready))
        yield Cause(
            id="route/gateway-no-endpoints",
            certainty=certainty,
            subject=f"Fleet/{fleet}",
            weight=84 if ready else 38,
            what=what,
            evidence=(
                f"/debug/state: {counted(len(mine), 'replica')}, {counted(state.queued, 'request')} queued",
                *(f"{n}: {r.reason}" for n, r in list(mine.items())[:3] if r.reason),
            ),
            do=do,
            kind="cause" if ready and not mine else "symptom",
        )


def _why_none(fleet: str, mine: Mapping[str, ReplicaState], ready: int) -> tuple[str, CauseCertainty, str]:
    """Why a gateway that knows the replicas `mine` uses none while `ready` Pods are: what, how sure, what to do."""
    if not mine and ready:
        return (
            f"the gateway knows no replica of {fleet}, and {ready} Pods are ready: its "
            "discovery is broken (RBAC, NetworkPolicy, labels)",
            "certain",
            "kubectl auth can-i watch endpointslices --as "
            "system:serviceaccount:NAMESPACE:GATEWAY; kubectl logs deploy/GATEWAY",
        )
    if mine:
        none = "none of the replicas" if len(mine) > 1 else "no replica"
        states = ", ".join(f"{n} {r.state or 'unknown to it'}" for n, r in list(mine.items())[:4])
        return (
            f"the gateway routes to {none} of {fleet} ({states})",
            "likely",
            "see the replicas' causes; it probes them and takes them back by itself",
        )
    return (
        f"the gateway has no replica of {fleet}",
        "likely",
        "see the Pods' causes; scaled to zero wakes with the first request",
    )


@rule
def unreachable(facts: Facts) -> Iterator[Cause]:
    """Gateways that do not reach engines which are Ready: every gateway is looked at, what one evicted is a fact."""
    ready = {name_of(p) for p in facts.pods if _ready(p)}
    lost: dict[str, list[str]] = {}
    reasons: dict[str, str] = {}
    gateways = list(_each(facts))
    for name, told in gateways:
        for replica, state in told.replicas.items():
            out = state.state in ("evicted", "probing") and WRONG not in state.reason
            if replica in ready and out:
                lost.setdefault(replica, []).append(name)
                reasons.setdefault(replica, state.reason or state.state)
    for replica, by in lost.items():
        everyone = len(by) == len(gateways)
        who = (
            "no gateway reaches it"
            if everyone and len(by) > 1
            else f"{', '.join(sorted(by)[:4])} does not reach it"
        )
        yield Cause(
            id="route/gateway-cannot-reach",
            certainty="likely",
            subject=f"Pod/{replica}",
            weight=86,
            what=f"Kubernetes calls it Ready and {who}: it gets no requests from there",
            evidence=tuple(f"{g}: {reasons[replica]}" for g in sorted(by)[:3]),
            do=_way_to(replica, reasons[replica], sorted(by)[0] if facts.gateways else "GATEWAY")
            if everyone or len(gateways) == 1
            else f"look at that gateway's node: the other {len(gateways) - len(by)} reach it; delete its Pod to "
            "move it",
        )


def _way_to(replica: str, reason: str, gateway: str) -> str:
    """What to look at, by what the gateway was told when it tried."""
    if re.search(r"refused|no process listens", reason):
        return (
            "nobody listens there for other Pods: vLLM's --host (not 127.0.0.1) and --port against the port of the "
            f"Service; kubectl exec {replica} -- ss -ltn"
        )
    if re.search(r"answered 40[13]\b", reason):
        return "the key that the gateway sends is not the engine's: compare its Secret with VLLM_API_KEY or --api-key"
    if re.search(r"\bTLS\b|certificate", reason):
        return "TLS between gateway and engine: the engine's --ssl-certfile, its names, and the CA that the gateway has"
    return (
        "a NetworkPolicy between them, the Pod network of that node, or an engine that answers the kubelet's probe "
        f"only: kubectl exec {gateway} -- curl -m 5 http://POD_IP:8000/health"
    )


@rule
def silent_gateways(facts: Facts) -> Iterator[Cause]:
    """Gateways that do not answer whoever diagnoses; their numbers are missing in every sum."""
    for name, why in sorted(facts.silent_gateways.items()):
        yield Cause(
            id="route/gateway-silent",
            certainty="possible",
            subject=f"Pod/{name}",
            weight=30,
            what="the gateway does not say what it sees: asked through the API server it gives no answer",
            evidence=(why[:200],),
            do=f"kubectl logs {name}; a NetworkPolicy may keep the API server's proxy out (then this is harmless)",
            kind="risk",
        )


@rule
def dead_replica(facts: Facts) -> Iterator[Cause]:
    """The gateway routes to a replica that is no Pod any more."""
    replicas = _told(facts).replicas
    gone = replicas.keys() - {name_of(p) for p in facts.pods}
    if facts.pods and gone and any(replicas[n].state == "ready" for n in gone):
        yield Cause(
            id="route/dead-replica",
            certainty="likely",
            subject="Gateway",
            weight=80,
            what=f"the gateway still routes to replicas that are gone: {', '.join(sorted(gone)[:4])}",
            evidence=("in /debug/state as ready, not among the Pods",),
            do="restart the gateway's Pod; its watch should have been relisted: report this",
        )
