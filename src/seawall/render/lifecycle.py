"""Start and stop of a replica: one relation for probes, drains and grace periods.

    stop    preStop sleep (routers learn of it) -> SIGTERM -> vLLM drains -> a margin -> SIGKILL
            pre_stop + drain + margin = terminationGracePeriodSeconds
            on spot nodes the whole of it fits into the cloud's notice
    start   the plan's budget was made for a quiet node; a replica that loads beside busy ones was measured
            to take four times as long (86 s became more than 300 s), so probes allow LOADED_NODE times it

vLLM aborts streams at SIGTERM unless --shutdown-timeout is set, and hangs them when it expires: that is why
the drain ends before the grace period does, and why the gateway resumes what is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from seawall.domain.action import Plan
from seawall.domain.catalog.clouds import CLOUDS
from seawall.domain.spec import Fleet

LOADED_NODE = 4.0
MIN_START_S = 300
STOP_MARGIN_S = 15
"""Seconds between the end of the drain and SIGKILL: vLLM needs a few to tear down after its last stream."""
SPOT_MARGIN_S = 3
SPOT_PRE_STOP_S = 3
"""preStop on spot nodes, seconds: the gateway evicts at once; slower routers lose what they send meanwhile."""
NODE_PROVISION_S = 600
"""Seconds that an autoscaler needs to bring a GPU node."""


@dataclass(frozen=True, kw_only=True)
class StopTiming:
    """Seconds, all whole: Kubernetes takes no fractions."""

    pre_stop_s: int
    drain_s: int
    grace_s: int


def spot_notice_s(fleet: Fleet) -> float | None:
    """Seconds between notice and loss of a spot node of this fleet; None without spot."""
    spot = fleet.spec.hardware.spot
    if spot is None:
        return None
    if spot.notice is not None:
        return spot.notice
    return CLOUDS[fleet.spec.hardware.cloud].spot_notice_s or 30.0


def timing_of(fleet: Fleet, *, spot: bool = False) -> StopTiming:
    """Stop timing of the fleet's replicas; `spot`: of those on spot nodes, fitted to the notice."""
    rollout = fleet.spec.rollout
    pre_stop, drain = math.ceil(rollout.pre_stop), math.ceil(rollout.drain)
    notice = spot_notice_s(fleet) if spot else None
    if notice is None or pre_stop + drain + STOP_MARGIN_S <= notice:
        return StopTiming(pre_stop_s=pre_stop, drain_s=drain, grace_s=pre_stop + drain + STOP_MARGIN_S)
    whole = math.floor(notice)
    pre_stop = min(pre_stop, SPOT_PRE_STOP_S)
    drain = max(1, whole - pre_stop - SPOT_MARGIN_S)
    return StopTiming(pre_stop_s=pre_stop, drain_s=drain, grace_s=pre_stop + drain + SPOT_MARGIN_S)


def start_budget_s(plan: Plan) -> int:
    """Seconds from the container's start until it must have generated its first token. The image is there
    by then, so its pull is not in it."""
    budget = plan.startup
    return math.ceil(max(MIN_START_S, LOADED_NODE * (budget.weights_s + budget.load_s), budget.total_s))


def progress_deadline_s(plan: Plan) -> int:
    """Seconds after which a rollout that gets nowhere is reported as failed: a node, the image, the start."""
    return NODE_PROVISION_S + math.ceil(plan.startup.image_s) + start_budget_s(plan)
