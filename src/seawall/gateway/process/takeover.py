"""The take-over: a gateway goes on with the connections of one that died, from their record (intake/carry.py).

Streams first, each at its byte; then who rests. What cannot go on is ended, counted and said. A connection on which
two gateways died while they took it over is not taken again: it might be what kills.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable
from time import monotonic
from typing import cast

from seawall.drivers.sockets import handed_over
from seawall.gateway.edge.record import Arena, Record
from seawall.gateway.intake.app import App
from seawall.gateway.intake.carry import past_of
from seawall.gateway.process.counts import CountsRecord
from seawall.gateway.process.custody import Custody, Estate, Holding

log = logging.getLogger("seawall.gateway")
DEADLY = 2
"""Gateways that died while they took a connection over: one may have been killed just then, two by chance are few."""


def busy_first(arena: Arena, slots: Iterable[int]) -> list[int]:
    """Those on which something was going on, then those that rest: they may be many, and nobody waits there."""
    return sorted(slots, key=lambda slot: (arena.first(slot)[0] == 0, slot))


class TakeOver:
    """What was taken over by this process, and its counters."""

    def __init__(
        self,
        app: App,
        kept: Custody,
        loop: asyncio.AbstractEventLoop,
        counts: CountsRecord,
        died: float = 0.0,
    ) -> None:
        """`died`: when this process's predecessor did (monotonic); 0: nobody knows."""
        self._app, self._kept, self._loop, self._counts = app, kept, loop, counts
        self._ended = 0
        """Connections that were ended, and on which something was going on."""
        self._died = died
        self.carried: dict[str, int] = {}
        """Connections that go on, by what was going on: stream, request, idle."""
        self.lost: dict[str, int] = {}
        """Connections that were ended, by reason (intake/carry.py)."""

    def adopt(self, estate: Estate, first: bool) -> Holding | None:
        """Makes what a predecessor left this process's own, so that its successor gets it: memory and counts. None: it
        cannot be read. `first`: nothing has been counted here yet."""
        try:
            arena = Arena(estate.memory)
        except (ValueError, OSError) as e:
            log.error("the connections of the gateway that died are ended: %s", e)
            self._count_lost("release", len(estate.connections))
            self._kept.refuse(estate)
            return None
        holding = Holding(estate.number, arena)
        self._kept.adopt(holding)
        alone = set(arena.slots()) - estate.connections.keys()
        for why, count in self._counts.inherit(arena, alone, first).items():
            self._count_lost(why, count)
        self._counts.note(self._kept.main.arena)
        for slot in alone:
            arena.give_slot(slot)  # counts; or a connection that had begun, and did not reach the keeper
        return holding

    async def take(self, estate: Estate, holding: Holding) -> None:
        """Goes on with all that a predecessor left."""
        began, arena = monotonic(), holding.arena
        died, self._died = self._died or began, 0.0
        used = set(arena.slots())
        before = sum(self.carried.values())
        for slot in estate.connections.keys() - used:
            os.close(estate.connections[slot])
        for slot in busy_first(arena, estate.connections.keys() & used):
            await self._carry(holding, slot, estate.connections[slot])
        self._counts.settle(self._ended)
        self._ended = 0
        log.warning(
            "a gateway died: %d of its connections go on here; this process had their record after %.3f s, and them "
            "after %.3f s; ended: %s",
            sum(self.carried.values()) - before,
            began - died,
            monotonic() - died,
            self.lost or "none",
        )

    async def _carry(self, holding: Holding, slot: int, fd: int) -> None:
        arena, loop = holding.arena, self._loop
        sock = socket.socket(fileno=fd)
        if arena.taking(slot, True) >= DEADLY:
            return self._give_up(holding, slot, sock, "deadly")
        try:
            past = past_of(self._app, loop, arena, slot, handed_over(sock))
        except Exception:
            log.exception("a record cannot be played")
            return self._give_up(holding, slot, sock, "unknown")
        if past.lost:
            return self._give_up(holding, slot, sock, past.lost)
        sock.setblocking(False)
        what = past.what
        holding.fds[slot] = sock.fileno()
        client = past.client
        client.adopt = lambda: past.go_on(Record(arena, slot, past.told))
        made = cast("Callable[[], asyncio.Protocol]", lambda: client)
        try:
            await loop.connect_accepted_socket(made, sock)
        except OSError:  # its client has just left
            return self._give_up(holding, slot, sock, "unknown")
        arena.taking(slot, False)
        self.carried[what] = self.carried.get(what, 0) + 1
        return None

    def _give_up(self, holding: Holding, slot: int, sock: socket.socket, why: str) -> None:
        self._count_lost(why, 1)
        self._ended += holding.arena.first(slot)[0] != 0
        self._kept.drop(holding, slot, sock.detach())

    def _count_lost(self, why: str, count: int) -> None:
        self.lost[why] = self.lost.get(why, 0) + count
