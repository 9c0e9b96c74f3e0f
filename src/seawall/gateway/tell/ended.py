"""What is known of a request that is over: who asked, how it ended, what it cost. It never changes again.

Accounts, audit lines and spans are made of it. Never a prompt, an answer or a key.
"""

from __future__ import annotations

from typing import NamedTuple

from seawall.gateway.tell.keyring import Key
from seawall.gateway.tell.tenants import Tenant, Tenants


class Ended(NamedTuple):
    """See the module. Times are seconds."""

    id: bytes
    path: bytes
    model: str
    tenant: Tenant
    key: Key | None
    headers: dict[bytes, bytes]
    """Of the request; traces are continued from them."""
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
    key, tenant = ended.key, ended.tenant
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
