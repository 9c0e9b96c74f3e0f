"""Asks replicas how long a request may be, once a client wants to know: nothing else here depends on it, so nobody is
asked before. Forbidden here: keeping a client waiting for longer than WAIT_S.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from seawall.decide.route.pick import Target
from seawall.engines.vllm.cards import longest_in
from seawall.gateway.replicas.probe import ask
from seawall.gateway.replicas.upstream import Pool

WAIT_S = 1.0
AGAIN_S = 30.0
"""A fleet whose replica did not say is asked again after so long."""


class AskedFleet(Protocol):
    """The part of a fleet (`exchange.lane.FleetLane`) that is needed here."""

    longest: int | None
    asked_longest: bool

    @property
    def targets(self) -> Iterable[Target]: ...

    def pool(self, target: Target) -> Pool: ...


class Longest:
    """See the module."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, fleets: Sequence[AskedFleet], then: Callable[[], None]) -> None:
        """Asks a replica of each of `fleets` that has one, and calls `then`."""
        task = self._loop.create_task(self._ask(fleets))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: then())

    async def _ask(self, fleets: Sequence[AskedFleet]) -> None:
        await asyncio.gather(*(self._one(fleet) for fleet in fleets))

    async def _one(self, fleet: AskedFleet) -> None:
        target = next((t for t in fleet.targets if t.state == "ready"), None)
        if target is None:
            return
        fleet.asked_longest = True
        status, page = await ask(fleet.pool(target), b"/v1/models", b"", WAIT_S, b"GET")
        found = longest_in(page) if status == 200 else None
        if found is not None:
            fleet.longest = found
        else:
            self._loop.call_later(AGAIN_S, _again, fleet)


def _again(fleet: AskedFleet) -> None:
    fleet.asked_longest = False
