"""One simulated vLLM replica: continuous batching, token by token in result, many steps at once in cost.

vLLM's V1 scheduler, as far as latency depends on it: every step decodes one token of each running sequence and
spends what is left of `max_num_batched_tokens` on prompts, first come first served, the last one in part
(chunked prefill); `max_num_seqs` bounds the running set; KV blocks bound it too, and when they run out the
newest sequence is preempted and later recomputed. A step takes `Timing.step_s`.

Between two changes of the batch nothing needs to be looked at, so the steps in between are one event: with n
sequences that hold K tokens, j steps take  j*(base + max(n*decode, weights) + kv*K) + kv*n*j*(j-1)/2  seconds.

Forbidden here: the gateway, the cluster, clocks. Times are seconds of simulated time.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, fields, replace
from heapq import heappop, heappush
from math import sqrt
from typing import Any

from seawall.domain.action import Plan, Timing

NEVER = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What one replica can hold and how fast it steps."""

    timing: Timing
    kv_tokens: int
    """Tokens that the KV cache holds."""
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    block: int = 16
    max_model_len: int = 2**31
    prefix_caching: bool = True


def shape_of(plan: Plan, timing: Timing | None = None, prefix_caching: bool = True) -> Shape:
    """The plan's replica; `timing` from a calibration file replaces the roofline's."""
    return Shape(
        timing=timing or plan.timing,
        kv_tokens=plan.kv_cache_tokens or 10**9,
        max_num_seqs=plan.max_num_seqs,
        max_num_batched_tokens=plan.max_num_batched_tokens,
        block=max(1, plan.block_size),
        max_model_len=plan.max_model_len or 2**31,
        prefix_caching=prefix_caching,
    )


def slower(shape: Shape, factor: float) -> Shape:
    """A replica all of whose steps take `factor` times as long."""
    t = shape.timing
    numbers = {f.name: getattr(t, f.name) * factor for f in fields(t) if f.name != "source"}
    return replace(shape, timing=replace(t, **numbers)) if factor != 1 else shape


class Seq:
    """One request inside the system."""

    __slots__ = (
        "arrived",
        "attempt",
        "cached",
        "end_step",
        "first",
        "group",
        "left",
        "patience",
        "race",
        "rid",
        "shared",
        "size",
        "span",
        "ticket",
        "todo",
    )

    def __init__(self, rid: int, size: int, left: int, arrived: float) -> None:
        self.rid = rid
        self.size = size
        """Tokens that a prefill must cover: the prompt, and on a restart also what was generated."""
        self.left = left
        """Tokens still to generate."""
        self.arrived = arrived
        self.cached = 0
        """Tokens of the prompt that the engine's cache had."""
        self.todo = 0
        self.span = 0
        """Decode steps from joining the batch to the end."""
        self.end_step = 0
        self.first = -1.0
        self.group = -1
        self.shared = 0
        self.patience = NEVER
        """When a client that has no token goes away."""
        self.ticket: Any = None
        self.attempt: Any = None
        """What the front knows of it; nothing here looks at it."""
        self.race: Race | None = None
        """Its first token is waited for (`Engine.begun`)."""

    def again(self) -> Seq:
        """A second attempt at a request that has no token yet."""
        twin = Seq(self.rid, self.size, self.left, self.arrived)
        twin.group, twin.shared, twin.patience, twin.ticket = (
            self.group,
            self.shared,
            self.patience,
            self.ticket,
        )
        twin.race = Race(self, second=True)
        return twin


class Race:
    """What one attempt at a request is to the other one."""

    __slots__ = ("other", "second", "void")

    def __init__(self, other: Seq | None = None, second: bool = False) -> None:
        self.other = other
        self.second = second
        self.void = False
        """It was given up for the other one."""


class PrefixCache:
    """Which shared prefixes a replica still has: groups of tokens, least recently used leaves first."""

    __slots__ = ("capacity", "groups", "held")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.groups: OrderedDict[int, int] = OrderedDict()
        self.held = 0

    def hit(self, group: int, shared: int, size: int) -> int:
        """Cached tokens of this prompt; afterwards its shared part is cached."""
        have = self.groups.pop(group, 0)
        found = min(have, shared, size - 1)
        keep = max(have, shared, min(size, 512))
        self.groups[group] = keep
        self.held += keep - have
        while self.held > self.capacity and len(self.groups) > 1:
            self.held -= self.groups.popitem(last=False)[1]
        return found


class Engine:
    """One replica's batch. `wake` must be called at the time that `submit` or `wake` returned last."""

    __slots__ = (
        "base",
        "begun",
        "block_half",
        "budget",
        "busy_s",
        "capacity",
        "decode_s",
        "dropped",
        "fin",
        "firsts",
        "kv",
        "kv_s",
        "max_seqs",
        "pair_s",
        "part",
        "preempted",
        "prefill_s",
        "prefilled",
        "prefix",
        "reserved",
        "running",
        "seg_a",
        "seg_b",
        "seg_m",
        "seg_solo",
        "seg_t",
        "step",
        "version",
        "waiting",
        "weight_s",
    )

    def __init__(self, shape: Shape) -> None:
        timing = shape.timing
        self.base = timing.base_s
        self.prefill_s = timing.prefill_token_s
        self.pair_s = timing.prefill_pair_s
        self.decode_s = timing.decode_seq_s
        self.weight_s = timing.weight_read_s
        self.kv_s = timing.kv_token_s
        self.capacity = float(shape.kv_tokens)
        self.max_seqs = shape.max_num_seqs
        self.budget = max(1, shape.max_num_batched_tokens)
        self.block_half = shape.block / 2
        self.prefix = PrefixCache(shape.kv_tokens // 2) if shape.prefix_caching else None
        self.waiting: deque[Seq] = deque()
        self.running: dict[Seq, None] = {}
        """In joining order: the last is the newest, which preemption takes first."""
        self.fin: list[tuple[int, int, Seq]] = []
        self.firsts: list[Seq] = []
        self.part: Seq | None = None
        self.dropped: list[Seq] = []
        """Whose clients had given up when their turn came."""
        self.begun: list[Seq] = []
        """Those of the watched that have just had their first token."""
        self.kv = 0.0
        self.reserved = 0.0
        self.step = 0
        self.seg_t = self.seg_a = self.seg_b = 0.0
        self.seg_m = 0
        self.seg_solo = False
        self.version = 0
        self.busy_s = 0.0
        self.preempted = 0
        self.prefilled = 0

    @property
    def load(self) -> tuple[int, int]:
        """(running, waiting), as vLLM's gauges count them."""
        return len(self.running) + len(self.firsts) + (self.part is not None), len(self.waiting)

    @property
    def kv_use(self) -> float:
        return min(1.0, (self.kv + self.reserved) / self.capacity)

    def submit(self, seq: Seq, now: float) -> float:
        """Takes a request; -> the time of the next `wake` if that has changed, else NEVER."""
        self.waiting.append(seq)
        if not self.seg_m:
            return self._plan(now)
        if self.seg_solo and len(self.running) < self.max_seqs:
            # Decoding only: the newcomer joins at the next step's boundary.
            steps = self._steps_until(now)
            if steps < self.seg_m:
                self.seg_m = steps
                self.seg_solo = False
                return self._end()
        return NEVER

    def wake(self, now: float, done: list[Seq]) -> float:
        """Ends the current steps: finished sequences go to `done`; -> the time of the next `wake`, or NEVER."""
        m = self.seg_m
        if m:
            self.step += m
            self.kv += len(self.running) * m
            self.busy_s += now - self.seg_t
            self.seg_m = 0
        if self.firsts:
            self._first_tokens(now, done)
        fin, running, step = self.fin, self.running, self.step
        while fin and fin[0][0] <= step:
            end, _, seq = heappop(fin)
            if seq.end_step == end and seq in running:
                del running[seq]
                self.kv -= seq.size + seq.span
                seq.left = 0
                done.append(seq)
        return self._plan(now)

    def halt(self, now: float) -> list[Seq]:
        """The replica is gone: every sequence, set back to what a resume elsewhere has to do."""
        made = self._steps_until(now) - 1 if self.seg_m else 0
        out = []
        for seq in self.running:
            decoded = min(seq.span - (seq.end_step - self.step) + min(made, self.seg_m), seq.span - 1)
            seq.size += max(0, decoded) + 1
            seq.left = seq.span - max(0, decoded)
            out.append(seq)
        out += self.firsts
        if self.part is not None:
            out.append(self.part)
        out += self.waiting
        self.running.clear()
        self.fin.clear()
        self.firsts.clear()
        self.waiting.clear()
        self.part = None
        self.kv = self.reserved = 0.0
        self.seg_m = 0
        self.version += 1
        return out

    def give_up(self, seq: Seq) -> None:
        """Forgets a request that has no token yet, if it is here. What the present step computes of it is computed."""
        if seq is self.part:
            self.part = None
            self.reserved -= seq.size
        elif seq in self.firsts:
            self.firsts.remove(seq)
            self.reserved -= seq.size
        elif seq in self.waiting:
            self.waiting.remove(seq)

    def _first_tokens(self, now: float, done: list[Seq]) -> None:
        """Prompts that are wholly computed give their first token and join the batch."""
        step, fin, running = self.step, self.fin, self.running
        for seq in self.firsts:
            if seq.first < 0:
                seq.first = now
                if seq.race is not None:
                    self.begun.append(seq)
            size = seq.size
            self.reserved -= size
            seq.left -= 1
            if seq.left <= 0:
                done.append(seq)
                continue
            self.kv += size
            seq.span = seq.left
            seq.end_step = step + seq.left
            heappush(fin, (seq.end_step, seq.rid, seq))
            running[seq] = None
        self.firsts.clear()

    def _plan(self, now: float) -> float:
        """Decides the next step, or run of steps; -> when it ends."""
        n = len(self.running)
        prefill, pairs = 0, 0.0
        if self.waiting or self.part is not None:
            prefill, pairs = self._schedule_prompts(n, now)
        self.seg_t = now
        if prefill:
            compute = prefill * self.prefill_s + pairs * self.pair_s + n * self.decode_s
            self.seg_a = self.base + max(compute, self.weight_s) + self.kv_s * self.kv
            self.seg_b = 0.0
            self.seg_m = 1
            self.seg_solo = False
            self.prefilled += prefill
            return now + self.seg_a
        if not n:
            return NEVER
        if self.kv + n * (1 + self.block_half) > self.capacity:
            n = self._preempt(n)
        self.seg_a = self.base + max(n * self.decode_s, self.weight_s) + self.kv_s * self.kv
        self.seg_b = self.kv_s * n
        steps = self.fin[0][0] - self.step
        room = int((self.capacity - n * self.block_half - self.kv) / n)
        self.seg_m = max(1, min(steps, room))
        self.seg_solo = True
        return self._end()

    def _schedule_prompts(self, n: int, now: float) -> tuple[int, float]:
        """Fills the step's token budget with prompts; -> (how many of their tokens it computes, and to how many
        tokens before them these attend, summed)."""
        budget = self.budget - n
        if budget <= 0:
            return 0, 0.0
        prefill, pairs = 0, 0.0
        part = self.part
        if part is not None:
            take = min(part.todo, budget)
            pairs = take * (part.size - part.todo + take * 0.5)
            part.todo -= take
            prefill += take
            budget -= take
            if part.todo:
                return prefill, pairs
            self.firsts.append(part)
            self.part = None
        waiting = self.waiting
        while waiting and budget > 0:
            seqs = n + len(self.firsts)
            seq = waiting[0]
            held = self.kv + self.reserved + (seqs + 1) * self.block_half
            if seqs >= self.max_seqs or (held + seq.size > self.capacity and seqs):
                break
            waiting.popleft()
            if seq.patience < now and seq.first < 0:
                self.dropped.append(seq)
                continue
            size = seq.size
            cached = 0
            if seq.group >= 0 and self.prefix is not None:
                cached = self.prefix.hit(seq.group, seq.shared, size)
            seq.cached = cached
            seq.todo = size - cached
            self.reserved += size
            take = min(seq.todo, budget)
            pairs += take * (cached + take * 0.5)
            seq.todo -= take
            prefill += take
            budget -= take
            if seq.todo:
                self.part = seq
            else:
                self.firsts.append(seq)
        return prefill, pairs

    def _preempt(self, n: int) -> int:
        """KV is full: the newest sequences give theirs back and will be computed again; -> how many run on."""
        while n > 1 and self.kv + n * (1 + self.block_half) > self.capacity:
            seq = self.running.popitem()[0]
            decoded = seq.span - (seq.end_step - self.step)
            self.kv -= seq.size + decoded
            seq.left = seq.end_step - self.step
            seq.size += decoded + 1
            seq.end_step = -1
            self.waiting.appendleft(seq)
            self.preempted += 1
            n -= 1
        return n

    def _end(self) -> float:
        m = self.seg_m
        return self.seg_t + m * self.seg_a + self.seg_b * (m * (m - 1) * 0.5)

    def _steps_until(self, now: float) -> int:
        """How many steps of the current run will have begun by `now` (at least one)."""
        since, a, b = now - self.seg_t, self.seg_a, self.seg_b
        if b <= 0:
            return int(since / a) + 1
        half = a - b / 2
        return int((sqrt(half * half + 2 * b * since) - half) / b) + 1
