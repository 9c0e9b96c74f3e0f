"""One reconcile of a HorizontalPodAutoscaler: proposals in, a replica count and a reason out.

Why: production is scaled by this controller, so the simulator and the local mode must do what it does, including
what surprises: errors block scaling down but not up, a count outside min..max is corrected without
looking at a metric, the log of recommendations holds the unstabilised ones.
Source: Kubernetes 1.36, pkg/controller/podautoscaler/horizontal.go, `reconcileAutoscaler`.
Forbidden: reading a metric here. `calc.py` turns metrics into proposals; this file only decides.

`State` is plain JSON-able data: it can live in a status field and survive a restart. (The real controller
forgets it when it restarts, and reseeds the log with the current count; an empty state does the same.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from seawall.decide.scale import behavior
from seawall.decide.scale.behavior import Bounded, DirectionRules, Recommendation, ScaleEvent

SYNC_S = 15.0
TOLERANCE = 0.1
DOWN_WINDOW_S = 300.0


class HpaState(TypedDict, total=False):
    """What the controller remembers about one HPA: lists of [count, at_s] pairs."""

    recommendations: list[list[float]]
    ups: list[list[float]]
    downs: list[list[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class HpaSpec:
    """`up` and `down` are the effective rules; both None is the legacy path (no `spec.behavior`)."""

    lowest: int
    highest: int
    up: DirectionRules | None = None
    down: DirectionRules | None = None
    down_window_s: float = DOWN_WINDOW_S
    """The window of the path without `behavior`: the controller's downscale stabilisation flag."""
    up_factor: float = 2.0
    up_minimum: float = 4.0
    scaled_to_zero: bool = False
    """The condition ScaledToZero (gate HPAScaleToZero): the HPA itself went to 0 and may come back."""
    external: bool = True
    """There is an Object or External metric, the only kinds that can be read without a pod."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """What one metric asks for, or why it cannot be read."""

    metric: str
    replicas: int = 0
    error: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciled:
    """The outcome of one reconcile, with the words of its conditions."""

    replicas: int
    rescale: bool
    reason: str
    limited_reason: str = behavior.WITHIN
    able_reason: str = "ReadyForNewScale"

    @property
    def limited(self) -> bool:
        return self.limited_reason != behavior.WITHIN


def _log(rows: Sequence[Sequence[float]]) -> tuple[Recommendation, ...]:
    return tuple(Recommendation(int(n), at) for n, at in rows)


def _events(rows: Sequence[Sequence[float]]) -> tuple[ScaleEvent, ...]:
    return tuple(ScaleEvent(int(n), at, bool(gone)) for n, at, gone in rows)


def sync(
    spec: HpaSpec, current: int, proposals: Sequence[Proposal], state: HpaState, now: float
) -> tuple[Reconciled, HpaState]:
    """One reconcile at `now` -> (what to do, what to remember). `current` is the scale's spec.replicas."""
    log = _log(state["recommendations"]) if "recommendations" in state else (Recommendation(current, now),)
    ups, downs = _events(state.get("ups", [])), _events(state.get("downs", []))

    if current == 0 and not (spec.scaled_to_zero and (spec.lowest != 0 or spec.external)):
        outcome = Reconciled(
            replicas=0, rescale=False, reason="scaling is disabled: the target has 0 replicas"
        )
    elif current > spec.highest:
        outcome = _moved(current, spec.highest, f"above the maximum of {spec.highest}", behavior.TOO_MANY)
    elif current < spec.lowest and current != 0:
        outcome = _moved(current, spec.lowest, f"below the minimum of {spec.lowest}", behavior.TOO_FEW)
    else:
        outcome, log = _by_metrics(spec, current, proposals, log, ups, downs, now)

    if outcome.rescale:
        if outcome.replicas > current:
            ups = behavior.stored(ups, outcome.replicas - current, spec.up, now)
        else:
            downs = behavior.stored(downs, current - outcome.replicas, spec.down, now)
    remembered = HpaState(
        recommendations=[[r.replicas, r.at_s] for r in log],
        ups=[[e.change, e.at_s, e.outdated] for e in ups],
        downs=[[e.change, e.at_s, e.outdated] for e in downs],
    )
    return outcome, remembered


def _moved(current: int, wanted: int, reason: str, limited: str) -> Reconciled:
    moves = wanted != current
    return Reconciled(
        replicas=wanted,
        rescale=moves,
        reason=reason,
        limited_reason=limited,
        able_reason="SucceededRescale" if moves else "ReadyForNewScale",
    )


def highest_proposal(proposals: Sequence[Proposal], current: int) -> Proposal | None:
    """The largest valid proposal (the first of equals), or None: no action (`computeReplicasForMetrics`).

    With every metric failing, or any failing while the others ask for fewer, the controller does nothing.
    """
    valid = [p for p in proposals if not p.error]
    if not valid:
        return None
    top = max(valid, key=lambda p: p.replicas)
    if len(valid) < len(proposals) and top.replicas < current:
        return None
    return top


def _by_metrics(
    spec: HpaSpec,
    current: int,
    proposals: Sequence[Proposal],
    log: tuple[Recommendation, ...],
    ups: tuple[ScaleEvent, ...],
    downs: tuple[ScaleEvent, ...],
    now: float,
) -> tuple[Reconciled, tuple[Recommendation, ...]]:
    top = highest_proposal(proposals, current)
    if top is None:
        errors = "; ".join(p.error for p in proposals if p.error) or "no metric is configured"
        kept = Reconciled(
            replicas=current, rescale=False, reason=f"stays: {errors}", able_reason="SucceededGetScale"
        )
        return kept, log
    if spec.up is not None and spec.down is not None:
        steady, log = behavior.stabilized(
            current, top.replicas, log, spec.up.window_s, spec.down.window_s, now
        )
        bounded = behavior.rate_limited(
            current, steady, spec.lowest, spec.highest, spec.up, spec.down, ups, downs, now
        )
    else:
        steady, log = behavior.legacy_stabilized(top.replicas, log, spec.down_window_s, now)
        bounded = behavior.legacy_limited(
            current, steady, spec.lowest, spec.highest, spec.up_factor, spec.up_minimum
        )
    wanted = bounded.replicas
    if current == 0 and spec.lowest > 0 and spec.scaled_to_zero and wanted < spec.lowest:
        wanted = spec.lowest
    told = _told(current, top, steady, Bounded(wanted, bounded.reason), spec.lowest)
    if steady != top.replicas and not told.rescale:
        grows = spec.up is not None and top.replicas >= current
        told = replace(told, able_reason="ScaleUpStabilized" if grows else "ScaleDownStabilized")
    return told, log


def _told(current: int, top: Proposal, steady: int, bounded: Bounded, lowest: int) -> Reconciled:
    parts = [top.detail or f"{top.metric} asks for {top.replicas}"]
    if top.replicas < steady == lowest:
        parts.append(f"stays at the minimum of {lowest}")
    elif steady != top.replicas:
        parts.append(f"held at {steady} by the stabilisation window")
    if bounded.reason == behavior.TOO_FEW and bounded.replicas > steady:
        how = (
            "stays at"
            if bounded.replicas == current
            else "down to"
            if bounded.replicas < current
            else "up to"
        )
        parts.append(f"{how} the minimum of {bounded.replicas}")
    elif bounded.replicas != steady:
        why = {
            behavior.UP_LIMIT: "the scale-up rate",
            behavior.DOWN_LIMIT: "the scale-down rate",
            behavior.TOO_MANY: "the maximum",
        }.get(bounded.reason, "the bounds")
        parts.append(f"{'cut to' if bounded.replicas < steady else 'held at'} {bounded.replicas} by {why}")
    return _moved(current, bounded.replicas, ", ".join(parts), bounded.reason)
