"""A canary in simulated time: how long it takes, what it catches, and what it costs the clients (nothing)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seawall.domain.spec import Canary, CanaryStep, CandidateSpec, Gateway, RolloutSpec, Scaling
from seawall.errors import InputError
from seawall.sim.outcome import Outcome
from seawall.sim.report import rows_of
from seawall.sim.setup import Setup, parse_happening
from seawall.sim.world import simulate
from seawall.workload.arrivals import Requests

Make = Callable[..., Setup]
Load = Callable[..., Requests]

STEPS = [CanaryStep(weight=20, hold=60), CanaryStep(weight=50, hold=60)]
PATIENT = Gateway(queue_timeout=600, max_queued=100_000)


def run(make: Make, load: Load, event: str, rate: str = "20/s for 20m", **more: object) -> Outcome:
    canary = Canary(steps=STEPS, candidate=CandidateSpec(replicas=2))
    spec = {"rollout": RolloutSpec(drain=30, pre_stop=5, canary=canary), "gateway": PATIENT}
    setup = make(Scaling(min=3, max=3), spec=spec, happenings=(parse_happening(event),), **more)
    return simulate(setup, load(rate, output=40))


def test_a_good_candidate_is_promoted_and_how_long_that_took_is_said(make: Make, load: Load) -> None:
    found = run(make, load, "2m canary")
    assert found.canary is not None
    assert found.canary.phase == "promoted"
    assert found.canary.ended_s is not None and found.canary.ended_s - found.canary.began_s > 120
    assert found.counts.done == len(found.requests)
    assert found.series.ready[-1] == 3, "the canary's own pods are gone, the fleet's replaced"
    assert ("canary", True) in [(k, "promoted" in v and "after its start" in v) for k, v in rows_of(found)]
    assert found.summary()["canary"]["phase"] == "promoted"


def test_a_slow_candidate_is_rolled_back_soon(make: Make, load: Load) -> None:
    found = run(make, load, "2m canary slower 2")
    assert found.canary is not None
    assert found.canary.phase == "rolled-back"
    assert "baseline's" in found.canary.reason
    assert found.counts.done == len(found.requests)
    assert found.series.ready[-1] == 3


def test_a_failing_candidate_is_rolled_back_and_no_client_notices(make: Make, load: Load) -> None:
    found = run(make, load, "2m canary errors 30%")
    assert found.canary is not None
    assert (found.canary.phase, found.counts.lost) == ("rolled-back", 0)
    assert "points of errors" in found.canary.reason
    assert found.counts.retried > 0
    assert found.counts.done == len(found.requests)


def test_without_retries_a_failing_candidate_loses_requests_and_says_so(make: Make, load: Load) -> None:
    canary = Canary(steps=STEPS)
    spec = {"rollout": RolloutSpec(canary=canary), "gateway": Gateway(retries=0, queue_timeout=600)}
    setup = make(Scaling(min=3, max=3), spec=spec, happenings=(parse_happening("2m canary errors 50%"),))
    found = simulate(setup, load("20/s for 10m", output=40))
    assert found.counts.reasons == {"the replicas' own errors": found.counts.lost}
    assert found.counts.lost > 0


def test_too_little_traffic_proves_nothing_and_waits_for_a_person(make: Make, load: Load) -> None:
    found = run(make, load, "1m canary", rate="0.05/s for 40m")
    assert found.canary is not None
    assert (found.canary.phase, found.canary.ended_s) == ("paused", None)
    assert any("when the run ended" in text for _, text in rows_of(found))


def test_the_guides_recipe_has_no_canary_and_rolls_out(make: Make, load: Load) -> None:
    found = run(make, load, "2m canary", recipe="guide")
    assert found.canary is None
    assert any("is complete" in text for _, text in found.log)


@pytest.mark.parametrize(
    "text", ["1m canary slower", "1m canary errors 200%", "1m canary slower 0", "1m kill errors 2%"]
)
def test_candidates_that_cannot_be_read_name_themselves(text: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        parse_happening(text)
