"""A canary in a simulation: the operator's own analysis and state machine, fed with what the simulated sides did.

Why: "how long will this canary take, and would it have caught a bad candidate?" is answered by running the very code
that will decide (`decide.rollout`, `decide.canary`), look by look, on the simulated traffic.
Forbidden here: judging. Times are seconds of simulated time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import log
from typing import Any

from seawall.decide import rollout
from seawall.decide.canary import Side, Sums
from seawall.domain.spec import Canary, Slo


class Tally:
    """One side's running sums, as the gateway keeps them."""

    __slots__ = ("errors", "requests", "slow", "tpot", "ttft")

    def __init__(self) -> None:
        self.requests = self.errors = self.slow = 0
        self.ttft, self.tpot = [0, 0.0, 0.0], [0, 0.0, 0.0]

    def side(self) -> Side:
        return Side(self.requests, self.errors, self.slow, _sums(self.ttft), _sums(self.tpot))


def _sums(numbers: list[Any]) -> Sums:
    return Sums(int(numbers[0]), numbers[1], numbers[2])


def _add(numbers: list[Any], seconds: float) -> None:
    x = log(seconds)
    numbers[0] += 1
    numbers[1] += x
    numbers[2] += x * x


@dataclass(frozen=True)
class TrialStanding:
    """Where a canary stands at the end of a run."""

    phase: str
    weight: int
    began_s: float
    ended_s: float | None
    """When it was promoted or rolled back for good; None: not by the end of the run."""
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Trial:
    """One canary from its start to its end."""

    def __init__(self, canary: Canary, slo: Slo, now: float) -> None:
        self.policy = rollout.policy_of(canary)
        self.slo = slo
        self.tallies = {"stable": Tally(), "canary": Tally()}
        self.state = rollout.begin(self._seen(True), now)
        self.began_s = now
        self.told = TrialStanding("stepping", self.weight, now, None, "no look yet")

    @property
    def weight(self) -> int:
        """Percent of the requests that the candidate gets."""
        return rollout.weight_of(self.policy, self.state)

    @property
    def over(self) -> bool:
        return self.state.phase in rollout.ENDED

    def served(self, group: str, ttft_s: float, tpot_s: float) -> None:
        """A request that this side answered; 0: not measured."""
        tally = self.tallies[group]
        tally.requests += 1
        tally.slow += ttft_s > self.slo.ttft or tpot_s > self.slo.tpot
        if ttft_s > 0:
            _add(tally.ttft, ttft_s)
        if tpot_s > 0:
            _add(tally.tpot, tpot_s)

    def lost(self, group: str) -> None:
        """An attempt that this side failed, mended elsewhere or not."""
        self.tallies[group].requests += 1
        self.tallies[group].errors += 1

    def look(self, settled: bool, now: float) -> tuple[rollout.RolloutDecision, bool]:
        """One look -> (the decision, whether phase or step have changed)."""
        before = (self.state.phase, self.state.step)
        decision, self.state = rollout.decide(self.policy, self._seen(settled), self.state, now)
        moved = (self.state.phase, self.state.step) != before
        # The verdict is the reason worth keeping; that the cluster has settled since adds nothing.
        reason = self.told.reason if self.over else decision.reason
        if self.state.phase in ("promoting", "rolling-back") and not moved:
            reason = self.told.reason
        self.told = replace(
            self.told,
            phase=self.state.phase,
            weight=decision.weight,
            ended_s=now if self.over else None,
            reason=reason,
        )
        return decision, moved

    def _seen(self, settled: bool) -> rollout.RolloutSeen:
        return rollout.RolloutSeen(
            baseline=self.tallies["stable"].side(), canary=self.tallies["canary"].side(), settled=settled
        )
