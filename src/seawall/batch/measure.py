"""What the lane's controller goes by: how interactive requests of each fleet have fared in the last seconds.

Made of what gateways tell (`domain.told`), which counts since their start. Forbidden here: asking them, deciding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from seawall.decide.batch.spare import SpareSeen, quantile
from seawall.decide.route.desk import SPARE_SHARE
from seawall.domain.told import TPOT_BOUNDS_S, TTFT_BOUNDS_S, FleetState, GatewayState

LATELY_S = 6.0
PERCENTILE = 0.95


class Interactive:
    """See the module. One per lane."""

    def __init__(self) -> None:
        self._told: deque[tuple[float, GatewayState]] = deque()

    def told(self, state: GatewayState, now: float) -> None:
        """Takes what gateways tell now."""
        self._told.append((now, state))
        while len(self._told) > 2 and self._told[1][0] <= now - LATELY_S:
            self._told.popleft()

    def lost(self) -> None:
        """No gateway answers: what was told says nothing any more."""
        self._told.clear()

    def seen(self, fleet: str, running: int, refused: int) -> SpareSeen:
        """What is known of a fleet; `running` and `refused` are of the lane's own lines."""
        if not self._told:
            return SpareSeen(0, running)
        state = self._told[-1][1]
        now, before = state.fleets.get(fleet, FleetState()), self._told[0][1].fleets.get(fleet, FleetState())
        ready = [r for r in state.of(fleet).values() if r.state == "ready"]
        return SpareSeen(
            places=sum(max(1, int(r.cap * SPARE_SHARE)) for r in ready if r.cap),
            running=running,
            queued=now.queued - now.queued_due,
            ttft_s=quantile(_grown(now.ttft_counts, before.ttft_counts), TTFT_BOUNDS_S, PERCENTILE),
            tpot_s=quantile(_grown(now.tpot_counts, before.tpot_counts), TPOT_BOUNDS_S, PERCENTILE),
            refused=refused,
        )

    def in_flight(self, fleet: str) -> int:
        """Requests and lines at its replicas."""
        return self._told[-1][1].fleets.get(fleet, FleetState()).in_flight if self._told else 0

    def ready(self, fleet: str) -> int:
        """Replicas that serve."""
        return sum(r.state == "ready" for r in self._told[-1][1].of(fleet).values()) if self._told else 0


def _grown(now: Sequence[int], before: Sequence[int]) -> list[int]:
    """What was counted in between; a gateway that began anew counts from nothing."""
    if len(now) != len(before):
        return list(now)
    return [max(0, a - b) for a, b in zip(now, before, strict=True)]
