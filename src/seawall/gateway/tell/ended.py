"""What is known of a request that is over: who asked, how it ended, what it cost. It never changes again.

Accounts, audit lines and spans are made of it. Never a prompt, an answer or a key.
"""

from __future__ import annotations

from typing import Final

from seawall.gateway.tell.keyring import Key
from seawall.gateway.tell.tenants import Tenant, Tenants


class Ended:
    """See the module. Times are seconds. A plain class, whose attributes are final: compiled, it costs a
    sixth of a tuple with names."""

    __slots__ = (
        "code",
        "cost_usd",
        "estimated",
        "first_s",
        "fleet",
        "headers",
        "id",
        "key",
        "model",
        "outcome",
        "path",
        "replica",
        "resumed",
        "retried",
        "seconds",
        "status",
        "streamed",
        "tenant",
        "tokens_in",
        "tokens_out",
    )

    def __init__(
        self,
        id: bytes,
        path: bytes,
        model: str,
        tenant: Tenant,
        key: Key | None,
        headers: dict[bytes, bytes],
        fleet: str,
        outcome: str,
        status: int,
        code: str,
        replica: str,
        seconds: float,
        first_s: float,
        tokens_in: int,
        tokens_out: int,
        cost_usd: float,
        resumed: int,
        retried: int,
        streamed: bool,
        estimated: int,
    ) -> None:
        self.id: Final = id
        self.path: Final = path
        self.model: Final = model
        self.tenant: Final = tenant
        self.key: Final = key
        self.headers: Final = headers
        """Of the request; traces are continued from them."""
        self.fleet: Final = fleet
        self.outcome: Final = outcome
        """finished, refused, failed, cancelled, rejected: docs/reference/gateway.md."""
        self.status: Final = status
        self.code: Final = code
        """Of the gateway's own refusal, if there was one."""
        self.replica: Final = replica
        """That was tried last; empty: none."""
        self.seconds: Final = seconds
        """From its arrival to its end."""
        self.first_s: Final = first_s
        """From its arrival to its first byte out; 0: there was none."""
        self.tokens_in: Final = tokens_in
        self.tokens_out: Final = tokens_out
        self.cost_usd: Final = cost_usd
        self.resumed: Final = resumed
        self.retried: Final = retried
        self.streamed: Final = streamed
        self.estimated: Final = estimated
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
