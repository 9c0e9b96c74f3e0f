"""Scenarios of several gateways that share a store: limits, the death of any of them, a store that is away.

What clients saw is the verdict's; what holds over all gateways together is measured here. Without the mechanism `store`
each gateway keeps its own accounts.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import Any, cast

from seawall.domain.labels import STORE_UP
from seawall.engines.vllm.metrics import RUNNING, WAITING
from seawall.load.client import LoadClient
from seawall.prove.stage import Stage
from seawall.prove.tier import TierFleet

GATEWAYS = 3
RATE = 240
"""Requests per minute of the tenant that asks for far more."""
CAP = 8
"""Places at each replica."""
TENANTS: list[dict[str, Any]] = [{"name": "proof"}, {"name": "limited", "requestsPerMinute": RATE}]
WITHIN = 0.02
EVICTED_S = 1.0


def _tier(stage: Stage) -> TierFleet:
    return cast(TierFleet, stage.deployment)


async def _agreed(stage: Stage) -> None:
    """Every gateway has the store's word: without one there is nothing to wait for."""
    tier = _tier(stage)
    if any("--without=store" in g.argv for g in tier.gateways):
        return

    async def up() -> bool:
        return all([await g.metric(STORE_UP) == 1 for g in tier.gateways if g.alive])

    await stage.until("every gateway to reach the store", up)


class Greedy:
    """Clients of the limited tenant at every gateway, each with a request open at any time."""

    def __init__(self, tier: TierFleet, each: int = 4) -> None:
        self.passed = self.refused = self.failed = 0
        self.slowest_s = 0.0
        self._tier = tier
        self._on = True
        self._tasks = [asyncio.ensure_future(self._client(i)) for i in range(len(tier.gateways) * each)]

    async def _client(self, number: int) -> None:
        client = LoadClient(
            self._tier.gateways[number % len(self._tier.gateways)].url, api_key=self._tier.secrets["limited"]
        )
        body = {"model": self._tier.model, "prompt": "a", "max_tokens": 1}
        while self._on:
            began = time.monotonic()
            outcome = await client.request("/v1/completions", body)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            if outcome.status == 200:
                self.passed += 1
            elif outcome.status == 429:
                self.refused += 1
                await asyncio.sleep(0.02)
            else:
                self.failed += 1
                await asyncio.sleep(0.1)
        client.close()

    async def stop(self) -> None:
        self._on = False
        await asyncio.gather(*self._tasks)


async def limits(stage: Stage) -> None:
    """One tenant asks for many times its rate at every gateway: the sum is the limit."""
    await _agreed(stage)
    began = time.monotonic()
    greedy = Greedy(_tier(stage))
    stage.mark(f"a tenant of {RATE} requests per minute asks without end at {GATEWAYS} gateways")
    await asyncio.sleep(9.0)
    await greedy.stop()
    due = RATE + RATE / 60 * (time.monotonic() - began)
    stage.notes.append(f"{greedy.passed} passed where {due:.0f} may, {greedy.refused} refused")
    if greedy.passed > due * (1 + WITHIN) + GATEWAYS:
        stage.fail(f"{greedy.passed} requests passed, where the limit allows {due:.0f} over all gateways")
    if greedy.passed < due * (1 - WITHIN) - GATEWAYS and greedy.refused:
        stage.fail(f"only {greedy.passed} requests passed, where the limit allows {due:.0f}")
    if greedy.failed:
        stage.fail(f"{greedy.failed} requests failed")


async def kill(stage: Stage) -> None:
    """Each gateway in turn is killed; what it was giving goes on at the others, and no replica gets too much."""
    tier = _tier(stage)
    await _agreed(stage)
    watch = asyncio.ensure_future(_most(tier))
    for number, gateway in enumerate(tier.gateways):
        stage.mark(f"kill -9 gateway {number}")
        await gateway.kill()
        await asyncio.sleep(3.5)
        stage.mark(f"gateway {number} again")
        await gateway.serve()
        await _agreed(stage)
        await asyncio.sleep(1.0)
    watch.cancel()
    most = 0
    with contextlib.suppress(asyncio.CancelledError):
        most = await watch
    stage.notes.append(f"at most {most} requests at a replica of {CAP} places")
    if most > CAP + GATEWAYS:
        stage.fail(f"a replica of {CAP} places had {most} requests")


async def _most(tier: TierFleet) -> int:
    """The most requests that any engine had at once, as it tells itself, until it is cancelled."""
    clients = [LoadClient(url) for url in tier.engines]
    most = 0
    try:
        while True:
            for client in clients:
                _, page = await client.get("/metrics")
                lines = page.decode().splitlines()
                found = sum(
                    float(x.rpartition(" ")[2]) for x in lines if x.startswith((RUNNING + "{", WAITING + "{"))
                )
                most = max(most, int(found))
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return most


async def store_away(stage: Stage) -> None:
    """The store is stopped for 5 s, flushed, killed and started again: nobody waits, each goes on with its share."""
    tier = _tier(stage)
    await _agreed(stage)
    began = time.monotonic()
    greedy = Greedy(tier)
    await asyncio.sleep(1.5)
    stage.mark("SIGSTOP the store for 5 s")
    tier.store.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    await _away(stage)
    await asyncio.sleep(max(0.0, 5.0 - (time.monotonic() - stopped)))
    tier.store.signal(signal.SIGCONT)
    await _agreed(stage)
    stage.mark("flush the store")
    await tier.store.flush()
    await asyncio.sleep(1.0)
    await _agreed(stage)
    stage.mark("kill -9 the store")
    await tier.store.kill()
    await _away(stage)
    await tier.store.serve()
    stage.mark("the store again, empty")
    await _agreed(stage)
    await asyncio.sleep(1.0)
    await greedy.stop()
    due = RATE + RATE / 60 * (time.monotonic() - began)
    stage.notes.append(
        f"{greedy.passed} passed where {due:.0f} may; the slowest took {greedy.slowest_s:.2f} s"
    )
    if greedy.passed > due * 1.1 + GATEWAYS:
        stage.fail(f"{greedy.passed} requests passed, where the limit allows {due:.0f} over all gateways")
    if greedy.failed:
        stage.fail(f"{greedy.failed} requests failed while the store was away")


async def _away(stage: Stage) -> None:
    tier = _tier(stage)

    async def away() -> bool:
        return all([await g.metric(STORE_UP) == 0 for g in tier.gateways])

    if not any("--without=store" in g.argv for g in tier.gateways):
        await stage.until("every gateway to say that the store is away", away, 20.0)
