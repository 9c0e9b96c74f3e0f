"""The state of `seawall up` as plain JSON: the content of state.json, `seawall status --json` and the live view.

The shape is documented in docs/reference/local.md; names are only added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seawall.decide.replica import ReplicaPhase

_GATEWAY_SAYS = (
    "queued", "in_flight", "pending", "ttft_p50_s", "ttft_p95_s", "finished_total", "rejected_total", "failed_total",
    "resumed_total", "retried_total",
)  # fmt: skip

if TYPE_CHECKING:
    from seawall.domain.told import GatewayState
    from seawall.local.fleet import FleetRunner
    from seawall.local.keeper import Keeper
    from seawall.local.supervisor import Supervisor


def snapshot(supervisor: Supervisor) -> dict[str, Any]:
    """One look at everything; cheap: at most the end of a starting replica's log is read."""
    from seawall.local.supervisor import fact_sheet

    now = supervisor._clock.now()
    gateway = supervisor.gateway
    return {
        **fact_sheet(supervisor),
        "stopping": supervisor.stopping,
        "gateway": {
            "url": supervisor.setup.place.url,
            "admin_url": supervisor.admin_url,
            **(_kept(gateway, now) if gateway else {"phase": ReplicaPhase.STARTING}),
            "store": _store(supervisor.gateway_service.state) if gateway else None,
        },
        "keeper": _kept(supervisor.holder, now) if supervisor.holder else None,
        "batch": _kept(supervisor.batch, now) if supervisor.batch else None,
        "fleets": [_fleet(f, supervisor) for f in supervisor.fleets],
        "replicas": [_replica(f, k, supervisor, now) for f in supervisor.fleets for k in f.keepers.values()],
        "events": [{"at": e.at, "subject": e.subject, "text": e.text} for e in list(supervisor.events)[-50:]],
    }


def _store(told: GatewayState | None) -> str | None:
    """How the store stands that it shares with other gateways; None: it shares none, or tells nothing."""
    return told.store.sentence if told is not None and told.store is not None else None


def _kept(keeper: Keeper, now: float) -> dict[str, Any]:
    life, child = keeper.life, keeper.child
    return {
        "name": keeper.name,
        "phase": str(life.phase),
        "for_s": round(now - life.since_s, 1),
        "reason": life.reason,
        "pid": child.pid if child else None,
        "guardian_pid": child.guardian_pid if child else None,
        "generation": keeper.generation,
        "failures": life.failures,
        "retry_in_s": round(max(0.0, life.retry_at_s - now), 1)
        if life.phase is ReplicaPhase.FAILED
        else None,
        "log": str(keeper.log),
    }


def _replica(fleet: FleetRunner, keeper: Keeper, supervisor: Supervisor, now: float) -> dict[str, Any]:
    service = fleet.service(keeper)
    load, life = keeper.load, keeper.life
    if life.phase is ReplicaPhase.READY and keeper.child is not None:
        supervisor.loading.started(fleet.name, keeper.name, keeper.child.pid, life.since_s - life.born_s)
    routed = supervisor.gateway_service.replica(keeper.name, service.url) if supervisor.gateway else None
    return {
        **_kept(keeper, now),
        "fleet": fleet.name,
        "stage": _stage(fleet, keeper, supervisor),
        "usual_start_s": supervisor.loading.usual_s(fleet.name),
        "url": service.url,
        "port": service.port,
        "running": load.running if load else None,
        "waiting": load.waiting if load else None,
        "kv_usage": load.kv_usage if load else None,
        "in_flight": routed.in_flight if routed else None,
        "routed": routed.state if routed else None,
        "routed_why": (routed.reason or routed.suspect) if routed else "",
        "memory_bytes": keeper.memory_bytes or None,
        "limited_by": keeper.child.limited_by if keeper.child else None,
    }


def _stage(fleet: FleetRunner, keeper: Keeper, supervisor: Supervisor) -> str | None:
    """How far a start is; None when it is over, or the engine logs no stages."""
    if keeper.life.phase is not ReplicaPhase.STARTING or keeper.child is None or fleet.recipe.engine == "sim":
        return None
    return supervisor.loading.stage(keeper.name, keeper.child.pid, keeper.log)


def _fleet(fleet: FleetRunner, supervisor: Supervisor) -> dict[str, Any]:
    seen = supervisor.gateway_service.fleet(fleet.name) if supervisor.gateway else None
    return {
        "name": fleet.name,
        "models": list(fleet.fleet.served_names),
        "wanted": fleet.wanted,
        "ready": sum(k.life.phase is ReplicaPhase.READY for k in fleet.keepers.values()),
        "min": fleet.policy.lowest,
        "max": fleet.policy.highest,
        "pinned": fleet.pinned,
        "generation": fleet.generation,
        "settled": fleet.settled(),
        "scale_reason": fleet.scale_reason,
        "pool": fleet.fleet.spec.pool.name if fleet.fleet.spec.pool else None,
        "pool_reason": f"{fleet.turn.move}: {fleet.turn.reason}" if fleet.turn else None,
        **{k: getattr(seen, k, None) for k in _GATEWAY_SAYS},
    }
