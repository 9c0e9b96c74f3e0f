"""What the operator does when the cluster, its own leadership or a Fleet is in a bad state."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.operator.test_pools import NS, Cluster, fleet

from seawall.drivers.kube import Kube
from seawall.operator.loop import Operator
from seawall.operator.reconcile import desire
from seawall.testing.clock import StoryClock
from seawall.testing.kube_api import KubeApi
from seawall.testing.story import Story

FLEETS = "seawall.dev/v1alpha1", "fleets"


def plain(name: str) -> dict[str, Any]:
    made = fleet(name)
    made["spec"]["scaling"] = {"min": 1, "max": 1, "by": "none"}
    return made


def phase(api: KubeApi, name: str) -> str:
    return str((api.objects(*FLEETS)[NS, name].get("status") or {}).get("phase", ""))


async def test_fleets_that_cannot_be_read_are_told_so_and_the_others_are_served(
    api: KubeApi, kube: Kube
) -> None:
    broken: list[dict[str, Any]] = [
        {**plain("null-spec"), "spec": None},
        {**plain("a-list"), "spec": [1, 2]},
        {**plain("deep"), "spec": {"model": {"source": "hf://a/b", "config": {"hidden_size": [["x"]]}}}},
        {**plain("unknown"), "spec": {**plain("x")["spec"], "surprise": 1}},
    ]
    for obj in (*broken, plain("good")):
        api.put(obj)
    async with Cluster(api, kube) as c:
        await c.until(lambda: all(phase(api, o["metadata"]["name"]) == "Invalid" for o in broken))
        await c.until(lambda: (NS, "good") in api.objects("apps/v1", "deployments"))
        for o in broken:
            assert api.objects(*FLEETS)[NS, o["metadata"]["name"]]["status"]["reason"]


def test_a_fault_of_ours_is_a_problem_of_that_fleet_and_no_more() -> None:
    assert desire(plain("no-uid")).problem.startswith("a fault of Seawall (KeyError)")


async def test_without_the_crd_it_waits_and_begins_when_it_comes(api: KubeApi, kube: Kube) -> None:
    served = api.served.pop(FLEETS[0])
    async with Cluster(api, kube) as c:
        await c.passes(20)
        assert not c.operator.done()
        api.served[FLEETS[0]] = served
        api.put(plain("late"))
        await c.until(lambda: (NS, "late") in api.objects("apps/v1", "deployments"))


async def test_a_leader_lost_half_way_through_the_objects_is_followed_by_one_that_finishes(
    api: KubeApi, kube: Kube
) -> None:
    api.put(plain("one"))
    clock, cut, loop = StoryClock(), asyncio.Event(), asyncio.get_running_loop()
    task = asyncio.ensure_future(Operator(kube, None, clock, resync_s=0.5).run())

    def at(request: str) -> None:
        if request.startswith("PATCH"):
            loop.call_soon_threadsafe(task.cancel)  # in the middle of the call
            loop.call_soon_threadsafe(cut.set)

    api.faults.meanwhile = at
    await Story(clock, api).until(cut.is_set)
    api.faults.meanwhile = None
    await asyncio.gather(task, return_exceptions=True)
    assert (NS, "one") not in api.objects("apps/v1", "deployments"), "it was cut off at its first object"
    async with Cluster(api, kube) as c:
        await c.until(lambda: phase(api, "one") not in ("", "Invalid"))
        assert (NS, "one") in api.objects("apps/v1", "deployments")
        api.forget_history()  # every resourceVersion is 410 from now
        changed = api.objects(*FLEETS)[NS, "one"]
        changed["spec"]["scaling"]["min"] = changed["spec"]["scaling"]["max"] = 2
        api.put(changed)
        await c.until(lambda: api.objects("apps/v1", "deployments")[NS, "one"]["spec"]["replicas"] == 2)


async def test_a_fleet_that_is_being_deleted_is_left_alone_and_has_no_finalizer(
    api: KubeApi, kube: Kube
) -> None:
    gone = plain("gone")
    gone["metadata"] |= {"deletionTimestamp": "2026-11-23T00:00:00Z", "finalizers": ["somebody/else"]}
    api.put(gone)
    api.put(plain("stays"))
    async with Cluster(api, kube) as c:
        await c.until(lambda: (NS, "stays") in api.objects("apps/v1", "deployments"))
        assert (NS, "gone") not in api.objects("apps/v1", "deployments")
        kept = api.objects(*FLEETS)
        assert kept[NS, "gone"]["metadata"]["finalizers"] == ["somebody/else"]
        assert "finalizers" not in kept[NS, "stays"]["metadata"]


async def test_many_fleets_at_rest_cost_a_handful_of_requests(api: KubeApi, kube: Kube) -> None:
    """One look at the whole cluster per resync, whatever the number of Fleets."""
    count, resync_s = 24, 30.0
    for n in range(count):
        api.put(plain(f"f{n:03}"))
    async with Cluster(api, kube, resync_s=resync_s) as c:
        c.demand(f000=0)
        await c.until(lambda: len(c.controllers.pods()) == count)

        def asked(since: int) -> list[str]:
            return [r for r in api.requests[since:] if "watch=true" not in r]

        before = 0
        while before == 0 or any(r.startswith("PATCH") for r in asked(before)):
            before = len(api.requests)
            await c.passes(2 * resync_s)
        before = len(api.requests)
        await c.passes(6 * resync_s)
        assert len(asked(before)) < 6 * 14, asked(before)[:60]
