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
    lines = [f"{v.namespace}/{v.name}   {v.ready} of {v.desired} ready   ({phases})"]
    if v.queued is not None:
        ttft = f", TTFT p95 {show_seconds(v.ttft_p95_s)}" if v.ttft_p95_s else ""
        lines.append(f"  demand   {v.queued} queued, {v.in_flight} in flight{ttft}")
    if v.scaler:
        lines.append(f"  scaler   {v.scaler}")
    if v.rollout:
        lines.append(f"  rollout  {v.rollout}")
    troubled = [r for r in v.replicas if r.phase != "ready"]
    lines += [f"  {_replica(r)}" for r in troubled[:SHOWN]]
    hidden = sum(n for p, n in v.phases.items() if p != "ready") - min(SHOWN, len(troubled))
    if hidden > 0:
        lines.append(f"  ... and {hidden} more that are not ready")
    if any(r.phase == "failed" for r in troubled) or "stuck" in v.rollout:
        lines.append(f"  Next: seawall diagnose {v.name} --namespace {v.namespace}")
    return "\n".join(lines)


def _replica(r: ReplicaLine) -> str:
    side = " (canary)" if r.group == "canary" else ""
    return f"{r.phase:8} {r.name}{side}{f' on {r.node}' if r.node else ''}: {r.reason}"
