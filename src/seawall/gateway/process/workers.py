"""Several gateway processes behind one port (SO_REUSEPORT), one parent that keeps them alive and sums them up.

The parent relays nothing but audit lines. It starts the workers, restarts one that dies until it serves again, passes
signals on, and serves the admin port: metrics and states of all workers, added, with what dead ones had counted. A
worker whose parent is gone drains and ends (`Settings.parent`): nobody would watch it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import httpx2

from seawall.console.assets import ROOT
from seawall.console.serve import parsed
from seawall.decide.route.refusal import Refusal
from seawall.domain.told import GatewayState, encoded, ended, grown, merged, read
from seawall.drivers import keeper
from seawall.gateway.edge.host import rebound
from seawall.gateway.process.admin import FOREIGN_HOST, PROBES
from seawall.gateway.process.board import Board
from seawall.gateway.process.sockets import bind
from seawall.gateway.process.sums import add_metrics, counters_of, since_of
from seawall.gateway.process.workers_console import WorkersConsole
from seawall.gateway.wire import JSON, error_body, head

log = logging.getLogger("seawall.gateway.process.workers")
START_S = 60.0
BACK_OFF_S = 1.0
MAX_BACK_OFF_S = 30.0
KEEPER_AGAIN_S = 0.05
LOOK_S = 5.0
"""Workers' counts are fetched so often: what a dead one counted since then is lost."""
ASK_S = 5.0
MAX_LINE = 1 << 20
STATE, EVERYTHING = "/debug/state", "/debug/console"
NOT_STARTED = (OSError, ChildProcessError, TimeoutError)


class Worker:
    """One child process."""

    def __init__(self, index: int, argv: Sequence[str]) -> None:
        self.index = index
        self.argv = argv
        self.admin = ""
        self.process: asyncio.subprocess.Process | None = None
        self.page = ""
        """Its metrics when they were last told."""
        self.state = GatewayState()
        self.buried: tuple[str, GatewayState] | None = None
        """Of the one before: since when it had counted, and its last words. `page` has its counters meanwhile."""

    async def start(self, before_it_counts: Callable[[str], Awaitable[None]] | None = None) -> None:
        """Returns when it serves. One of NOT_STARTED when it does not; then nothing of it is left. `before_it_counts`:
        gets its admin address."""
        mark = {"SEAWALL_GATEWAY_WORKER": str(self.index), "SEAWALL_GATEWAY_PARENT": str(os.getpid())}
        self.process = p = await asyncio.create_subprocess_exec(
            *self.argv, stdout=asyncio.subprocess.PIPE, env={**os.environ, **mark}
        )
        assert p.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                line = (await p.stdout.readline()).decode()
            if "admin" not in line:
                raise ChildProcessError(f"it ended with {await p.wait()}")
            if before_it_counts is not None:
                await before_it_counts(line.split()[-1])
        except BaseException:
            self.send(signal.SIGKILL)
            raise
        self.admin = line.split()[-1]

    def send(self, sig: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(sig)


async def keep_keeper(path: Path) -> None:
    """Runs a keeper at a socket, and another one when it dies. Cancelled, it leaves none."""
    argv = [sys.executable, "-I", "-S", str(keeper.__file__), str(path), "--lifeline"]
    while True:
        path.unlink(missing_ok=True)
        child = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        try:
            code = await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
        log.error("the keeper ended with %d: another one gets all connections", code)
        await asyncio.sleep(KEEPER_AGAIN_S)


class Parent:
    """Runs `count` workers until a signal; returns the exit code."""

    def __init__(
        self,
        count: int,
        argv: Sequence[str],
        admin: str,
        ready: Callable[[str], None],
        board: Path,
        keeper: Path | None = None,
    ) -> None:
        """`keeper`: where one is to listen that holds what workers would lose with their lives."""
        self._board = board
        self._keeper = keeper
        self._workers = [Worker(i, argv) for i in range(count)]
        self._admin = admin
        self._ready = ready
        self._stop = asyncio.Event()
        self._printing = asyncio.Lock()
        self._unprinted = 0
        """Lines of workers that standard output did not take."""
        self._past_page = ""
        self._past_state = GatewayState()
        self._console = WorkersConsole(self._admins, self._everything)

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        listening = bind(self._admin, "the admin port")
        held = loop.create_task(keep_keeper(self._keeper)) if self._keeper else None
        try:
            return await self._run(loop, listening)
        finally:
            if held is not None:
                held.cancel()
                await asyncio.gather(held, return_exceptions=True)

    async def _run(self, loop: asyncio.AbstractEventLoop, listening: socket.socket) -> int:
        try:
            await asyncio.gather(*(w.start() for w in self._workers))
        except BaseException:
            for w in self._workers:
                w.send(signal.SIGTERM)
            raise
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(sig, self._pass_on, sig)
        server = await asyncio.start_server(self._serve, sock=listening)
        host, port = server.sockets[0].getsockname()[:2]
        self._ready(f"http://{host}:{port}")
        async with asyncio.TaskGroup() as group:
            looks = [
                group.create_task(self._look_at_counts()),
                group.create_task(self._console.run()),
            ]
            codes = await asyncio.gather(*(self._keep(w) for w in self._workers))
            for look in looks:
                look.cancel()
        server.close()
        return max(codes)

    def _pass_on(self, sig: signal.Signals) -> None:
        if sig != signal.SIGHUP:
            self._stop.set()
        for w in self._workers:
            w.send(sig)

    async def _keep(self, worker: Worker) -> int:
        while True:
            assert worker.process is not None
            code = await self._drained(worker.process)
            if self._stop.is_set():
                return max(0, code)
            log.error("worker %d ended with %d: starting it again", worker.index, code)
            self._bury(worker)
            if not await self._start_again(worker):
                return 0

    async def _start_again(self, worker: Worker) -> bool:
        """Tries until it serves, with growing pauses. False: the gateway is told to stop."""
        pause = BACK_OFF_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()
            if self._stop.is_set():
                return False
            pause = min(MAX_BACK_OFF_S, 2 * pause)
            try:
                await worker.start(partial(self._succeeds, worker))
            except NOT_STARTED as e:
                log.error("worker %d does not start (%s): again in %g s", worker.index, e, pause)
                continue
            if self._stop.is_set():
                worker.send(signal.SIGTERM)
            return True

    def _bury(self, worker: Worker) -> None:
        """It is dead: it holds nothing any more, and what it has counted stays counted."""
        worker.admin = ""
        try:
            Board(self._board, worker.index, len(self._workers)).close()
        except OSError as e:
            log.error("the workers' board cannot be cleaned (%s): limits are stricter for a while", e)
        if worker.buried is None:
            worker.buried = since_of(worker.page), worker.state
        worker.page, worker.state = counters_of(worker.page), ended(worker.state, goes_on=True)

    async def _succeeds(self, worker: Worker, admin: str) -> None:
        """Another one is about to count in its place: with what the dead one had counted (its keeper gave it that), or
        from zero; then that stays counted here."""
        page, state = "", GatewayState()
        async with httpx2.AsyncClient(timeout=ASK_S, trust_env=False) as client:
            with contextlib.suppress(httpx2.HTTPError, ValueError):
                page = (await client.get(admin + "/metrics")).text
                state = read((await client.get(admin + STATE)).json())
        since, last = worker.buried or ("", GatewayState())
        if not since or since_of(page) != since:
            self._past_page = add_metrics([self._past_page, worker.page])
            self._past_state = merged([self._past_state, ended(last)])
        worker.page, worker.state, worker.buried = page, state, None

    async def _drained(self, p: asyncio.subprocess.Process) -> int:
        """Passes the worker's standard output (audit lines) on until it ends, whole lines at a time: those of several
        workers must not end up within each other."""
        assert p.stdout is not None
        held = b""
        while data := await p.stdout.read(65536):
            held += data
            end = held.rfind(b"\n") + 1 or (len(held) if len(held) > MAX_LINE else 0)
            if end:
                lines, held = held[:end], held[end:]
                await self._print(lines)
        return await p.wait()

    async def _print(self, lines: bytes) -> None:
        async with self._printing:
            try:
                await asyncio.to_thread(_write_out, lines)
            except OSError as e:
                if not self._unprinted:
                    log.error("standard output takes no audit lines (%s): they are lost", e.strerror)
                self._unprinted += lines.count(b"\n")

    # -- the admin port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(2 * ASK_S):
                top = await reader.readuntil(b"\r\n\r\n")
                path = top.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1")
            peer = writer.get_extra_info("peername") or ("",)
            if path.encode() not in PROBES and rebound(parsed(top).headers.get("host", ""), peer[0]):
                writer.write(refused(FOREIGN_HOST))
                return
            if path == ROOT or path.startswith(ROOT + "/"):
                await self._console.serve(top, reader, writer)
                return
            async with asyncio.timeout(2 * ASK_S):
                status, kind, body = await self._answer(path)
                writer.write(
                    f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
                    "connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (TimeoutError, OSError, IndexError, ValueError, asyncio.IncompleteReadError,
                asyncio.LimitOverrunError):  # fmt: skip
            pass
        finally:
            writer.close()

    async def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            await self._fetch(path)
            pages = [w.page for w in self._workers if w.page]
            page = add_metrics([*pages, self._past_page])
            return (200, "text/plain; version=0.0.4", page.encode()) if pages else NOBODY
        if path in (STATE, EVERYTHING):
            answers = await self._fetch(path)
            now = self._state()
            return (200, "application/json", encoded(now)) if answers else NOBODY
        if path not in ("/healthz", "/readyz"):
            return 404, "text/plain", b"Known: /healthz /readyz /metrics /debug/state /console\n"
        answers = await self._fetch(path)
        if not answers:
            return NOBODY
        worst = max(answers, key=lambda a: a.status_code)
        return worst.status_code, "text/plain", worst.content

    async def _fetch(self, path: str) -> list[httpx2.Response]:
        """What the workers answer. One that does not answer now keeps what it told last, so that no sum falls."""
        async with httpx2.AsyncClient(timeout=ASK_S, trust_env=False) as client:
            asked = [(w, w.admin) for w in self._workers if w.admin]
            got = await asyncio.gather(*(client.get(a + path) for _, a in asked), return_exceptions=True)
        answers = []
        for (worker, admin), answer in zip(asked, got, strict=True):
            if not isinstance(answer, httpx2.Response):
                continue
            answers.append(answer)
            if worker.admin != admin or answer.status_code != 200:
                continue
            if path == "/metrics":
                worker.page = answer.text
            elif path in (STATE, EVERYTHING):
                worker.state = read(answer.json())
        return answers

    def _admins(self) -> list[str]:
        return [w.admin for w in self._workers if w.admin]

    async def _everything(self) -> GatewayState:
        """What all workers tell now, and dead ones have told."""
        await self._fetch(EVERYTHING)
        return self._state()

    def _state(self) -> GatewayState:
        """What those that serve told last, and the totals of the dead."""
        past = merged([self._past_state, *(w.state for w in self._workers if not w.admin)])
        return grown(merged(w.state for w in self._workers if w.admin), past)

    async def _look_at_counts(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._fetch("/metrics")
            await self._fetch(STATE)


def refused(refusal: Refusal) -> bytes:
    """A whole answer that says so, on a connection that ends with it."""
    body = error_body(refusal)
    return head(refusal.status, JSON, len(body), date=b"", close=True) + body


NOBODY = (503, "text/plain", b"no worker answers\n")


def _write_out(lines: bytes) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()


def run_workers(
    count: int,
    arguments: Sequence[str],
    listen: str,
    admin: str,
    ready: Callable[[str, str], None],
    keeps: bool = True,
) -> int:
    """Runs `seawall ARGUMENTS` `count` times on one address, to the end. Returns the exit code. `keeps`: with a keeper
    of their own."""
    import tempfile

    import uvloop

    with tempfile.TemporaryDirectory(prefix="seawall-gateway-") as folder:
        with bind(listen, "clients") as reserved:
            host, port = reserved.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        board = Path(folder) / "board"
        own = ["--listen", address, "--admin", "127.0.0.1:0", "--board", str(board)]
        socket_at = Path(folder) / "keeper" if keeps else None
        own += ["--keeper", str(socket_at)] if socket_at else []
        argv = [sys.executable, "-m", "seawall", *arguments, *own]
        parent = Parent(count, argv, admin, lambda url: ready(f"http://{address}", url), board, socket_at)
        try:
            return uvloop.run(parent.run())
        except NOT_STARTED as e:
            log.error("the workers did not start: %s", e)
            return 3
