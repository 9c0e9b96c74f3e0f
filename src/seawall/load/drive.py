"""Sends a workload: open loop (at its times, whatever the server does) or closed loop (N at a time).

Open loop keeps its schedule: a request that is late counts from when it was due. Forbidden: waiting for an answer
before the next request of an open loop is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from seawall.load.client import ClientPatience, LoadClient, RequestOutcome
from seawall.load.measure import Objective, Summary, summarise
from seawall.load.prompts import PromptTurn

Endpoint = Literal["chat", "completions", "embeddings"]
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "embeddings": "/v1/embeddings"}
MAX_RETRIES = 5


@dataclass(frozen=True, kw_only=True)
class LoadTarget:
    """Where the load goes and how each request is made."""

    url: str
    model: str
    endpoint: Endpoint = "chat"
    stream: bool = True
    api_key: str | None = None
    temperature: float = 0.0
    ignore_eos: bool = False
    honour_429: bool = False
    """Send again after Retry-After, as a well-behaved client; latencies then count from the first try."""
    patience: ClientPatience = field(default_factory=ClientPatience)


@dataclass
class Live:
    """Counters of a running load, for a live view."""

    sent: int = 0
    open: int = 0
    finished: int = 0
    failed: int = 0
    retried: int = 0
    planned: int | None = None
    outcomes: list[RequestOutcome] = field(default_factory=list)
    began_cpu_s: float = field(default_factory=lambda: _cpu_s())

    def cpu_s(self) -> float:
        """CPU seconds of this process since the run began."""
        return _cpu_s() - self.began_cpu_s

    def anew(self) -> Live:
        """Forgets the last run: the next one begins."""
        vars(self).update(vars(Live()))
        return self


@dataclass
class Run:
    """One run's outcomes."""

    outcomes: list[RequestOutcome]
    duration_s: float
    cpu_s: float
    retried: int

    def summary(self, objective: Objective | None = None) -> Summary:
        return summarise(
            self.outcomes, self.duration_s, objective, client_cpu_s=self.cpu_s, retried=self.retried
        )


class Driver:
    """Turns a stream of `Turn`s into requests."""

    def __init__(self, target: LoadTarget, turns: Iterator[PromptTurn], live: Live | None = None) -> None:
        self.target = target
        self.turns = turns
        self.live = live or Live()
        self.client = LoadClient(target.url, api_key=target.api_key)
        self.outcomes = self.live.outcomes

    def _payload(self) -> dict[str, Any]:
        t, turn = self.target, next(self.turns)
        if t.endpoint == "embeddings":
            return turn.embedding(t.model)
        extra: dict[str, Any] = {"temperature": t.temperature, "stream": t.stream}
        if t.stream:
            extra["stream_options"] = {"include_usage": True}
        if t.ignore_eos:
            extra["ignore_eos"] = True
        return turn.chat(t.model, extra) if t.endpoint == "chat" else turn.completion(t.model, extra)

    async def one(self, intended_s: float) -> RequestOutcome:
        """One request, with its 429s honoured if asked."""
        live, target = self.live, self.target
        payload = self._payload()
        live.sent += 1
        live.open += 1
        try:
            for attempt in range(MAX_RETRIES + 1):
                outcome = await self.client.request(
                    PATHS[target.endpoint], payload, intended_s=intended_s, patience=target.patience
                )
                if outcome.error != "http-429" or not target.honour_429 or attempt == MAX_RETRIES:
                    break
                live.retried += 1
                await asyncio.sleep(min(60.0, outcome.retry_after_s or 1.0) * random.uniform(1.0, 1.2))
        finally:
            live.open -= 1
        live.finished += outcome.ok
        live.failed += not outcome.ok
        self.outcomes.append(outcome)
        return outcome

    async def open_loop(self, arrivals: Sequence[float]) -> Run:
        """Requests at `arrivals` (seconds from now), until the last one has ended."""
        self.live.planned = len(arrivals)
        start, cpu = self.client.clock(), _cpu_s()
        async with asyncio.TaskGroup() as group:
            for at in arrivals:
                due = start + at
                if (wait := due - self.client.clock()) > 0.0005:
                    await asyncio.sleep(wait)
                group.create_task(self.one(due))
        return self._run(start, cpu)

    async def closed_loop(self, concurrency: int, *, seconds: float | None, requests: int | None) -> Run:
        """`concurrency` at a time, for so long or so many."""
        self.live.planned = requests
        start, cpu = self.client.clock(), _cpu_s()
        left = requests if requests is not None else 2**62

        async def lane() -> None:
            nonlocal left
            while left > 0 and (seconds is None or self.client.clock() - start < seconds):
                left -= 1
                outcome = await self.one(self.client.clock())
                if not outcome.ok:
                    await asyncio.sleep(min(5.0, outcome.retry_after_s or 0.05))

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(lane())
        return self._run(start, cpu)

    def _run(self, start: float, cpu: float) -> Run:
        ended = max((o.ended_s for o in self.outcomes), default=self.client.clock())
        self.client.close()
        return Run(self.outcomes, ended - start, _cpu_s() - cpu, self.live.retried)


async def watch(live: Live, show: Callable[[Live], None], every_s: float = 1.0) -> None:
    """Calls `show` every so often, until cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(every_s)
            show(live)


def _cpu_s() -> float:
    t = os.times()
    return t.user + t.system
