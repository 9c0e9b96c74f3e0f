"""Rates and quotas of one tenant or key: two token buckets and a total. Sans-IO; `now` in seconds, any origin.

A bucket holds one minute's worth, so a burst of a minute's allowance passes and the mean never exceeds it.
Tokens are taken as estimated when a request comes and corrected when it is over.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Limited(NamedTuple):
    """Refused: by what, and for how long (inf: until the quota is raised)."""

    what: str
    wait_s: float


class Meter:
    """None: unlimited."""

    __slots__ = ("_at", "_requests", "_tokens", "per_minute", "quota", "tokens_per_minute", "used")

    def __init__(
        self,
        per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        quota: int | None = None,
        used: int = 0,
    ) -> None:
        self.used = used
        """Tokens in all, finished requests and estimates of running ones."""
        self._at = -math.inf
        self._requests = self._tokens = 0.0
        self.configure(per_minute, tokens_per_minute, quota)

    def configure(self, per_minute: int | None, tokens_per_minute: int | None, quota: int | None) -> None:
        """Takes new limits; what was used stays used."""
        self.per_minute, self.tokens_per_minute, self.quota = per_minute, tokens_per_minute, quota

    @property
    def limits(self) -> bool:
        """Whether it limits anything."""
        return not (self.per_minute is None and self.tokens_per_minute is None and self.quota is None)

    def check(self, tokens: int, now: float) -> Limited | None:
        """Whether a request of so many tokens may pass now. Takes nothing."""
        if self.quota is not None and self.used + tokens > self.quota:
            return Limited("token quota", math.inf)
        if self.per_minute is None and self.tokens_per_minute is None:
            return None
        self._refill(now)
        if self.per_minute is not None and self._requests < 1:
            return Limited("requests per minute", (1 - self._requests) * 60 / self.per_minute)
        if self.tokens_per_minute is not None:
            need = min(tokens, self.tokens_per_minute)
            if self._tokens < need:
                return Limited("tokens per minute", (need - self._tokens) * 60 / self.tokens_per_minute)
        return None

    def take(self, tokens: int) -> None:
        """The request passes. Call right after a `check` that returned None."""
        self._requests -= 1
        self._tokens -= tokens
        self.used += tokens

    def settle(self, estimated: int, actual: int) -> None:
        """The request is over and cost `actual` tokens."""
        self._tokens += estimated - actual
        self.used += actual - estimated

    def _refill(self, now: float) -> None:
        span = min(60.0, max(0.0, now - self._at))
        self._at = now
        if self.per_minute is not None:
            self._requests = min(float(self.per_minute), self._requests + span * self.per_minute / 60)
        if self.tokens_per_minute is not None:
            full = float(self.tokens_per_minute)
            self._tokens = min(full, self._tokens + span * full / 60)
