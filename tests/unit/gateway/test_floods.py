"""What floods of HTTP/2 frames do to the loop and to an innocent. Who floods is a process of its own."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.within import within

from .turns import turns

TURN_S = 0.05
"""The longest turn of a loop that one client may cause (promised to everybody else)."""
HEAD = b"\x83\x86\x44\x0f/v1/completions\x41\x01g"
"""POST, http, /v1/completions, of g: literals without Huffman (RFC 7541)."""


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">BHBBL", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def streams(make: Callable[[int], bytes]) -> bytes:
    return b"".join(make(id) for id in range(1, 8001, 2))


def small_headers(n: int) -> bytes:
    return b"".join(b"\x00\x04k%03d\x01v" % i for i in range(n))


def indexed(n: int, size: int) -> bytes:
    """One entry of the table, then so many bytes that each stand for it."""
    return b"\x40\x01x" + b"\x7f" + varint(size - 127) + b"a" * size + b"\xbe" * n


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


BEGUN = frame(1, 4, 1, HEAD)
FLOODS = {
    "rapid resets": streams(lambda id: frame(1, 5, id, HEAD) + frame(3, 0, id, b"\0\0\0\x08")),
    "pieces of a head": frame(1, 0, 1, HEAD) + frame(9, 0, 1, b"\x00\x01a\x01b" * 2000) * 200,
    "empty pieces of a head": frame(1, 0, 1, HEAD) + frame(9, 0, 1) * 20_000,
    "settings": frame(4, 0, 0, struct.pack(">HL", 4, 70_000) * 2700) * 60,
    "tables that change": frame(4, 0, 0, (struct.pack(">HL", 1, 0) + struct.pack(">HL", 1, 4096)) * 1300)
    * 60,
    "pings": frame(6, 0, 0, b"12345678") * 40_000,
    "empty data": BEGUN + frame(0, 0, 1) * 40_000,
    "windows of a byte": BEGUN + frame(8, 0, 1, b"\0\0\0\1") * 40_000,
    "priorities": frame(2, 0, 7, b"\0\0\0\0\1") * 40_000,
    "many small headers": streams(lambda id: frame(1, 5, id, HEAD + small_headers(95))),
    "heads beyond the number": streams(lambda id: frame(1, 5, id, HEAD + small_headers(1900)))[: 8 << 20],
    "bombs of compressed headers": streams(lambda id: frame(1, 5, id, HEAD + indexed(12_000, 3900)))[
        : 8 << 20
    ],
    "churn of the table": streams(
        lambda id: frame(
            1, 5, id, HEAD + b"".join(b"\x40\x02%c%c\x01v" % (97 + i % 26, 97 + i // 26) for i in range(95))
        )
    ),
}
FLOODER = """
import socket, sys, time
data = sys.stdin.buffer.read()
began, rounds = time.monotonic(), 0
while time.monotonic() - began < float(sys.argv[2]):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
        try:
            s.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + b"\\0\\0\\0\\4\\0\\0\\0\\0\\0")
            s.sendall(data)
            s.settimeout(1)
            while s.recv(65536):
                pass
        except OSError:
            pass
    rounds += 1
print(rounds, flush=True)
"""
"""Connects, floods until it is thrown out, and comes again."""
FOR_S = 1.5


async def asked(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
    answer = await within(reader.read(), 20)
    writer.close()
    return answer


@pytest.mark.parametrize("name", FLOODS)
async def test_no_flood_holds_the_loop(name: str, start: Any, engine: Any) -> None:
    """Turns are counted in the loop's own time on a core: neither a busy machine nor the flooder is in them."""
    gateway = await start(engine)
    flooder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FLOODER, str(gateway.port), str(FOR_S),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert flooder.stdin is not None
    flooder.stdin.write(FLOODS[name])
    await flooder.stdin.drain()
    flooder.stdin.close()
    async with turns() as loop:
        telling = asyncio.ensure_future(flooder.stdout.read())  # type: ignore[union-attr]  # it is a pipe
        while not telling.done():
            assert (await asked(gateway.port)).startswith(b"HTTP/1.1 200"), "an innocent is served meanwhile"
    assert int(await within(telling, 30)) >= 1 and await within(flooder.wait(), 30) == 0
    assert loop.longest < TURN_S, f"{loop.longest * 1000:.0f} ms"
    assert gateway.server.app.fleets["m"].stats.admitted <= 1
