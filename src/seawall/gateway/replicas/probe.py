"""Evicted replicas are asked for one real token; only that brings them back.

`/health` is no evidence (it says 200 while the engine hangs). First try at once, then with growing pauses up
to MAX_PAUSE_S, until discovery takes the replica away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from seawall.decide.route.pick import Target
from seawall.gateway.replicas.upstream import Pool, Upstream

log = logging.getLogger("seawall.gateway.replicas.probe")
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 2.0
TIMEOUT_S = 10.0
MAX_ANSWER = 2**20
EXTRA = b"content-type: application/json\r\n"


class _Asked:
    """A `upstream.User` that waits for one whole answer."""

    def __init__(self, request: bytes, answer: asyncio.Future[tuple[int, bytes]]) -> None:
        self._request = request
        self._answer = answer
        self._body: list[bytes] = []
        self._status = 0
        self._size = 0
        self.conn: Upstream | None = None

    def connected(self, conn: Upstream) -> None:
        self.conn = conn
        if self._answer.done():
            conn.abort()
            return
        conn.send(self, self._request)

    def connect_failed(self, reason: str) -> None:
        self._end((0, reason.encode()))

    def on_head(self, conn: Upstream) -> None:
        self._status = conn.status

    def on_body(self, parts: list[bytes], complete: bool) -> None:
        if self._size <= MAX_ANSWER:
            self._body += parts
            self._size += sum(map(len, parts))
        if complete:
            self.conn = None
            self._end((self._status, b"".join(self._body)))

    def on_lost(self, reason: str, answered: bool) -> None:
        self.conn = None
        self._end((0, reason.encode()))

    def _end(self, result: tuple[int, bytes]) -> None:
        if not self._answer.done():
            self._answer.set_result(result)


async def ask(
    pool: Pool, path: bytes, body: bytes, timeout_s: float = TIMEOUT_S, method: bytes = b"POST"
) -> tuple[int, bytes]:
    """One request on a fresh connection -> (status, body, at most 1 MiB); status 0: no answer in time."""
    answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    asked = _Asked(pool.request(path, body, EXTRA, method), answer)
    task = pool.connect(asked)
    try:
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError:
        return 0, b"no answer"
    finally:
        task.cancel()
        if asked.conn is not None:
            asked.conn.detach()


async def serves(pool: Pool, model: str) -> bool:
    """Whether one token (or, from a model that has none to give, one embedding) comes back."""
    body = msgspec.json.encode({"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0})
    status, answer = await ask(pool, b"/v1/completions", body)
    if status == 200:
        return b'"choices"' in answer and b'"finish_reason":"abort"' not in answer
    if status in (400, 404):
        body = msgspec.json.encode({"model": model, "input": "a"})
        status, answer = await ask(pool, b"/v1/embeddings", body)
        return status == 200
    return False


async def healthy(pool: Pool, model: str) -> bool:
    """What a proof puts in the place of `serves`, to show what that is good for: /health says 200."""
    status, _ = await ask(pool, b"/health", b"", method=b"GET")
    return status == 200


class Probed(Protocol):
    """The part of a fleet (`exchange.lane.FleetLane`) that its replicas' proofs need."""

    name: str

    @property
    def model(self) -> str:
        """A name that its engines serve."""

    def pool(self, target: Target) -> Pool: ...

    def probing(self, target: Target) -> bool:
        """It is asked for a proof now. False: there is nothing to prove any more."""

    def proven(self, target: Target) -> bool: ...


class Prober:
    """Keeps one probing task per evicted replica. `proof` says whether it serves again."""

    def __init__(self, proof: Callable[[Pool, str], Awaitable[bool]] = serves) -> None:
        self._proof = proof
        self._tasks: dict[Target, asyncio.Task[None]] = {}

    def evicted(self, fleet: Probed, target: Target) -> None:
        log.warning("%s: evicted %s: %s", fleet.name, target.name, target.reason)
        if target not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._probe(fleet, target))
            self._tasks[target] = task
            task.add_done_callback(lambda _: self._tasks.pop(target, None))

    async def _probe(self, fleet: Probed, target: Target) -> None:
        pause = FIRST_PAUSE_S
        while fleet.probing(target):
            if await self._proof(fleet.pool(target), fleet.model):
                if fleet.proven(target):
                    log.warning("%s: %s gave a token: back in service", fleet.name, target.name)
                return
            await asyncio.sleep(pause)
            pause = min(MAX_PAUSE_S, pause * 1.6)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
