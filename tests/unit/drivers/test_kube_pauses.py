"""A busy API server is left alone as long as it asks, and no longer than a person waits; its clock is its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from seawall.drivers.kube import DEPLOYMENT, POD, Kube, Refused, Select, Synced
from seawall.drivers.kube_pauses import ahead_s, pause_s, retry_after_s
from seawall.testing.clock import JumpClock
from seawall.testing.kube_api import KubeApi


@pytest.fixture
def clock(kube: Kube) -> JumpClock:
    kube.clock = JumpClock()
    return kube.clock


async def test_a_busy_server_is_asked_again_when_it_says_and_as_often_as_it_says(
    api: KubeApi, kube: Kube, clock: JumpClock
) -> None:
    api.faults.busy, api.faults.retry_after = 7, "5"
    assert await kube.list(Select(POD, "llm"), lambda o: o) == {}
    assert 35 <= clock.now() < 40, "seven pauses of five seconds, none cut short"


@pytest.mark.parametrize("asked", ["3600", "9" * 40, "61"])
async def test_nobody_is_held_up_for_an_hour(api: KubeApi, kube: Kube, clock: JumpClock, asked: str) -> None:
    api.faults.busy, api.faults.retry_after = 1, asked
    with pytest.raises(Refused, match="429") as e:
        await kube.list(Select(POD, "llm"), lambda o: o)
    assert clock.now() == 0
    assert "asks to be left alone for" in e.value.cure
    assert len(api.requests) == 1


async def test_a_server_that_stays_busy_is_waited_for_for_a_minute(
    api: KubeApi, kube: Kube, clock: JumpClock
) -> None:
    for asked in ("0", "1", "20"):
        api.faults.busy, api.faults.retry_after, clock.t = 10_000, asked, 0.0
        before = len(api.requests)
        with pytest.raises(Refused):
            await kube.get(DEPLOYMENT, "llm", "d")
        assert 30 <= clock.now() <= 60
        assert len(api.requests) - before < 100


async def test_a_post_that_was_not_taken_is_sent_again(api: KubeApi, kube: Kube, clock: JumpClock) -> None:
    api.faults.busy = 1
    assert await kube.may("list", POD, "llm")


async def test_a_watch_comes_again_when_the_server_says(api: KubeApi, kube: Kube, clock: JumpClock) -> None:
    api.faults.busy, api.faults.retry_after = 1, "300"
    async for _ in kube.watch(Select(POD, "llm"), lambda o: o):
        assert isinstance(_, Synced)
        break
    assert 60 <= clock.now() <= 72


def test_a_date_counts_from_the_servers_own_clock() -> None:
    """Its clock is a day ahead of ours: what counts is the difference of its two words."""
    sent = datetime.now(UTC) + timedelta(days=1)
    headers = {"date": format_datetime(sent), "retry-after": format_datetime(sent + timedelta(seconds=8))}
    assert retry_after_s(headers) == 8
    assert retry_after_s({**headers, "retry-after": headers["date"]}) == 0
    assert retry_after_s({"retry-after": "soon"}) == 1
    assert retry_after_s({"retry-after": "-3"}) == 1
    assert retry_after_s({}) is None
    assert pause_s(429, headers, b"", ("POST", "/x"), 0) == 8


def test_clocks_that_nearly_agree_are_the_same() -> None:
    now = 1_790_000_000.0
    for ahead, seen in ((0, 0), (3, 0), (-3, 0), (240, 240), (-240, -240)):
        date = format_datetime(datetime.fromtimestamp(now + ahead, UTC))
        assert ahead_s({"date": date}, now) == seen
    assert ahead_s({}, now) is None
    assert ahead_s({"date": "yesterday"}, now) is None


@pytest.mark.parametrize("ahead", [-240.0, 0.0, 240.0])
async def test_the_servers_time_is_its_own(api: KubeApi, kube: Kube, ahead: float) -> None:
    api.faults.clock_ahead_s = ahead
    made = api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "llm"}})
    await kube.list(Select(POD, "llm"), lambda o: o)
    stamp = datetime.fromisoformat(made["metadata"]["creationTimestamp"]).timestamp()
    assert abs(kube.server_time() - stamp) < 60, "however busy this machine is"
    assert abs(kube.ahead_s - ahead) < 30
