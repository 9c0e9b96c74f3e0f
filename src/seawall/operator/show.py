"""`seawall status` of a cluster as text: one block a fleet, what needs attention first. Pure."""

from __future__ import annotations

from seawall.domain.units import show_seconds
from seawall.operator.status import FleetView, ReplicaLine

SHOWN = 12


def status_text(views: list[FleetView], where: str) -> str:
    """Every fleet with its numbers, its scaler's last word and the replicas that are not simply ready."""
    if not views:
        return f"no fleet in {where}\n\nNext: seawall apply FLEET.yaml"
    return "\n\n".join(_fleet(v) for v in views)


def _fleet(v: FleetView) -> str:
    phases = ", ".join(f"{n} {p}" for p, n in sorted(v.phases.items(), key=lambda t: -t[1])) or "no replica"
    lines = [f"{v.namespace}/{v.name}   {serving(v)}   ({phases})"]
    if v.queued is not None:
        ttft = f", TTFT p95 {show_seconds(v.ttft_p95_s)}" if v.ttft_p95_s else ""
        lines.append(f"  demand   {v.queued} queued, {v.in_flight} in flight{ttft}")
    if v.scaler:
        lines.append(f"  scaler   {v.scaler}")
    if v.store:
        lines.append(f"  store    {v.store}")
    if v.rollout:
        lines.append(f"  rollout  {v.rollout}")
    if v.unread:
        lines.append(f"  not read: {', '.join(v.unread)}; nothing is known of them")
    troubled = [r for r in v.replicas if r.phase != "ready"]
    lines += [f"  {_replica(r)}" for r in troubled[:SHOWN]]
    hidden = sum(n for p, n in v.phases.items() if p != "ready") - min(SHOWN, len(troubled))
    if hidden > 0:
        lines.append(f"  ... and {hidden} more that are not ready")
    cut_off = v.usable is not None and v.usable < v.ready
    if cut_off or v.refused or any(r.phase == "failed" for r in troubled) or "stuck" in v.rollout:
        lines.append(f"  Next: seawall diagnose {v.name} --namespace {v.namespace}")
    return "\n".join(lines)


def serving(v: FleetView) -> str:
    """How many replicas clients get answers from now, of how many are wanted."""
    if v.usable is None:
        asked = f" (the gateways could not be asked: {v.silent})" if v.silent else ""
        return f"{v.ready} of {v.desired} ready{asked}"
    if not v.desired:
        return resting(v) if not v.usable else f"{v.usable} serving, 0 wanted"
    why = f": {v.unused}" if v.unused and v.usable < v.desired else ""
    ready = f", {v.ready} ready" if v.ready != v.usable else ""
    return f"{v.usable} of {v.desired} used by the gateways{ready}{why}"


def resting(v: FleetView) -> str:
    """What a fleet at zero waits for: nothing is promised that nobody would do."""
    if v.unscaled:
        return f"scaled to zero, and no request starts a replica: {v.unscaled}"
    if v.woken:
        return "scaled to zero: the first request starts a replica"
    return "scaled to zero; there is no ScaledObject that starts a replica (of a pool the operator does)"


def _replica(r: ReplicaLine) -> str:
    side = " (canary)" if r.group == "canary" else ""
    return f"{r.phase:8} {r.name}{side}{f' on {r.node}' if r.node else ''}: {r.reason}"
