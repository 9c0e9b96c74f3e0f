"""Parts of bench/gateway.py: a replica cheaper than any proxy, and the client that loads proxies. Not a benchmark
itself: `python bench/gateway_load.py upstream` serves canned vLLM answers on a free port, which it prints."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from typing import ClassVar

import uvloop

CHUNKS = int(os.environ.get("CHUNKS", "100"))
PACE_S = 0.02
CREATED = 1_760_000_000
JSON_BODY = json.dumps(
    {
        "id": "cmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": CREATED,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hello " * 8}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 20, "total_tokens": 36, "completion_tokens": 16},
    },
    separators=(",", ":"),
).encode()
JSON_ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: %d\r\n"
    b"content-type: application/json\r\n\r\n" % len(JSON_BODY)
) + JSON_BODY
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(i: int, ids: bool) -> bytes:
    """One chunk as vLLM writes it, about 250 bytes."""
    last = i == CHUNKS - 1
    delta = {"role": "assistant", "content": ""} if i == 0 else {"content": f" token{i:04d}"}
    choice: dict[str, object] = {
        "index": 0,
        "delta": delta,
        "logprobs": None,
        "finish_reason": "stop" if last else None,
    }
    if last:
        choice["stop_reason"] = None
    choice["token_ids"] = [1000 + i] if ids and i else None
    doc = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "m",
        "choices": [choice],
    }
    if i == 0:
        doc["prompt_token_ids"] = list(range(20)) if ids else None
    return framed(b"data: " + json.dumps(doc, separators=(",", ":")).encode() + b"\n\n")


EVENTS = {ids: [event(i, ids) for i in range(CHUNKS)] for ids in (False, True)}
BLOCK = b"".join(EVENTS[True][1:-1])
FLOOD = 800
"""Blocks of a flood: 20 MB."""
END = framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """Answers canned JSON at once, or a canned stream at a fixed pace. One shared ticker paces all streams."""

    streams: ClassVar[set[Upstream]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.held = b""
        self.at = 0
        self.ids = False
        self.flood = 0
        self.full = False

    def connection_lost(self, exc: Exception | None) -> None:
        Upstream.streams.discard(self)

    def data_received(self, data: bytes) -> None:
        self.held = self.held + data if self.held else data
        top = self.held.find(b"\r\n\r\n")
        if top < 0:
            return
        head = self.held[:top].lower()
        at = head.find(b"content-length: ")
        need = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if at < 0 and b"chunked" in head:
            if not self.held.endswith(b"0\r\n\r\n"):
                return
        elif len(self.held) < top + 4 + need:
            return
        body, self.held = self.held[top + 4 :], b""
        if not body or head.startswith(b"get"):
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        elif b'"user":"flood"' in body:
            self.transport.write(STREAM_HEAD)
            self.flood = FLOOD
            self.pour()
        elif b'"stream":true' in body or b'"stream": true' in body:
            self.at, self.ids = 0, b"return_token_ids" in body
            self.transport.write(STREAM_HEAD)
            Upstream.streams.add(self)
        else:
            self.transport.write(JSON_ANSWER)

    def pour(self) -> None:
        """A flood: as fast as the reader takes it."""
        while self.flood and not self.full:
            self.flood -= 1
            self.transport.write(BLOCK)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.pour()


async def tick() -> None:
    due = time.monotonic()
    while True:
        due += PACE_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        for s in list(Upstream.streams):
            if s.at < CHUNKS:
                s.transport.write(EVENTS[s.ids][s.at])
                s.at += 1
            else:
                s.transport.write(END)
                Upstream.streams.discard(s)


async def upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await tick()


class Caller(asyncio.Protocol):
    """One keep-alive connection that sends a request, reads to the end of its answer, and tells."""

    def __init__(self) -> None:
        self.done: asyncio.Future[bool] | None = None
        self.chunks = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # typed as the base class

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(False)

    def data_received(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-4096:] if self.need is None else self.tail
        if self.need is None:
            top = self.tail.find(b"\r\n\r\n")
            if not self.stream and top >= 0:
                head = self.tail[:top].lower()
                at = head.find(b"content-length: ")
                self.ok = head.startswith(b"http/1.1 200")
                if at >= 0:
                    self.need = top + 4 + int(head[at + 16 :].split(b"\r\n", 1)[0])
        self.got += len(data)
        if self.stream:
            self.chunks += data.count(b"data: {")
        ended = self.tail.endswith(b"\r\n0\r\n\r\n") if self.need is None else self.got >= self.need
        if ended and self.done is not None and not self.done.done():
            self.done.set_result(b"[DONE]" in self.tail if self.stream else self.ok)

    async def ask(self, request: bytes, stream: bool) -> bool:
        self.tail, self.got, self.need, self.stream, self.ok = b"", 0, None, stream, True
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.done


def request(port: int, stream: bool, size: int = 300) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * (size - 100)}], "max_tokens": CHUNKS}
    if stream:
        body["stream"] = True
    data = json.dumps(body, separators=(",", ":")).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nuser-agent: bench\r\n"
        f"accept: */*\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode() + data


async def callers(port: int, n: int) -> list[Caller]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Caller, "127.0.0.1", port))[1] for _ in range(n)]


async def json_load(port: int, seconds: float, connections: int = 16) -> tuple[int, int]:
    """Closed loop -> (answered, failed)."""
    ask, until = request(port, False), time.monotonic() + seconds
    done = failed = 0

    async def one(c: Caller) -> None:
        nonlocal done, failed
        while time.monotonic() < until:
            if await c.ask(ask, False):
                done += 1
            else:
                failed += 1
                return

    conns = await callers(port, connections)
    await asyncio.gather(*(one(c) for c in conns))
    for c in conns:
        c.transport.close()
    return done, failed


async def stream_load(port: int, streams: int, rounds: int = 1) -> tuple[int, int]:
    """`streams` streams at once -> (chunks received, streams that were not whole)."""
    conns = await callers(port, streams)
    ask = request(port, True)
    lost = 0
    for _ in range(rounds):
        lost += (await asyncio.gather(*(c.ask(ask, True) for c in conns))).count(False)
    for c in conns:
        c.transport.close()
    return sum(c.chunks for c in conns), lost


async def deaf(port: int, clients: int, seconds: float) -> list[Caller]:
    """So many clients ask for 20 MB each and read nothing for so long."""
    conns = await callers(port, clients)
    body = request(port, True).replace(b'"stream":true', b'"stream":true,"user":"flood"')
    size = len(body.partition(b"\r\n\r\n")[2])
    head, _, rest = body.partition(b"content-length: ")
    for c in conns:
        c.transport.pause_reading()
        c.transport.write(head + b"content-length: %d\r\n" % size + rest.partition(b"\r\n")[2])
    await asyncio.sleep(seconds)
    return conns


async def latencies(port: int, seconds: float, rate: float = 200.0) -> list[float]:
    """Open loop -> seconds per request, measured from when each was due."""
    ask, out = request(port, False), []
    free = await callers(port, 8)

    async def one(c: Caller, due: float) -> None:
        if await c.ask(ask, False):
            out.append(time.monotonic() - due)
        free.append(c)

    due, n = time.monotonic() + 0.05, int(seconds * rate)
    tasks = []
    for _ in range(n):
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if not free:
            free += await callers(port, 1)
        tasks.append(asyncio.ensure_future(one(free.pop(), time.monotonic())))
    await asyncio.gather(*tasks)
    for c in free:
        c.transport.close()
    return out


def quantile(values: list[float], q: float) -> float:
    return statistics.quantiles(values, n=1000, method="inclusive")[min(998, int(q * 1000) - 1)]


if __name__ == "__main__":
    if sys.argv[1:] != ["upstream"]:
        sys.exit("This is a part of bench/gateway.py; run that.")
    uvloop.run(upstream())
