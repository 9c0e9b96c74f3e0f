"""The supervisor's clock, and what a proof puts in its place."""

from __future__ import annotations

import time

from seawall.drivers.clock import Clock as Clock
from seawall.drivers.clock import SteadyClock as SteadyClock


class SettableClock(SteadyClock):
    """The time of day, which NTP and people set. A proof uses it to show what the steady clock is good for."""

    def now(self) -> float:
        return time.time()
