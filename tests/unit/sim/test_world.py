"""Whole simulations: nobody vanishes, the same seed gives the same answer, queues obey the closed forms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seawall.decide.route.desk import BURST, EARNED
from seawall.decide.route.evidence import LEFT, Sight, bound_s
from seawall.decide.route.pace import pace_of
from seawall.domain.action import Plan, Timing
from seawall.domain.spec import Gateway, Hardware, RolloutSpec, Scaling, Spot
from seawall.errors import InputError
from seawall.sim import outcome as o
from seawall.sim.setup import Counts, Happening, Setup, parse_happening
from seawall.sim.world import simulate
from seawall.workload.arrivals import Requests

NOBODY = "no replica took over in time"
Make = Callable[..., Setup]
Load = Callable[..., Requests]


def balanced(c: Counts) -> bool:
    ended = c.done + c.rejected + c.expired + c.cancelled + c.refused + c.lost
    return c.arrived == ended + c.in_flight


def test_the_same_seed_gives_the_same_bytes(make: Make, load: Load) -> None:
    def once(seed: int) -> str:
        setup = make(seed=seed, happenings=(Happening(20, "kill"), Happening(60, "rollout")))
        found = simulate(setup, load("10/s for 400s"))
        return json.dumps([found.summary(), found.log, found.finish.tolist()])

    assert once(3) == once(3)
    assert once(3) != once(4)


def test_a_calm_fleet_serves_everybody_within_its_objectives(make: Make, load: Load) -> None:
    found = simulate(make(), load("5/s for 300s"))
    assert found.counts.done == found.counts.arrived == len(found.requests)
    assert found.summary()["slo_attainment"] == 1.0
    assert found.series.wanted == [2] * len(found.series.wanted)


def test_a_burst_scales_up_after_the_start_up_delay_and_loses_nobody(make: Make, load: Load) -> None:
    setup = make(Scaling(min=1, max=10, target=20), recipe="keda")
    found = simulate(setup, load("2/s for 5m, 30/s for 15m"))
    assert found.counts.lost == 0
    assert balanced(found.counts)
    grown = next(t for t, n in zip(found.series.t, found.series.ready, strict=True) if n > 1)
    decided = next(d.t for d in found.decisions if d.decision > 1)
    assert grown - decided >= 0.95 * (60 + 40 + 30)
    assert max(found.series.wanted) <= 10


def test_scale_to_zero_and_back(make: Make, load: Load) -> None:
    setup = make(Scaling(min=0, max=3, idle_after=120), initial=1)
    found = simulate(setup, load("2/s for 60s, 0/s for 600s, 1/s for 60s"))
    counts = [d.decision for d in found.decisions]
    assert 0 in counts
    assert counts[counts.index(0) + 1] == 1
    assert balanced(found.counts)
    assert found.counts.lost == 0


@pytest.mark.parametrize("kind", ["kill", "node", "spot", "rollout", "canary"])
def test_nothing_is_lost_whatever_happens(make: Make, load: Load, kind: str) -> None:
    spec = {
        "hardware": Hardware(gpu="H100-80GB", cloud="gke", spot=Spot(on_demand_floor=1)),
        "gateway": Gateway(queue_timeout=600, max_queued=100_000),
        "rollout": RolloutSpec(drain=5, pre_stop=5),
    }
    setup = make(Scaling(min=3, max=6), spec=spec, happenings=(parse_happening(f"60s {kind}"),))
    found = simulate(setup, load("10/s for 700s", output=400))
    assert found.counts.lost == 0
    assert found.counts.done == len(found.requests)
    if kind != "canary":
        assert found.counts.resumed > 0, "some streams were cut and continued elsewhere"


def test_without_resume_the_broken_are_lost_and_said_why(make: Make, load: Load) -> None:
    spec = {"gateway": Gateway(resume="off", queue_timeout=600)}
    found = simulate(make(spec=spec, happenings=(Happening(60, "kill"),)), load("10/s for 120s", output=400))
    assert found.counts.lost > 0
    assert found.counts.reasons == {"the engine died": found.counts.lost}
    assert balanced(found.counts)


def test_a_rollout_without_spare_gpus_goes_one_down_and_ends(make: Make, load: Load) -> None:
    spec = {
        "hardware": Hardware(gpu="H100-80GB", spare_gpus=False),
        "rollout": RolloutSpec(drain=60, pre_stop=1),
    }
    setup = make(Scaling(min=3, max=3), spec=spec, happenings=(Happening(30, "rollout"),))
    found = simulate(setup, load("3/s for 900s"))
    assert any("is complete" in text for _, text in found.log)
    assert min(found.series.ready) >= 2
    assert max(found.series.running) > 0
    assert found.counts.lost == 0


def test_a_fleet_that_nobody_scales_keeps_its_size(make: Make, load: Load) -> None:
    """`by: none` renders a fixed size; on this machine there is no Kubernetes to ask who scales."""
    scaling = Scaling(min=2, max=8, by="none")
    found = simulate(make(scaling, recipe=None), load("30/s for 120s"))
    assert set(found.series.wanted) == {2}
    spec = {"hardware": Hardware(gpu="cpu", cloud="local")}
    assert make(scaling, spec=spec, recipe=None).recipe == "keda"


def test_a_full_queue_says_429_and_long_waits_expire(make: Make, load: Load) -> None:
    spec = {"gateway": Gateway(max_queued=50, max_in_flight=4, queue_timeout=20)}
    found = simulate(make(Scaling(min=1, max=1), spec=spec), load("40/s for 120s"))
    assert found.counts.rejected > 0
    assert found.peak_queue <= 50
    assert balanced(found.counts)


def test_clients_without_patience_leave(make: Make, load: Load) -> None:
    spec = {"gateway": Gateway(max_queued=100_000, queue_timeout=3600)}
    found = simulate(make(Scaling(min=1, max=1), spec=spec, patience_s=5.0), load("60/s for 120s"))
    assert found.counts.cancelled > 0
    ttft = found.ttft[found.status == o.DONE]
    assert np.nanmax(ttft) < 60
    assert balanced(found.counts)


def test_the_guides_recipe_breaks_streams_that_ours_keeps(make: Make, load: Load) -> None:
    happenings = (Happening(120, "rollout"),)
    work = load("8/s for 600s", output=400)
    ours = simulate(make(Scaling(min=3, max=10), happenings=happenings), work)
    guide = simulate(make(Scaling(min=3, max=10), happenings=happenings, recipe="guide"), work)
    assert ours.counts.lost == 0
    assert guide.counts.lost > 0


def test_money_and_hours_add_up(make: Make, load: Load, plan: Plan) -> None:
    found = simulate(make(Scaling(min=2, max=2), recipe="fixed"), load("5/s for 1h"))
    hours = found.end_s / 3600 * 2
    assert sum(found.node_hours) == pytest.approx(hours, rel=1e-3)
    assert found.gpu_hours == pytest.approx(hours * 2, rel=1e-3)
    assert found.usd == pytest.approx(hours * 6.0, rel=1e-3)


def test_littles_law_holds(make: Make, load: Load) -> None:
    """L = lambda W, with L from the sampled series and W from the requests."""
    found = simulate(
        make(Scaling(min=2, max=2), recipe="fixed", setup={"bucket_s": 0.5}), load("15/s for 1200s")
    )
    inside = np.array(found.series.running) + np.array(found.series.waiting) + np.array(found.series.queued)
    mean_inside = float(inside[: int(1200 / 0.5)].mean())
    mean_time = float(np.nanmean(found.e2e))
    rate = len(found.requests) / 1200
    assert mean_inside == pytest.approx(rate * mean_time, rel=0.05)


def erlang_c(servers: int, load: float) -> float:
    """Chance to wait in M/M/c (`load` = lambda/mu)."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


def queue_setup(make: Make, plan: Plan, servers: int, step_s: float) -> Setup:
    """A replica as a plain queue: `servers` places, every step alike, prompts free."""
    timing = Timing(base_s=step_s, prefill_token_s=0, decode_seq_s=0, weight_read_s=0, kv_token_s=0)
    shaped = replace(plan, timing=timing, max_num_seqs=servers, kv_cache_tokens=10**9)
    spec = {"gateway": Gateway(max_queued=10**6, queue_timeout=10**6)}
    return make(Scaling(min=1, max=1), plan=shaped, spec=spec, recipe="fixed")


def poisson(rate: float, count: int, output: np.ndarray) -> Requests:
    gaps = np.random.default_rng(5).exponential(1 / rate, count)
    return Requests(arrival=np.cumsum(gaps), prompt=np.ones(count, np.int32), output=output.astype(np.int32))


@pytest.mark.parametrize(("servers", "use"), [(1, 0.7), (8, 0.8)])
def test_it_reduces_to_m_m_c(make: Make, plan: Plan, servers: int, use: float) -> None:
    """Geometric outputs of mean 1000 tiny steps are exponential services of 1 s."""
    count, step, mean = 15_000, 0.001, 1000
    outputs = np.random.default_rng(6).geometric(1 / mean, count)
    rate = use * servers
    found = simulate(queue_setup(make, plan, servers, step), poisson(rate, count, outputs))
    expected = erlang_c(servers, rate) / (servers - rate)
    waited = found.e2e - found.requests.output * step
    assert found.counts.done == count
    assert float(np.nanmean(waited)) == pytest.approx(expected, rel=0.1)


def test_it_reduces_to_m_d_1(make: Make, plan: Plan) -> None:
    """Outputs all alike are deterministic services: Pollaczek-Khinchine in the mean, Lindley's recursion one by one."""
    count, step, use = 15_000, 0.001, 0.8
    found = simulate(queue_setup(make, plan, 1, step), poisson(use, count, np.full(count, 1000)))
    expected = use / (2 * (1 - use))
    assert float(np.nanmean(found.e2e)) - 1.0 == pytest.approx(expected, rel=0.1)
    waited, exact = 0.0, []
    for gap in np.diff(found.requests.arrival, prepend=0.0):
        waited = max(0.0, waited + 1.0 - float(gap)) if exact else 0.0
        exact.append(waited)
    assert found.e2e - 1.0 == pytest.approx(np.array(exact), abs=1e-6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    rate=st.integers(1, 60),
    recipe=st.sampled_from(["keda", "guide", "fixed"]),
    kinds=st.lists(st.sampled_from(["kill", "node", "spot", "rollout", "canary"]), max_size=3),
    low=st.integers(0, 3),
    patience=st.sampled_from([2.0, 30.0, math.inf]),
    hedge_s=st.sampled_from([None, 0.05, 1.0]),
)
def test_no_request_vanishes(
    make: Make,
    load: Load,
    seed: int,
    rate: int,
    recipe: str,
    kinds: list[str],
    low: int,
    patience: float,
    hedge_s: float | None,
) -> None:
    happenings = tuple(parse_happening(f"{20 + 15 * i}s {k}") for i, k in enumerate(kinds))
    spec = {
        "hardware": Hardware(gpu="H100-80GB", cloud="karpenter", spot=Spot()),
        "rollout": RolloutSpec(drain=10, pre_stop=2),
        "gateway": Gateway(hedge_after=hedge_s),
    }
    setup = make(
        Scaling(min=low, max=low + 3, target=5, idle_after=30),
        spec=spec,
        recipe=recipe,
        happenings=happenings,
        patience_s=patience,
        spot_per_hour=0.9,
        seed=seed,
    )
    found = simulate(setup, load(f"{rate}/s for 60s, 0/s for 60s, {rate}/s for 20s", seed=seed))
    assert balanced(found.counts)
    assert found.counts.in_flight == 0
    assert int((found.status == o.OPEN).sum()) == 0
    if recipe != "guide":
        assert found.counts.reasons.keys() <= {NOBODY}, "lost only where no replica was there to take over"
        assert not found.counts.lost or not min(found.series.ready)
    assert max(found.series.wanted) <= max(low + 3, setup.initial)


def test_streams_of_the_only_replica_end_when_nobody_takes_over(make: Make, load: Load) -> None:
    """Its node died, and its successor comes long after the streams' time in the queue: as at the gateway, they fail
    then. They once waited for ever."""
    setup = make(Scaling(min=1, max=4), recipe="fixed", happenings=(Happening(20, "node"),))
    found = simulate(setup, load("9/s for 60s"))
    assert balanced(found.counts) and found.counts.in_flight == 0
    assert (
        found.counts.reasons == {NOBODY: found.counts.lost} and found.counts.lost == found.counts.resumed > 0
    )
    queue_s = setup.fleet.spec.gateway.queue_timeout
    hang_s = 1.5 * bound_s(pace_of(setup.plan), LEFT, Sight())
    assert found.end_s < 20 + hang_s + queue_s + 60


def test_a_replica_that_fails_every_request_is_taken_out_and_asked_for_a_proof(
    make: Make, load: Load
) -> None:
    """As at the gateway: three errors in a row. Requests are tried elsewhere, and nobody is lost to one bad replica."""
    setup = make(Scaling(min=3, max=3), recipe="fixed", happenings=(Happening(20, "canary", 1, 1.0, 1.0),))
    found = simulate(setup, load("10/s for 400s"))
    assert found.counts.retried > 0 and found.counts.lost == 0


def test_a_second_attempt_brings_the_first_token_where_a_replica_is_slow(make: Make, load: Load) -> None:
    """One replica of four is fifty times as slow. Who waits there is asked elsewhere, within the gateway's budget."""
    slow = (Happening(20, "canary", 1, 50.0),)

    def run(hedge_s: float | None) -> o.Outcome:
        setup = make(
            Scaling(min=4, max=4),
            spec={"gateway": Gateway(hedge_after=hedge_s)},
            recipe="fixed",
            happenings=slow,
        )
        return simulate(setup, load("10/s for 200s", output=16))

    without, found = run(None), run(0.5)
    assert (
        balanced(found.counts) and found.counts.in_flight == 0 and found.counts.done == found.counts.arrived
    )
    assert without.counts.hedged == 0 < found.counts.hedges_won <= found.counts.hedged
    assert found.counts.hedged <= found.counts.arrived * EARNED + BURST
    assert np.quantile(found.ttft, 0.99) < np.quantile(without.ttft, 0.99) / 2


def test_who_is_hedged_is_not_lost_with_a_replica(make: Make, load: Load) -> None:
    """A node is gone, which is noticed late; second attempts have taken over by then, and nobody is answered twice."""
    setup = make(
        Scaling(min=3, max=3),
        spec={"gateway": Gateway(hedge_after=0.02)},
        recipe="fixed",
        happenings=(Happening(20, "node"), Happening(60, "kill"), Happening(90, "kill")),
    )
    found = simulate(setup, load("12/s for 120s"))
    assert balanced(found.counts) and found.counts.in_flight == 0
    assert found.counts.hedged > 0 and found.counts.lost == 0


def test_the_more_that_arrives_the_more_replicas_are_used(make: Make, load: Load) -> None:
    hours = [
        simulate(make(Scaling(min=1, max=10, target=20)), load(f"{rate}/s for 12m")).gpu_hours
        for rate in (2, 8, 20)
    ]
    assert hours == sorted(hours)


def test_a_plan_that_does_not_fit_is_refused_with_its_reason(make: Make, load: Load, plan: Plan) -> None:
    with pytest.raises(InputError, match="too little memory"):
        simulate(make(plan=replace(plan, fits=False, reason="too little memory")), load("1/s for 1s"))


@pytest.mark.parametrize("text", ["kill", "10m explode", "soon kill", "10m kill many"])
def test_events_that_cannot_be_read_name_themselves(text: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        parse_happening(text)
