"""KEDA asks, our decision answers: fresh, each fleet by itself, never by guessing, and so that it can be replayed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from seawall.decide import scale
from seawall.decide.scale import ScalePolicy, keda_metrics
from seawall.decide.scale.behavior import DirectionRules
from seawall.decide.scale.budget import DayBudget
from seawall.decide.scale.formula import FormulaError
from seawall.decide.scale.keda import Fallback
from seawall.decide.scale.policy import DOWN_POLICIES, UP_POLICIES
from seawall.decide.scale.record import DecisionRecord, policy_text, read, replay
from seawall.decide.scale.schedule import Window
from seawall.domain.told import FleetState, GatewayState
from seawall.drivers.keda import Blind, KedaQuestion
from seawall.drivers.kube import Kube
from seawall.drivers.kube_gateways import Answers, PodKey
from seawall.errors import InputError
from seawall.operator.scaler import BLIND_S, PUSH_S, DecidingScaler
from seawall.testing.clock import EPOCH, JumpClock
from seawall.testing.kube_api import KubeApi

POLICY = ScalePolicy(
    lowest=1,
    highest=20,
    target=10.0,
    up=DirectionRules(0, "Max", UP_POLICIES),
    down=DirectionRules(300, "Max", DOWN_POLICIES),
)


@dataclass
class Gateways:
    """What the gateways tell; `silent`: one of them does not."""

    pending: int = 5
    admitted: dict[str, int] = field(default_factory=lambda: {"gw-1": 0})
    silent: bool = False

    async def hear(self, kube: Kube, namespace: str) -> Answers:
        def state(n: int, total: int) -> GatewayState:
            pending = self.pending if n == 0 else 0
            return GatewayState(
                fleets={"chat": FleetState(pending=pending, in_flight=pending, admitted_total=total)}
            )

        states: dict[PodKey, GatewayState] = {
            (namespace, name): state(n, total) for n, (name, total) in enumerate(self.admitted.items())
        }
        return Answers(states, {(namespace, "gw-9"): "no answer"} if self.silent else {})


@dataclass
class Story:
    """A scaler, its world, and what it told."""

    scaler: DecidingScaler
    clock: JumpClock
    gateways: Gateways
    api: KubeApi
    told: list[DecisionRecord]

    def count(self, replicas: int) -> None:
        """The Deployment as the HPA leaves it."""
        self.api.put(deployment(replicas))

    async def ask(self, policy: ScalePolicy = POLICY, **trigger: str) -> int:
        """KEDA's question, 15 s later; the HPA obeys."""
        self.clock.t += 15
        found = await self.scaler.replicas(asked(policy, **trigger))
        self.count(found)
        return found


def asked(policy: ScalePolicy = POLICY, **trigger: str) -> KedaQuestion:
    return KedaQuestion(
        "llm", "chat", {"fleet": "chat", "target": "chat", "policy": policy_text(policy), **trigger}
    )


def deployment(replicas: int) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "chat", "namespace": "llm"},
        "spec": {"replicas": replicas},
    }


@pytest.fixture
def story(kube: Kube, api: KubeApi) -> Story:
    told: list[DecisionRecord] = []
    clock, gateways = JumpClock(), Gateways()
    api.faults.clock_ahead_s = EPOCH - time.time()  # the server's clock is the story's
    api.put(deployment(1))
    scaler = DecidingScaler(kube, clock, lambda record, before: told.append(record), gateways.hear)
    return Story(scaler, clock, gateways, api, told)


async def test_a_burst_is_met_and_the_reason_is_told(story: Story) -> None:
    assert await story.ask() == 1
    story.gateways.pending = 48
    assert await story.ask() == 5
    assert story.told[-1].reason == "48 requests per replica, target 10: 5 wanted"


async def test_two_questions_of_one_moment_are_one_look(story: Story) -> None:
    await story.ask()
    await asyncio.gather(*(story.scaler.active(asked()) for _ in range(5)))
    assert len(story.told) == 1


async def test_the_rate_is_that_of_gateways_that_were_there_before(story: Story) -> None:
    """A gateway that comes, or counts anew, makes no spike and no hole of it."""
    rates = []
    for counts in (
        {"gw-1": 0},
        {"gw-1": 60},
        {"gw-1": 120, "gw-2": 9_000},
        {"gw-1": 150, "gw-2": 9_030},
        {"gw-2": 9_060},
    ):
        story.gateways.admitted = counts
        await story.ask()
        rates.append(story.told[-1].seen.arrivals_per_s)
    assert rates == [None, 4.0, 8.0, 4.0, 2.0]


async def test_blind_for_a_moment_the_last_word_stands_and_then_keda_is_told(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    story.gateways.pending = 48
    assert await story.ask() == 5
    story.gateways.silent, story.gateways.pending = True, 0
    for _ in range(int(BLIND_S / 15)):
        assert await story.ask() == 5
        assert caplog.messages.pop() == "llm/chat: blind: a gateway does not answer", (
            "an answer with its reason"
        )
    with pytest.raises(Blind, match="a gateway does not answer"):
        await story.ask()
    story.gateways.silent = False
    assert await story.ask() == 5  # the window holds: the silence was no lull


async def test_without_a_first_look_nothing_is_guessed(story: Story) -> None:
    story.gateways.silent = True
    with pytest.raises(Blind):
        await story.ask()
    story.gateways.silent, story.gateways.admitted = False, {}
    with pytest.raises(Blind, match="no gateway of llm serves chat"):
        await story.ask()
    story.clock.t += 15
    with pytest.raises(Blind, match="no Deployment llm/gone"):
        await story.scaler.replicas(asked(target="gone"))


@pytest.mark.parametrize("trigger", [{"policy": "{"}, {"floor": "x"}, {"policy": '{"lowest": 1}'}])
async def test_a_trigger_that_cannot_be_read_is_told_with_its_cure(
    story: Story, trigger: dict[str, str]
) -> None:
    with pytest.raises(InputError, match="Render the fleet again"):
        await story.ask(**trigger)
    with pytest.raises(InputError, match="no usable 'fleet'"):
        await story.scaler.replicas(KedaQuestion("llm", "chat", {}))


async def test_at_zero_the_first_request_is_pushed(story: Story) -> None:
    story.gateways.pending = 0
    story.count(0)
    zero = replace(POLICY, lowest=0)
    activity = story.scaler.activity(asked(zero))
    assert await anext(activity) is False
    story.gateways.pending, came = 1, story.clock.now()
    assert await anext(activity) is True
    assert story.clock.now() - came <= 2 * PUSH_S, "and not with the next sign of life"
    assert await story.scaler.replicas(asked(zero)) == 1
    await activity.aclose()  # type: ignore[attr-defined]


async def test_the_on_demand_floor_is_counted_and_not_answered(story: Story) -> None:
    story.gateways.pending = 48
    assert await story.ask(floor="2") == 3
    assert story.told[-1].seen.replicas == 3


async def lived(story: Story, policy: ScalePolicy, demands: Iterable[int]) -> None:
    total = 0
    for pending in demands:
        story.gateways.pending = pending
        total += 3 * pending
        story.gateways.admitted = {"gw-1": total}
        await story.ask(policy)


@pytest.mark.parametrize("kind", ["hpa", "slo"])
async def test_what_was_decided_is_decided_again_from_the_log(story: Story, kind: Any) -> None:
    """Also over a change of the policy, and whatever a log writes before each line and between them."""
    policy = replace(POLICY, kind=kind)
    await lived(story, policy, [5, 40, 90, 120, 60, 10, 0, 0, 30] * 8)
    await lived(story, replace(policy, highest=4), [90] * 5)
    log = []
    for record in story.told:
        log += ["2026-11-30 03:00:01,113 WARNING something else", f"2026-11-30 INFO {record.line}"]
    again = list(replay(read(log)))
    assert len(again) == len(story.told) == 77
    assert all(r.same for r in again)
    assert {r.replicas for r in again[-2:]} == {4}
    other = list(replay(read(log), replace(policy, target=3.0)))
    assert any(not r.same for r in other)


def test_a_log_with_a_broken_decision_is_refused() -> None:
    with pytest.raises(InputError, match="line 2 is no decision"):
        list(read(["hello", 'x {"decision": 3}'.replace(" 3", "3")]))


def composed(
    decided_m: int | None, demand_m: int | None, failures: int, schedule_m: int | None = None
) -> int:
    """The value that KEDA hands to the HPA, by its own rules, where a trigger without a value has failed so often."""
    fallback = Fallback(replicas=1, failure_threshold=4, behavior="scalingModifiers")
    values = {"s0-replicas": decided_m, "s1-prometheus": demand_m}
    names = {"s0-replicas": "decided", "s1-prometheus": "demand"}
    formula = "decided ?? (demand / 10)"
    if schedule_m is not None:
        values["s2-cron"], names["s2-cron"] = schedule_m, "schedule_0"
        formula = "decided ?? max((demand / 10), schedule_0)"
    health = {
        name: keda_metrics.Health(failures, keda_metrics.FAILING)
        if value is None
        else keda_metrics.Health(0, "Happy")
        for name, value in values.items()
    }
    return keda_metrics.composite_value_m(
        formula,
        [(name, -1000 if value is None else value) for name, value in values.items()],
        names,
        fallback,
        health,
        "1",
    )


def test_keda_follows_us_falls_back_to_arithmetic_and_holds_when_it_sees_nothing() -> None:
    assert composed(7000, 200_000, 0) == 7000
    assert composed(0, 200_000, 0) == 0
    assert composed(None, 200_000, 5) == 20_000
    assert composed(7000, None, 5) == 7000
    with pytest.raises(FormulaError):
        composed(None, None, 5)


def test_while_we_are_silent_keda_keeps_the_schedule_by_its_own_clock() -> None:
    assert composed(7000, 20_000, 0, schedule_m=12_000) == 7000
    assert composed(None, 20_000, 5, schedule_m=12_000) == 12_000
    assert composed(None, 200_000, 5, schedule_m=12_000) == 20_000
    assert composed(None, 20_000, 5, schedule_m=1000) == 2000  # its window is closed
    with pytest.raises(FormulaError):
        composed(None, None, 5, schedule_m=12_000)


async def test_a_schedule_and_a_budget_are_kept_by_the_time_of_day(story: Story) -> None:
    """Stories begin on a Monday at 14:13 UTC; the window opens at 14:20."""
    window = Window("20 14 * * *", "0 18 * * *", "UTC", lowest=4)
    policy = replace(POLICY, lowest=0, windows=(window,), budget=DayBudget(20, 1))
    story.gateways.pending = 0
    story.count(0)
    assert await story.ask(policy) == 0
    assert not await story.scaler.active(asked(policy))
    story.clock.t += 600
    assert await story.ask(policy) == 1
    assert await story.scaler.active(asked(policy))
    assert await story.ask(policy) == 4
    story.gateways.pending = 200
    for _ in range(8):
        assert await story.ask(policy) <= 9
    assert "of 20 GPU-hours of today are spent" in story.told[-1].reason
    assert all(r.same for r in replay(read(record.line for record in story.told)))


async def test_a_draining_replica_and_a_canary_are_paid_out_of_the_budget(story: Story) -> None:
    """Four Pods hold GPUs where two are wanted; one that has ended holds none."""
    policy = replace(POLICY, budget=DayBudget(40, 2))
    for name, group, gone, phase in (
        ("a", "stable", None, "Running"),
        ("b", "stable", None, "Pending"),
        ("old", "stable", "2026-09-21T14:00:00Z", "Running"),
        ("new", "canary", None, "Running"),
        ("ended", "stable", None, "Failed"),
    ):
        labels = {"seawall.dev/fleet": "chat", "seawall.dev/role": "engine", "app.kubernetes.io/name": "vllm"}
        meta = {"name": name, "namespace": "llm", "labels": {**labels, "seawall.dev/group": group}}
        meta |= {"deletionTimestamp": gone, "finalizers": ["x"]} if gone else {}
        story.api.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"phase": phase}})
    story.count(2)
    state: scale.ScaleState = {}
    for _ in range(5):
        await story.ask(policy)
    assert [r.seen.there for r in story.told] == [4] * 5
    for record in story.told:
        _, state = scale.decide(policy, record.seen, state, record.at_s)
    assert state["spent"]["gpu_s"] == pytest.approx(4 * 2 * 75, abs=4 * 2), "stamps are of whole seconds"


async def test_a_scaler_that_begins_at_noon_knows_what_the_replicas_have_cost_since_midnight(
    story: Story,
) -> None:
    """It was replaced, say: its memory is gone, the Pods tell. Stories begin at 14:13 UTC."""
    policy = replace(POLICY, budget=DayBudget(40, 2))
    for name, made in (("a", "2026-09-20T09:00:00Z"), ("b", "2026-09-21T13:00:00Z"), ("c", "nonsense")):
        labels = {"seawall.dev/fleet": "chat", "seawall.dev/role": "engine", "app.kubernetes.io/name": "vllm"}
        meta = {"name": name, "namespace": "llm", "labels": labels, "creationTimestamp": made}
        story.api.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta})
    story.count(2)
    await story.ask(policy)
    await story.ask(policy)
    state: scale.ScaleState = {}
    for record in story.told:
        _, state = scale.decide(policy, record.seen, state, record.at_s)
    assert state["spent"]["gpu_s"] / 3600 == pytest.approx(2 * (14.222 + 1.222), abs=0.05)
    assert story.told[0].seen.made_s and not story.told[1].seen.made_s, "told once"
    assert all(r.same for r in replay(read(record.line for record in story.told)))


async def test_the_decision_of_the_cluster_is_the_simulator_s(story: Story) -> None:
    """Look by look: the same numbers seen give the same counts as the pure function."""
    policy = replace(POLICY, kind="slo")
    await lived(story, policy, [5, 50, 50, 50, 5, 5] * 20)
    state: scale.ScaleState = {}
    for record in story.told:
        decision, state = scale.decide(policy, record.seen, state, record.at_s)
        assert decision.replicas == record.replicas
