"""Asks of ours at a replica, beside the clients': one real token, and the page of its metrics.

`/health` is no evidence: it says 200 while the engine hangs.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from seawall.engines.vllm.load import EngineLoad, parse_load
from seawall.gateway.replicas.upstream import Pool, Upstream

TIMEOUT_S = 10.0
METRICS_S = 5.0
MAX_ANSWER = 2**20
MAX_METRICS = 4 * 2**20
SILENCE = b"no answer"
EXTRA = b"content-type: application/json\r\n"


class _OneAnswer:
    """A `upstream.User` that waits for one whole answer."""

    def __init__(self, request: bytes, answer: asyncio.Future[tuple[int, bytes]], most: int) -> None:
        self._request = request
        self._most = most
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
        if self._size <= self._most:
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
    pool: Pool,
    path: bytes,
    body: bytes,
    timeout_s: float = TIMEOUT_S,
    method: bytes = b"POST",
    most: int = MAX_ANSWER,
) -> tuple[int, bytes]:
    """One request on a fresh connection -> (status, body, at most `most` bytes); status 0: no answer in time."""
    answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    asked = _OneAnswer(pool.request(path, body, EXTRA, method), answer, most)
    task = pool.connect(asked)
    try:
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError:
        return 0, SILENCE
    finally:
        task.cancel()
        if asked.conn is not None:
            asked.conn.detach()


async def serves(pool: Pool, model: str, timeout_s: float = TIMEOUT_S) -> str:
    """Whether one token (or, from a model that has none to give, one embedding) comes back: empty, else what came."""
    body = msgspec.json.encode({"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0})
    status, answer = await ask(pool, b"/v1/completions", body, timeout_s)
    if status in (400, 404):
        body = msgspec.json.encode({"model": model, "input": "a"})
        status, answer = await ask(pool, b"/v1/embeddings", body, timeout_s)
        if status == 200:
            return ""
    elif status == 200 and b'"choices"' in answer and b'"finish_reason":"abort"' not in answer:
        return ""
    return answer.decode("utf-8", "replace")[:200] if status == 0 else f"answered {status}"


async def healthy(pool: Pool, model: str, timeout_s: float = TIMEOUT_S) -> str:
    """What a proof puts in the place of `serves`, to show what that is good for: /health says 200."""
    status, _ = await ask(pool, b"/health", b"", timeout_s, b"GET")
    return "" if status == 200 else f"answered {status}"


class MetricsAnswer(NamedTuple):
    """What came of a question for its metrics."""

    load: EngineLoad | None
    """None: they did not come, or were none."""
    deaf: bool
    """Nothing came in time."""


async def metrics(pool: Pool, timeout_s: float = METRICS_S) -> MetricsAnswer:
    """What its metrics say."""
    status, page = await ask(pool, b"/metrics", b"", timeout_s, b"GET", MAX_METRICS)
    if status == 200:
        return MetricsAnswer(parse_load(page.decode("utf-8", "replace")), False)
    return MetricsAnswer(None, status == 0 and page == SILENCE)
