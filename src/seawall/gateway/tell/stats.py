"""Counters of one fleet, as plain integers, and the histogram of times to first token. No exposition here."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from math import log

from seawall.domain.told import TPOT_BOUNDS_S, TTFT_BOUNDS_S


class Histogram:
    """Cumulative at exposition, not here: `counts[i]` is of bucket i alone; the last is +Inf."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = TTFT_BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


SIDE_NUMBERS = (
    "compared",
    "differed",
    "errors",
    "requests",
    "slow",
    "tpot_log",
    "tpot_log2",
    "tpot_n",
    "ttft_log",
    "ttft_log2",
    "ttft_n",
)


class SideStats:
    """One side of a canary split, as `decide.canary` wants it: attempts, what failed, sums of logarithms."""

    __slots__ = SIDE_NUMBERS

    def __init__(self) -> None:
        self.requests = self.errors = self.slow = 0
        self.compared = self.differed = 0
        """Greedy requests that this side answered again, and those where it said something else."""
        self.ttft_n = self.tpot_n = 0
        self.ttft_log = self.ttft_log2 = self.tpot_log = self.tpot_log2 = 0.0

    def lost(self) -> None:
        """An attempt that this side failed, even if another replica mended it and no client ever knew."""
        self.requests += 1
        self.errors += 1

    def served(self, ttft_s: float, tpot_s: float, slow: bool) -> None:
        """A request that this side answered; 0: not measured."""
        self.requests += 1
        self.slow += slow
        if ttft_s > 0:
            x = log(ttft_s)
            self.ttft_n, self.ttft_log, self.ttft_log2 = (
                self.ttft_n + 1,
                self.ttft_log + x,
                self.ttft_log2 + x * x,
            )
        if tpot_s > 0:
            x = log(tpot_s)
            self.tpot_n, self.tpot_log, self.tpot_log2 = (
                self.tpot_n + 1,
                self.tpot_log + x,
                self.tpot_log2 + x * x,
            )


class FleetStats:
    """admitted = finished + failed + cancelled + pending + spare, always."""

    __slots__ = (
        "admitted",
        "cached_errors",
        "cached_tokens",
        "cancelled",
        "duration",
        "expected_tokens",
        "failed",
        "finished",
        "hedges_lost",
        "hedges_won",
        "left",
        "left_unkept",
        "poison",
        "queue_wait",
        "reattached",
        "rejected",
        "resumed",
        "retried",
        "shadow_differed",
        "shadow_same",
        "shadowed",
        "sides",
        "spare",
        "spare_admitted",
        "tokens_in",
        "tokens_out",
        "tpot",
        "ttft",
        "ttft_recent",
        "wasted_completion",
        "wasted_gpu_s",
        "wasted_prompt",
    )

    def __init__(self) -> None:
        self.admitted = 0
        self.finished = 0
        self.failed = 0
        self.cancelled = 0
        self.left = self.left_unkept = 0
        """Of what is admitted, and pending: requests of a process that died which have not gone on here yet; those of
        them that cannot."""
        self.spare = 0
        """Lines of batches that are under way on what others leave: no reason for more replicas."""
        self.spare_admitted = 0
        """All such lines so far."""
        self.rejected: dict[str, int] = {}
        self.retried: dict[str, int] = {}
        self.resumed = 0
        self.reattached = 0
        """Requests that came again and joined the one that was running, or had ended."""
        self.wasted_prompt = self.wasted_completion = 0
        """Tokens that breaks made engines compute again, or that were lost."""
        self.wasted_gpu_s = 0.0
        self.poison = 0
        self.hedges_won = self.hedges_lost = 0
        self.shadowed = 0
        self.shadow_same = self.shadow_differed = 0
        self.tokens_in = 0
        self.tokens_out = 0
        self.cached_tokens = self.expected_tokens = 0
        """Of prompts, in the engines' caches: as they counted, and as had been expected."""
        self.cached_errors: deque[float] = deque(maxlen=512)
        """By how much the two differed, as a share of the larger; of prompts where either was not 0."""
        self.ttft = Histogram()
        self.tpot = Histogram(TPOT_BOUNDS_S)
        """Of streams that ended."""
        self.duration = Histogram()
        self.queue_wait = Histogram()
        self.ttft_recent: deque[float] = deque(maxlen=512)
        self.sides = {"stable": SideStats(), "canary": SideStats()}
        """Kept only while there is a canary."""

    @property
    def pending(self) -> int:
        return self.admitted - self.finished - self.failed - self.cancelled - self.spare

    def carried(self, spare: bool) -> None:
        """A request goes on here that another process had admitted. `spare`: it lives on what others leave."""
        if spare:
            self.spare += 1
            self.spare_admitted += 0 if self.left else 1
        if self.left:
            self.left -= 1
        else:
            self.admitted += 1

    def first_token(self, seconds: float) -> None:
        self.ttft.add(seconds)
        self.ttft_recent.append(seconds)

    def waste(self, prompt: int, completion: int, gpu_s: float) -> None:
        """What one break threw away: tokens, and GPU-seconds."""
        self.wasted_prompt += prompt
        self.wasted_completion += completion
        self.wasted_gpu_s += gpu_s

    def cached(self, expected: int, found: int) -> None:
        """Tokens of one prompt that an engine's cache was expected to have, and had."""
        self.expected_tokens += expected
        self.cached_tokens += found
        if expected or found:
            self.cached_errors.append(abs(expected - found) / max(expected, found))

    def cached_error(self) -> float | None:
        """The median of the last 512."""
        ordered = sorted(self.cached_errors)
        return ordered[len(ordered) // 2] if ordered else None

    def reject(self, reason: str) -> None:
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def retry(self, reason: str) -> None:
        self.retried[reason] = self.retried.get(reason, 0) + 1

    def quantile(self, q: float) -> float | None:
        """Of the last 512 times to first token."""
        if not self.ttft_recent:
            return None
        ordered = sorted(self.ttft_recent)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
