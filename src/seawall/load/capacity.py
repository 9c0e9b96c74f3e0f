"""The highest rate that holds the objective, and the step times that explain it: the calibration file.

One request at a time must hold the objective, or no rate does. A crowd says where to look; then the rate is doubled
until the objective breaks, and halved in between (at most `PROBES` probes). The timing fields come
from three shapes of load, solved for Timing's step equation: alone (weights and overhead), many (compute per
sequence), long prompts (compute per prompt token).
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seawall.domain.action import Timing
from seawall.errors import EngineError
from seawall.load.drive import Driver, LoadTarget, Run
from seawall.load.measure import Objective, Summary
from seawall.load.prompts import PromptTurn, Synthetic

CROWD = 64
LONE = 3
"""Requests, one after another."""
PROBES = 12
FEWEST = 25
"""Requests of a probe: of fewer, neither a share of 95% nor a backlog can be told."""
SATURATED = 1.15
"""A crowd whose step is so many times longer than the lone one's is bound by compute."""
DISTURBED = 1.5
KEEPS_UP = 0.93
ENOUGH = 0.08
"""The search ends when the bracket is this narrow."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One rate that was tried."""

    rate: float
    held: bool
    summary: Summary

    def as_json(self) -> dict[str, Any]:
        s = self.summary
        return {"rate": self.rate, "held": self.held, "requests": s.requests, "good_share": s.good_share,
                "kept_up": s.kept_up}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a search ended with."""

    rate: float
    """Requests a second; 0: none holds the objective."""
    probes: list[Probe]
    run: Run
    """The best rate's; when none held, the first one's."""


Ran = Callable[[Driver, Callable[[], Awaitable[Run]]], Awaitable[Run]]


async def search(
    driver: Callable[[int, int], Driver],
    ran: Ran,
    objective: Objective,
    seconds: float,
    say: Callable[[str], None],
) -> Capacity:
    """The capacity of a server, in tries of `seconds` each. `driver(count, turn)` makes one of `count` requests, whose
    prompts no earlier turn has sent (a prefix cache would answer for the engine); `ran` runs what it is given."""
    one = driver(LONE, 0)
    alone = await ran(one, lambda: one.closed_loop(1, seconds=None, requests=LONE))
    if not alone.summary(objective).good:
        say("one request at a time misses the objective")
        return Capacity(rate=0.0, probes=[], run=alone)
    crowd = driver(10_000, 1)
    together = await ran(crowd, lambda: crowd.closed_loop(CROWD, seconds=seconds, requests=None))
    start = max(0.1, together.summary().finished_rps)
    say(f"{CROWD} at a time: {start:.2f}/s finished")
    runs: list[Run] = []

    async def run_at(rate: float) -> Summary:
        count = max(FEWEST, round(rate * seconds))
        rng = np.random.default_rng(len(runs))
        # Poisson arrivals, given their number: a search needs the rate that it names.
        arrivals = np.sort(rng.uniform(0.0, count / rate, count)).tolist()
        asks = driver(count, 2 + len(runs))
        runs.append(await ran(asks, lambda: asks.open_loop(arrivals)))
        return runs[-1].summary(objective)

    rate, probes = await find_capacity(run_at, start, say=say)
    held = [(p.rate, run) for p, run in zip(probes, runs, strict=True) if p.held]
    return Capacity(rate=rate, probes=probes, run=max(held, key=lambda h: h[0])[1] if held else runs[0])


async def find_capacity(
    run_at: Callable[[float], Awaitable[Summary]],
    start_rate: float,
    share: float = 0.95,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[float, list[Probe]]:
    """The highest rate at which `share` of the requests were good and no backlog grew. (0, probes) when none was.

    A short try of a rate that is too high can look good: the queue has not had the time to grow past the objective.

    `run_at(rate)` runs the load at a rate; a rate that the server could not even finish does not hold.
    """
    probes: list[Probe] = []
    low, high, rate = 0.0, float("inf"), start_rate
    while len(probes) < PROBES:
        summary = await run_at(rate)
        held = summary.good_share >= share and (summary.kept_up is None or summary.kept_up >= KEEPS_UP)
        probes.append(Probe(rate=rate, held=held, summary=summary))
        slow = "" if held or not summary.slow_client else "; the client itself was the bottleneck"
        say(f"{rate:.2f}/s: {summary.good_share:.1%} good, {'holds' if held else 'does not hold'}{slow}")
        if held:
            low = rate
        else:
            high = rate
        if high == float("inf"):
            rate = low * 2
        elif low == 0.0:
            rate = high / 2
        else:
            rate = (low + high) / 2
            if (high - low) / low < ENOUGH:
                break
    return low, probes


def solve(
    alone_tpot_s: float, many: int, many_tpot_s: float, prompt_tokens: float, prefill_s: float, source: str
) -> Timing:
    """Timing from three observations (domain.action.Timing.step_s, with kv reads folded into the weights).

    alone: base + weights; many: base + max(n x seq, weights); prefill: base + prompt x token.
    A crowd that is not yet bound by compute only bounds the cost of a sequence: half that bound is taken.
    A fifth of the lone step is taken for overhead: the split shifts cost between fields, not the total.
    EngineError when a lone stream was slower than the crowd, which no engine is by itself.
    """
    if alone_tpot_s > DISTURBED * many_tpot_s:
        raise EngineError(
            f"a lone stream took {alone_tpot_s * 1000:.0f} ms a token, {many} together {many_tpot_s * 1000:.0f} ms.",
            "Something else kept the machine or the engine busy: calibrate again when it is quiet.",
        )
    base = 0.2 * alone_tpot_s
    read = 0.8 * alone_tpot_s
    grown = max(0.0, many_tpot_s - base)
    sequence = grown / many if grown > SATURATED * read else read / (2 * many)
    token = max(0.0, prefill_s - base) / max(1.0, prompt_tokens)
    return Timing(
        base_s=base,
        prefill_token_s=token,
        decode_seq_s=sequence,
        weight_read_s=read,
        kv_token_s=0.0,
        source=source,
    )


async def calibrate(
    target: LoadTarget, many: int = 64, long_prompt: int = 512, seed: int = 0
) -> tuple[Timing, dict[str, Any]]:
    """Measures the three shapes on a server that should serve nobody else, and has not seen this seed's prompts.
    EngineError when it fails them."""

    async def shape(concurrency: int, requests: int, prompt: int, output: int, turn: int) -> Run:
        asks = Synthetic(prompt_tokens=[prompt], output_tokens=[output], seed=seed + turn)
        turns: Iterator[PromptTurn] = iter(asks)
        sent = dataclasses.replace(target, ignore_eos=True)
        return await Driver(sent, turns).closed_loop(concurrency, seconds=None, requests=requests)

    await shape(1, 1, 16, 8, 1)
    alone = await shape(1, 3, 16, 48, 2)
    crowd = await shape(many, many * 2, 16, 48, 3)
    short = await shape(1, 3, 16, 2, 4)
    long = await shape(1, 3, long_prompt, 2, 5)
    tpot, crowded = _median(alone, "tpot_s"), _median(crowd, "tpot_s")
    difference = max(0.0, _median(long, "ttft_s") - _median(short, "ttft_s"))
    counted = [o.prompt_tokens for o in long.outcomes if o.prompt_tokens]
    tokens = statistics.median(counted) if counted else long_prompt
    timing = solve(tpot, many, crowded, tokens - 16, difference + 0.2 * tpot, "seawall bench --calibrate")
    seen = {
        "alone_tpot_s": tpot,
        "crowd": many,
        "crowd_tpot_s": crowded,
        "prompt_tokens": tokens,
        "prefill_s": difference,
    }
    return timing, seen


def _median(run: Run, name: str) -> float:
    values = [float(v) for o in run.outcomes if o.ok and (v := getattr(o, name)) is not None]
    if not values:
        first: Sequence[str] = [f"{o.error}: {o.detail}" for o in run.outcomes if not o.ok][:1]
        raise EngineError(
            f"the server finished none of the calibration's requests ({''.join(first)}).", "Is it up?"
        )
    return statistics.median(values)
