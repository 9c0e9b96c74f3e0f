"""A worker that stood still (SIGSTOP, a frozen machine) while its neighbours went on, and what is left of a rate."""

from __future__ import annotations

import pytest

from seawall.decide.route.meter import Meter, Taken


class Neighbours:
    """Other workers of this machine."""

    def __init__(self) -> None:
        self.took = 0

    def fresh(self) -> Taken:
        took, self.took = self.took, 0
        return Taken(took, 0, 0)

    def tell(self, requests: int, tokens: int, used: int) -> None: ...

    def own_used(self) -> int:
        return 0


@pytest.mark.parametrize("still_s", [61.0, 600.0, 36_000.0])
def test_it_does_not_pay_for_what_has_refilled_meanwhile(still_s: float) -> None:
    meter, others = Meter(per_minute=60), Neighbours()
    meter.share(others)
    assert meter.check(1, 0.0) is None
    others.took = int(still_s)  # the whole rate
    limited = meter.check(1, still_s)
    assert limited is None or limited.wait_s <= 1
    others.took = 90
    assert meter.check(1, still_s + 1) is not None, "what they took just now counts"
