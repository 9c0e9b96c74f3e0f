"""Who asks: tenants, their limits, and what they have used. Keys are never kept, only their hashes."""

from __future__ import annotations


class Tenant:
    """One tenant with its rights and its running totals."""

    __slots__ = ("models", "name", "priority", "weight")

    def __init__(
        self, name: str, weight: float = 1.0, priority: int = 5, models: frozenset[str] = frozenset()
    ) -> None:
        self.name = name
        self.weight = weight
        self.priority = priority
        self.models = models


ANYONE = Tenant("")
