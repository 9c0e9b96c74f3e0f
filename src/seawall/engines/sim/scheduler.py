"""Continuous batching as vLLM V1 does it: token budget, chunked prefill, KV blocks, preemption. No clock, no I/O.

`plan_step` decides what the next step computes and how long it takes (domain Timing); `finish_step` hands one new
token to every sequence whose prefill is complete. The server sleeps in between.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from seawall.domain.action import Timing
from seawall.engines.sim.blocks import BlockPool, block_names
from seawall.engines.sim.language import Continuation
from seawall.engines.sim.tokens import TURN_END

_arrivals = itertools.count()


@dataclass(frozen=True, kw_only=True)
class StepLimits:
    """The flags of `vllm serve` that shape a step."""

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int = 4096
    blocks: int = 4096
    block_size: int = 16
    prefix_caching: bool = True
    by_priority: bool = False


class Sequence:
    """One sequence to generate. `deliver(token, finish_reason, stop_reason)` receives each new token; what it
    returns, if not None, is a stop string that the text ended with."""

    def __init__(
        self,
        prompt: list[int],
        continuation: Continuation,
        max_tokens: int,
        deliver: Callable[[Sequence, int | None, str | None, int | None], str | None],
        *,
        priority: int = 0,
        arrived_s: float = 0.0,
        cache_salt: int = 0,
    ) -> None:
        self.prompt = prompt
        self.continuation = continuation
        self.max_tokens = max_tokens
        self.deliver = deliver
        self.order = (priority, next(_arrivals))
        self.arrived_s = arrived_s
        self.scheduled_s = 0.0
        self.first_token_s = 0.0
        self.last_token_s = 0.0
        self.cache_salt = cache_salt
        self.output: list[int] = []
        self.computed = 0
        self.cached = 0
        self.names: list[int] = []
        self.anonymous = 0
        self.preemptions = 0
        self.finish_reason: str | None = None

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.output)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step computes."""

    chunks: list[tuple[Sequence, int]]
    """(sequence, tokens computed)."""
    prefill_tokens: int
    decode_seqs: int
    duration_s: float


@dataclass
class Counters:
    """What /metrics reports of the scheduler, since the start."""

    preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    finished: dict[str, int] = field(
        default_factory=lambda: {"stop": 0, "length": 0, "abort": 0, "error": 0, "repetition": 0}
    )


class Scheduler:
    """Waiting and running sequences of one engine."""

    def __init__(self, limits: StepLimits, timing: Timing) -> None:
        self.limits = limits
        self.timing = timing
        self.pool = BlockPool(limits.blocks, limits.block_size, limits.prefix_caching)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.counters = Counters()
        self.paused = False
        """New sequences are taken and not started; those that run go on. As `PAUSED_NEW` in vLLM."""

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        if not self.limits.by_priority:
            sequence.order = (0, sequence.order[1])
        bisect.insort(self.waiting, sequence, key=lambda s: s.order)

    def abort(self, sequence: Sequence) -> None:
        """Frees a sequence whose client has gone. Nothing is delivered, and nothing counted: vLLM's API server has
        forgotten the request by then (seen on 0.32)."""
        if sequence.finish_reason is None:
            sequence.finish_reason = "abort"
            self._free(sequence)
            if sequence in self.running:
                self.running.remove(sequence)
            elif sequence in self.waiting:
                self.waiting.remove(sequence)

    def plan_step(self, now: float) -> Step | None:
        """What to compute next, or None when there is nothing to do."""
        chunks: list[tuple[Sequence, int]] = []
        budget = self.limits.max_num_batched_tokens
        preempted = False
        prefill = decode = kv_read = 0
        for sequence in list(self.running):
            if budget <= 0:
                break
            if sequence not in self.running if preempted else False:
                continue
            want = min(budget, sequence.length - sequence.computed)
            while not self._grow(sequence, sequence.computed + want):
                preempted = True
                victim = max(self.running, key=lambda s: s.order)
                self._preempt(victim)
                chunks = [c for c in chunks if c[0] is not victim]
                if victim is sequence:
                    break
            if sequence in self.running if preempted else True:
                chunks.append((sequence, want))
                budget -= want
        may_start = not preempted and not self.paused
        while self.waiting and may_start and budget > 0 and len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting[0]
            if not self._start(sequence, budget, now):
                break
            self.waiting.pop(0)
            self.running.append(sequence)
            want = min(budget, sequence.length - sequence.computed)
            chunks.append((sequence, want))
            budget -= want
        if not chunks:
            return None
        for sequence, tokens in chunks:
            if tokens == 1 and sequence.computed + 1 == sequence.length and sequence.output:
                decode += 1
            else:
                prefill += tokens
            kv_read += sequence.computed
        return Step(chunks, prefill, decode, self.timing.step_s(prefill, decode, kv_read))

    def finish_step(self, step: Step, now: float) -> int:
        """The step is computed: deliver a token to every sequence that is fully prefilled. Returns tokens computed."""
        done = False
        for sequence, tokens in step.chunks:
            if sequence.finish_reason is not None:
                done = True
                continue
            sequence.computed += tokens
            if sequence.computed % self.limits.block_size < tokens:
                self._name_blocks(sequence)
            if sequence.computed < sequence.length:
                continue
            self._emit(sequence, now)
            done = done or sequence.finish_reason is not None
        if done:
            self.running = [s for s in self.running if s.finish_reason is None]
        return step.prefill_tokens + step.decode_seqs

    def _emit(self, sequence: Sequence, now: float) -> None:
        token = sequence.continuation.next()
        sequence.output.append(token)
        if not sequence.first_token_s:
            sequence.first_token_s = now
            self.counters.prompt_tokens += len(sequence.prompt)
        self.counters.generation_tokens += 1
        sampling = sequence.continuation.sampling
        reason: str | None = None
        stop: int | None = None
        if len(sequence.output) >= sampling.min_tokens:
            if token == TURN_END and not sampling.ignore_eos:
                reason = "stop"
            elif token in sampling.stop_token_ids:
                reason, stop = "stop", token
        if reason is None and (
            len(sequence.output) >= sequence.max_tokens or sequence.length >= self.limits.max_model_len
        ):
            reason = "length"
        if reason is not None:
            self._end(sequence, reason)
        if sequence.deliver(sequence, token, reason, stop) is not None and reason is None:
            self._end(sequence, "stop")

    def _end(self, sequence: Sequence, reason: str) -> None:
        sequence.finish_reason = reason
        self.counters.finished[reason] += 1
        self._free(sequence)

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.names, sequence.anonymous)
        sequence.names, sequence.anonymous = [], 0

    def _start(self, sequence: Sequence, budget: int, now: float) -> bool:
        ids = sequence.prompt + sequence.output
        names = block_names(ids, self.limits.block_size, sequence.cache_salt)
        if len(names) * self.limits.block_size == len(ids):
            names.pop()
        hits = names[: self.pool.matches(names)]
        if not self.pool.hold(hits):
            return False
        sequence.names = hits
        sequence.computed = len(hits) * self.limits.block_size
        want = min(budget, sequence.length - sequence.computed)
        if not self._grow(sequence, sequence.computed + want):
            self._free(sequence)
            sequence.computed = 0
            return False
        if not sequence.scheduled_s:
            sequence.scheduled_s = now
            sequence.cached = sequence.computed
            self.counters.prefix_queries += len(ids)
            self.counters.prefix_hits += sequence.computed
        return True

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        need = -(-tokens // self.limits.block_size) - len(sequence.names) - sequence.anonymous
        if need <= 0:
            return True
        if not self.pool.take(need):
            return False
        sequence.anonymous += need
        return True

    def _name_blocks(self, sequence: Sequence) -> None:
        size = self.limits.block_size
        ids: list[int] | None = None
        while (len(sequence.names) + 1) * size <= sequence.computed and sequence.anonymous:
            start = len(sequence.names) * size
            if start >= len(sequence.prompt):
                at = start - len(sequence.prompt)
                chunk = sequence.output[at : at + size]
            else:
                ids = ids or sequence.prompt + sequence.output
                chunk = ids[start : start + size]
            last = sequence.names[-1] if sequence.names else sequence.cache_salt
            name = hash((last, tuple(chunk)))
            sequence.anonymous -= 1
            self.pool.name(name)
            sequence.names.append(name)

    def _preempt(self, sequence: Sequence) -> None:
        self._free(sequence)
        sequence.computed = 0
        sequence.preemptions += 1
        self.counters.preemptions += 1
        self.running.remove(sequence)
        bisect.insort(self.waiting, sequence, key=lambda s: s.order)
