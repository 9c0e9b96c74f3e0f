"""Where on the frontier of GPU-hours and requests within objectives is what to be won over KEDA's arithmetic?

    python bench/scaling.py --sweep [--quick] [--seeds 11,12,13] [--starts 180,600] [--json]

Every policy is run with many targets and with `max` at many counts, so each has a curve: the most requests within their
objectives for so many GPU-hours. At each budget the best setting of each policy that costs no more on average is taken,
in hindsight, for all of them alike; the row `as it comes` is KEDA with its defaults. A budget is told as a share of
what the oracle (it has read the trace) needs to serve 99%: below 1 nobody can serve everything. Said are, per trace and
start-up time,

    points   ours less KEDA's, paired by seed, with a 95% interval (Student's t)
    room     the oracle's less KEDA's: what could be won at all

A start-up is from a decision to a replica that serves, a third of it for the node (150 s at most).

`--quick` ends within a minute and a half on two cores, however busy: two hours of each trace, the longest start-up, few
settings, and what has not been run by then is left out and said. It shows that the sweep works, and is no figure.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from multiprocessing import Pool

from scaling import (
    TRACES,
    Job,
    Run,
    affordable,
    difference,
    hours_of,
    mean,
    ran,
)

SHARES = (0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)
ENOUGH = 99.0
"""Percent within objectives at which the oracle's need is read off."""


@dataclass(frozen=True)
class Grid:
    """The settings that are tried: times the policy's own target, and replicas at most (0: uncapped)."""

    factors: dict[str, tuple[float, ...]]
    caps: tuple[int, ...]
    hours: float


WHOLE = Grid(
    {"keda": (0.6, 0.8, 1.0), "slo": (1.0, 1.7, 2.5), "oracle": (1.0, 1.4, 2.0)}, (0, 3, 4, 5, 6, 8), 6.0
)
QUICK = Grid({"keda": (0.8, 1.0), "slo": (1.0, 2.5), "oracle": (1.4,)}, (0, 5), 2.0)
QUICK_S = 60.0
"""Seconds after which a quick sweep ends, whatever is under way."""
DAY_S = 86_400.0
UNCAPPED = ("oracle",)
"""Policies that need no cap: what they cost is their target's doing."""

Curve = dict[tuple[float, int], list[Run]]


def jobs(grid: Grid, traces: list[str], starts: list[float], seeds: list[int]) -> list[Job]:
    return [
        Job(Run(trace, seed, policy, factor, cap, smooth_s=15.0, start_s=start), grid.hours)
        for seed in seeds  # first: whatever is left out at the end is of the last
        for start in starts
        for trace in traces
        for policy, factors in grid.factors.items()
        for factor in factors
        for cap in ((0,) if policy in UNCAPPED else grid.caps)
    ]


def in_time(processes: int, wanted: list[Job], limit_s: float) -> list[Run]:
    """What has been run by then, in the order of the jobs. What is under way at that moment is ended: on a busy machine
    one run may take minutes."""
    end = time.monotonic() + limit_s
    with Pool(processes) as pool:  # leaving it ends its processes
        begun = [pool.apply_async(ran, (job,)) for job in wanted]
        for job in begun:
            job.wait(max(0.0, end - time.monotonic()))
        return [job.get() for job in begun if job.ready()]


def complete(runs: list[Run], wanted: list[Job]) -> list[Run]:
    """Without the seeds of a trace and start-up that lack a setting: curves are compared seed by seed."""

    want, have = Counter(group_of(j.run) for j in wanted), Counter(map(group_of, runs))
    return [r for r in runs if have[group_of(r)] == want[group_of(r)]]


def group_of(run: Run) -> tuple[str, float, int]:
    """What is compared with each other."""
    return run.trace, run.start_s, run.seed


def curves_of(runs: list[Run]) -> dict[str, Curve]:
    out: dict[str, Curve] = {"keda": {}, "slo": {}, "oracle": {}}
    for r in sorted(runs, key=lambda r: r.seed):
        out[r.policy].setdefault((r.factor, r.cap), []).append(r)
    return out


def needed(curve: Curve) -> float:
    """GPU-hours of the cheapest setting that serves ENOUGH, or of the best where none does."""
    told = [(mean([r.within for r in runs]), hours_of(runs)) for runs in curve.values()]
    return min((hours for within, hours in told if within >= ENOUGH), default=max(told)[1])


def frontier(runs: list[Run]) -> Iterator[dict[str, object]]:
    """One row for each trace, start-up and budget."""
    for trace, start in dict.fromkeys((r.trace, r.start_s) for r in runs):
        curves = curves_of([r for r in runs if (r.trace, r.start_s) == (trace, start)])
        need = needed(curves["oracle"])
        usual = curves["keda"][1.0, 0]
        budgets: list[tuple[object, float]] = [("as it comes", hours_of(usual))]
        budgets += [(share, share * need) for share in SHARES]
        for share, hours in budgets:
            best = {who: affordable(curve, hours) for who, curve in curves.items()}
            if share == "as it comes":
                best["keda"] = usual
            yield {"trace": trace, "start": start, "budget": share, "hours": hours, **compared_at(best)}


def compared_at(best: dict[str, list[Run] | None]) -> dict[str, object]:
    """What each policy's best setting for a budget serves, and the differences."""
    ours, theirs, oracle = best["slo"], best["keda"], best["oracle"]
    row: dict[str, object] = {
        f"{w}_within": mean([r.within for r in x]) if x else None for w, x in best.items()
    }
    row |= {f"{w}_hours": hours_of(x) if x else None for w, x in best.items()}
    row["points"], row["interval"] = difference(ours, theirs) if ours and theirs else (None, None)
    row["room"] = difference(oracle, theirs)[0] if oracle and theirs else None
    for who, chosen in best.items():
        row[f"{who}_setting"] = f"x{chosen[0].factor:g}, max {chosen[0].cap or '-'}" if chosen else None
    return row


def table(rows: list[dict[str, object]]) -> None:
    def cell(value: object) -> str:
        return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)

    keys = ["trace", "start", "budget", "hours", "slo_within", "keda_within", "points", "interval"]
    keys += ["oracle_within", "room", "slo_setting", "keda_setting"]
    print("  ".join(k.rjust(13) for k in keys))
    for row in rows:
        print("  ".join(cell(row.get(k)).rjust(13) for k in keys))
    print(
        f"budget: as a share of what the oracle needs for {ENOUGH:g}%; -: nothing of that policy costs so little"
    )


def sweep(args: argparse.Namespace) -> int:
    grid = QUICK if args.quick else WHOLE
    seeds = [int(s) for s in args.seeds.split(",")]
    starts = [float(s) for s in args.starts.split(",")]
    names = [args.only] if args.only else list(TRACES)
    if args.quick:
        seeds, starts = seeds[:2], [max(starts)]
    if args.hours:
        grid = replace(grid, hours=args.hours)
    wanted = jobs(grid, names, starts, seeds)
    began = time.monotonic()
    runs = complete(in_time(args.processes, wanted, QUICK_S if args.quick else DAY_S), wanted)
    rows = list(frontier(runs))
    left_out = len(wanted) - len(runs)
    print(
        f"{len(runs)} runs in {time.monotonic() - began:.0f} s"
        + (f"; {left_out} left out: a quick sweep ends after {QUICK_S:g} s" if left_out else ""),
        file=sys.stderr,
    )
    if args.json:
        print(json.dumps({"rows": rows, "runs": [asdict(r) for r in runs]}, indent=1))
    else:
        table(rows)
    return 0


if __name__ == "__main__":
    sys.exit("python bench/scaling.py --sweep")
