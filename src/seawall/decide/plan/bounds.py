"""The gateway's bounds from the plan, where the spec leaves them open. Pure."""

from __future__ import annotations

from dataclasses import replace

from seawall.decide.plan.flags import absorbed
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet


def bounded(fleet: Fleet, plan: Plan) -> Fleet:
    """The fleet with its gateway's bounds filled in.

    In flight per replica: what the engine takes before it answers 503, never its `max_num_seqs` alone, which may be
    more than the KV cache holds (requests would then wait inside, past their SLO). Queued: the gateway learns the
    fleet's rate and bounds its queue by it; a fleet that starts from zero has no rate yet, so the plan's is used.
    Context: what the engine is started with, so that a continued answer ends where an unbroken one would have.
    """
    gateway = fleet.spec.gateway
    takes = [n for n in (plan.max_num_seqs, plan.engine_queue_bound) if n > 0]
    gateway = replace(
        gateway,
        max_in_flight=gateway.max_in_flight or (min(takes) if takes else None),
        max_queued=gateway.max_queued
        or (plan.gateway_queue_bound or None if fleet.spec.scaling.min == 0 else None),
    )
    context = absorbed(fleet).spec.traffic.max_context or plan.max_model_len or None
    traffic = replace(fleet.spec.traffic, max_context=context)
    return replace(fleet, spec=replace(fleet.spec, gateway=gateway, traffic=traffic))
