"""Who asks: tenants with their rights, rates and running totals. Keys are never here, only their ids."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import attrgetter

from seawall.decide.route.meter import Meter
from seawall.decide.route.refusal import Refusal
from seawall.domain import spec
from seawall.gateway.tell.keyring import Key


class Tenant:
    """One tenant of one fleet."""

    __slots__ = (
        "completion",
        "cost_usd",
        "meter",
        "models",
        "name",
        "outcomes",
        "priority",
        "prompt",
        "weight",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 1.0
        self.priority = 5
        self.models: frozenset[str] = frozenset()
        self.meter = Meter()
        self.prompt = self.completion = 0
        self.cost_usd = 0.0
        self.outcomes: dict[str, int] = {}

    def configure(self, wanted: spec.TenantSpec) -> None:
        self.weight, self.priority = wanted.weight, wanted.priority
        self.models = frozenset(wanted.models)
        self.meter.configure(wanted.requests_per_minute, wanted.tokens_per_minute, wanted.token_quota)


ANYONE = Tenant("")
Share = Callable[[str, Meter], None]
"""Has an account (its name, its meter) kept together with others."""


class Tenants:
    """The tenants of one fleet and the meters of keys that have limits of their own."""

    def __init__(self, share: Share | None = None) -> None:
        self._share = share
        """Where other processes keep the same accounts; None: there are none."""
        self._by_name: dict[str, Tenant] = {}
        self._listed: set[str] = set()
        self._keys: dict[str, Meter] = {}

    def configure(self, wanted: Iterable[spec.TenantSpec]) -> None:
        """Takes a new spec; what was used stays used."""
        wanted = list(wanted)
        self._listed = {t.name for t in wanted}
        for t in wanted:
            self.named(t.name).configure(t)

    @property
    def required(self) -> bool:
        """The spec lists tenants: nobody else gets in."""
        return bool(self._listed)

    def named(self, name: str) -> Tenant:
        """The tenant of that name, known or new."""
        tenant = self._by_name.get(name)
        if tenant is None:
            tenant = self._by_name[name] = Tenant(name)
            if self._share is not None:
                self._share(f"tenant {name}", tenant.meter)
        return tenant

    def all(self) -> list[Tenant]:
        return list(self._by_name.values())

    def of(self, key: Key | None) -> Tenant | None:
        """The tenant a key belongs to; None: not welcome here."""
        name = key.tenant if key is not None else ""
        if self._listed and name not in self._listed:
            return None
        return self.named(name)

    def known(self, name: str) -> Tenant | None:
        """The tenant of that name, as a part of ours that has seen its key says; None: it is not welcome here."""
        return self.named(name) if not self._listed or name in self._listed else None

    def look(self, now: float) -> None:
        """Every 250 ms or so, where other processes keep the same accounts."""
        if self._share is not None:
            for meter in (*(t.meter for t in self._by_name.values()), *self._keys.values()):
                if meter.limits:
                    meter.look(now)

    def meter_of(self, key: Key | None) -> Meter | None:
        """A key's own meter, if it has limits of its own."""
        if key is None or (key.requests_per_minute or key.tokens_per_minute or key.token_quota) is None:
            return None
        meter = self.key_meter(key.id)
        meter.configure(key.requests_per_minute, key.tokens_per_minute, key.token_quota)
        return meter

    def key_meter(self, id: str) -> Meter:
        """The account of the key of that id, known or new."""
        meter = self._keys.get(id)
        if meter is None:
            meter = self._keys[id] = Meter()
            if self._share is not None:
                self._share(f"key {id}", meter)
        return meter

    def key_meters(self) -> dict[str, Meter]:
        """Key id -> its account, of keys that have limits of their own and have been used."""
        return dict(self._keys)


LIMIT_HEADERS = tuple(
    f"x-ratelimit-{what}-{of}".encode()
    for what in ("limit", "remaining", "reset")
    for of in ("requests", "tokens")
)


def limit_lines(meters: Iterable[Meter]) -> bytes:
    """Header lines, in OpenAI's words, of what is left: of several meters, of the one that has least."""
    lines = b""
    for of in ("requests", "tokens"):
        known = [s for s in (m.standing(of == "requests") for m in meters) if s is not None]
        if known:
            least = min(known, key=attrgetter("left"))
            for what, value in (
                ("limit", f"{least.limit}"),
                ("remaining", f"{least.left}"),
                ("reset", f"{least.full_s}s"),
            ):
                lines += f"x-ratelimit-{what}-{of}: {value}\r\n".encode()
    return lines


def pass_limits(meters: Iterable[Meter], tokens: int, now: float) -> Refusal | None:
    """Takes a request's tokens from all meters, or from none and says why."""
    for meter in meters:
        limited = meter.check(tokens, now)
        if limited is not None:
            if limited.wait_s == math.inf:
                message = "Your token quota is used up. Ask the operator to raise it."
                return Refusal(429, "insufficient_quota", message)
            wait = max(1, math.ceil(limited.wait_s))
            return Refusal(429, "rate_limited", f"Over your limit of {limited.what}. Wait {wait} s.", wait)
    for meter in meters:
        meter.take(tokens)
    return None
