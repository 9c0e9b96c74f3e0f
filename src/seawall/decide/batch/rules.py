"""What a lane allows its tenants, from the specs of the fleets that it serves. Forbidden here: measuring."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from seawall.decide.pool import cost_of
from seawall.domain.spec import BatchSpec, Fleet

OF_ITS_POD = ("secret", "store_secret", "bucket_secret", "volume", "storage_class")
"""Fields of the lane's spec that its Pod is made of; the lane itself reads the others."""
LEAST_WINDOW_S = 600.0
MOST_WINDOW_S = 90 * 86_400.0


@dataclass(frozen=True)
class FleetRules:
    """What the lane knows of one fleet."""

    name: str
    models: frozenset[str]
    """Names that reach it: its own, adapters, aliases."""
    ttft_s: float = math.inf
    """Objective of interactive requests: seconds to the first token."""
    tpot_s: float = math.inf
    """Objective of interactive requests: seconds per output token."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Tenant -> share. Empty: nobody is listed, and all are alike."""
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Tenant -> models that it may use; an empty set: all."""
    prompt_price: float = 0.0
    """USD per million tokens, at the lane's price."""
    completion_price: float = 0.0
    max_body: int = 32 * 2**20
    gpus: int = 1
    """GPUs of one replica; 1 where there are none."""


@dataclass(frozen=True)
class LaneRules:
    """What the lane allows."""

    fleets: tuple[FleetRules, ...]
    spec: BatchSpec = field(default_factory=BatchSpec)

    def fleet_of(self, model: str) -> FleetRules | None:
        """The fleet that answers a model."""
        return next((f for f in self.fleets if model in f.models), None)

    def models(self, tenant: str, only: frozenset[str]) -> frozenset[str]:
        """The models that a tenant may use; `only`: where its key opens no more than these."""
        found: set[str] = set()
        for fleet in self.fleets:
            if not fleet.weights or tenant in fleet.weights:
                own = fleet.allowed.get(tenant, frozenset())
                found |= fleet.models & own if own else fleet.models
        return frozenset(found & only if only else found)

    @property
    def longest(self) -> int:
        """Bytes of a line, at most."""
        return max((f.max_body for f in self.fleets), default=32 * 2**20)


def bucket_parts(address: str) -> tuple[str, str, str]:
    """Scheme (s3 or gs), bucket and folder of an address. ValueError for any other."""
    scheme, _, rest = address.partition("://")
    bucket, _, folder = rest.partition("/")
    if scheme not in ("s3", "gs") or not bucket:
        raise ValueError(address)
    return scheme, bucket, folder.strip("/")


def rules_of(fleets: Iterable[Fleet]) -> LaneRules:
    """What specs say together: of fleets that enable the lane, or of all where none does."""
    every = list(fleets)
    enabled = [f for f in every if f.spec.gateway.batch is not None] or every
    specs = [f.spec.gateway.batch for f in enabled if f.spec.gateway.batch is not None]
    return LaneRules(tuple(_fleet(f) for f in enabled), specs[0] if specs else BatchSpec())


def _fleet(fleet: Fleet) -> FleetRules:
    gateway, slo = fleet.spec.gateway, fleet.spec.traffic.slo
    names = {*fleet.served_names, *(a.name for a in fleet.spec.model.adapters), *gateway.aliases}
    price = gateway.batch.price if gateway.batch is not None else 1.0
    return FleetRules(
        name=fleet.name,
        models=frozenset(names),
        ttft_s=slo.ttft,
        tpot_s=slo.tpot,
        weights={t.name: t.weight for t in gateway.tenants},
        allowed={t.name: frozenset(t.models) for t in gateway.tenants},
        prompt_price=(gateway.prompt_price or 0.0) * price,
        completion_price=(gateway.completion_price or 0.0) * price,
        max_body=gateway.max_body,
        gpus=cost_of(fleet),
    )


def read_at_start(rules: LaneRules) -> dict[str, Any]:
    """What a lane reads of its specs when it begins, JSON-able: a lane that runs has to begin anew when it changes."""
    spec = {k: v for k, v in asdict(rules.spec).items() if k not in OF_ITS_POD}
    fleets = [
        asdict(f)
        | {
            "models": sorted(f.models),
            "allowed": {name: sorted(models) for name, models in f.allowed.items()},
        }
        for f in rules.fleets
    ]
    return {"spec": spec, "fleets": fleets}
