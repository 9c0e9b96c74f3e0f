"""What is known of a request that is over: who asked, how it ended, what it cost. It never changes again.

Accounts, audit lines and spans are made of it. Never a prompt, an answer or a key.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from seawall.gateway.keyring import Key
from seawall.gateway.tenants import Tenant, Tenants


class Asked(Protocol):
    """The part of a request that may be told."""

    @property
    def id(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def model(self) -> str: ...
    @property
    def headers(self) -> dict[bytes, bytes]: ...
    @property
    def tenant(self) -> Tenant: ...
    @property
    def key(self) -> Key | None: ...


class Ended(NamedTuple):
    """See the module. Times are seconds."""

    request: Asked
    fleet: str
    outcome: str
    """finished, refused, failed, cancelled, rejected: docs/reference/gateway.md."""
    status: int
    code: str
    """Of the gateway's own refusal, if there was one."""
    replica: str
    """That was tried last; empty: none."""
    seconds: float
    """From its arrival to its end."""
    first_s: float
    """From its arrival to its first byte out; 0: there was none."""
    tokens_in: int
    tokens_out: int
    cost_usd: float
    resumed: int
    retried: int
    streamed: bool
    estimated: int
    """Tokens that it was reckoned at."""


def settle(tenants: Tenants, ended: Ended) -> None:
    """Books what a request really took, instead of what it was reckoned at."""
    key, tenant = ended.request.key, ended.request.tenant
    used = ended.tokens_in + ended.tokens_out
    tenant.prompt += ended.tokens_in
    tenant.completion += ended.tokens_out
    tenant.cost_usd += ended.cost_usd
    tenant.outcomes[ended.outcome] = tenant.outcomes.get(ended.outcome, 0) + 1
    if key is None and not tenant.meter.limits:
        return
    if not used and ended.status == 200:
        used = ended.estimated
    tenant.meter.settle(ended.estimated, used)
    own = tenants.meter_of(key)
    if own is not None:
        own.settle(ended.estimated, used)
