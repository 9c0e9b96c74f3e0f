"""Rates and quotas of one tenant or key: two token buckets and a total. Sans-IO; `now` in seconds, any origin.

A bucket holds one minute's worth, so a burst of a minute's allowance passes and the mean never exceeds it.
Tokens are taken as estimated when a request comes and corrected when it is over. Several processes of one machine may
keep one account: each tells what it took, and takes what the others took out of its own buckets (`Others`). Gateways of
several machines spend what they have leased from a store (`lend`).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Protocol

from seawall.decide.route.lease import BudgetLease

DAY_S: Final = 86_400.0


class Limited(NamedTuple):
    """Refused: by what, and for how long (inf: until the quota is raised)."""

    what: str
    wait_s: float


class Taken(NamedTuple):
    """By other processes: requests and tokens since one last looked; tokens of the quota in all."""

    requests: int
    tokens: int
    used: int


class Standing(NamedTuple):
    """What a bucket holds now."""

    limit: int
    left: int
    full_s: int
    """Seconds until it is full again if nothing more is taken."""


class Level(NamedTuple):
    """What an account's buckets held at a time, and its tokens in all: what a successor of the process goes on from."""

    requests: float
    tokens: float
    at: float
    used: int


class Others(Protocol):
    """The other processes that keep the same account."""

    def fresh(self) -> Taken: ...

    def tell(self, requests: int, tokens: int, used: int) -> None:
        """What this process took: requests and tokens since it began, tokens of the quota in all."""

    def own_used(self) -> int:
        """Tokens of the quota that this process, or the one before it in its place, had used."""
        ...


class Meter:
    """None: unlimited."""

    __slots__ = (
        "_at",
        "_gateways",
        "_others",
        "_requests",
        "_requests_taken",
        "_tokens",
        "_tokens_taken",
        "leases",
        "per_minute",
        "quota",
        "tokens_per_minute",
        "used",
    )

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
        self._requests_taken = self._tokens_taken = 0
        self._others: Others | None = None
        self._gateways = 0
        self.leases: dict[str, BudgetLease] = {}
        """With a store: requests, tokens and quota, those of the three that are limited."""
        self.configure(per_minute, tokens_per_minute, quota)

    def configure(self, per_minute: int | None, tokens_per_minute: int | None, quota: int | None) -> None:
        """Takes new limits; what was used stays used."""
        self.per_minute, self.tokens_per_minute, self.quota = per_minute, tokens_per_minute, quota
        if self._gateways:
            self.lend(self._gateways)

    def lend(self, gateways: int) -> None:
        """From now on the limits are spent together with other gateways, about so many."""
        self._gateways = gateways
        wanted = {
            "requests": (self.per_minute, 60),
            "tokens": (self.tokens_per_minute, 60),
            "quota": (self.quota, 0),
        }
        for name, (limit, seconds) in wanted.items():
            if limit is None:
                self.leases.pop(name, None)
                continue
            per_s = limit / seconds if seconds else 0.0
            known = self.leases.get(name)
            if known is None:
                self.leases[name] = BudgetLease(limit, per_s, gateways)
            elif (known.cap, known.per_s) != (limit, per_s):
                known.configure(limit, per_s)

    def share(self, others: Others) -> None:
        """From now on other processes keep the account, too."""
        self._others = others
        self.used = max(self.used, others.own_used())

    @property
    def level(self) -> Level | None:
        """For a successor; None: nobody has asked yet."""
        return None if self._at < 0 else Level(self._requests, self._tokens, self._at, self.used)

    def carry(self, level: Level) -> None:
        """Goes on from what a process that died had left, by the same clock. Where others keep the account, too, its
        buckets are theirs."""
        self.used = max(self.used, level.used)
        if self._others is not None or self._gateways:
            return
        if self._at >= 0:
            self._refill(level.at)
            level = level._replace(
                requests=min(level.requests, self._requests), tokens=min(level.tokens, self._tokens)
            )
        self._requests, self._tokens, self._at = level.requests, level.tokens, level.at

    @property
    def limits(self) -> bool:
        """Whether it limits anything."""
        return not (self.per_minute is None and self.tokens_per_minute is None and self.quota is None)

    def check(self, tokens: int, now: float) -> Limited | None:
        """Whether a request of so many tokens may pass now. Takes nothing."""
        if self._gateways:
            return self._check_leases(tokens, now)
        used = self.used + self.look(now)
        if self.quota is not None and used + tokens > self.quota:
            return Limited("token quota", math.inf)
        if self.per_minute is None and self.tokens_per_minute is None:
            return None
        if self.per_minute is not None and self._requests < 1:
            return Limited("requests per minute", (1 - self._requests) * 60 / self.per_minute)
        if self.tokens_per_minute is not None:
            need = min(tokens, self.tokens_per_minute)
            if self._tokens < need:
                return Limited("tokens per minute", (need - self._tokens) * 60 / self.tokens_per_minute)
        return None

    def _check_leases(self, tokens: int, now: float) -> Limited | None:
        for name, lease in self.leases.items():
            need = 1.0 if name == "requests" else float(tokens)
            if name == "tokens":
                need = min(need, lease.cap)
            if lease.room(now) < need:
                what = "token quota" if name == "quota" else f"{name} per minute"
                return Limited(what, lease.wait_s(need))
        return None

    def standing(self, requests: bool) -> Standing | None:
        """How the bucket of requests, or of tokens, stood at the last look; None: there is no limit."""
        limit = self.per_minute if requests else self.tokens_per_minute
        if limit is None:
            return None
        left = self._requests if requests else self._tokens
        if self._gateways:
            lease = self.leases["requests" if requests else "tokens"]
            left = lease.hand + (0.0 if lease.away else max(0.0, lease.level))
        return Standing(limit, max(0, int(left)), math.ceil((limit - left) * 60 / limit))

    def look(self, now: float) -> int:
        """Refills the buckets and takes out what the others took; the tokens of the quota that they used.

        A shared meter must look now and then: what others took refills as if it had been taken at the last look.
        """
        used = 0
        if self._others is not None:
            requests, tokens, used = self._others.fresh()
            self._requests -= requests
            self._tokens -= tokens
        self._refill(now)
        return used

    def take(self, tokens: int) -> None:
        """The request passes. Call right after a `check` that returned None."""
        self._requests -= 1
        self._requests_taken += 1
        if self._gateways and "requests" in self.leases:
            self.leases["requests"].take(1)
        self._take_tokens(tokens)

    def settle(self, estimated: int, actual: int) -> None:
        """The request is over and cost `actual` tokens."""
        self._take_tokens(actual - estimated)

    def _take_tokens(self, tokens: int) -> None:
        self._tokens -= tokens
        self._tokens_taken += tokens
        self.used += tokens
        for name, lease in self.leases.items():
            if name != "requests":
                lease.take(tokens)
        if self._others is not None:
            self._others.tell(self._requests_taken, self._tokens_taken, self.used)

    def _refill(self, now: float) -> None:
        if self._at == -math.inf:
            span = 60.0  # full, less what others have taken of it
        else:  # what others took while we stood still has refilled, too
            span = min(DAY_S, max(0.0, now - self._at))
        self._at = now
        if self.per_minute is not None:
            self._requests = min(float(self.per_minute), self._requests + span * self.per_minute / 60)
        if self.tokens_per_minute is not None:
            full = float(self.tokens_per_minute)
            self._tokens = min(full, self._tokens + span * full / 60)
