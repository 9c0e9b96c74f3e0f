"""`gateway.memory` is the one bound: whatever clients and engines do at a time, the process stays within it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from seawall.decide.route.room import bound_of

from .processes import Process, ask, gateway_process
from .scripted import JSON_ANSWER

MIB = 2**20
ALLOWED = 128 * MIB
SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  gateway: {resume: "off", memory: 128Mi, maxInFlight: 400, maxBody: 8Mi}
"""
TOP = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = b'{"model":"m","prompt":"x","stream":true}'
DEAF, UPLOADS = 40, 20


def post(body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % size + body


@pytest.fixture
def group() -> Iterator[Path | None]:
    """A control group of no more memory than the Fleet says; None: this user may make none here."""
    made = None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        v1 = "memory" in controllers.split(",")
        root = Path("/sys/fs/cgroup/memory" if v1 else "/sys/fs/cgroup")
        folder = root / path.strip("/") / f"seawall-test-{os.getpid()}"
        if (v1 or not controllers) and made is None:
            with contextlib.suppress(OSError):
                folder.mkdir()
                made = folder
                limit = folder / ("memory.limit_in_bytes" if v1 else "memory.max")
                limit.write_text(str(ALLOWED)) if limit.exists() else None
                if not limit.exists():
                    folder.rmdir()
                    made = None
    yield made
    if made is not None:
        with contextlib.suppress(OSError):
            made.rmdir()


def most_mib(pid: int) -> float:
    """The most memory that it had at a time."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@contextlib.asynccontextmanager
async def deaf(port: int) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Clients who ask for a long stream and read nothing of it."""
    writers = []
    for _ in range(DEAF):
        sock = socket.socket()
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
        )  # else the kernels take megabytes of it first
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        _, writer = await asyncio.open_connection(sock=sock, limit=4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio types it as the base class
        writer.write(post(STREAM))
        writers.append(writer)
    yield writers
    for writer in writers:
        writer.transport.abort()


async def held(gateway: Process) -> int:
    for line in (await gateway.get("/metrics")).decode().splitlines():
        if line.startswith("seawall_memory_held_bytes"):
            return int(float(line.split()[-1]))
    raise AssertionError("no such metric")


class Flood:
    """An engine that says as much as it can, to whoever asks; who asks for no stream gets one answer."""

    def __init__(self, pad: int) -> None:
        event = b'data: {"id":"x","choices":[{"index":0,"text":"%b","finish_reason":null}]}\n\n' % (
            b"y" * pad
        )
        self._blob = b"%x\r\n%b\r\n" % (len(event), event) * max(1, 65_536 // len(event))
        self._server: asyncio.Server
        self._writers: list[asyncio.StreamWriter] = []
        self._said = 0

    async def __aenter__(self) -> Flood:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return self

    @property
    def discovery(self) -> str:
        return f"static:http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stopped(self) -> None:
        """Returns when nobody has taken anything for a while: everything that may be held is."""
        before, quiet = -1, 0
        while quiet < 20:
            await asyncio.sleep(0.05)
            quiet = quiet + 1 if self._said == before else 0
            before = self._said

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            top = await reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"content-length: (\d+)", top)
            body = await reader.readexactly(int(size[1]) if size else 0)
            if b'"stream":true' not in body:
                writer.write(JSON_ANSWER)
                return
            writer.write(TOP)
            while True:
                writer.write(self._blob)
                self._said += 1
                await writer.drain()


@pytest.mark.timeout(600)  # a busy machine takes long to fill it
@pytest.mark.parametrize("pad", [250, 4000], ids=["small events", "large ones"])
async def test_clients_that_do_not_read_and_bodies_that_do_not_end_stay_within_it(
    pad: int, group: Path | None, tmp_path: Path
) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(SPEC)
    shell = f"echo $$ > {group}/cgroup.procs" if group is not None else ":"
    async with Flood(pad) as engine, gateway_process(file, engine.discovery, shell=shell) as gateway:
        async with deaf(gateway.port), asyncio.timeout(500):
            await engine.stopped()
            assert await held(gateway) > bound_of(ALLOWED) * 0.8, "it is full"
            uploads = []
            for _ in range(UPLOADS):
                _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                writer.write(post(b" " * (4 * MIB), 8 * MIB))
                uploads.append(writer)
            status, _, _ = await ask(gateway.port)
            assert status in (200, 503), "it is served, or told to come again"
            for writer in uploads:
                writer.transport.abort()
        assert gateway.child.returncode is None
        used = most_mib(gateway.child.pid)
    assert used <= ALLOWED / MIB, f"{used:.0f} MiB of {ALLOWED / MIB:.0f}"
