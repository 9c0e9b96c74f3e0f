"""The keeper: a small process that holds what a gateway must not lose with its life, and gives it to the next one.

    gateway --Unix socket (SCM_RIGHTS)--> keeper: duplicates of its listening socket and its clients' connections,
                                                  and the memory that records what each of them was given

It looks into nothing and decides nothing. When a gateway's socket ends, what was its own waits for another gateway of
the same seat for KEEP_S; one that says hello, or is there already, gets all of it. When the keeper dies, nothing is
lost: gateways hold all of it, too, and hand it over to the next keeper.

Datagrams (SOCK_SEQPACKET), each one byte, then whole numbers of 8 bytes; descriptors ride along:

    h NAME                hello, from a gateway that sits in this seat. Answered by what waits for it, then `.`
    m DEPOSIT  +memory    a record begins; all that follows with this number belongs to it
    l DEPOSIT  +socket    its listening socket          u DEPOSIT      it listens no more
    + DEPOSIT SLOT... +connections                      - DEPOSIT SLOT the connection is over
    x DEPOSIT             it ends well: nothing of it is to be kept
    p                     answered by `.`

It runs with `python -I -S`, in a Pod as `python -I -m seawall.drivers.keeper`: only the standard library is here.
Nothing of Seawall is imported here.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import resource
import select
import selectors
import signal
import socket
import struct
import sys
import time

KEEP_S = 120.0
PATIENCE_S = 5.0
"""With a gateway that does not read what it is given."""
MOST = 250
"""Descriptors in one datagram; Linux allows 253."""
SIZE = 8 * (MOST + 2)
NUMBER = struct.Struct("<Q")


class Deposit:
    """What one gateway has handed over under one number."""

    def __init__(self, number: int, seat: str, owner: socket.socket) -> None:
        self.number, self.seat = number, seat
        self.owner: socket.socket | None = owner
        self.until = 0.0
        self.memory = -1
        self.listener = -1
        self.connections: dict[int, int] = {}
        """Slot -> descriptor."""

    def descriptors(self) -> list[int]:
        return [fd for fd in (self.memory, self.listener, *self.connections.values()) if fd >= 0]


class Safe:
    """See the module. One thread, one selector."""

    def __init__(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        before = os.umask(0o177)
        self._door.bind(path)
        os.umask(before)
        self._door.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._seats: dict[socket.socket, str] = {}
        self._deposits: dict[int, Deposit] = {}

    def run(self, lifeline: int | None) -> None:
        """Until whoever holds the other end of `lifeline` is gone, and no gateway is left. None: for ever."""
        wanted = True
        if lifeline is not None:
            self._selector.register(lifeline, selectors.EVENT_READ)
        while wanted or self._seats or self._deposits:
            for key, _ in self._selector.select(1.0 if self._orphans() else None):
                if key.fileobj is self._door:
                    gateway, _ = self._door.accept()
                    gateway.settimeout(PATIENCE_S)
                    self._seats[gateway] = ""
                    self._selector.register(gateway, selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket):
                    self._hear(key.fileobj)
                elif not os.read(key.fd, 1):
                    self._selector.unregister(key.fd)
                    wanted = False
            for deposit in self._orphans():
                if time.monotonic() > deposit.until:
                    self._drop(deposit)

    def _orphans(self) -> list[Deposit]:
        return [h for h in self._deposits.values() if h.owner is None]

    def _hear(self, gateway: socket.socket) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(gateway, SIZE, MOST)
        except OSError:
            data, fds = b"", []
        if not data:
            self._lost(gateway)
            return
        kind, numbers = data[:1], [n for (n,) in NUMBER.iter_unpack(data[1 : 1 + (len(data) - 1) // 8 * 8])]
        if kind == b"h":
            seat = data[1:].decode(errors="replace")
            for other in [g for g, s in self._seats.items() if s == seat]:
                while other in self._seats and select.select([other], [], [], 0)[0]:
                    self._hear(other)  # who said hello may know of a death that is still to be heard here
            self._seats[gateway] = seat
            for deposit in self._orphans():
                if deposit.seat == seat:
                    self._give(deposit, gateway)
        if kind in (b"h", b"p"):
            self._send(gateway, b".")
        elif kind == b"m" and numbers and fds:
            deposit = self._deposits.setdefault(
                numbers[0], Deposit(numbers[0], self._seats[gateway], gateway)
            )
            deposit.owner, (deposit.memory, *fds) = gateway, fds
        elif numbers and numbers[0] in self._deposits:
            fds = self._obey(kind, self._deposits[numbers[0]], numbers[1:], fds)
        close(fds)

    def _obey(self, kind: bytes, deposit: Deposit, slots: list[int], fds: list[int]) -> list[int]:
        """Acts on what is said of a deposit. Returns descriptors that are of no use."""
        gone: list[int] = []
        if kind == b"+":
            gone, fds = fds[len(slots) :], fds[: len(slots)]
            for slot, fd in zip(slots, fds, strict=False):
                gone.append(deposit.connections.pop(slot, -1))
                deposit.connections[slot] = fd
            return gone
        if kind == b"l" and fds:
            gone, deposit.listener = [deposit.listener, *fds[1:]], fds[0]
            return gone
        if kind == b"u":
            gone, deposit.listener = [deposit.listener], -1
        elif kind == b"-":
            gone = [deposit.connections.pop(slot, -1) for slot in slots]
        elif kind == b"x":
            self._drop(deposit)
        return gone + fds

    def _lost(self, gateway: socket.socket) -> None:
        """A gateway's socket has ended: another of its seat gets what it had, now or later."""
        seat = self._seats.pop(gateway)
        self._selector.unregister(gateway)
        gateway.close()
        heir = next((g for g, s in self._seats.items() if s == seat and s), None)
        for deposit in [h for h in self._deposits.values() if h.owner is gateway]:
            deposit.owner, deposit.until = None, time.monotonic() + KEEP_S
            if heir is not None:
                self._give(deposit, heir)

    def _give(self, deposit: Deposit, gateway: socket.socket) -> None:
        """Duplicates for a new owner: the deposit stays here, too, until that says otherwise."""
        number = NUMBER.pack(deposit.number)
        self._send(gateway, b"m" + number, deposit.memory)
        if deposit.listener >= 0:
            self._send(gateway, b"l" + number, deposit.listener)
        slots = list(deposit.connections)
        for at in range(0, len(slots), MOST):
            some = slots[at : at + MOST]
            self._send(
                gateway,
                b"+" + number + b"".join(map(NUMBER.pack, some)),
                *[deposit.connections[s] for s in some],
            )
        self._send(gateway, b"." + number)
        deposit.owner = gateway

    def _send(self, gateway: socket.socket, data: bytes, *fds: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                gateway.sendmsg([data], rights)
                return
            except OSError as e:
                if e.errno != errno.ETOOMANYREFS:  # so many are on their way that it must read first
                    return  # it has died: its socket's end says so, too
                time.sleep(0.005)

    def _drop(self, deposit: Deposit) -> None:
        """Ends what nobody wants: a connection is ended by a shutdown, for its gateway may hold it, too."""
        del self._deposits[deposit.number]
        for fd in deposit.connections.values() if deposit.owner is None else ():
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
                connection.shutdown(socket.SHUT_RDWR)
        close(deposit.descriptors())


def close(fds: list[int]) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def answers(path: str) -> bool:
    """A keeper listens at that path, and does its work."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.settimeout(PATIENCE_S)
        try:
            asking.connect(path)
            asking.send(b"p")
            return asking.recv(1) == b"."
        except OSError:
            return False


def main() -> None:
    """PATH [--lifeline]: with it, it ends after its standard input has, and the last gateway."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # In a container it is process 1, which a signal without a handler does not end: its Pod would wait to kill it.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    keeper = Safe(sys.argv[1])
    keeper.run(0 if "--lifeline" in sys.argv else None)


if __name__ == "__main__":
    main()
