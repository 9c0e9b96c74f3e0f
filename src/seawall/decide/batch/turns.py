"""Whose line is next. Batches that would miss their deadline come first, the earliest before the others; of the rest,
tenants take turns by their shares, and of one tenant's batches the earliest deadline goes first.

Forbidden here: clocks, files, and what a line says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TurnAsk:
    """A batch that has a line to send."""

    id: str
    tenant: str
    deadline: float
    weight: float = 1.0
    needy: bool = False
    """True: the batch will miss its deadline unless it goes first (`finish.in_need`)."""


class Turns:
    """What tenants have had, in lines by their weight. A tenant that comes back has saved up nothing."""

    def __init__(self) -> None:
        self._had: dict[str, float] = {}

    def next(self, candidates: Iterable[TurnAsk]) -> TurnAsk | None:
        """The batch whose line is next; it counts as sent. None: there is none."""
        some = list(candidates)
        if not some:
            return None
        tenants = {c.tenant for c in some}
        least = min((had for name, had in self._had.items() if name in tenants), default=0.0)
        self._had = {name: max(least, self._had.get(name, least)) for name in tenants}
        needy = [c for c in some if c.needy]
        if needy:
            chosen = min(needy, key=lambda c: (c.deadline, c.id))
        else:
            chosen = min(some, key=lambda c: (self._had[c.tenant], c.tenant, c.deadline, c.id))
        self._had[chosen.tenant] += 1.0 / chosen.weight
        return chosen
