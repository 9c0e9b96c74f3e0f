"""How gateways share the places at one fleet's replicas, by who waits at each of them. Pure.

A tenant's weight is its own, wherever it comes in: at each gateway it counts by the part of its requests that waits
there. So tenants get places in proportion to their weights, however unevenly they land.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Demand = Mapping[str, Sequence[float]]
"""Tenant -> its weight and how many of its requests wait."""


def share_of(own: Demand, everybody: Sequence[Demand]) -> float | None:
    """This gateway's part (0..1) of the places while somebody waits; None: nobody waits anywhere. `everybody` holds
    what each gateway has told last, this one's included."""
    total: dict[str, float] = {}
    weights: dict[str, float] = {}
    for demand in everybody:
        for tenant, (weight, count) in demand.items():
            total[tenant] = total.get(tenant, 0.0) + count
            weights[tenant] = max(weights.get(tenant, 0.0), weight)
    whole = sum(weights[t] for t, count in total.items() if count > 0)
    if whole <= 0:
        return None
    mine = sum(
        weights[t] * min(1.0, count / total[t]) for t, (_, count) in own.items() if total.get(t, 0.0) > 0
    )
    return min(1.0, mine / whole)


def places_wanted(cap: int, in_flight: int, others: int, gateways: int, part: float | None) -> int:
    """Places at one replica that this gateway asks for: its `part` while somebody waits; otherwise what it has in
    flight and its share of what is free, at least one, so that a request need not wait for the next round."""
    if part is not None:
        return math.ceil(cap * part - 1e-9)
    free = cap - in_flight - others
    return in_flight + max(1, free // max(1, gateways))
