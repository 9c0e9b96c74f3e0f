"""What `seawall bench` measures: one load, the highest load that holds, or the engine's own step times.

Forbidden here: printing. Progress goes to functions that the caller gives.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seawall import __version__
from seawall.errors import EngineError, InputError, in_words
from seawall.load.capacity import Capacity, Ran, calibrate, search
from seawall.load.client import LoadClient
from seawall.load.drive import Driver, Live, LoadTarget, Run
from seawall.load.measure import Objective
from seawall.load.prompts import Conversations, PromptTurn, Synthetic, read_conversations
from seawall.workload.arrivals import arrival_times, lengths, parse_rate
from seawall.workload.traces import read_trace

TellUser = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The prompts of a load: of drawn lengths, or conversations out of a file."""

    prompt_tokens: int = 128
    """Mean."""
    output_tokens: int = 64
    """Mean of max_tokens."""
    spread: float = 0.0
    """Variation of both lengths (lognormal); 0: all alike."""
    shared_prefix: int = 0
    """Tokens that the prompts of a group begin with."""
    groups: int = 1
    conversations: Path | None = None
    multi_turn: bool = False
    seed: int = 0

    def turns(self, count: int, drawn: tuple[list[int], list[int]] | None = None) -> Iterator[PromptTurn]:
        """Endless prompts whose lengths come from `count` draws; `drawn`: the lengths that a trace brings."""
        if self.conversations:
            talks = read_conversations(self.conversations)
            return iter(Conversations(talks, self.output_tokens, self.multi_turn, self.seed))
        rng = np.random.default_rng(self.seed)
        prompt, output = drawn or tuple(
            lengths(mean, max(1, count), rng, self.spread).tolist()
            for mean in (self.prompt_tokens, self.output_tokens)
        )
        return iter(
            Synthetic(
                prompt_tokens=prompt, output_tokens=output, seed=self.seed, shared_prefix=self.shared_prefix,
                groups=max(1, self.groups),
            )
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The times of a load: a rate or a trace (open loop), or a number of requests at a time (closed loop)."""

    rate: str | None = None
    """`5/s for 30s`. Default: 2/s for `duration_s`."""
    burst: float = 1.0
    """Variation of the gaps; 1: Poisson."""
    trace: Path | None = None
    concurrency: int | None = None
    requests: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One thing that is measured, and how."""

    target: LoadTarget
    prompts: Prompts
    schedule: Schedule
    live: Live = field(default_factory=Live)

    async def once(self, ran: Ran, say: TellUser) -> Run:
        """One run of the schedule."""
        when, asked, live = self.schedule, self.prompts, self.live
        if when.concurrency:
            together = when.concurrency
            requests = when.requests or (None if when.duration_s else 100)
            closed = Driver(self.target, asked.turns(requests or 10_000), live)
            return await ran(
                closed, lambda: closed.closed_loop(together, seconds=when.duration_s, requests=requests)
            )
        arrivals, drawn = self._arrivals(say)
        opened = Driver(self.target, asked.turns(len(arrivals), drawn), live)
        return await ran(opened, lambda: opened.open_loop(arrivals))

    def _arrivals(self, say: TellUser) -> tuple[list[float], tuple[list[int], list[int]] | None]:
        """(seconds from the start, lengths that come with them)."""
        when = self.schedule
        if when.trace is None:
            phases = parse_rate(when.rate or f"2/s for {when.duration_s or 15:g}s")
            rng = np.random.default_rng(self.prompts.seed)
            return arrival_times(phases, rng, when.burst).tolist(), None
        with when.trace.open(errors="replace") as lines:
            trace = read_trace(lines, when.trace.name)
        say(f"{trace.source}: {len(trace):,} requests over {trace.duration_s:.0f} s")
        return trace.arrival.tolist(), (trace.prompt.tolist(), trace.output.tolist())

    async def capacity(self, objective: Objective, ran: Ran, say: TellUser) -> Capacity:
        """The highest rate that holds the objective; each try lasts the schedule's duration, or 10 s."""

        def driver(count: int, turn: int) -> Driver:
            asked = dataclasses.replace(self.prompts, seed=self.prompts.seed + turn)
            return Driver(self.target, asked.turns(count), self.live.anew())

        return await search(driver, ran, objective, self.schedule.duration_s or 10.0, say)

    async def calibration(self) -> dict[str, Any]:
        """The content of a calibration file."""
        timing, seen = await calibrate(self.target, seed=self.prompts.seed + 1000)
        facts = {"model": self.target.model, "measured": seen, "seawall": __version__}
        return {**dataclasses.asdict(timing), **facts}


async def first_model(url: str, api_key: str | None) -> str:
    """The first model that the server lists. EngineError when it is away, InputError when it refuses."""
    try:
        status, body = await LoadClient(url, api_key=api_key).get("/v1/models")
        found = json.loads(body)["data"][0]["id"] if status == 200 else None
    except (OSError, TimeoutError, ValueError, LookupError) as e:
        cure = "Start one: seawall up; or name another address."
        if "://" not in url:
            cure = f"Name an address (http://{url}), or a Fleet's file (FLEET.yaml)."
        raise EngineError(f"{url} does not answer /v1/models: {in_words(e)}.", cure) from None
    if found is None:
        raise InputError(f"{url}/v1/models answered {status}.", "Give --api-key, or name the --model.")
    return str(found)
