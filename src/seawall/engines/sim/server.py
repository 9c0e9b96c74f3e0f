"""The simulated vLLM server: one process, one event loop, one engine.

Life: bind only when loaded (refused before, as vLLM), serve, and on SIGTERM behave as measured: without a
`--shutdown-timeout` streams mostly hang; with one they finish while new requests are answered badly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time

import uvloop

from seawall.domain.action import Timing
from seawall.engines.sim import flags
from seawall.engines.sim.core import SimulatedEngine
from seawall.engines.sim.faults import STREAM_KINDS, Fault, read_fault
from seawall.engines.sim.routes import Routes
from seawall.engines.sim.wire import Connection
from seawall.engines.vllm import environment
from seawall.engines.vllm.phrases import DEAD_MESSAGE


class SimulatedServer(SimulatedEngine):
    """The whole process of one simulated replica: an engine core, its API, its faults and its end."""

    def __init__(self, args: argparse.Namespace, timing: Timing) -> None:
        super().__init__(args, timing)
        self.connections: set[Connection] = set()
        self.stopped = asyncio.Event()
        self.exit_code = 0
        self.server: asyncio.Server | None = None
        self.routes = Routes(self)

    def inject(self, fault: Fault) -> None:
        """`POST /sim/fault`."""
        if fault.kind in STREAM_KINDS:
            if fault.after_tokens is not None:
                self.armed.arm(fault)
                return
            for generation in list(self.live):
                generation.break_(fault)
        elif fault.kind == "clear":
            self._clear()
        elif fault.kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.kind == "engine-dead":
            self.spawn(self._die())
        else:
            self.armed.active[fault.kind] = fault
            if fault.kind in ("hang", "black-hole"):
                self.gauges()
                self.thaw.clear()
            if fault.kind == "refuse":
                self.spawn(self._stop_listening())
                for connection in list(self.connections):
                    connection.leave()
            if fault.seconds is not None:
                asyncio.get_running_loop().call_later(fault.seconds, self._end, fault.kind)

    def _end(self, kind: str) -> None:
        self.armed.active.pop(kind, None)
        if kind in ("hang", "black-hole"):
            self.thaw.set()
        if kind == "refuse":
            self.spawn(self.listen())

    def _clear(self) -> None:
        kinds = list(self.armed.active)
        self.armed.clear()
        for kind in kinds:
            self._end(kind)

    async def _die(self) -> None:
        """EngineCore was killed: error events, 503 for a tenth of a second, then the process exits."""
        self.dead = True
        self.thaw.clear()
        for generation in list(self.live):
            generation.fail(DEAD_MESSAGE)
        await asyncio.sleep(0.1)
        if os.environ.get(environment.KEEP_ALIVE_ON_ENGINE_DEATH) != "1":
            self.exit_code = 1
            self.stopped.set()

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(
            lambda: Connection(self.routes.handle, self.connections, lambda: self.armed.has("black-hole")),
            self.args.host,
            self.args.port,
            backlog=2048,
            reuse_address=True,
        )
        port = self.server.sockets[0].getsockname()[1]
        self.args.port = port

    async def _stop_listening(self) -> None:
        if self.server is not None:
            self.server.close()

    def terminate(self) -> None:
        """SIGTERM or SIGINT."""
        if self.draining or self.stopped.is_set():
            return
        self.draining = True
        self.spawn(self._shut_down())

    async def _shut_down(self) -> None:
        if self.args.shutdown_timeout > 0:
            deadline = time.monotonic() + self.args.shutdown_timeout
            while self.live and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            if self.live:
                await self._hang_open()
        elif self.live:
            how = self.args.sim_sigterm
            if how == "random":
                how = self.rng.choice(["hang", "hang", "hang", "error", "abort"])
            for generation in list(self.live) if how != "hang" else []:
                generation.fail(DEAD_MESSAGE) if how == "error" else generation.abort()
            if how == "hang":
                await self._hang_open()
        await asyncio.sleep(0.05)
        self.stopped.set()

    async def _hang_open(self) -> None:
        """The engine is gone, the streams stay open and silent until their clients leave."""
        await self._stop_listening()
        self.thaw.clear()
        while self.live:
            await asyncio.sleep(0.05)

    async def keep_alive(self) -> None:
        """`--sse-keep-alive-interval`: comments on idle streams, during a hang too."""
        interval = self.args.sse_keep_alive_interval
        while True:
            await asyncio.sleep(interval / 4)
            now = time.monotonic()
            for generation in list(self.live):
                if generation.ask.stream and now - generation.last_write_s >= interval:
                    generation.last_write_s = now
                    generation.connection.send(": keep-alive\n\n")

    async def serve(self) -> int:
        """Loads, serves until told to stop; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.terminate)
        loop.add_signal_handler(signal.SIGINT, self.terminate)
        if self.args.sim_load > 0:
            await asyncio.sleep(self.args.sim_load)
        await self.listen()
        print(
            f"simulated vLLM {', '.join(self.names)} on http://{self.args.host}:{self.args.port}", flush=True
        )
        for text in self.args.sim_fault:
            self.inject(read_fault(json.loads(text)))
        tasks = [asyncio.ensure_future(self.steps())]
        if self.args.sse_keep_alive_interval > 0:
            tasks.append(asyncio.ensure_future(self.keep_alive()))
        stop = asyncio.ensure_future(self.stopped.wait())
        done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return self.exit_code


def _port_is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def main(argv: list[str]) -> int:
    """`seawall engine sim ...`: serves until SIGTERM; the exit code."""
    args = flags.parser().parse_args(argv)
    if args.port and not _port_is_free(args.host, args.port):
        print(f"seawall: port {args.port} is taken. Use another --port, or 0 for any.", file=sys.stderr)
        return 3
    if args.num_gpu_blocks_override * args.block_size < flags.length(args.max_model_len):
        print(
            "seawall: the KV cache holds less than one --max-model-len; raise --num-gpu-blocks-override.",
            file=sys.stderr,
        )
        return 1

    async def run() -> int:
        return await SimulatedServer(args, flags.timing(args)).serve()

    code = uvloop.run(run())
    sys.stdout.flush()
    os._exit(code)
