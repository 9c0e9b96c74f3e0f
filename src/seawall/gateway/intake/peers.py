"""The processes of one gateway (`--workers`), as one of them knows the others: who answers what comes again.

A connection lands at any process, a record lies in one. So an Idempotency-Key belongs to the process that its hash
says, and a response to the one that its id names; the others pass such requests on, over a Unix socket in the workers'
folder.
"""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import Sink
from seawall.gateway.exchange.forward import Forward
from seawall.gateway.intake.browser import TOLD_BY_BROWSERS
from seawall.gateway.replicas.upstream import Pool

FORWARDED: Final = b"x-seawall-forwarded"
"""The request comes from another process of this gateway: BY_KEY or BY_ID."""
BY_KEY: Final = b"1"
BY_ID: Final = b"2"
"""It goes no further."""
RESPONSE: Final = "resp_"
_OWN: Final = frozenset(
    {b"host", b"content-length", b"content-encoding", b"transfer-encoding", b"expect", b"upgrade", FORWARDED}
    | TOLD_BY_BROWSERS
)
"""Headers of a connection, or of a body that has been decoded, or that have been judged beside their Host."""


def socket_of(folder: Path, worker: int) -> Path:
    """Where a process listens for the others."""
    return folder / f"worker-{worker}.sock"


class Peers:
    """See the module. `folder` None: there is one process."""

    def __init__(
        self,
        folder: Path | None,
        own: int,
        count: int,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
    ) -> None:
        self.own = own
        self.count = count if folder is not None else 1
        self._tasks: set[asyncio.Task[None]] = set()
        self._pools: list[Pool] = []
        if folder is not None:
            self._pools = [
                Pool("http://worker", loop, self._tasks, now=now, socket_path=str(socket_of(folder, i)))
                for i in range(count)
            ]

    def new_id(self) -> str:
        """Of a response that this process keeps: nobody guesses it."""
        return f"{RESPONSE}{self.own:02x}{secrets.token_hex(15)}"

    def of_key(self, key: bytes) -> int:
        return zlib.crc32(key) % self.count

    def of_id(self, id: str) -> int:
        """The process that keeps this response, if any does."""
        try:
            return int(id[len(RESPONSE) : len(RESPONSE) + 2], 16) % self.count
        except ValueError:
            return self.own

    def elsewhere(self, owner: int, request: Request, hop: bytes) -> bool:
        """Whether the request is to be passed on to `owner`: once for its key, and once more for what it follows."""
        return owner != self.own and request.headers.get(FORWARDED, b"") < hop

    def forward(
        self, owner: int, request: Request, sink: Sink, here: Callable[[], None], hop: bytes
    ) -> Forward:
        """The request on its way to its owner. Call `begin`."""
        lines = [b"%b: %b\r\n" % (k, v) for k, v in request.headers.items() if k not in _OWN]
        lines.append(b"%b: %b\r\n" % (FORWARDED, hop))
        if b"x-request-id" not in request.headers:
            lines.append(b"x-request-id: %b\r\n" % request.id)
        pool = self._pools[owner]
        return Forward(
            pool, pool.request(request.url, request.body, b"".join(lines), request.method), sink, here
        )

    def sweep(self, now: float) -> None:
        for pool in self._pools:
            pool.sweep(now)

    def close(self) -> None:
        for pool in self._pools:
            pool.close()
