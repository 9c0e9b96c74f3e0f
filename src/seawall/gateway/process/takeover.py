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
from seawall.gateway.edge.record import Arena, Record, read
from seawall.gateway.intake.app import App
from seawall.gateway.intake.carry import past_of
from seawall.gateway.intake.carry_kept import Unfinished, is_kept, restored, take_up
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
        self._unfinished: list[tuple[Arena, int, Unfinished]] = []
        """Answers without a connection that are to go on, and where they are written."""
        self.carried: dict[str, int] = {}
        """What goes on: connections, by what was going on (stream, request, idle), and answers that are kept (kept)."""
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
        for slot in sorted(alone):
            if not self._restore(arena, slot):
                arena.give_slot(slot)  # counts; or a connection that had begun, and did not reach the keeper
        return holding

    def _restore(self, arena: Arena, slot: int) -> bool:
        """An answer that a predecessor kept is here again, before anybody can ask for it. False: the slot is none."""
        past = read(arena, slot)
        if past is None or not is_kept(past):
            return False
        if arena.taking(slot, True) >= DEADLY:
            self._count_lost("deadly", 1)
            return False
        found = restored(self._app, arena, slot, past)
        if isinstance(found, Unfinished):
            self._unfinished.append((arena, slot, found))
        elif found:
            self._count_lost(found, 1)
            return False
        else:
            arena.taking(slot, False)
        return True

    def _take_up(self) -> None:
        """Answers that nobody's connection waits for go on, too."""
        waiting, self._unfinished = self._unfinished, []
        if waiting:
            log.warning("a gateway died: %d answers that it was keeping go on here", len(waiting))
        for arena, slot, kept in waiting:
            if take_up(self._app, kept):
                self.carried["kept"] = self.carried.get("kept", 0) + 1
            else:
                self._count_lost("refused", 1)
            if kept.record.written:
                arena.taking(slot, False)

    async def take(self, estate: Estate, holding: Holding) -> None:
        """Goes on with all that a predecessor left."""
        began, arena = monotonic(), holding.arena
        died, self._died = self._died or began, 0.0
        used = set(arena.slots())
        self._take_up()
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
