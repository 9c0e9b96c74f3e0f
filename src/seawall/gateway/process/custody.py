"""What this gateway hands to its keeper (drivers/keeper.py), and gets from it: the gateway's side of their socket.

The keeper may come late, die and come again: everything is handed over anew, and serving never waits for it. Sending
never blocks, either: what the socket does not take now waits here, as a line that is looked up when its turn comes.
Forbidden here: what a record says.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from seawall.drivers.sockets import end
from seawall.gateway.edge.record import BLOCK, MAX_BYTES, Arena, Record

log = logging.getLogger("seawall.gateway")
AGAIN_S = 0.05
GREET_S = 2.0
"""How long a gateway that starts waits for a keeper to tell what waits for it."""
MOST = 250
_number = struct.Struct("<Q")


@dataclass
class Estate:
    """What a predecessor left: its memory, its listening socket, its connections by their slots."""

    number: int
    memory: int = -1
    listener: socket.socket | None = None
    connections: dict[int, int] = field(default_factory=dict)


class _Message(NamedTuple):
    """Something to tell the keeper. `slot` -1: it is about no connection."""

    kind: bytes
    holding: Holding
    slot: int = -1


class Holding:
    """One memory with the connections that are recorded in it."""

    def __init__(self, number: int, arena: Arena) -> None:
        self.number, self.arena = number, arena
        self.listener: socket.socket | None = None
        self.fds: dict[int, int] = {}
        """Slot -> descriptor."""


class Custody:
    """See the module. Implements `caller.Keep`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        seat: str,
        inherit: Callable[[Estate], None],
        most_bytes: int = MAX_BYTES,
    ) -> None:
        """`inherit`: takes what a predecessor in this seat left, whenever that comes. `most_bytes`: of the record."""
        self._blocks = max(64, min(most_bytes, MAX_BYTES) // BLOCK)
        self._loop, self._path, self._seat, self._inherit = loop, path, seat, inherit
        self._socket: socket.socket | None = None
        self._waiting: deque[_Message] = deque()
        self._flushing = False
        self._greeted = asyncio.Event()
        self._estates: dict[int, Estate] = {}
        self._holdings: list[Holding] = []
        self._closed = False
        self._retry: asyncio.TimerHandle | None = None
        self.unkept: dict[str, int] = {}
        """Connections that were not handed over, by reason."""

    @property
    def connected(self) -> bool:
        """A keeper is there and has been told everything: what it has not read yet, it reads before it hears of a
        death."""
        return self._socket is not None and not self._waiting

    async def greet(self) -> None:
        """Connects. Returns when all that waited here has come (`inherit`), or there is no keeper yet."""
        self._connect()
        try:
            async with asyncio.timeout(GREET_S):
                await self._greeted.wait()
        except TimeoutError:
            log.warning("no keeper answers at %s: connections are handed over when one does", self._path)

    # -- caller.Keep

    def hold(self, transport: asyncio.BaseTransport) -> Record | None:
        sock = transport.get_extra_info("socket")
        if sock is None or transport.get_extra_info("sslcontext") is not None:
            self._not("tls")
            return None
        holding = self.main
        slot = holding.arena.take_slot()
        if slot < 0:
            self._not("full")
            return None
        holding.fds[slot] = sock.fileno()
        self._tell(_Message(b"+", holding, slot))
        return Record(holding.arena, slot)

    def let_go(self, record: Record) -> None:
        fd = self._forget(record)
        if fd >= 0:
            with contextlib.suppress(OSError):
                end(fd)

    def unhold(self, record: Record, why: str) -> None:
        self._forget(record)
        self._not(why)

    def _forget(self, record: Record) -> int:
        """-> the descriptor of the connection that is not kept any more; -1: it was not."""
        holding = next((h for h in self._holdings if h.arena is record.arena), None)
        if holding is None:
            return -1
        fd = holding.fds.pop(record.slot, -1)
        self._tell(_Message(b"-", holding, record.slot))
        record.arena.give_slot(record.slot)
        if not holding.fds and not holding.arena.taken and holding is not self.main and not self._waiting:
            self._send(b"x" + _number.pack(holding.number), ())
            self._holdings.remove(holding)
            holding.arena.close()
        return fd

    def _not(self, why: str) -> None:
        self.unkept[why] = self.unkept.get(why, 0) + 1

    @property
    def main(self) -> Holding:
        """Where new connections are recorded."""
        return self._holdings[0] if self._holdings else self.begin()

    def begin(self) -> Holding:
        """New memory."""
        return self.adopt(
            Holding(int.from_bytes(os.urandom(7), "little"), Arena(blocks=self._blocks)), known=False
        )

    def adopt(self, holding: Holding, known: bool = True) -> Holding:
        """This gateway's from now on. `known`: the keeper has it."""
        self._holdings.append(holding)
        if not known:
            self._tell(_Message(b"m", holding))
        return holding

    def refuse(self, estate: Estate) -> None:
        """Nobody goes on with what was left."""
        for fd in estate.connections.values():
            with contextlib.suppress(OSError):
                end(fd)
            os.close(fd)
        os.close(estate.memory)
        self._send(b"x" + _number.pack(estate.number), ())

    def drop(self, holding: Holding, slot: int, fd: int) -> None:
        """A connection that cannot go on is ended."""
        with contextlib.suppress(OSError):
            end(fd)
        os.close(fd)
        holding.arena.give_slot(slot)
        self._tell(_Message(b"-", holding, slot))

    def listens(self, listener: socket.socket | None) -> None:
        """New connections come here; None: no more."""
        self.main.listener = listener
        self._tell(_Message(b"l" if listener is not None else b"u", self.main))

    def close(self) -> None:
        """This process ends well: nothing is to be kept of it."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        for holding in self._holdings:
            self._send(b"x" + _number.pack(holding.number), ())
        self._lose()

    # -- the socket

    def _connect(self) -> None:
        self._retry = None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(os.fspath(self._path))  # a Unix socket connects at once, or not at all
        except OSError:
            sock.close()
            self._retry = self._loop.call_later(AGAIN_S, self._connect)
            return
        sock.setblocking(False)
        self._socket = sock
        self._loop.add_reader(sock.fileno(), self._hear)
        self._send(b"h" + self._seat.encode(), ())
        self._waiting.clear()
        for holding in self._holdings:
            self._tell(_Message(b"m", holding))
            if holding.listener is not None:
                self._tell(_Message(b"l", holding))
            for slot in holding.fds:
                self._tell(_Message(b"+", holding, slot))

    def _lose(self) -> None:
        """The keeper is gone; another one gets everything."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        if not self._closed and self._retry is None:
            self._retry = self._loop.call_later(AGAIN_S, self._connect)

    def _tell(self, line: _Message) -> None:
        if self._socket is None:
            return
        if self._waiting or not self._send_line(line):
            self._waiting.append(line)
            if not self._flushing:
                self._flushing = True
                self._loop.call_later(0.002, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        waiting = self._waiting
        while waiting and self._send_line(waiting[0]):
            waiting.popleft()
        if waiting:
            self._flushing = True
            self._loop.call_later(0.002, self._flush)

    def _send_line(self, line: _Message) -> bool:
        holding = line.holding
        data = line.kind + _number.pack(holding.number)
        if line.kind == b"m":
            return self._send(data, (holding.arena.fd,))
        if line.kind == b"l":
            return holding.listener is None or self._send(data, (holding.listener.fileno(),))
        if line.slot >= 0:
            data += _number.pack(line.slot)
        if line.kind == b"+":
            fd = holding.fds.get(line.slot)
            return fd is None or self._send(data, (fd,))
        return self._send(data, ())

    def _send(self, data: bytes, fds: tuple[int, ...]) -> bool:
        """False: not now. What a dead keeper does not get, the next one does."""
        if self._socket is None:
            return True
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([data], rights)
        except (BrokenPipeError, ConnectionError):
            return True  # its end is read, too
        except OSError:
            return False
        return True

    def _hear(self) -> None:
        while self._socket is not None:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, 8 * (MOST + 2), MOST)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._lose()
                return
            self._heard(data[:1], [n for (n,) in _number.iter_unpack(data[1:])], fds)

    def _heard(self, kind: bytes, numbers: list[int], fds: list[int]) -> None:
        if not numbers:
            self._greeted.set()
            return
        estate = self._estates.setdefault(numbers[0], Estate(numbers[0]))
        if kind == b"m":
            estate.memory = fds[0]
        elif kind == b"l":
            estate.listener = socket.socket(fileno=fds[0])
        elif kind == b"+":
            estate.connections.update(zip(numbers[1:], fds, strict=True))
        else:
            self._inherit(self._estates.pop(numbers[0]))
