"""Advice and its what-ifs: today's setting, the advised ones and their neighbours, simulated on the load that was seen.

The load is the busiest stretch of the window as Prometheus saw it (finished requests per second, mean prompt and
output), cut so that a table takes seconds. Replicas are held fixed: the question is what a setting does, and not
what the scaler would. Forbidden here: asking Prometheus, and printing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seawall.decide.advise import Advice, ReplicaOption, advise
from seawall.decide.history import History, Points, summarise
from seawall.decide.options import options_of
from seawall.decide.plan import plan
from seawall.domain.action import Plan
from seawall.domain.model import ModelConfig
from seawall.domain.spec import Fleet
from seawall.drivers.recorded import Recorded
from seawall.errors import InputError
from seawall.sim.setup import setup_of
from seawall.sim.world import simulate
from seawall.workload.arrivals import Requests, parse_rate, synthetic

SPAN_S = 1800.0
MOST_REQUESTS = 20_000
MOST_ROWS = 8
KEYS = ("replicas", "gpu", "tp")


@dataclass(frozen=True)
class Setting:
    """One row: so many replicas of this plan."""

    label: str
    replicas: int
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class Advised:
    """What was found, best first, and what the simulator says of it."""

    plan: Plan
    """Of today's replica."""
    history: History
    advice: list[Advice]
    load: Requests | None
    """What settings were tried on; None: nothing was tried, or no finished request was seen."""
    tried: list[dict[str, Any]]


def advised(
    fleet: Fleet, model: ModelConfig, seen: Recorded, *, settings: Sequence[str] = (), neighbours: bool = True
) -> Advised:
    """Advice for a fleet with this past. `settings`: what-ifs of the user's; `neighbours`: try the advice, too."""
    history = summarise(seen.series, seen.window_s, seen.step_s)
    today = plan(fleet, model)
    others = options_of(fleet, today, model)
    found = advise(fleet, history, today, others)
    load = observed(seen.series, history, fleet, seen.step_s) if neighbours or settings else None
    tried: list[dict[str, Any]] = []
    if load is not None:
        here = max(1, round(history.replicas.p50)) if history.replicas else fleet.spec.scaling.min
        rows = settings_near(today, here, found, others) if neighbours else []
        rows += [parse_what_if(text, fleet, today, here, lambda f: plan(f, model)) for text in settings]
        tried = simulated(fleet, rows, load)
    return Advised(plan=today, history=history, advice=found, load=load, tried=tried)


def parse_what_if(
    text: str, fleet: Fleet, now: Plan, replicas: int, planned: Callable[[Fleet], Plan]
) -> Setting:
    """`replicas=4,gpu=H200,tp=2` -> Setting. InputError for what cannot be read or does not fit."""
    given: dict[str, str] = {}
    for pair in text.split(","):
        key, equals, value = (x.strip() for x in pair.partition("="))
        if key not in KEYS or not equals or not value or key in given:
            raise InputError(
                f"--what-if {text!r:.80} cannot be read.", "Write it like replicas=4,gpu=H200,tp=2."
            )
        given[key] = value
    for key in ("replicas", "tp"):
        if key in given and not (given[key].isdigit() and 1 <= int(given[key]) <= 10_000):
            raise InputError(f"--what-if {key}={given[key]!r:.20} is no count.", "Write a number from 1.")
    hardware = replace(
        fleet.spec.hardware,
        gpu=given.get("gpu", now.gpu),
        gpus_per_replica=now.gpus_per_replica,
        tensor_parallel=now.tensor_parallel,
    )
    if "tp" in given:
        hardware = replace(hardware, gpus_per_replica=int(given["tp"]), tensor_parallel=int(given["tp"]))
    made = now
    if "gpu" in given or "tp" in given:
        made = planned(replace(fleet, spec=replace(fleet.spec, hardware=hardware)))
    if not made.fits:
        raise InputError(f"--what-if {text}: {made.reason}", "seawall plan shows what fits.")
    return Setting(text, int(given.get("replicas", replicas)), made)


def settings_near(
    now: Plan, replicas: int, advised: Sequence[Advice], options: Sequence[ReplicaOption]
) -> list[Setting]:
    """Today, what is advised, and one replica fewer and more of the best advice. No setting twice."""
    plans = {o.change: o.plan for o in options}
    rows = [Setting("today", replicas, now)]
    for n, advice in enumerate(a for a in advised[:4] if a.replicas):
        assert advice.replicas is not None
        made = plans.get(advice.change, now)
        rows.append(Setting(advice.change or advice.kind, advice.replicas, made))
        if n == 0:
            rows += [Setting(advice.change or "", advice.replicas + d, made) for d in (-1, 1)]
    seen: dict[tuple[str, int], Setting] = {}
    for row in rows:
        change = next((c for c, p in plans.items() if p is row.plan), "")
        if row.replicas >= 1:
            seen.setdefault((change, row.replicas), row)
    return sorted(list(seen.values())[:MOST_ROWS], key=lambda r: r.label != "today")


def observed(series: Mapping[str, Points], history: History, fleet: Fleet, step_s: float) -> Requests | None:
    """The busiest stretch of the window as arrivals; None when no request was seen."""
    rates = [max(0.0, float(v)) for _, v in series.get("requests", ()) if np.isfinite(v)]
    if not rates or not 0 < max(rates) <= MOST_REQUESTS:
        return None  # nothing was served, or a number that no fleet serves
    width = max(1, min(len(rates), int(SPAN_S / step_s)))
    sums = np.convolve(rates, np.ones(width), "valid")
    start = int(sums.argmax())
    busiest = rates[start : start + width]
    while sum(busiest) * step_s > MOST_REQUESTS and len(busiest) > 1:
        busiest = busiest[: len(busiest) // 2]
    each_s = max(1.0, min(step_s, MOST_REQUESTS / busiest[0])) if len(busiest) == 1 else step_s
    text = ", ".join(f"{rate:.6f}/s for {each_s:g}s" for rate in busiest if rate >= 1e-6)
    traffic = fleet.spec.traffic
    found = synthetic(
        parse_rate(text), np.random.default_rng(1), max(1.0, history.prompt_mean or traffic.prompt_tokens),
        max(1.0, history.output_mean or traffic.output_tokens), most=max(1, (traffic.max_context or 131_072) // 2),
    )  # fmt: skip
    mean = sum(busiest) / len(busiest)
    return replace(found, source=f"the busiest {len(busiest) * each_s / 60:.0f} min, {mean:.3g} requests/s")


def simulated(fleet: Fleet, rows: Sequence[Setting], load: Requests) -> list[dict[str, Any]]:
    """Every setting under the same load, JSON-able."""
    out = []
    for row in rows:
        setup = setup_of(fleet, row.plan, recipe="fixed", initial=row.replicas)
        s = simulate(setup, load).summary()
        price = row.plan.usd_per_hour
        out.append(
            {
                "setting": row.label, "replicas": row.replicas, "gpu": row.plan.gpu,
                "gpus": row.replicas * row.plan.gpus_per_replica,
                "ttft_p95_s": s["ttft_s"]["p95"], "tpot_p95_s": s["tpot_s"]["p95"], "within_slo": s["slo_attainment"],
                "rejected": s["requests"]["rejected"], "gpu_hours": s["gpu_hours"],
                "usd_per_hour": None if price is None else round(price * row.replicas, 4),
            }
        )  # fmt: skip
    return out
