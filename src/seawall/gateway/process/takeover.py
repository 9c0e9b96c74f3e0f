"""The take-over: a gateway goes on with the connections of one that died, from their record (intake/carry.py).

Streams first, each at its byte; then who rests. What cannot go on is ended, counted and said. A connection on which
two gateways died while they took it over is not taken again: it might be what kills.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from time import monotonic
from typing import cast

from seawall.drivers.sockets import handed_over
from seawall.gateway.edge.record import Arena, Record
from seawall.gateway.intake.app import App
from seawall.gateway.intake.carry import past_of
from seawall.gateway.process.custody import Custody, Estate, Holding

log = logging.getLogger("seawall.gateway")
DEADLY = 2
"""Gateways that died while they took a connection over: one may have been killed just then, two by chance are few."""


class TakeOver:
    """What was taken over by this process, and its counters."""

    def __init__(self, app: App, kept: Custody, loop: asyncio.AbstractEventLoop) -> None:
        self._app, self._kept, self._loop = app, kept, loop
        self.carried: dict[str, int] = {}
        """Connections that go on, by what was going on: stream, request, idle."""
        self.lost: dict[str, int] = {}
        """Connections that were ended, by reason (intake/carry.py)."""

    def adopt(self, estate: Estate) -> Holding | None:
        """Makes what a predecessor left this process's own, so that its successor gets it. None: it cannot be read."""
        try:
            arena = Arena(estate.memory)
        except (ValueError, OSError) as e:
            log.error("the connections of the gateway that died are ended: %s", e)
            self._count_lost("release", len(estate.connections))
            self._kept.refuse(estate)
            return None
        holding = Holding(estate.number, arena)
        self._kept.adopt(holding)
        return holding

    async def take(self, estate: Estate, holding: Holding) -> None:
        """Goes on with all that a predecessor left."""
        began, arena = monotonic(), holding.arena
        used = set(arena.slots())
        for slot in used - estate.connections.keys():
            arena.give_slot(slot)  # it had begun, and did not reach the keeper
        before = sum(self.carried.values())
        for slot, fd in estate.connections.items():
            if slot in used:
                await self._carry(holding, slot, fd)
            else:
                os.close(fd)
        log.warning(
            "a gateway died: %d of its connections go on here, taken over in %.3f s; ended: %s",
            sum(self.carried.values()) - before,
            monotonic() - began,
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
        client.adopt = lambda: past.go_on(Record(arena, slot))
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
        self._kept.drop(holding, slot, sock.detach())

    def _count_lost(self, why: str, count: int) -> None:
        self.lost[why] = self.lost.get(why, 0) + count
