"""Several gateway processes behind one port (SO_REUSEPORT), one parent that keeps them alive and sums them up.

The parent relays nothing. It starts the workers, restarts one that dies, passes signals on, and serves the
admin port: metrics and states of all workers, added.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from seawall.domain.labels import BUILD_INFO, PREFIX_ERROR, REPLICA_UP
from seawall.domain.told import encoded, merged, read
from seawall.gateway.process.board import Board
from seawall.gateway.process.server import bind

log = logging.getLogger("seawall.gateway.process.workers")
START_S = 60.0
BACK_OFF_S = 1.0
MAX_OF = (REPLICA_UP, BUILD_INFO, PREFIX_ERROR)


class Worker:
    """One child process."""

    def __init__(self, index: int, argv: Sequence[str]) -> None:
        self.index = index
        self.argv = argv
        self.admin = ""
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it serves. ChildProcessError when it ends before."""
        self.process = p = await asyncio.create_subprocess_exec(
            *self.argv,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "SEAWALL_GATEWAY_WORKER": str(self.index)},
        )
        assert p.stdout is not None
        async with asyncio.timeout(START_S):
            line = (await p.stdout.readline()).decode()
        if "admin" not in line:
            raise ChildProcessError(f"worker {self.index} ended with {await p.wait()}")
        self.admin = line.split()[-1]


class Parent:
    """Runs `count` workers until a signal; returns the exit code."""

    def __init__(
        self, count: int, argv: Sequence[str], admin: str, ready: Callable[[str], None], board: Path
    ) -> None:
        self._board = board
        self._workers = [Worker(i, argv) for i in range(count)]
        self._admin = admin
        self._ready = ready
        self._stopping = False

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(w.start() for w in self._workers))
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(sig, self._pass_on, sig)
        server = await asyncio.start_server(self._serve, sock=bind(self._admin, "the admin port"))
        host, port = server.sockets[0].getsockname()[:2]
        self._ready(f"http://{host}:{port}")
        codes = await asyncio.gather(*(self._keep(w) for w in self._workers))
        server.close()
        return max(codes)

    def _pass_on(self, sig: signal.Signals) -> None:
        self._stopping = self._stopping or sig != signal.SIGHUP
        for w in self._workers:
            if w.process is not None and w.process.returncode is None:
                w.process.send_signal(sig)

    async def _keep(self, worker: Worker) -> int:
        while True:
            assert worker.process is not None
            code = await self._drained(worker.process)
            if self._stopping:
                return max(0, code)
            log.error("worker %d ended with %d: starting it again", worker.index, code)
            worker.admin = ""
            Board(self._board, worker.index, len(self._workers)).close()  # it holds nothing any more
            await asyncio.sleep(BACK_OFF_S)
            with contextlib.suppress(ChildProcessError, TimeoutError):
                await worker.start()

    @staticmethod
    async def _drained(p: asyncio.subprocess.Process) -> int:
        """Passes the worker's standard output (audit lines) on until it ends."""
        assert p.stdout is not None
        while data := await p.stdout.read(65536):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return await p.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1")
                status, kind, body = await self._answer(path)
                writer.write(
                    f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
                    "connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (TimeoutError, OSError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path not in ("/healthz", "/readyz", "/metrics", "/debug/state"):
            return 404, "text/plain", b"Known: /healthz /readyz /metrics /debug/state\n"
        async with httpx.AsyncClient(timeout=5) as client:
            admins = [w.admin for w in self._workers if w.admin]
            got = await asyncio.gather(*(client.get(a + path) for a in admins), return_exceptions=True)
        answers = [a for a in got if isinstance(a, httpx.Response)]
        if not answers:
            return 503, "text/plain", b"no worker answers\n"
        if path == "/metrics":
            page = add_metrics([a.text for a in answers])
            return 200, "text/plain; version=0.0.4", page.encode()
        if path == "/debug/state":
            return 200, "application/json", encoded(merged(read(a.json()) for a in answers))
        worst = max(answers, key=lambda a: a.status_code)
        return worst.status_code, "text/plain", worst.content


def add_metrics(pages: Sequence[str]) -> str:
    """Adds up Prometheus pages sample by sample; of states the largest counts."""
    order: dict[str, float | None] = {}
    for page in pages:
        for line in page.splitlines():
            if line.startswith("#") or not line:
                order.setdefault(line)
                continue
            name, _, value = line.rpartition(" ")
            old, new = order.get(name), float(value)
            order[name] = new if old is None else max(old, new) if name.startswith(MAX_OF) else old + new
    lines = [k if v is None else f"{k} {int(v) if v == int(v) else v}" for k, v in order.items()]
    return "\n".join(lines) + "\n"


def run_workers(
    count: int, arguments: Sequence[str], listen: str, admin: str, ready: Callable[[str, str], None]
) -> int:
    """Runs `seawall ARGUMENTS` `count` times on one address, to the end. Returns the exit code."""
    import tempfile

    import uvloop

    with tempfile.TemporaryDirectory(prefix="seawall-gateway-") as folder:
        with bind(listen, "clients") as reserved:
            host, port = reserved.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        board = Path(folder) / "board"
        own = ["--listen", address, "--admin", "127.0.0.1:0", "--board", str(board)]
        argv = [sys.executable, "-m", "seawall", *arguments, *own]
        parent = Parent(count, argv, admin, lambda url: ready(f"http://{address}", url), board)
        try:
            return uvloop.run(parent.run())
        except (ChildProcessError, TimeoutError) as e:
            log.error("the workers did not start: %s", e)
            return 3
