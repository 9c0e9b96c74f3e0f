"""Does the simulator tell the truth? The same open-loop load on real vLLM (CPU) and in the simulator.

    python bench/sim_vs_real.py [--quick] [--json]

One real vLLM replica of the embedded default fleet is started. Three loads, below, near and above saturation, go to it;
before and behind each it is measured for some seconds, alone and in small crowds: that gives the step times (the
calibration) of that very minute, so that a machine that is slower now than a minute ago is slower for both sides. The
same arrivals and lengths then go through the simulator with those step times. Errors are sim / real - 1,
beside them what they are over resampled requests: a median that lies between two clusters moves far by a few requests.
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
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from seawall.config.load import load_fleet
from seawall.decide.plan import plan
from seawall.domain.action import Timing
from seawall.domain.spec import Fleet, Gateway
from seawall.drivers.process import free_port
from seawall.load.client import RequestOutcome
from seawall.load.drive import Driver, LoadTarget, Run
from seawall.load.prompts import PromptTurn, Synthetic
from seawall.local.prepare import Wish, prepare
from seawall.shapes.config import cache_root, resolve
from seawall.sim.outcome import percentiles
from seawall.sim.setup import setup_of
from seawall.sim.world import simulate
from seawall.workload.arrivals import Floats, RatePhase, Requests, arrival_times

SPEC = Path(__file__).resolve().parent.parent / "examples" / "smollm2.yaml"
PROMPT, OUTPUT = 16, 12
"""Tokens on average; outputs are drawn evenly from half to one and a half times as many."""
CROWDS = (1, 2, 4, 8, 16)
LOADS = (0.5, 0.85, 1.3)
LEAST, MOST, LOAD_S = 64, 400, 60.0
"""Requests per load: as many as come in a minute, within these bounds."""
NEWCOMERS = 12
RESAMPLES = 1000
QUIET_CPUS = 0.1
"""What other processes may take while a load runs; beyond it the engine waits for cores, and nothing is judged."""


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
def real_engine(wanted: Fleet) -> Iterator[tuple[str, int]]:
    """A real vLLM server of this fleet -> its URL and process group, which ends with the block."""
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
        yield url, process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


class Counted(PromptTurn):
    """A turn that asks for token ids: a token without text (an end-of-text, half a character) is an event too."""

    def completion(self, model: str, extra: dict[str, Any]) -> dict[str, Any]:
        return super().completion(model, {**extra, "return_token_ids": True})


def others_cpu_s(group: int) -> float:
    """CPU seconds that anything but this process and the engine's process group has used so far."""
    tick = os.sysconf("SC_CLK_TCK")
    busy = Path("/proc/stat").read_text().split(None, 9)[1:9]
    total = sum(int(busy[i]) for i in (0, 1, 2, 5, 6, 7)) / tick  # all but idle and iowait
    own: float = sum(os.times()[:2])
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                own += (int(fields[11]) + int(fields[12])) / tick
    return total - own


def turns(prompt: int, outputs: list[int], seed: int) -> Iterator[PromptTurn]:
    for turn in Synthetic(prompt_tokens=[prompt], output_tokens=outputs, seed=seed):
        yield Counted(messages=turn.messages, max_tokens=turn.max_tokens)


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


def step_of(run: Run) -> float:
    """Mean seconds per step while all of a crowd decode: between the last first token and the first last one."""
    good = [o for o in run.outcomes if o.ok]
    if not good:
        raise SystemExit(f"no request was answered: {[o.error for o in run.outcomes][:3]}")
    begin, end = max(o.event_s[0] for o in good), min(o.event_s[-1] for o in good)
    events = [[t for t in o.event_s if begin <= t <= end] for o in good]
    return statistics.median((e[-1] - e[0]) / (len(e) - 1) for e in events if len(e) > 1)


async def calibrate(target: LoadTarget, seed: int) -> Calibration:
    """Step time against crowd size, what a newcomer's prompt adds to a step, and what of its TTFT is no step."""

    def driver(prompt: int, output: int, seed: int) -> Driver:
        return Driver(target, turns(prompt, [output], seed))

    steps = {}
    for crowd in CROWDS:
        run = await driver(16, 40, seed + crowd).closed_loop(crowd, seconds=None, requests=crowd)
        steps[crowd] = step_of(run)
    base, sequence, weights = fitted(steps)

    # A prompt is computed in a step that decodes the others too: the gap in a running stream is that step.
    stream = driver(16, int(NEWCOMERS * (0.3 + 4 * steps[1]) / steps[1]), seed + 100)
    running = asyncio.create_task(stream.one(stream.client.clock()))
    await asyncio.sleep(0.3 + 4 * steps[1])
    newcomers = []
    for i in range(NEWCOMERS):
        newcomer = driver(PROMPT, 1, seed + 101 + i)
        newcomers.append(await newcomer.one(newcomer.client.clock()))
        newcomer.client.close()
        await asyncio.sleep((2.2 + 0.17 * i) * steps[1])
    heard = (await running).event_s
    stream.client.close()
    gaps = [max(b - a for a, b in pairwise(heard) if o.sent_s < b and a < o.first_s)
            for o in newcomers if o.first_s is not None and o.first_s < heard[-1]]  # fmt: skip
    tokens = statistics.median(o.prompt_tokens or PROMPT for o in newcomers)
    prefill = max((statistics.median(gaps) - base - sequence) / tokens, 1e-7)
    timing = Timing(
        base_s=base,
        prefill_token_s=prefill,
        decode_seq_s=sequence,
        weight_read_s=weights,
        kv_token_s=0.0,
        source="bench/sim_vs_real.py",
    )
    alone = await driver(PROMPT, 2, seed + 200).closed_loop(1, seconds=None, requests=6)
    outside = max(0.0, median(alone, "ttft_s") - timing.step_s(tokens, 0, 0))
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
    step = cal.timing.step_s(seqs * PROMPT / OUTPUT, seqs, 0)
    return seqs / (OUTPUT * step)


Latencies = dict[str, "np.ndarray[Any, np.dtype[np.float64]]"]
"""ttft, tpot and e2e in seconds, one value per request, in the order of arrival."""


def in_simulation(
    wanted: Fleet, cal: Calibration, outcomes: list[RequestOutcome], times: Floats
) -> Latencies:
    """The real run's arrivals and lengths, simulated."""
    requests = Requests(
        arrival=times,
        prompt=np.array([o.prompt_tokens or PROMPT for o in outcomes], np.int32),
        output=np.array([max(1, o.tokens) for o in outcomes], np.int32),
    )
    made = replace(plan(wanted, resolve(wanted)), fits=True)
    setup = replace(setup_of(wanted, made, timing=cal.timing, recipe="fixed", initial=1), bucket_s=1.0)
    found = simulate(setup, requests)
    return {"ttft": found.ttft + cal.outside_s, "tpot": found.tpot, "e2e": found.e2e + cal.outside_s}


def in_reality(outcomes: list[RequestOutcome]) -> Latencies:
    return {
        "ttft": np.array([o.ttft_s for o in outcomes], float),
        "tpot": np.array([o.tpot_s for o in outcomes], float),
        "e2e": np.array([o.e2e_s for o in outcomes], float),
    }


def summed_up(found: Latencies, times: Floats) -> dict[str, Any]:
    return {
        **{name: percentiles(values) for name, values in found.items()},
        "throughput": len(times) / float((times + found["e2e"]).max()),
    }


def errors(sim: Latencies, real: Latencies) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """sim / real - 1 at the median and p95, and the middle 90% of that over resampled requests (the pairs kept)."""
    rng = np.random.default_rng(1)
    count = len(real["e2e"])
    again = rng.integers(0, count, (RESAMPLES, count))
    found, spread = {}, {}
    for name, values in real.items():
        for point in (50, 95):
            key = f"{name}_p{point}"
            found[key] = float(np.percentile(sim[name], point) / np.percentile(values, point)) - 1
            drawn = np.percentile(sim[name][again], point, axis=1) / np.percentile(
                values[again], point, axis=1
            )
            low, high = np.percentile(drawn, (5, 95)) - 1
            spread[key] = float(low), float(high)
    return found, spread


async def measure(
    url: str, group: int, wanted: Fleet, load_s: float, loads: tuple[float, ...]
) -> dict[str, Any]:
    target = LoadTarget(url=url, model=wanted.served_names[0], endpoint="completions", ignore_eos=True)
    seqs = wanted.spec.engine.max_num_seqs or 16
    await calibrate(target, 0)  # warms up
    before = await calibrate(target, 1000)
    rows: list[dict[str, Any]] = []
    calibrations = [before]
    for share in loads:
        rate = share * capacity(before, seqs)
        requests = int(min(MOST, max(LEAST, rate * load_s)))
        rng = np.random.default_rng(round(share * 100))
        times = arrival_times([RatePhase(rate, 2 * requests / rate)], rng)[:requests]
        outputs = [int(n) for n in rng.integers(OUTPUT // 2, OUTPUT * 3 // 2 + 1, len(times))]
        others = others_cpu_s(group)
        run = await Driver(target, turns(PROMPT, outputs, round(share * 1000))).open_loop(times.tolist())
        others = (others_cpu_s(group) - others) / run.duration_s
        behind = await calibrate(target, 2000 + round(share * 1000))
        cal, before = between(before, behind), behind
        calibrations.append(behind)
        outcomes = sorted(run.outcomes, key=lambda o: o.intended_s)
        if failed := [o for o in outcomes if not o.ok]:
            raise SystemExit(f"{len(failed)} requests failed, the first with {failed[0].error}")
        real, sim = in_reality(outcomes), in_simulation(wanted, cal, outcomes, times)
        error, spread = errors(sim, real)
        shown = summed_up(real, times), summed_up(sim, times)
        error["throughput"] = shown[1]["throughput"] / shown[0]["throughput"] - 1
        rows.append({"load": rate / capacity(cal, seqs), "asked": share, "rate": rate, "requests": requests,
                     "others_cpu": others if group else None,
                     "timing": dataclasses.asdict(cal.timing), "outside_s": cal.outside_s, "real": shown[0],
                     "sim": shown[1], "error": error, "spread": spread})  # fmt: skip
    alone = [c.steps[1] for c in calibrations]
    return {
        "loads": rows,
        "steps_s": [c.steps for c in calibrations],
        "drift": max(alone) / min(alone) - 1,
        "quiet": all((row["others_cpu"] or 0.0) <= QUIET_CPUS for row in rows),
        "within_aim": all(
            abs(e) <= (0.25 if name.endswith("p95") else 0.15)
            for row in rows
            for name, e in row["error"].items()
        ),
        "load_average": os.getloadavg()[0],
    }


def timed(timing: dict[str, Any], outside_s: float) -> str:
    return (f"base {timing['base_s'] * 1e3:.1f} + sequence {timing['decode_seq_s'] * 1e3:.2f} "
            f"+ prompt token {timing['prefill_token_s'] * 1e3:.2f}, outside {outside_s * 1e3:.1f} ms")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"{LEAST} requests per load")
    parser.add_argument("--load", type=float, action="append", help=f"of saturation; default {LOADS}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--url", help="a vLLM server of this fleet that runs already and serves nobody else")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the engine must not outlive this process
    wanted = fleet()
    with contextlib.nullcontext((options.url, 0)) if options.url else real_engine(wanted) as (url, group):
        load_s = 0.0 if options.quick else LOAD_S
        found = asyncio.run(measure(url, group, wanted, load_s, tuple(options.load or LOADS)))
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
        print(f"{'':6}{'error':>6}" + "".join(f"{e:>9.1%} " for e in row["error"].values()))
        cells = "".join(f"{f'{low:.0%}..{high:.0%}':>10}" for low, high in row["spread"].values())
        print(f"{'90% of resamples':>12}{cells}   ({row['requests']} requests; {timed(row['timing'], row['outside_s'])}"
              + ("" if row["others_cpu"] is None else f"; others took {row['others_cpu']:.2f} CPUs") + ")")  # fmt: skip
    verdict = (
        ("yes" if found["within_aim"] else "no")
        if found["quiet"]
        else "not judged, the machine was not quiet"
    )
    print(f"within the aim (medians 15%, p95 25%): {verdict}; "
          f"step time alone drifted by {found['drift']:.0%}; load average {found['load_average']:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
