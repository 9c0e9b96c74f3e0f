"""The simulated vLLM server: one process, one event loop, one engine.

Life: bind only when loaded (refused before, as vLLM), serve, and on SIGTERM behave as measured: without a
`--shutdown-timeout` streams mostly hang; with one they finish while new requests are answered badly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Coroutine

import uvloop

from seawall.domain.action import Timing
from seawall.engines.sim import flags
from seawall.engines.sim.faults import STREAM_KINDS, Armed, Fault, read_fault
from seawall.engines.sim.generation import Generation
from seawall.engines.sim.metrics import Metrics
from seawall.engines.sim.routes import Routes
from seawall.engines.sim.scheduler import Scheduler, Sequence, StepLimits
from seawall.engines.sim.sleep import Sleep
from seawall.engines.sim.tokens import vocabulary
from seawall.engines.sim.wire import Connection
from seawall.engines.vllm import environment
from seawall.engines.vllm.phrases import DEAD_MESSAGE


class SimulatedEngine:
    """The API server and the engine core of one simulated replica."""

    def __init__(self, args: argparse.Namespace, timing: Timing) -> None:
        self.args = args
        name = args.model_tag or args.model or "sim"
        self.names: list[str] = args.served_model_name or [name]
        self.root = name
        self.adapters: dict[str, str] = dict(m.split("=", 1) for m in args.lora_modules)
        self.words = vocabulary()
        self.rng = random.Random(args.sim_seed)
        self.max_model_len = flags.length(args.max_model_len)
        self.scheduler = Scheduler(
            StepLimits(
                max_num_seqs=args.max_num_seqs,
                max_num_batched_tokens=args.max_num_batched_tokens,
                max_model_len=self.max_model_len,
                blocks=args.num_gpu_blocks_override,
                block_size=args.block_size,
                prefix_caching=args.enable_prefix_caching,
                by_priority=args.scheduling_policy == "priority",
            ),
            timing,
        )
        self.metrics = Metrics(self.names[0])
        self.armed = Armed()
        self.live: set[Generation] = set()
        self.connections: set[Connection] = set()
        self.wake = asyncio.Event()
        self.thaw = asyncio.Event()
        self.thaw.set()
        self.dead = False
        self.draining = False
        self.stopped = asyncio.Event()
        self.exit_code = 0
        self.created = int(time.time())
        self.server: asyncio.Server | None = None
        self.sleep = Sleep(self.scheduler, self.live, self.wake)
        self.routes = Routes(self)
        self._stepping = False
        self._gauges = self._gauges_now()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def models(self) -> list[str]:
        return [*self.names, *self.adapters]

    async def steps(self) -> None:
        """The engine core: plan a step, let its time pass, deliver. Never ends by itself."""
        due = time.monotonic()
        while True:
            await self.thaw.wait()
            now = time.monotonic()
            step = self.scheduler.plan_step(now)
            if step is None:
                self._stepping = False
                self.wake.clear()
                await self.wake.wait()
                due = time.monotonic()
                continue
            self._stepping = True
            due = max(due, now - 0.05) + step.duration_s * self.armed.slowdown()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.thaw.wait()
            now = time.monotonic()
            self._observe(step.chunks, now)
            before = self.scheduler.counters.generation_tokens
            tokens = self.scheduler.finish_step(step, now)
            self._gauges = self._gauges_now()
            if self.scheduler.counters.generation_tokens > before:  # vLLM counts no step without an output
                self.metrics.observe("iteration_tokens_total", tokens)

    def _observe(self, chunks: list[tuple[Sequence, int]], now: float) -> None:
        for sequence, tokens in chunks:
            if sequence.finish_reason is not None or sequence.computed + tokens < sequence.length:
                continue
            if sequence.last_token_s:
                self.metrics.observe("inter_token_latency_seconds", now - sequence.last_token_s)
            else:
                self.metrics.observe("time_to_first_token_seconds", now - sequence.arrived_s)
            sequence.last_token_s = now

    def account(self, generation: Generation, sequence: Sequence) -> None:
        """A sequence is finished: the per-request histograms."""
        now = time.monotonic()
        observe, generated = self.metrics.observe, len(sequence.output)
        first = sequence.first_token_s or now
        observe("request_prompt_tokens", len(sequence.prompt))
        observe("request_generation_tokens", generated)
        observe("request_max_num_generation_tokens", generated)
        observe("request_params_n", generation.ask.n)
        observe("request_params_max_tokens", sequence.max_tokens)
        observe("e2e_request_latency_seconds", now - sequence.arrived_s)
        observe("request_queue_time_seconds", sequence.scheduled_s - sequence.arrived_s)
        observe("request_prefill_time_seconds", first - sequence.scheduled_s)
        observe("request_decode_time_seconds", now - first)
        observe("request_inference_time_seconds", now - sequence.scheduled_s)
        observe("request_time_per_output_token_seconds", (now - first) / max(1, generated - 1))
        observe("request_num_preemptions", sequence.preemptions)
        observe("request_prefill_kv_computed_tokens", len(sequence.prompt) - sequence.cached)

    def gauges(self) -> dict[str, float]:
        """Gauges as of the end of the last step, as vLLM's scheduler tells them; frozen while the engine hangs."""
        if not self._stepping and self.thaw.is_set():
            self._gauges = self._gauges_now()
        return self._gauges

    def _gauges_now(self) -> dict[str, float]:
        s = self.scheduler
        return {
            "num_requests_running": float(len(s.running)),
            # A paused engine says that nobody waits: measured on vLLM 0.32.
            "num_requests_waiting": 0.0 if s.paused else float(len(s.waiting)),
            "kv_cache_usage_perc": s.pool.usage,
        }

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

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

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
        return await SimulatedEngine(args, flags.timing(args)).serve()

    code = uvloop.run(run())
    sys.stdout.flush()
    os._exit(code)
