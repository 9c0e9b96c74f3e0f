"""What a request and a chunk cost over HTTP/2 and over HTTP/1.1: the gateway's own CPU, in one process without sockets.

    bench/http2.py [--quick] [--json]

A client and a replica are pipes. Both edges take the same requests in turns, and a ratio is the median of the rounds'
ratios, for a machine's speed drifts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import struct
import time
from collections.abc import Callable
from random import Random
from typing import Any

from hpack.hpack import Encoder

from seawall.gateway import compiled

FORM = "compiled" if compiled.use() else "plain Python"

from seawall.config.load import parse_fleets  # noqa: E402
from seawall.gateway.edge.client_side import Client  # noqa: E402
from seawall.gateway.edge.nowhere import Nowhere  # noqa: E402
from seawall.gateway.intake.app import App  # noqa: E402
from seawall.gateway.replicas.discovery import static  # noqa: E402
from seawall.gateway.replicas.upstream import Upstream  # noqa: E402

SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
"""
ASK = b'{"model":"m","prompt":"hello there","max_tokens":5}'
STREAM = b'{"model":"m","prompt":"hello there","stream":true}'
ANSWER = (
    b'{"choices":[{"text":"hi","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
)
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)
TOP = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
HEADERS = {"content-type": "application/json", "user-agent": "bench", "accept": "*/*"}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Pipe(Nowhere):
    """A connection whose other end is this file."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing waits."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who gets what comes is told by this file."""

    def writelines(self, list_of_data: Any) -> None:
        """Nobody hears it."""


def chunk(event: dict[str, Any] | str) -> bytes:
    data = b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def token(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"id": "x", "model": "m", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}


EVENT = chunk(token(" hello"))
END = chunk(token("", "stop")) + chunk("[DONE]") + b"0\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">BHBBL", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def first(client: Client) -> tuple[Callable[[bytes], None], Callable[[bytes], bytes]]:
    """(what gives the gateway bytes, what makes a request) over HTTP/1.1."""
    lines = "".join(f"{k}: {v}\r\n" for k, v in HEADERS.items())

    def request(body: bytes) -> bytes:
        top = f"POST /v1/completions HTTP/1.1\r\nhost: g\r\n{lines}content-length: {len(body)}\r\n\r\n"
        return top.encode() + body

    return client.data_received, request


def second(client: Client) -> tuple[Callable[[bytes], None], Callable[[bytes], bytes]]:
    """The same over HTTP/2, with windows that never close."""
    windows = frame(4, 0, 0, struct.pack(">HL", 4, 2**31 - 1)) + frame(8, 0, 0, struct.pack(">L", 2**30))
    client.data_received(PREFACE + windows)
    assert client.http2 is not None
    encoder = Encoder()
    stream = -1

    def request(body: bytes) -> bytes:
        nonlocal stream
        stream += 2
        pseudo = {":method": "POST", ":scheme": "http", ":path": "/v1/completions", ":authority": "g"}
        fields = {**pseudo, **HEADERS, "content-length": str(len(body))}
        return frame(1, 4, stream, encoder.encode(fields)) + frame(0, 1, stream, body)

    return client.http2.data_received, request


async def measure(edge: Callable[[Client], Any], count: int) -> tuple[float, float]:
    """-> microseconds of CPU per request, and per chunk of a stream."""
    loop = asyncio.get_running_loop()
    app = App(loop, Random(1))
    app.configure(parse_fleets(SPEC))
    app.discovered(static(["http://127.0.0.1:1"], ["m"]))
    pool = app.fleets["m"].pool(next(iter(app.fleets["m"].targets)))
    up, client = Upstream(pool), Client(app, loop)
    up.connection_made(Pipe())
    pool.put(up)
    client.connection_made(Pipe())
    give, request = edge(client)
    asked, began = [request(ASK) for _ in range(count)], time.process_time()
    for one in asked:
        give(one)
        up.data_received(WHOLE)
        await asyncio.sleep(0)
    per_request = (time.process_time() - began) / count
    give(request(STREAM))
    await asyncio.sleep(0)
    up.data_received(TOP)
    began = time.process_time()
    for _ in range(count):
        up.data_received(EVENT)
    per_chunk = (time.process_time() - began) / count
    up.data_received(END)
    assert app.fleets["m"].stats.finished == count + 1
    return per_request * 1e6, per_chunk * 1e6


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    count, rounds = (1000, 3) if args.quick else (5000, 7)
    taken = [(await measure(first, count), await measure(second, count)) for _ in range(rounds)]
    out = {}
    for n, what in enumerate(("request", "chunk")):
        one = statistics.median(a[n] for a, _ in taken)
        two = statistics.median(b[n] for _, b in taken)
        ratio = statistics.median(b[n] / a[n] for a, b in taken)
        out[what] = {"http1_us": round(one, 2), "http2_us": round(two, 2), "ratio": round(ratio, 2)}
    if args.json:
        print(json.dumps({"form": FORM, **out}))
        return
    print(f"CPU of the gateway without its sockets, {FORM}\n\nper       HTTP/1.1     HTTP/2   ratio")
    for what, row in out.items():
        print(f"{what:8}{row['http1_us']:7.2f} us {row['http2_us']:7.2f} us {row['ratio']:7.2f}")


asyncio.run(main())
