"""A client and a replica as pipes, without sockets: what a script puts in, what comes out."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterable
from random import Random
from typing import Any

from seawall.config.load import parse_fleets
from seawall.gateway.edge.client_side import Client
from seawall.gateway.intake.app import App
from seawall.gateway.replicas.discovery import static
from seawall.gateway.replicas.upstream import Upstream

SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none, adapters: [{name: lora, source: file:///l}]}
  gateway: {maxBody: 2100, resume: "off", aliases: {gpt-4: m}}
"""


class Pipe:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.out += data

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def set_write_buffer_limits(self, high: int) -> None:
        assert high <= 65536

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_protocol(self, protocol: Any) -> None:
        """Who gets what comes is told by the script."""


class Bench:
    """An application with one replica whose connection is a pipe."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.app = App(loop, Random(1))
        self.app.configure(parse_fleets(SPEC))
        self.app.discovered(static(["http://127.0.0.1:1"], ["m"]))
        self.fleet = self.app.fleets["m"]
        target = next(iter(self.fleet.targets))
        pool = self.fleet.pool(target)
        self.up = Upstream(pool)
        self.up_pipe = Pipe()
        self.up.connection_made(self.up_pipe)  # type: ignore[arg-type]
        pool.put(self.up)
        self.client, self.pipe = self.connect()

    def connect(self) -> tuple[Client, Pipe]:
        client, pipe = Client(self.app, self.app.loop), Pipe()
        client.connection_made(pipe)  # type: ignore[arg-type]
        return client, pipe

    def sent_upstream(self) -> tuple[bytes, Any]:
        top, _, body = bytes(self.up_pipe.out).partition(b"\r\n\r\n")
        return top, json.loads(body)


def with_bench(script: Any) -> Any:
    """Runs a script inside a loop (hypothesis calls it many times)."""

    async def main() -> Any:
        done = script(Bench(asyncio.get_running_loop()))
        return await done if inspect.isawaitable(done) else done

    return asyncio.run(main())


def post(body: bytes, extra: bytes = b"", path: bytes = b"/v1/completions") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: g\r\n%bContent-Length: %d\r\n\r\n%b" % (path, extra, len(body), body)


ASK = b'{"model":"m","prompt":"x","unknown":{"deep":[1,2,{"a":null}]},"max_tokens":5}'
ANSWER = (
    b'{"choices":[{"text":"hi","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
)
JSON_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER
)
