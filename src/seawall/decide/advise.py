"""Up, out, in, or stay: what a fleet's past and its plans say, with the numbers that say so.

Forbidden here: asking anybody, and guessing. A rule whose numbers are missing does not speak, and too little
history is itself the answer. Dollars are the plans' on-demand prices of whole replicas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from seawall.decide.history import History
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet

AdviceKind = Literal["fix", "up", "out", "in", "stay"]

FEWEST_SAMPLES = 30
KV_FULL = 0.9
KV_GOAL = 0.7
"""Share of the cache that an advised change leaves in use."""
KV_AFTER_IN = 0.8
SPEED_USED = 0.7
"""Share of a replica's saturated tokens per second that an advised count leaves in use."""


@dataclass(frozen=True, kw_only=True)
class ReplicaOption:
    """Another way to run one replica: what to write into the spec, and its plan."""

    change: str
    plan: Plan
    caution: str = ""


@dataclass(frozen=True, kw_only=True)
class Advice:
    kind: AdviceKind
    reason: str
    evidence: dict[str, float] = field(default_factory=dict)
    usd_per_hour_change: float | None = None
    """Dollars per hour more (or less) for the whole fleet; None when a price is unknown."""
    replicas: int | None = None
    next_command: str = ""
    change: str = ""
    """The advised option's own name; empty where the replica stays as it is."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    fleet: Fleet
    history: History
    plan: Plan
    options: tuple[ReplicaOption, ...]
    replicas: int

    @property
    def target(self) -> float:
        return self.fleet.spec.scaling.target or self.plan.scaling_target

    def numbers(self, *names: str) -> dict[str, float]:
        out = {"replicas_p50": float(self.replicas)}
        for name in names:
            found = getattr(self.history, name)
            if found is not None:
                out |= {f"{name}_p50": found.p50, f"{name}_p95": found.p95, f"{name}_max": found.max}
        return out

    def p95(self, name: str) -> float | None:
        found = getattr(self.history, name)
        return None if found is None else float(found.p95)


def advise(fleet: Fleet, history: History, plan: Plan, options: Sequence[ReplicaOption] = ()) -> list[Advice]:
    """What to do, best first: what is broken, then what holds the objectives for the least money."""
    if history.running is None or history.demand is None or history.replicas is None:
        return [
            Advice(
                kind="fix",
                reason=f"No engine metrics of namespace {fleet.metadata.namespace}, model_name "
                f"{fleet.served_names[0]}: nothing is scraped, or the fleet did not run. Nothing is advised.",
                next_command="seawall doctor FLEET.yaml",
            )
        ]
    needed = min(FEWEST_SAMPLES, history.expected)
    if history.running.samples < max(needed, 10):
        return [
            Advice(
                kind="stay",
                reason=f"Too little history: {history.running.samples} samples, and {max(needed, 10)} are needed.",
                evidence={"samples": history.running.samples, "expected": history.expected},
                next_command="Wait, or ask for more with --since",
            )
        ]
    if history.replicas.p50 < 1:
        return [Advice(kind="stay", reason="No replica ran for most of the window.", replicas=0)]
    case = _Case(
        fleet=fleet,
        history=history,
        plan=plan,
        options=tuple(o for o in options if o.plan.fits),
        replicas=max(1, round(history.replicas.p50)),
    )
    found = [*_fixes(case), *sorted(_pressed(case), key=_price)]
    if not found:
        found = list(_idle(case)) or [_stay(case)]
    return found


def _price(advice: Advice) -> float:
    return math.inf if advice.usd_per_hour_change is None else advice.usd_per_hour_change


def _fixes(case: _Case) -> Iterator[Advice]:
    kv, worst = case.history.kv_usage, case.history.kv_usage_worst
    if kv and worst and case.replicas > 1 and worst.p95 > KV_FULL and kv.p95 < 0.6:
        yield Advice(
            kind="fix",
            reason=f"One replica's KV cache is {worst.p95:.0%} full while the mean is {kv.p95:.0%}: requests are "
            "spread badly. More hardware would stand idle beside it.",
            evidence=case.numbers("kv_usage", "kv_usage_worst"),
            usd_per_hour_change=0.0,
            next_command="Route through the gateway: seawall gateway FLEET.yaml",
        )
    tokens = case.history.generation_tokens
    if tokens and case.history.running and case.history.running.p50 >= 1 and tokens.p95 <= 0:
        yield Advice(
            kind="fix",
            reason="Requests run but no token came out: engines hang, and scaling does not mend that.",
            evidence=case.numbers("running", "generation_tokens"),
            next_command="seawall diagnose FLEET.yaml",
        )


def _pressed(case: _Case) -> Iterator[Advice]:
    slo = case.fleet.spec.traffic.slo
    kv, ttft, tpot = case.p95("kv_usage"), case.p95("ttft_p95"), case.p95("tpot_p95")
    kv_bound = _kv_bound(case)
    if kv_bound:
        yield from _more_cache(case)
    if ttft is not None and ttft > slo.ttft and not kv_bound and kv is not None:
        yield from _slow_first_token(case, ttft, kv)
    if tpot is not None and tpot > slo.tpot:
        yield from _slow_decode(case, tpot)


def _kv_bound(case: _Case) -> bool:
    kv = case.p95("kv_usage")
    waits = (case.p95("waiting_for_capacity") or 0) >= 1 or (case.p95("waiting") or 0) >= 1
    return kv is not None and kv > KV_FULL and (waits or (case.p95("preemptions") or 0) > 0)


def _more_cache(case: _Case) -> Iterator[Advice]:
    running, demand = case.p95("running") or 0.0, case.p95("demand") or 0.0
    kv = case.p95("kv_usage") or 1.0
    factor = max(1.0, demand / max(running, 1.0)) * kv / KV_GOAL
    evidence = case.numbers("kv_usage", "preemptions", "waiting", "waiting_for_capacity", "running")
    why = (
        f"KV-bound: the cache is {kv:.0%} full at p95, {case.p95('preemptions') or 0:.2g} preemptions/s, "
        f"{case.p95('waiting') or 0:.0f} waiting. The same load at {KV_GOAL:.0%} needs {factor:.1f} x the cache. "
    )
    fitting = [o for o in case.options if o.plan.kv_cache_tokens >= factor * case.plan.kv_cache_tokens]
    for option in fitting:
        yield _up(case, option, why, evidence | _cache(case, option))
    yield _out(case, math.ceil(case.replicas * factor), why, evidence)


def _cache(case: _Case, option: ReplicaOption) -> dict[str, float]:
    return {
        "kv_tokens_per_replica_now": case.plan.kv_cache_tokens,
        "kv_tokens_per_replica_then": option.plan.kv_cache_tokens,
    }


def _slow_first_token(case: _Case, ttft: float, kv: float) -> Iterator[Advice]:
    slo = case.fleet.spec.traffic.slo.ttft
    evidence = case.numbers("ttft_p95", "kv_usage", "waiting", "demand", "gpu_util")
    prompt = case.history.prompt_mean
    alone = None if prompt is None else case.plan.timing.step_s(prompt, 0, 0)
    if prompt is not None and alone is not None and alone > slo:
        why = (
            f"TTFT p95 is {ttft:.2g} s against {slo:g} s, and a usual prompt of {prompt:,.0f} tokens takes "
            f"{alone:.2g} s even alone ({case.plan.timing.source}): replicas do not shorten it. "
        )
        for option in case.options:
            then = option.plan.timing.step_s(prompt, 0, 0)
            if then <= slo:
                yield _up(case, option, why, evidence | {"prefill_s_now": alone, "prefill_s_then": then})
        return
    why = f"Compute-bound: TTFT p95 is {ttft:.2g} s against {slo:g} s with the KV cache only {kv:.0%} full. "
    yield _out(case, max(case.replicas + 1, _needed(case, case.p95("demand") or 0.0)), why, evidence)


def _slow_decode(case: _Case, tpot: float) -> Iterator[Advice]:
    slo = case.fleet.spec.traffic.slo.tpot
    running = (case.p95("running") or 0.0) / case.replicas
    kv_tokens = (case.p95("kv_usage") or 0.0) * case.plan.kv_cache_tokens
    now = case.plan.timing.step_s(0, running, kv_tokens)
    why = (
        f"Decode-bound: TPOT p95 is {tpot * 1000:.0f} ms against {slo * 1000:.0f} ms "
        f"with {running:.0f} running per replica. "
    )
    evidence = case.numbers("tpot_p95", "running", "dram_active")
    for option in case.options:
        then = tpot * option.plan.timing.step_s(0, running, kv_tokens) / now
        if then <= slo:
            yield _up(
                case, option, why, evidence | {"tpot_s_now": tpot, "tpot_s_then": then, "running": running}
            )
    limit = case.plan.saturating_concurrency
    if 0 < limit < running:
        more = math.ceil(case.replicas * running / limit)
        made = _out(
            case,
            more,
            why + f"The plan holds {limit} at the objective: set engine.maxNumSeqs to {limit}. ",
            evidence,
        )
        yield made


def _up(case: _Case, option: ReplicaOption, why: str, evidence: dict[str, float]) -> Advice:
    now, then = case.plan.usd_per_hour, option.plan.usd_per_hour
    change = None if now is None or then is None else (then - now) * case.replicas
    caution = f" {option.caution}" if option.caution else ""
    return Advice(
        kind="up",
        change=option.change,
        reason=f"{why}{option.change}: {option.plan.kv_cache_tokens:,} KV tokens a replica instead of "
        f"{case.plan.kv_cache_tokens:,}.{caution}",
        evidence=evidence,
        usd_per_hour_change=change,
        replicas=case.replicas,
        next_command=f"Write {option.change} into the spec, then: seawall plan FLEET.yaml",
    )


def _out(case: _Case, wanted: int, why: str, evidence: dict[str, float]) -> Advice:
    wanted = max(wanted, case.replicas + 1)
    above = wanted > case.fleet.spec.scaling.max
    limit = f" spec.scaling.max is {case.fleet.spec.scaling.max}: it holds the fleet back." if above else ""
    key = "scaling.max" if above else "scaling.min"
    return Advice(
        kind="out",
        reason=f"{why}{wanted} replicas instead of {case.replicas}.{limit}",
        evidence=evidence,
        usd_per_hour_change=_replicas_usd(case, wanted),
        replicas=wanted,
        next_command=f"Set spec.{key}: {wanted}, then: seawall apply FLEET.yaml",
    )


def _replicas_usd(case: _Case, wanted: int) -> float | None:
    each = case.plan.usd_per_hour
    return None if each is None else each * (wanted - case.replicas)


def _needed(case: _Case, demand: float) -> int:
    """Replicas for so many requests at once, and for the tokens that were made at the busiest."""
    by_demand = demand / max(case.target, 1e-9)
    tokens = case.history.generation_tokens
    by_tokens = tokens.max / (SPEED_USED * case.plan.tokens_per_s) if tokens and case.plan.tokens_per_s else 0
    return max(1, math.ceil(max(by_demand, by_tokens)))


def _idle(case: _Case) -> Iterator[Advice]:
    demand, kv = case.history.demand, case.history.kv_usage
    if demand is None or kv is None or (case.p95("rejections") or 0) > 0:
        return
    floor = min(2, max(1, case.fleet.spec.scaling.min))
    wanted = max(floor, _needed(case, demand.max), math.ceil(case.replicas * kv.max / KV_AFTER_IN))
    if wanted >= case.replicas:
        return
    lower = wanted < case.fleet.spec.scaling.min
    yield Advice(
        kind="in",
        reason=f"Idle: at the busiest moment {demand.max:.0f} requests ran or waited, a replica takes "
        f"{case.target:.0f}, and the KV cache was {kv.max:.0%} full. {wanted} replicas instead of {case.replicas}."
        + (" One replica leaves none while it is replaced." if wanted == 1 else ""),
        evidence=case.numbers("demand", "kv_usage", "generation_tokens", "gpu_util"),
        usd_per_hour_change=_replicas_usd(case, wanted),
        replicas=wanted,
        next_command=(
            f"Set spec.scaling.min: {wanted}, then: seawall apply FLEET.yaml"
            if lower
            else "See why the scaler keeps them: seawall status"
        ),
    )


def _stay(case: _Case) -> Advice:
    missing = [n for n in ("kv_usage", "ttft_p95", "tpot_p95") if getattr(case.history, n) is None]
    gap = f" Not judged, for want of samples: {', '.join(missing)}." if missing else ""
    return Advice(
        kind="stay",
        reason=f"Nothing in the numbers asks for a change.{gap}",
        evidence=case.numbers("demand", "kv_usage", "ttft_p95", "tpot_p95"),
        usd_per_hour_change=0.0,
        replicas=case.replicas,
    )
