"""Request headers that the intake reads, and what they say. A header that is not in WANTED is not kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from seawall.decide.route.pick import side
from seawall.domain.labels import BATCH_CLASS_HEADER, BATCH_SECRET_HEADER, BATCH_TENANT_HEADER
from seawall.domain.spec import FleetSpec
from seawall.gateway.edge.caller import REPLICA
from seawall.gateway.intake.again import IDEMPOTENCY, LAST_EVENT
from seawall.gateway.intake.browser import TOLD_BY_BROWSERS
from seawall.gateway.intake.peers import FORWARDED

ASKED_HEADERS = b"access-control-request-headers"
DEADLINE = b"x-seawall-deadline"
PRIORITY = b"x-seawall-priority"
BATCH = BATCH_SECRET_HEADER.encode()
BATCH_TENANT = BATCH_TENANT_HEADER.encode()
BATCH_CLASS = BATCH_CLASS_HEADER.encode()
CREDENTIALS = (b"authorization", b"x-api-key", b"api-key")
"""Proxies and libraries add one beside another: any valid one lets in."""
SIDE = b"x-seawall-group"
"""A route that splits for a canary (HTTPRoute, Istio) says here which side it chose."""
WANTED = frozenset(
    {
        SIDE,
        b"host",
        b"authorization",
        b"x-api-key",
        b"api-key",
        REPLICA,
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"x-request-id",
        b"traceparent",
        b"tracestate",
        DEADLINE,
        PRIORITY,
        BATCH,
        BATCH_TENANT,
        BATCH_CLASS,
        IDEMPOTENCY,
        LAST_EVENT,
        FORWARDED,
        *TOLD_BY_BROWSERS,
    }
)
ID_OK = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:=/+@;,~")
MAX_TRACE = 256
"""A `traceparent` has 55 bytes in its present version. A longer one, or a longer `tracestate`, is not passed on."""
MAX_STATE = 1024
"""512 must be passed on (W3C Trace Context, 3.3.1.5)."""
LOAD = b"endpoint-load-metrics-format: TEXT\r\n"
ASK_LOAD = b"content-type: application/json\r\n" + LOAD


def path_of(target: bytes) -> bytes:
    """The path of a request's target, which may be a whole URL (RFC 9112, 3.2.2), without its query."""
    path = target.partition(b"?")[0]
    if path[:1] != b"/" and path[:8].lower().startswith((b"http://", b"https://")):
        return b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return path


def canary_group(
    percent: int, spec: FleetSpec, headers: Mapping[bytes, bytes], otherwise: bytes
) -> Literal["stable", "canary"]:
    """Which side of a canary serves a request: the route's word where a route splits, else our own share of
    the sticky header's value, or of `otherwise`. Clients cannot choose: routes overwrite the header."""
    if spec.gateway.route in ("gateway-api", "istio"):
        told = headers.get(SIDE)
        if told == b"canary":
            return "canary"
        if told == b"stable":
            return "stable"
    policy = spec.rollout.canary
    name = policy.sticky_header if policy else None
    sticky = headers.get(name.lower().encode()) if name else None
    return side(percent, (sticky or otherwise).decode("latin-1"))
