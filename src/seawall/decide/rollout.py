"""A canary rollout as a state machine: one table, from which the picture in the docs is drawn. Pure.

`decide(policy, seen, state, now) -> (decision, state)`; the state is plain JSON-able data and lives in the cluster, so
a restart in the middle of a step goes on where it was. Every decision carries its reason.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from seawall.decide.canary import CanaryVerdict, Margins, Side, Sums, compare
from seawall.domain.spec import Canary

RolloutPhase = Literal["stepping", "paused", "promoting", "rolling-back", "promoted", "rolled-back"]
RolloutEvent = Literal[
    "look-worse",
    "look-as-good",
    "look-unknown",
    "look-too-long",
    "last-step",
    "pause",
    "resume",
    "abort",
    "undo",
    "done",
]
RolloutWish = Literal["pause", "resume", "abort", "undo"]
ENDED = ("promoted", "rolled-back")
PATIENCE = 6.0
"""Multiples of a step's hold before a person is asked: too little traffic proves nothing."""

TABLE: dict[tuple[RolloutPhase, RolloutEvent], RolloutPhase] = {
    ("stepping", "look-worse"): "rolling-back",
    ("stepping", "look-as-good"): "stepping",
    ("stepping", "look-unknown"): "stepping",
    ("stepping", "look-too-long"): "paused",
    ("stepping", "last-step"): "promoting",
    ("stepping", "pause"): "paused",
    ("stepping", "abort"): "rolling-back",
    ("paused", "resume"): "stepping",
    ("paused", "abort"): "rolling-back",
    ("paused", "look-worse"): "rolling-back",
    ("promoting", "done"): "promoted",
    ("promoting", "abort"): "rolling-back",
    ("rolling-back", "done"): "rolled-back",
    ("promoted", "undo"): "rolling-back",
}


@dataclass(frozen=True, kw_only=True)
class RolloutPolicy:
    """The canary's part of a spec."""

    weights: tuple[int, ...]
    holds_s: tuple[float, ...]
    margins: Margins


@dataclass(frozen=True, kw_only=True)
class RolloutState:
    """Where a rollout stands. `baseline` and `canary` are the counters at the beginning of the rollout."""

    phase: RolloutPhase = "stepping"
    step: int = 0
    since: float = 0.0
    """Time at which this step or phase began, seconds."""
    baseline: Side = field(default_factory=Side)
    canary: Side = field(default_factory=Side)


@dataclass(frozen=True, kw_only=True)
class RolloutSeen:
    """Counters of both sides since their gateways began, what a person asked for, whether the last action is done."""

    baseline: Side
    canary: Side
    wish: RolloutWish | None = None
    settled: bool = True
    """The cluster has done what was decided last (promotion or rollback has finished)."""


@dataclass(frozen=True, kw_only=True)
class RolloutDecision:
    """The weight that the canary should have now, what to do besides, and why. While the fleet itself takes over the
    candidate (`promote`) the canary keeps its last share; once it has, nothing is left for a canary."""

    weight: int
    act: Literal["none", "promote", "roll-back"]
    reason: str
    next_look_s: float = 10.0
    sure: float = 0.0


def policy_of(canary: Canary) -> RolloutPolicy:
    """The policy in a spec."""
    margins = Margins(
        error_rate=canary.max_error_rate_increase,
        latency_ratio=canary.max_latency_ratio,
        confidence=canary.confidence,
    )
    return RolloutPolicy(
        weights=tuple(s.weight for s in canary.steps),
        holds_s=tuple(s.hold for s in canary.steps),
        margins=margins,
    )


def begin(seen: RolloutSeen, now: float) -> RolloutState:
    """A new rollout: counters so far are not its own."""
    return RolloutState(since=now, baseline=seen.baseline, canary=seen.canary)


def move(phase: RolloutPhase, event: RolloutEvent) -> RolloutPhase:
    """The table, with events that mean nothing in a phase leaving it as it is."""
    return TABLE.get((phase, event), phase)


def decide(
    policy: RolloutPolicy, seen: RolloutSeen, state: RolloutState, now: float
) -> tuple[RolloutDecision, RolloutState]:
    """The next decision. A wish of a person comes first, then what the counters say. Whoever goes on may have a clock
    that is behind that of who began: a step that begins later than now begins now, and is held in full."""
    state = replace(state, since=min(state.since, now))
    if seen.wish and (state.phase, seen.wish) in TABLE:
        state = _enter(state, move(state.phase, seen.wish), now)
        return _decision(policy, state, f"asked to {seen.wish}"), state
    if state.phase in ("promoting", "rolling-back"):
        if seen.settled:
            state = _enter(state, move(state.phase, "done"), now)
            return _decision(policy, state, f"{state.phase}: the cluster has settled"), state
        return _decision(policy, state, f"{state.phase}: under way"), state
    if state.phase in ENDED:
        return _decision(policy, state, state.phase), state
    verdict = compare(since(seen.baseline, state.baseline), since(seen.canary, state.canary), policy.margins)
    if verdict.kind == "worse":
        state = _enter(state, move(state.phase, "look-worse"), now)
        return _decision(policy, state, f"worse: {verdict.reason}", verdict), state
    if state.phase == "paused":
        return _decision(policy, state, f"paused; {verdict.reason}", verdict), state
    return _step(policy, state, verdict, now)


def _step(
    policy: RolloutPolicy, state: RolloutState, verdict: CanaryVerdict, now: float
) -> tuple[RolloutDecision, RolloutState]:
    held, hold = now - state.since, policy.holds_s[state.step]
    if held < hold:
        reason = f"step {state.step + 1} of {len(policy.weights)}: {held:.0f} of {hold:.0f} s held; {verdict.reason}"
        return _decision(policy, state, reason, verdict), state
    if verdict.kind == "as-good":
        if state.step + 1 == len(policy.weights):
            state = _enter(state, move("stepping", "last-step"), now)
            return _decision(policy, state, f"as good: {verdict.reason}", verdict), state
        state = replace(state, step=state.step + 1, since=now)
        reason = f"as good at {policy.weights[state.step - 1]}%: {verdict.reason}"
        return _decision(policy, state, reason, verdict), state
    if held > PATIENCE * hold:
        state = _enter(state, move("stepping", "look-too-long"), now)
        reason = f"paused for a person after {held:.0f} s: {verdict.reason}. resume, or abort"
        return _decision(policy, state, reason, verdict), state
    return _decision(policy, state, verdict.reason, verdict), state


def since(now: Side, start: Side) -> Side:
    """Counters from `start` to `now`. A gateway that restarted counts from zero again: then all of it is new."""
    if now.requests < start.requests:
        return now
    ttft, tpot, t0, p0 = now.log_ttft, now.log_tpot, start.log_ttft, start.log_tpot
    return Side(
        requests=now.requests - start.requests,
        errors=max(0, now.errors - start.errors),
        slow=max(0, now.slow - start.slow),
        compared=max(0, now.compared - start.compared),
        differed=max(0, now.differed - start.differed),
        log_ttft=ttft.add(-t0.n, -t0.total, -t0.squares),
        log_tpot=tpot.add(-p0.n, -p0.total, -p0.squares),
    )


def _enter(state: RolloutState, phase: RolloutPhase, now: float) -> RolloutState:
    return state if phase == state.phase else replace(state, phase=phase, since=now)


def _decision(
    policy: RolloutPolicy, state: RolloutState, reason: str, verdict: CanaryVerdict | None = None
) -> RolloutDecision:
    act: Literal["none", "promote", "roll-back"] = "none"
    if state.phase == "promoting":
        act = "promote"
    elif state.phase == "rolling-back":
        act = "roll-back"
    return RolloutDecision(
        weight=weight_of(policy, state), act=act, reason=reason, sure=verdict.sure if verdict else 0.0
    )


def weight_of(policy: RolloutPolicy, state: RolloutState) -> int:
    """Percent of requests for the canary in this state."""
    return 0 if state.phase in ("rolling-back", *ENDED) else policy.weights[state.step]


def dump(state: RolloutState) -> dict[str, Any]:
    """The state as JSON-able data."""
    return asdict(state)


def load(data: dict[str, Any]) -> RolloutState:
    """The state that `dump` wrote. KeyError, TypeError or ValueError for anything else."""

    def side(d: dict[str, Any]) -> Side:
        outputs = (
            d.get("compared", 0),
            d.get("differed", 0),
        )  # a state from before they were compared has none
        return Side(
            d["requests"], d["errors"], d["slow"], Sums(**d["log_ttft"]), Sums(**d["log_tpot"]), *outputs
        )

    if data["phase"] not in {p for pair, p in TABLE.items() for p in (pair[0], p)}:
        raise ValueError(f"phase {data['phase']!r}")
    return RolloutState(
        phase=data["phase"],
        step=int(data["step"]),
        since=float(data["since"]),
        baseline=side(data["baseline"]),
        canary=side(data["canary"]),
    )
