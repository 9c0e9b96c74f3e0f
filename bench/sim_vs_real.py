"""Does the simulator tell the truth? The same open-loop load on real vLLM (CPU) and in the simulator.

    python bench/sim_vs_real.py [--quick] [--json]

One real vLLM replica of the embedded default fleet is started. Three loads, below, near and above saturation, go to it;
before and behind each it is measured for some seconds, alone and in small crowds: that gives the step times (the
calibration) of that very minute, so that a machine that is slower now than a minute ago is slower for both sides. The
same arrivals and lengths then go through the simulator with those step times. Errors are sim / real - 1.
Aim: medians within 15%, p95 within 25%. Requests are short, so that there are enough of them for a p95. Run it on a
quiet machine: the load generator shares its cores.
Needs the engine's environment: `seawall engine install`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seawall.config.load import load_fleet
from seawall.config.model_config import cache_root, resolve
from seawall.decide.plan import plan
from seawall.domain.action import Timing
from seawall.domain.spec import Fleet, Gateway
from seawall.drivers.process import free_port
from seawall.load.drive import Driver, Run, Target
from seawall.load.prompts import Synthetic
from seawall.local.prepare import Wish, prepare
from seawall.sim.outcome import percentiles
from seawall.sim.setup import setup_of
from seawall.sim.world import simulate
from seawall.workload.arrivals import Phase, Requests, arrival_times

SPEC = Path(__file__).resolve().parent.parent / "examples" / "smollm2.yaml"
PROMPT, OUTPUT = 16, 12
"""Tokens on average; outputs are drawn evenly from half to one and a half times as many."""
CROWDS = (1, 2, 4, 8, 16)
LOADS = (0.5, 0.85, 1.3)


def fleet() -> Fleet:
    """The default fleet, one replica, its queue unbounded: what lies above saturation is to be seen."""
    made = load_fleet(SPEC)
    spec = made.spec
    return replace(
        made,
        spec=replace(
            spec,
            engine=replace(spec.engine, max_queued_requests=100_000, prefix_caching=False),
            scaling=replace(spec.scaling, min=1, max=1),
            hardware=replace(spec.hardware, cpu=1.0),
            gateway=Gateway(max_in_flight=100_000, max_queued=100_000, queue_timeout=3600),
        ),
    )


@contextlib.contextmanager
def real_engine(wanted: Fleet) -> Iterator[str]:
    """A real vLLM server of this fleet -> its URL. Its whole process group ends with the block."""
    state = cache_root() / "bench" / "sim-vs-real"
    state.mkdir(parents=True, exist_ok=True)
    wish = Wish(specs=(SPEC,), fleets=(wanted,), state_dir=state, cache=cache_root(), port=0)
    recipe = prepare(wish, lambda text: print(text, file=sys.stderr)).recipes[0]
    port = free_port("127.0.0.1")
    command, env = recipe.command(port)
    with (state / "engine.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 480
        while True:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5):
                    break
            except (OSError, urllib.error.URLError):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the engine did not come up; see {state / 'engine.log'}") from None
                time.sleep(1)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def turns(prompt: int, outputs: list[int], seed: int) -> Any:
    return iter(Synthetic(prompt_tokens=[prompt], output_tokens=outputs, seed=seed))


def median(run: Run, name: str) -> float:
    values = [v for o in run.outcomes if o.ok and (v := getattr(o, name)) is not None]
    if not values:
        raise SystemExit(f"no request was answered: {[o.error for o in run.outcomes][:3]}")
    return statistics.median(values)


@dataclass(frozen=True)
class Calibration:
    timing: Timing
    outside_s: float
    """What a request spends outside of steps: HTTP, tokenising, the client."""
    steps: dict[int, float]
    """Seconds per step, by crowd."""


def fitted(steps: dict[int, float]) -> tuple[float, float, float]:
    """Step seconds by crowd -> (base, per sequence, weights) of `base + max(n x sequence, weights)`.

    Flat up to one of the crowds, then a line: of all such bends the one with the least squared relative error.
    """
    crowds = sorted(steps)
    n = np.array(crowds, float)
    y = np.array([steps[c] for c in crowds])
    best: tuple[float, tuple[float, float, float]] | None = None
    for bend in crowds[:-1]:
        above = np.maximum(n - bend, 0.0)
        flat, slope = np.linalg.lstsq(np.stack([1 / y, above / y], axis=1), np.ones(len(y)), rcond=None)[0]
        slope = max(float(slope), 1e-7)
        base = float(flat) - bend * slope
        if base < 0:
            continue
        error = float((((flat + slope * above) / y - 1) ** 2).sum())
        if best is None or error < best[0]:
            best = error, (base, slope, bend * slope)
    if best is None:
        slope = float((y / n).mean())
        return 0.0, slope, 0.0
    return best[1]


async def calibrate(target: Target, seed: int) -> Calibration:
    """Step time against crowd size, and prefill against prompt length."""

    async def closed(crowd: int, requests: int, prompt: int, output: int, seed: int) -> Run:
        return await Driver(target, turns(prompt, [output], seed)).closed_loop(
            crowd, seconds=None, requests=requests
        )

    steps = {}
    for crowd in CROWDS:
        steps[crowd] = median(await closed(crowd, max(2, crowd), 16, 32, seed + crowd), "tpot_s")
    base, sequence, weights = fitted(steps)
    short = await closed(1, 4, 16, 2, seed + 100)
    long = await closed(1, 4, 256, 2, seed + 101)
    counted = [statistics.median(o.prompt_tokens or 0 for o in run.outcomes) for run in (short, long)]
    ttft = [median(run, "ttft_s") for run in (short, long)]
    prefill = max((ttft[1] - ttft[0]) / max(1.0, counted[1] - counted[0]), 1e-7)
    timing = Timing(
        base_s=base,
        prefill_token_s=prefill,
        decode_seq_s=sequence,
        weight_read_s=weights,
        kv_token_s=0.0,
        source="bench/sim_vs_real.py",
    )
    outside = max(0.0, ttft[0] - timing.step_s(counted[0], 0, 0))
    return Calibration(timing, outside, steps)


def between(before: Calibration, behind: Calibration) -> Calibration:
    """What held in the minute between two calibrations: the geometric mean of the step times of both."""
    steps = {n: float(np.sqrt(before.steps[n] * behind.steps[n])) for n in before.steps}
    base, sequence, weights = fitted(steps)
    prefill = (before.timing.prefill_token_s + behind.timing.prefill_token_s) / 2
    timing = replace(
        before.timing, base_s=base, decode_seq_s=sequence, weight_read_s=weights, prefill_token_s=prefill
    )
    return Calibration(timing, (before.outside_s + behind.outside_s) / 2, steps)


def capacity(cal: Calibration, seqs: int) -> float:
    """Requests per second at saturation: `seqs` sequences share every step, new prompts among them."""
    step = cal.timing.step_s(seqs * (PROMPT + 30) / OUTPUT, seqs, 0)
    return seqs / (OUTPUT * step)


def in_simulation(wanted: Fleet, cal: Calibration, run: Run, times: np.ndarray) -> dict[str, Any]:
    """The real run's arrivals and lengths, simulated."""
    outcomes = sorted((o for o in run.outcomes), key=lambda o: o.intended_s)
    requests = Requests(
        arrival=times[: len(outcomes)],
        prompt=np.array([o.prompt_tokens or PROMPT for o in outcomes], np.int32),
        output=np.array([max(1, o.tokens) for o in outcomes], np.int32),
    )
    made = replace(plan(wanted, resolve(wanted)), fits=True)
    setup = replace(setup_of(wanted, made, timing=cal.timing, recipe="fixed", initial=1), bucket_s=1.0)
    found = simulate(setup, requests)
    done = found.status == 1
    return {
        "ttft": percentiles(found.ttft[done] + cal.outside_s),
        "tpot": percentiles(found.tpot[done]),
        "e2e": percentiles(found.e2e[done] + cal.outside_s),
        "throughput": len(requests) / float(np.nanmax(found.finish)),
    }


def in_reality(run: Run) -> dict[str, Any]:
    good = [o for o in run.outcomes if o.ok]
    return {
        "ttft": percentiles(np.array([o.ttft_s for o in good if o.ttft_s is not None])),
        "tpot": percentiles(np.array([o.tpot_s for o in good if o.tpot_s is not None])),
        "e2e": percentiles(np.array([o.e2e_s for o in good])),
        "throughput": len(good) / run.duration_s,
    }


def errors(sim: dict[str, Any], real: dict[str, Any]) -> dict[str, float]:
    found = {}
    for name in ("ttft", "tpot", "e2e"):
        for point in ("p50", "p95"):
            found[f"{name}_{point}"] = sim[name][point] / real[name][point] - 1
    found["throughput"] = sim["throughput"] / real["throughput"] - 1
    return found


async def measure(url: str, wanted: Fleet, requests: int, loads: tuple[float, ...]) -> dict[str, Any]:
    target = Target(url=url, model=wanted.served_names[0], endpoint="completions", ignore_eos=True)
    seqs = wanted.spec.engine.max_num_seqs or 16
    await calibrate(target, 0)  # warms up
    before = await calibrate(target, 1000)
    rows, calibrations = [], [before]
    for share in loads:
        rate = share * capacity(before, seqs)
        rng = np.random.default_rng(round(share * 100))
        times = arrival_times([Phase(rate, 2 * requests / rate)], rng)[:requests]
        outputs = [int(n) for n in rng.integers(OUTPUT // 2, OUTPUT * 3 // 2 + 1, len(times))]
        run = await Driver(target, turns(PROMPT, outputs, 7)).open_loop(times.tolist())
        behind = await calibrate(target, 2000 + round(share * 1000))
        cal, before = between(before, behind), behind
        calibrations.append(behind)
        real, sim = in_reality(run), in_simulation(wanted, cal, run, times)
        rows.append({"load": rate / capacity(cal, seqs), "asked": share, "rate": rate, "requests": len(times),
                     "failed": sum(not o.ok for o in run.outcomes), "timing": dataclasses.asdict(cal.timing),
                     "outside_s": cal.outside_s, "real": real, "sim": sim, "error": errors(sim, real)})  # fmt: skip
    alone = [c.steps[1] for c in calibrations]
    return {
        "loads": rows,
        "steps_s": [c.steps for c in calibrations],
        "drift": max(alone) / min(alone) - 1,
        "within_aim": all(
            abs(e) <= (0.25 if name.endswith("p95") else 0.15)
            for row in rows
            for name, e in row["error"].items()
        ),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 requests per load instead of 64")
    parser.add_argument("--load", type=float, action="append", help=f"of saturation; default {LOADS}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--url", help="a vLLM server of this fleet that runs already and serves nobody else")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the engine must not outlive this process
    wanted = fleet()
    with contextlib.nullcontext(options.url) if options.url else real_engine(wanted) as url:
        found = asyncio.run(measure(url, wanted, 20 if options.quick else 64, tuple(options.load or LOADS)))
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print("one vLLM replica on CPU; seconds per step by running sequences, before and behind each load:")
    for steps in found["steps_s"]:
        print("  " + "   ".join(f"{n}: {v * 1e3:.1f} ms" for n, v in steps.items()))
    print(
        f"{'load':>6}{'':6}{'TTFT p50':>11}{'p95':>9}{'TPOT p50':>10}{'p95':>9}{'E2E p50':>10}{'p95':>9}{'req/s':>8}"
    )
    for row in found["loads"]:
        for side in ("real", "sim"):
            r = row[side]
            numbers = [r[n][p] for n in ("ttft", "tpot", "e2e") for p in ("p50", "p95")]
            text = "".join(
                f"{v * 1e3:>9.0f}ms" if i == 0 else f"{v * 1e3:>7.0f}ms" for i, v in enumerate(numbers)
            )
            print(f"{row['load']:>6.0%}{side:>6}{text}{r['throughput']:>9.2f}")
        print(f"{'':6}{'error':>6}" + "".join(f"{e:>9.0%} " for e in row["error"].values()))
    print(f"within the aim (medians 15%, p95 25%): {'yes' if found['within_aim'] else 'no'}; "
          f"step time alone drifted by {found['drift']:.0%}; load average {found['load_average']:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
