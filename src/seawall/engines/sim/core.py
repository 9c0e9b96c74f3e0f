"""The simulated engine core: its scheduler steps in (simulated or real) time, and its numbers are vLLM's.

Forbidden here: HTTP, and the life of the process; both are `server.py`'s.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Protocol

from seawall.domain.action import Timing
from seawall.engines.sim import flags
from seawall.engines.sim.asks import GenerationRequest
from seawall.engines.sim.faults import Armed, Fault
from seawall.engines.sim.metrics import Metrics
from seawall.engines.sim.scheduler import Scheduler, Sequence, StepLimits
from seawall.engines.sim.sleep import SleepMode
from seawall.engines.sim.tokens import vocabulary
from seawall.engines.sim.wire import Connection


class RunningRequest(Protocol):
    """One request that is being answered, as the core and the process see it."""

    ask: GenerationRequest
    connection: Connection
    last_write_s: float

    def abort(self) -> None: ...
    def fail(self, message: str) -> None: ...
    def break_(self, fault: Fault) -> None: ...


class SimulatedEngine(ABC):
    """The engine core of one simulated replica, and all that its API tells of it."""

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
        self.live: set[RunningRequest] = set()
        self.wake = asyncio.Event()
        self.thaw = asyncio.Event()
        self.thaw.set()
        self.dead = False
        self.draining = False
        self.created = int(time.time())
        self.sleep = SleepMode(self.scheduler, self.live, self.wake)
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

    def account(self, generation: RunningRequest, sequence: Sequence) -> None:
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

    @abstractmethod
    def inject(self, fault: Fault) -> None:
        """Makes a failure happen, at once or when its time comes."""

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
