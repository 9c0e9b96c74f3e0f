"""The API server's clock and this machine's differ by minutes: ages, stories and holds are as long as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest
from tests.unit.operator.test_apply import READY, engine_pod
from tests.unit.operator.test_readiness import NS, gateway, served

from seawall.decide.canary import Margins, Side
from seawall.decide.rollout import RolloutPolicy, RolloutSeen, begin, decide
from seawall.diagnose.collect import collect
from seawall.drivers.clock import SteadyClock
from seawall.drivers.kube import Kube
from seawall.operator.sights import sight_of
from seawall.testing.kube_api import KubeApi

SLACK_S = 60
"""However busy this machine is."""


@pytest.fixture(params=[-240.0, 240.0], ids=["behind", "ahead"])
def skewed(request: pytest.FixtureRequest, api: KubeApi) -> Iterator[KubeApi]:
    api.faults.clock_ahead_s = request.param
    yield api


async def test_a_diagnosis_is_taken_at_the_servers_time(skewed: KubeApi, kube: Kube) -> None:
    """What stands in events and containers is compared with it."""
    facts = await collect(kube, NS, pause_s=0)
    assert abs(datetime.fromisoformat(facts["taken_at"]).timestamp() - skewed.now()) < SLACK_S


async def test_a_replica_is_as_old_as_it_is(skewed: KubeApi, kube: Kube) -> None:
    kube.clock = SteadyClock()
    served(skewed, wanted=1)
    ready = {**READY["conditions"][0], "lastTransitionTime": skewed.stamp()}
    skewed.put(engine_pod("p0", **{**READY, "conditions": [ready]}))
    gateway(skewed, p0="ready")
    (shown,) = [r for r in (await sight_of(kube, NS)).replicas if r.name == "p0"]
    assert shown.since is not None
    assert abs(time.time() - shown.since) < SLACK_S


def test_a_step_that_another_machine_began_is_held_in_full() -> None:
    """Whoever goes on with a canary has a clock that is four minutes behind: no hold of minutes becomes one of seven,
    and none is skipped."""
    policy = RolloutPolicy(weights=(5, 50), holds_s=(60.0, 60.0), margins=Margins())
    seen = RolloutSeen(baseline=Side(3), canary=Side(1))
    state = begin(seen, 1000.0)
    told, state = decide(policy, seen, state, 760.0)
    assert "0 of 60 s held" in told.reason
    assert state.since == 760.0
    told, _ = decide(policy, seen, state, 790.0)
    assert "30 of 60 s held" in told.reason
    assert replace(state, since=760.0) == state
