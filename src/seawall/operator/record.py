"""All that the operator knows of one Fleet, in one place: what it said, what came of it, and when to look again.

A Fleet that is gone, or goes, leaves nothing behind, for its name may be given to another: whatever is remembered per
Fleet is a field of its `FleetRecord` and nowhere else. What must outlive a restart lies in the cluster, not here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from seawall.drivers.kube import Object
from seawall.operator.canary import Rollout
from seawall.operator.pools import Memory
from seawall.operator.reconcile import Desired
from seawall.operator.surge import SurgeMemory

FleetKey = tuple[str, str]


@dataclass
class FleetRecord:
    """One Fleet."""

    key: FleetKey
    obj: Object | None = None
    """The Fleet object as it was seen last; None: it is gone, or never was."""
    rollout: Rollout | None = None
    """Its canary, which may be there without a Fleet object."""
    desired: Desired | None = None
    """What is served: of the last spec that can work."""
    made: tuple[object, Desired] | None = None
    """A generation (and the rollout that ended on it), and what came of planning and rendering that one."""
    applied: tuple[str, float] | None = None
    """Digest of the objects that were applied, and when."""
    adapters: str | None = None
    """Why an adapter is missing somewhere; "" when none is, None where none is loaded at run time."""
    pool: Memory | None = None
    surge: SurgeMemory = field(default_factory=lambda: SurgeMemory())
    dirty: bool = False
    busy: bool = False
    """Being reconciled; a change meanwhile makes it dirty again."""
    failures: int = 0
    not_before: float = 0.0
    look_at: float = math.inf
    """Something is expected that no event tells: look again then."""
    looks: int = 0
    """Looks so far at what is expected and has not come."""

    @property
    def leaves(self) -> bool:
        """It is being deleted."""
        return self.obj is not None and bool(self.obj["metadata"].get("deletionTimestamp"))

    @property
    def stays(self) -> bool:
        return self.obj is not None and not self.leaves

    @property
    def uid(self) -> str:
        return str(((self.obj or {}).get("metadata") or {}).get("uid") or "")

    def due(self, now: float) -> bool:
        return (self.dirty or self.look_at <= now) and not self.busy and self.not_before <= now

    def forget(self) -> None:
        """What was remembered of an object that is gone, or goes."""
        fresh = FleetRecord(self.key, obj=self.obj, rollout=self.rollout, busy=self.busy, dirty=self.dirty)
        self.__dict__.update(fresh.__dict__)


class Records:
    """Every Fleet that is known of."""

    def __init__(self) -> None:
        self._all: dict[FleetKey, FleetRecord] = {}

    def __iter__(self) -> Iterator[FleetRecord]:
        return iter(list(self._all.values()))

    def get(self, key: FleetKey) -> FleetRecord | None:
        return self._all.get(key)

    def of(self, key: FleetKey) -> FleetRecord:
        """Of this Fleet, made where there is none yet."""
        return self._all.setdefault(key, FleetRecord(key))

    def drop(self, record: FleetRecord) -> None:
        """Nothing is left to know of it."""
        if record.obj is None and record.rollout is None and not record.dirty:
            self._all.pop(record.key, None)

    def mark(self, keys: Iterable[FleetKey]) -> None:
        for key in keys:
            self.of(key).dirty = True
