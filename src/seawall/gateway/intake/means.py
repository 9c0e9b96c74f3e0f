"""What an intake works with beside its loop."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from types import MappingProxyType
from typing import NamedTuple

from seawall.decide.route.pick import Target
from seawall.decide.route.record import Shelf, ShelfRules
from seawall.domain.told import SideState, StoreState
from seawall.gateway.edge.through import BatchDoor
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.intake.peers import Peers
from seawall.gateway.tell.audit import Audit
from seawall.gateway.tell.otel import Spans
from seawall.gateway.tell.tenants import Share


def _unproved(fleet: FleetLane, target: Target) -> None:
    """Nobody asks an evicted replica for a proof."""


AskLongest = Callable[[Sequence[FleetLane], Callable[[], None]], None]
"""What asks a replica of each fleet, and calls back: at once, or when all have answered or taken too long."""


class Means(NamedTuple):
    """What an intake works with beside its loop: engines' secrets, and who wants to know what."""

    engine_key: str | None = None
    engine_tls: ssl.SSLContext | None = None
    on_evicted: Callable[[FleetLane, Target], None] = _unproved
    audit: Audit | None = None
    spans: Spans | None = None
    ask_longest: AskLongest | None = None
    """Asks replicas how long a request may be."""
    share: Share | None = None
    """With several processes: the accounts that they keep together."""
    shelf: Callable[[str, ShelfRules], Shelf] | None = None
    """With other gateways: where what a fleet keeps lies."""
    name: str = ""
    """Of this gateway among them."""
    tallies: Mapping[str, Mapping[str, dict[str, SideState]]] = MappingProxyType({})
    """Fleet -> other gateway -> its sides of a canary split."""
    store: Callable[[], StoreState] | None = None
    """How the store that they share stands."""
    gateways: int = 1
    """About so many share the replicas' places."""
    now: Callable[[], float] = monotonic
    """Seconds of a monotonic clock: the one that everything in this process goes by."""
    peers: Peers | None = None
    """With several processes: the others."""
    without: frozenset[str] = frozenset()
    """Mechanisms that a proof has switched off (domain.switches.GATEWAY)."""
    max_clients: int = 1 << 30
    """Connections at a time."""
    batch: BatchDoor | None = None
    """The way to the batch lane; None: there is none."""


NOTHING = Means()
