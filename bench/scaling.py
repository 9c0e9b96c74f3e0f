"""Who serves more requests within their objectives for the same GPU-hours: `policy: slo`, or KEDA's arithmetic?

    python bench/scaling.py [--sweep] [--quick] [--json] [--seeds 11,12] [--trace FILE [--speed N]]

Both scale the same simulated fleet (Llama 3.1 70B in fp8 on one H200 per replica, GKE, 8 requests per second on
average), each with its own default target and with that target times several factors. Said are

    as they come    both with their defaults
    KEDA's hours    our best target that costs no more GPU-hours than KEDA as it comes
    our hours x F   ours with F times its default target, and KEDA's best, in hindsight, that costs no more: of all its
                    targets, uncapped and with `max` at several counts (without a cap no target of its is cheap: a
                    backlog looks like demand, and what it starts comes when the burst is over)

as differences in points of attainment, paired by seed, with a 95% interval (Student's t). Beside them stands what can
be won at all: `oracle` has read the trace, begins every replica a start-up before it is needed and keeps none longer
than pays (its best target that costs no more than ours); `room` is its lead over KEDA. The traces have
the shape of published ones (their figures were not checked against the papers); `--trace` replays a public file
(Azure LLM inference, BurstGPT) in their place.

    azure     a day's swing with its peak at 1.7 times the mean and 3.3 times the valley (DynamoLLM, 2025), slow noise,
              1,155 tokens in and 211 out on average (Azure 2023, conversations)
    burstgpt  rates that jump every ten minutes or so (gamma, shape 1.5) over a day's swing, gaps of a gamma process
              with a coefficient of variation of 3 (Wang et al. 2024: bursts are gamma), 620 in, 250 out
    spikes    a day's swing, and in every hour ten minutes at two to three times as much, begun within a minute of
              their time
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from seawall.config.load import parse_fleets
from seawall.decide.plan import plan
from seawall.decide.scale import DemandSeen, policy_of
from seawall.domain.action import Plan, ScaleDecision
from seawall.domain.spec import Fleet
from seawall.shapes.config import resolve
from seawall.sim.load import LoadWish, load_of
from seawall.sim.setup import NODE_IDLE_S, Setup, setup_of
from seawall.sim.world import World
from seawall.workload.arrivals import Floats, RatePhase, Requests, arrival_times, lengths

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: chat, namespace: llm}
spec:
  model:
    source: hf://meta-llama/Llama-3.1-70B-Instruct
    revision: 1605565b47bb9346c5515c34102e054115b4f98b
    quantization: fp8
  hardware: {gpu: H200, gpusPerReplica: 1, cloud: gke}
  traffic: {promptTokens: 1024, outputTokens: 256, maxContext: 16k, slo: {ttft: 2s, tpot: 60ms}}
  scaling: {min: 1, max: 60}
"""
MEAN_PER_S = 8.0
FACTORS = {"keda": (0.8, 1.0, 1.3, 2.0), "slo": (0.7, 1.0, 1.7), "oracle": (0.7, 1.0, 1.4)}
CAPS = (0, 6, 9)
"""Replicas at most for KEDA's arithmetic, tried beside no cap of its own (0)."""
ORACLE_S = 5.0
T95 = (0.0, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Student's t at 95%, by degrees of freedom from 0."""


def phases(rates: Floats, step_s: float) -> list[RatePhase]:
    """Ramps from each rate to the next."""
    return [RatePhase(float(a), step_s, float(b)) for a, b in pairwise(rates)]


def times(hours: float, step_s: float) -> Floats:
    return np.arange(0.0, hours * 3600 + 1, step_s)


def day(t: Floats) -> Floats:
    """0 at the valley, where every trace begins, 1 at the peak."""
    swing: Floats = (1 - np.cos(2 * np.pi * t / 86400)) / 2
    return swing


def drawn(
    rates: Floats,
    step_s: float,
    burst: float,
    tokens: tuple[float, float],
    rng: np.random.Generator,
    hours: float,
) -> Requests:
    at = arrival_times(phases(rates, step_s), rng, burst)
    return Requests(
        at,
        lengths(tokens[0], len(at), rng, 1.0, 12_000),
        lengths(tokens[1], len(at), rng, 0.9, 2_000),
        lasts_s=hours * 3600,
    )


def azure(rng: np.random.Generator, hours: float) -> Requests:
    t = times(hours, 300.0)
    base = 1.7 / 3.3 + (1.7 - 1.7 / 3.3) * day(t) ** 1.3
    noise = np.zeros(len(t))
    for i in range(1, len(t)):
        noise[i] = 0.9 * noise[i - 1] + rng.normal(0, 0.06)
    return drawn(MEAN_PER_S * base * np.exp(noise), 300.0, 1.5, (1155, 211), rng, hours)


def burstgpt(rng: np.random.Generator, hours: float) -> Requests:
    t = times(hours, 300.0)
    jumps, i = np.ones(len(t)), 0
    while i < len(t):
        lasts = 1 + rng.geometric(0.35)
        jumps[i : i + lasts] = rng.gamma(1.5, 1 / 1.5)
        i += lasts
    rates = np.maximum(0.05, MEAN_PER_S * (0.4 + 1.2 * day(t)) * jumps)
    return drawn(rates, 300.0, 3.0, (620, 250), rng, hours)


def spikes(rng: np.random.Generator, hours: float) -> Requests:
    t = times(hours, 60.0)
    rates = MEAN_PER_S * (0.3 + 1.4 * day(t))
    for hour in range(math.ceil(hours)):
        begin, height = hour * 3600 + 1200 + rng.normal(0, 30), rng.uniform(2, 3)
        rates = np.where((t >= begin) & (t < begin + 600), rates * height, rates)
    return drawn(rates, 60.0, 1.5, (900, 200), rng, hours)


TRACES: dict[str, Callable[[np.random.Generator, float], Requests]] = {
    "azure": azure,
    "burstgpt": burstgpt,
    "spikes": spikes,
}


@dataclass(frozen=True)
class Run:
    """One simulation: what is scaled how, and what came of it. `cap`: replicas at most, where they are capped;
    `smooth_s`: over how long the oracle looks at once."""

    trace: str
    seed: int
    policy: str
    factor: float
    cap: int = 0
    smooth_s: float = 0.0
    start_s: float = 0.0
    """From a decision to a replica that serves; 0: the plan's."""
    gpu_hours: float = 0.0
    within: float = 0.0
    """Percent of the requests that finished within both objectives."""
    most: int = 0


@dataclass(frozen=True)
class Job:
    run: Run
    hours: float
    file: str | None = None
    speed: float = 1.0


def fleet_for(work: Requests, policy: str, target: float | None) -> Fleet:
    """The fleet, told what its requests are like on average."""
    fleet = parse_fleets(FLEET, "bench/scaling.py")[0]
    spec = fleet.spec
    traffic = replace(
        spec.traffic, prompt_tokens=int(work.prompt.mean()), output_tokens=int(work.output.mean())
    )
    scaling = replace(spec.scaling, policy="hpa" if policy == "keda" else "slo", target=target)
    return replace(fleet, spec=replace(spec, traffic=traffic, scaling=scaling))


class Foretold:
    """A scaler that has read the trace: it asks for what will be needed by the time that it is there."""

    def __init__(self, wanted: Floats) -> None:
        self._wanted = wanted

    def look(self, seen: DemandSeen, now: float) -> ScaleDecision:
        count = int(self._wanted[min(int(now / ORACLE_S), len(self._wanted) - 1)])
        return ScaleDecision(replicas=count, reason="foretold", next_look_s=ORACLE_S)


def over(values: Floats, ahead: int, of: Callable[..., Floats]) -> Floats:
    """`of` (max, min, mean) over each value and as many after it."""
    padded = np.concatenate([values, np.full(ahead, values[-1])])
    found: Floats = of(np.lib.stride_tricks.sliding_window_view(padded, ahead + 1), axis=1)
    return found


def foretold(work: Requests, setup: Setup, target: float, smooth_s: float) -> Foretold:
    """Replicas for every moment: those that hold all requests that will run then at `target` each, begun a start-up
    before, and kept over gaps in which their node would be paid anyway."""
    policy = policy_of(setup.fleet, setup.plan)
    assert policy.step is not None
    took = 0.3 + work.output * policy.step.at(target)
    at = np.arange(0.0, work.duration_s + 600, ORACLE_S)
    ends = np.sort(work.arrival + took)
    running = np.searchsorted(work.arrival, at, "right") - np.searchsorted(ends, at, "right")
    bins = max(0, round(smooth_s / ORACLE_S) - 1)
    need = np.ceil(over(running.astype(float), bins, np.mean) / target - 1e-9)
    start = math.ceil((setup.provision_s + setup.start_s[0] + 10) / ORACLE_S)
    ordered = over(need, start, np.max)
    gap = round(NODE_IDLE_S / ORACLE_S)
    kept = over(ordered[::-1], gap, np.max)[::-1]  # as long as a gap, then back from its far side
    kept = np.maximum(over(kept, gap, np.min), ordered)
    return Foretold(np.clip(kept, 1, setup.fleet.spec.scaling.max))


def node_delay(start_s: float) -> float:
    return min(150.0, start_s / 3)


def started(made: Plan, start_s: float) -> Plan:
    """The plan with another start-up: in proportion, after the node's part of it. 0: as it is."""
    if not start_s:
        return made
    s = made.startup
    times = (start_s - node_delay(start_s)) / (s.image_s + s.weights_s + s.load_s)
    startup = replace(
        s,
        image_s=s.image_s * times,
        weights_s=s.weights_s * times,
        load_s=s.load_s * times,
        total_s=s.total_s * times,
    )
    return replace(made, startup=startup)


def ran(job: Job) -> Run:
    run = job.run
    if job.file:
        work = load_of(parse_fleets(FLEET, "")[0], LoadWish(trace=job.file, speed=job.speed))
    else:
        work = TRACES[run.trace](np.random.default_rng([run.seed, *run.trace.encode()]), job.hours)
    fleet = fleet_for(work, run.policy, None)
    made = started(plan(fleet, resolve(fleet)), run.start_s)
    target = run.factor * policy_of(fleet, made).target
    if run.factor != 1.0:
        fleet = fleet_for(work, run.policy, target)
    if run.cap:
        scaling = replace(fleet.spec.scaling, max=run.cap)
        fleet = replace(fleet, spec=replace(fleet.spec, scaling=scaling))
    node_s = node_delay(run.start_s) if run.start_s else None
    setup = setup_of(fleet, made, initial=3, seed=run.seed, node_delay_s=node_s)
    world = World(setup, work)
    if run.policy == "oracle":
        world.scaler = foretold(work, setup, target, run.smooth_s)
    found = world.run().summary()
    return replace(
        run,
        gpu_hours=found["gpu_hours"],
        within=100 * found["slo_attainment"],
        most=found["replicas"]["most"],
    )


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def difference(ours: list[Run], theirs: list[Run]) -> tuple[float, float]:
    """Points of attainment, ours less theirs, paired by seed: (mean, half of the 95% interval)."""
    pairs = [a.within - b.within for a, b in zip(ours, theirs, strict=True)]
    n = len(pairs)
    if n < 2:
        return mean(pairs), math.inf
    spread = math.sqrt(sum((p - mean(pairs)) ** 2 for p in pairs) / (n - 1))
    return mean(pairs), (T95[n - 1] if n <= len(T95) else 1.96) * spread / math.sqrt(n)


Curves = dict[str, dict[tuple[float, int], list[Run]]]
"""Policy -> (factor, cap) -> a run per seed."""


def affordable(curves: dict[tuple[float, int], list[Run]], hours: float) -> list[Run] | None:
    """The setting with the best attainment that costs no more GPU-hours on average; None where every one does."""
    fits = [runs for runs in curves.values() if mean([r.gpu_hours for r in runs]) <= hours]
    return max(fits, key=lambda runs: mean([r.within for r in runs]), default=None)


def hours_of(runs: list[Run]) -> float:
    return mean([r.gpu_hours for r in runs])


def compared(runs: list[Run]) -> Iterator[dict[str, object]]:
    """One row for each trace and comparison."""
    for trace in dict.fromkeys(r.trace for r in runs):
        curves: Curves = {"keda": {}, "slo": {}, "oracle": {}}
        for r in sorted((r for r in runs if r.trace == trace), key=lambda r: r.seed):
            curves[r.policy].setdefault((r.factor, r.cap), []).append(r)
        ours, theirs = curves["slo"][1.0, 0], curves["keda"][1.0, 0]
        pairs = {
            "as they come": (ours, theirs),
            "KEDA's hours": (affordable(curves["slo"], hours_of(theirs)), theirs),
        }
        for (factor, _), each in sorted(curves["slo"].items()):
            pairs[f"our hours x{factor:g}"] = (each, affordable(curves["keda"], hours_of(each)))
        for name, (a, b) in pairs.items():
            row: dict[str, object] = {"trace": trace, "compared": name}
            best = affordable(curves["oracle"], hours_of(a)) if a else None
            for who, x in (("slo", a), ("keda", b), ("oracle", best)):
                row[f"{who}_hours"] = hours_of(x) if x else None
                row[f"{who}_within"] = mean([r.within for r in x]) if x else None
            row["points"], row["interval"] = difference(a, b) if a and b else (None, None)
            row["room"] = difference(best, b)[0] if best and b else None
            yield row


def table(rows: list[dict[str, object]]) -> None:
    def cell(value: object) -> str:
        return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)

    keys = ["trace", "compared", "slo_hours", "slo_within", "keda_hours", "keda_within", "points", "interval"]
    keys += ["oracle_hours", "oracle_within", "room"]
    print("  ".join(k.rjust(13) for k in keys))
    for row in rows:
        print("  ".join(cell(row[k]).rjust(13) for k in keys))
    print("-: nothing of that policy costs so little")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two seeds of three hours, few targets")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", default="11,12,13,14,15,16,17,18")
    parser.add_argument("--hours", type=float, help="of each made trace (6; 3 with --quick)")
    parser.add_argument("--sweep", action="store_true", help="the whole frontier: see scaling_frontier.py")
    parser.add_argument("--starts", default="180,600", help="start-ups of the sweep, in seconds")
    parser.add_argument("--only", choices=list(TRACES), help="one of the made traces")
    parser.add_argument("--trace", type=Path, help="a public trace in place of the made ones")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    if args.sweep:
        from scaling_frontier import sweep

        return sweep(args)
    seeds = [int(s) for s in args.seeds.split(",")]
    hours, factors = args.hours or 6.0, FACTORS
    if args.quick:
        seeds, hours, factors = (
            seeds[:2],
            args.hours or 3.0,
            {"keda": (1.0, 1.8), "slo": (1.0,), "oracle": (1.0,)},
        )
    names = [args.trace.name] if args.trace else [args.only] if args.only else list(TRACES)
    jobs = [
        Job(
            Run(name, seed, policy, factor, cap, smooth_s=15.0),
            hours,
            str(args.trace) if args.trace else None,
            args.speed,
        )
        for name in names
        for seed in (seeds[:1] if args.trace else seeds)
        for policy, each in factors.items()
        for factor in each
        for cap in (CAPS if policy == "keda" else (0,))
    ]
    with ProcessPoolExecutor(args.processes) as pool:
        runs = list(pool.map(ran, jobs))
    rows = list(compared(runs))
    if args.json:
        print(json.dumps({"rows": rows, "runs": [asdict(r) for r in runs]}, indent=1))
    else:
        table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
