"""What a simulation is told: the fleet's replica, its cloud's delays, and what happens when.

Forbidden here: running anything. Times are seconds, rates per second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from seawall.decide.plan.bounds import bounded
from seawall.domain.action import Plan, Timing
from seawall.domain.spec import Fleet
from seawall.domain.units import parse_seconds
from seawall.errors import InputError
from seawall.sim.engine import Shape, shape_of

Recipe = Literal["keda", "slo", "guide", "fixed"]
RECIPES: tuple[Recipe, ...] = ("keda", "slo", "guide", "fixed")

SCHEDULE_S = 1.0
"""From a pod's creation to its node, when a node is free."""
PROBE_S = 2.5
"""From serving to Ready: half of a readiness probe's period of 5 s."""
RESTART_S = 1.0
"""From a container's death to its restart by the kubelet (the first time; back-off is not modelled)."""
NODE_LOST_S = 340.0
"""Until a dead node's pods are replaced: 40 s of missed heartbeats and 300 s of default toleration."""
BROKEN_SEEN_S = 0.1
"""Until the gateway has noticed a broken connection and picked another replica (measured: 0.08-0.13 s)."""
PROOF_S = 0.1
"""Until a replica that was taken out has been asked for a token; then after pauses that grow up to PROOF_MOST_S."""
PROOF_MOST_S = 2.0
CANARY_LOOK_S = 10.0
"""How often the operator looks at a canary."""
MONDAY = 1_767_571_200.0
"""Where no time is named, it is the beginning of Monday, 5 January 2026, UTC."""
NODE_IDLE_S = 600.0
"""How long an empty node is kept (cluster-autoscaler's scale-down-unneeded-time)."""
SPOT_PRICE = 0.4
"""Of the on-demand price, where the catalogue knows no spot price; spot prices move: see your cloud's."""

# General knowledge, order of magnitude: seconds to a GPU node that runs pods. Measure yours and pass --node-delay.
PROVISION_S = {"gke": 150.0, "eks": 180.0, "karpenter": 90.0, "aks": 240.0, "on-prem": 0.0, "local": 0.0}
SPOT_NOTICE_S = {"gke": 15.0, "eks": 120.0, "karpenter": 120.0, "aks": 30.0}


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happens at a time: `kill` (an engine's process), `node` (a node dies), `spot` (reclaimed
    with notice), `rollout`, `canary` (whose candidate may be slower, or fail a share of its requests)."""

    at_s: float
    kind: Literal["kill", "node", "spot", "rollout", "canary"]
    count: int = 1
    slower: float = 1.0
    errors: float = 0.0


_HAPPENING = re.compile(
    r"(\S+)\s+(?:(kill|node|spot)(?:\s+x?(\d{1,6}))?|(rollout)"
    r"|(canary)(?:\s+slower\s+(\d+(?:\.\d+)?))?(?:\s+errors\s+(\d+(?:\.\d+)?)%)?)"
)


def parse_happening(text: str) -> Happening:
    """`10m kill 2`, `5m canary slower 1.4 errors 2%` -> Happening."""
    m = _HAPPENING.fullmatch(text.strip())
    try:
        if m is None:
            raise ValueError
        slower, errors = float(m[6] or 1), float(m[7] or 0) / 100
        if not 0.01 <= slower <= 1000 or errors > 1:
            raise ValueError
        kind: Any = m[2] or m[4] or m[5]
        return Happening(parse_seconds(m[1]), kind, int(m[3] or 1), slower, errors)
    except ValueError:
        raise InputError(
            f"the event {text!r} cannot be read.",
            "Write a time and one of kill, node, spot, rollout, canary: '10m kill 2', '1h rollout', "
            "'5m canary slower 1.4 errors 2%'.",
        ) from None


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One simulation, but for its requests."""

    fleet: Fleet
    plan: Plan
    shape: Shape
    recipe: Recipe = "keda"
    initial: int = 1
    """Replicas that are ready at the start."""
    happenings: tuple[Happening, ...] = ()
    scrape_s: float = 15.0
    """Prometheus' scrape interval: what a scaler on Prometheus sees is up to so old. 0: live."""
    provision_s: float = 0.0
    keep_nodes: bool = False
    """Nodes are ours (on-prem): never billed while empty, never given back."""
    spot_notice_s: float = 30.0
    spot_per_hour: float = 0.0
    """Chance that a spot node is reclaimed within an hour of running."""
    patience_s: float = float("inf")
    """A client that has no token after so long goes away."""
    seed: int = 1
    bucket_s: float = 0.0
    """Of the time series; 0: a 240th of the run, at least 1 s."""
    log_every_look: bool = False
    begins_s: float = MONDAY
    """The time of day at which it begins, for schedules and budgets: Unix time."""

    @property
    def start_s(self) -> tuple[float, float]:
        """(seconds with a cold node, with a warm one) from a node to serving."""
        s = self.plan.startup
        known = s.image_s + s.weights_s + s.load_s
        cold = known if known > 0 else s.total_s / 1.5
        return cold, cold - s.image_s


def own_recipe(fleet: Fleet) -> Recipe:
    """Who scales the fleet where it will run: with `by: none` nobody does on a cluster, and on one machine we do."""
    scaling = fleet.spec.scaling
    if scaling.by == "none" and fleet.spec.hardware.cloud != "local":
        return "fixed"
    return "slo" if scaling.policy == "slo" else "keda"


def setup_of(
    fleet: Fleet,
    plan: Plan,
    *,
    timing: Timing | None = None,
    recipe: Recipe | None = None,
    initial: int | None = None,
    happenings: tuple[Happening, ...] = (),
    node_delay_s: float | None = None,
    spot_per_hour: float = 0.0,
    patience_s: float = float("inf"),
    seed: int = 1,
    begins_s: float = MONDAY,
) -> Setup:
    """A fleet and its plan -> a simulation with the cloud's delays and the rendered gateway's bounds filled in."""
    fleet = bounded(fleet, plan)
    hardware, scaling = fleet.spec.hardware, fleet.spec.scaling
    notice = hardware.spot.notice if hardware.spot is not None else None
    return Setup(
        fleet=fleet,
        plan=plan,
        shape=shape_of(plan, timing, fleet.spec.engine.prefix_caching),
        recipe=recipe or own_recipe(fleet),
        initial=max(scaling.min, 0) if initial is None else initial,
        happenings=happenings,
        scrape_s=0.0 if scaling.by in ("keda-gateway", "seawall") or hardware.cloud == "local" else 15.0,
        provision_s=PROVISION_S[hardware.cloud] if node_delay_s is None else node_delay_s,
        keep_nodes=hardware.cloud in ("on-prem", "local"),
        spot_notice_s=SPOT_NOTICE_S.get(hardware.cloud, 30.0) if notice is None else notice,
        spot_per_hour=spot_per_hour,
        patience_s=patience_s,
        seed=seed,
        begins_s=begins_s,
    )


@dataclass
class Counts:
    """Where every request ended. Arrived = all the others together, at any time."""

    arrived: int = 0
    done: int = 0
    rejected: int = 0
    """Answered 429 at once: the queue was full."""
    expired: int = 0
    """Waited in the gateway's queue past its deadline."""
    cancelled: int = 0
    """The client went away without a token."""
    refused: int = 0
    """Longer than the model's context: a 400."""
    lost: int = 0
    """Broken and not resumed: what must not be."""
    in_flight: int = 0
    resumed: int = 0
    retried: int = 0
    hedged: int = 0
    """Second attempts for a first token (`gateway.hedgeAfter`)."""
    hedges_won: int = 0
    """Of those, that brought it."""
    preempted: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Why requests were lost."""
