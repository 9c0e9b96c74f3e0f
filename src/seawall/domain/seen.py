"""What is observed: replicas as discovery sees them. Plain data, JSON-able, no I/O.

The discovery document is the one contract between whoever runs replicas (the local supervisor, a file
that a person wrote, the watcher of EndpointSlices) and the gateway that routes to them:

    {"version": 12, "replicas": [{"name": "smollm2-0", "fleet": "smollm2", "url": "http://127.0.0.1:18001",
      "ready": true, "draining": false, "adapters": null, "group": "stable", "weight": 1.0}]}

A replica that leaves the document is evicted at once; one that turns `draining` takes no new request. `coming` names
the fleets of which a replica is being started.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One vLLM server as the gateway may use it."""

    name: str
    fleet: str
    url: str
    """Scheme, host and port, no path: `http://10.0.0.7:8000`."""
    ready: bool = True
    draining: bool = False
    adapters: tuple[str, ...] | None = None
    """LoRA adapters that it has loaded. None: not told, so it is taken to have all of the fleet's."""
    group: str = "stable"
    """`stable` or `canary`: which side of a split it serves."""
    weight: float = 1.0
    """Relative capacity, for fleets of unequal GPUs."""


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """The discovery document: every replica of every fleet that one gateway serves."""

    version: int = 0
    replicas: tuple[Replica, ...] = ()
    canary_weights: dict[str, int] = field(default_factory=dict)
    """Fleet -> percent of requests that go to its `canary` group."""
    coming: tuple[str, ...] = ()
    """Fleets of which somebody is starting a replica now: what waits for one is not given up meanwhile."""
