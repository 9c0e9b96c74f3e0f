"""What happens to Fleets while the operator is at work on them: deletion, conflicts, restarts, rights, old objects."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.test_bad_days import FLEETS, phase, plain
from tests.unit.operator.test_operator import RIGHTS
from tests.unit.operator.test_pools import NS, Cluster

from seawall.cli.fleets import group_of
from seawall.domain.labels import DELETION_COST
from seawall.drivers.kube import ENDPOINT_SLICE, Kube, Select
from seawall.operator import canary
from seawall.operator.lease import HOLD_S, Leader
from seawall.operator.loop import Operator, operate
from seawall.testing.clock import StoryClock
from seawall.testing.kube_api import KubeApi
from seawall.testing.story import Story

DEPLOYMENTS = "apps/v1", "deployments"
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi() as double:
        gateway = {"name": "g", "namespace": NS, "labels": {"app.kubernetes.io/name": "seawall-gateway"}}
        double.put({"apiVersion": "v1", "kind": "Pod", "metadata": gateway, "status": {"phase": "Running"}})
        yield double


def applied(api: KubeApi, name: str) -> bool:
    rows = {c["type"]: c for c in (api.objects(*FLEETS)[NS, name].get("status") or {}).get("conditions", [])}
    return bool(rows) and rows["Applied"]["status"] == "True"


def change(api: KubeApi, name: str, **spec: Any) -> None:
    obj = api.objects(*FLEETS)[NS, name]
    api.put({**obj, "spec": {**obj["spec"], **spec}})


async def test_what_is_wanted_no_more_is_deleted_and_nothing_that_is_not_its_own(
    api: KubeApi, kube: Kube
) -> None:
    fleet = plain("one")
    fleet["spec"]["scaling"] = {"min": 1, "max": 3, "by": "keda-prometheus"}
    api.put(fleet)
    strange = {"name": "one-canary", "namespace": NS, "labels": {"seawall.dev/fleet": "one"}}
    api.put({"apiVersion": "v1", "kind": "Service", "metadata": strange, "spec": {}})
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "one"))
        (scaler,) = api.objects("keda.sh/v1alpha1", "scaledobjects")
        before = set(api.objects(*DEPLOYMENTS))
        change(api, "one", scaling={"min": 1, "max": 3, "by": "none"})
        await c.until(lambda: scaler not in api.objects("keda.sh/v1alpha1", "scaledobjects"))
        await c.until(lambda: applied(api, "one"))
        assert set(api.objects(*DEPLOYMENTS)) == before
        assert (NS, "one-canary") in api.objects("v1", "services"), "it is nobody's that we know"
        await c.until(lambda: "ScaledObject" not in [o["kind"] for o in c.status("one")["objects"]])
        assert "Deployment" in [o["kind"] for o in c.status("one")["objects"]]


async def test_a_kind_that_is_not_served_keeps_nothing_else_from_being_made(api: KubeApi, kube: Kube) -> None:
    fleet = plain("one")
    fleet["spec"]["scaling"] = {"min": 1, "max": 3, "by": "keda-prometheus"}
    api.served.pop("monitoring.coreos.com/v1")
    api.put(fleet)
    async with Cluster(api, kube) as c:
        await c.until(lambda: phase(api, "one") == "Refused")
        assert "does not serve PodMonitor" in c.status("one")["reason"]
        assert api.objects("keda.sh/v1alpha1", "scaledobjects")
        assert (NS, "one") in api.objects(*DEPLOYMENTS)


OPTIONAL = {
    "keda": ("keda.sh/v1alpha1", "scaledobjects", {"scaling": {"min": 1, "max": 3, "by": "keda-prometheus"}}),
    "monitors": ("monitoring.coreos.com/v1", "podmonitors", {}),
    "route": (
        "gateway.networking.k8s.io/v1",
        "httproutes",
        {"gateway": {"route": "gateway-api", "hosts": ["llm.example.org"], "parentGateway": "infra/public"}},
    ),
}


@pytest.mark.parametrize(("version", "plural", "spec"), OPTIONAL.values(), ids=OPTIONAL)
async def test_an_optional_kind_that_vanishes_and_comes_back_is_made_again_at_once(
    api: KubeApi, kube: Kube, version: str, plural: str, spec: dict[str, Any]
) -> None:
    fleet = plain("one")
    fleet["spec"] |= spec
    api.put(fleet)
    async with Cluster(api, kube, resync_s=5) as c:
        await c.until(lambda: applied(api, "one"))
        before = api.objects(version, plural)
        assert before
        went, served = c.clock.now(), api.unserve(version)
        await c.until(lambda: phase(api, "one") == "Refused")
        assert c.clock.now() - went < 90, "and not with the next apply of everything"
        why = c.status("one")["reason"]
        assert "the cluster does not serve" in why
        assert "seawall render cluster-prereqs" in why
        assert "page not found" not in why
        began = c.clock.now()
        api.served[version] = served
        await c.until(lambda: api.objects(version, plural).keys() == before.keys())
        await c.until(lambda: applied(api, "one"))
        assert c.clock.now() - began < 90, "and not with the next apply of everything"


async def test_a_right_that_is_missing_is_said_and_the_rest_is_made(api: KubeApi, kube: Kube) -> None:
    api.put(plain("one"))
    async with Cluster(api, kube) as c:
        api.rights = frozenset(r for r in RIGHTS if r[2] != "poddisruptionbudgets")
        await c.until(lambda: phase(api, "one") == "Refused")
        assert 'cannot get resource "poddisruptionbudgets"' in c.status("one")["reason"]
        assert (NS, "one") in api.objects(*DEPLOYMENTS)


async def test_a_fleet_deleted_while_it_is_applied_stays_deleted(api: KubeApi, kube: Kube) -> None:
    def at(request: str) -> None:
        if request.startswith("PATCH") and "/deployments/" in request and (NS, "one") in api.objects(*FLEETS):
            api.remove(*FLEETS, "one", NS)

    api.put(plain("one"))
    api.put(plain("other"))
    api.faults.meanwhile = at
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "other"))
        await c.passes(5)
        assert (NS, "one") not in api.objects(*FLEETS)
        for o in api.objects(*DEPLOYMENTS).values():
            assert o["metadata"]["ownerReferences"], "the garbage collector has what it needs"
        asked = len([r for r in api.requests if r.startswith("PATCH") and "/one" in r])
        await c.passes(5)
        assert len([r for r in api.requests if r.startswith("PATCH") and "/one" in r]) == asked
        api.faults.meanwhile = None
        api.put(plain("one"))
        await c.until(lambda: applied(api, "one"))
        uid = api.objects(*FLEETS)[NS, "one"]["metadata"]["uid"]
        owners = api.objects(*DEPLOYMENTS)[NS, "one"]["metadata"]["ownerReferences"]
        assert [o["uid"] for o in owners] == [uid]


async def test_a_spec_that_changes_while_the_status_is_written_is_not_lost(api: KubeApi, kube: Kube) -> None:
    changed: list[str] = []

    def at(request: str) -> None:
        if "/status" in request and applied(api, "one") and not changed:
            changed.append(request)
            change(api, "one", scaling={"min": 3, "max": 3, "by": "none"})
            time.sleep(0.2)  # the watch tells of the new spec before this answer comes

    api.put(plain("one"))
    async with Cluster(api, kube, resync_s=30) as c:  # no relist heals it within this test
        await c.until(lambda: applied(api, "one") and c.live("one"))
        api.faults.meanwhile = at
        done = api.objects(*DEPLOYMENTS)[NS, "one"]
        api.put({**done, "status": {"readyReplicas": 1, "updatedReplicas": 1}})
        (pod,) = c.live("one")
        api.put({**pod, "metadata": {**pod["metadata"], "annotations": {"test/touched": "1"}}})
        await c.until(lambda: api.objects(*DEPLOYMENTS)[NS, "one"]["spec"]["replicas"] == 3, 10)


async def test_an_ended_namespace_is_left_in_peace(api: KubeApi, kube: Kube) -> None:
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
    api.put(plain("one"))
    api.strict = True
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "one"))
        home = {"name": NS, "deletionTimestamp": "2026-11-26T00:00:00Z", "finalizers": ["kubernetes"]}
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": home})
        api.remove(*DEPLOYMENTS, "one", NS)
        change(api, "one", scaling={"min": 2, "max": 2, "by": "none"})
        await c.until(lambda: phase(api, "one") == "Refused")
        assert "being terminated" in c.status("one")["reason"]
        await c.passes(3.5)
        seen = len(api.requests)
        await c.passes(10)
        assert not [r for r in api.requests[seen:] if r.startswith(("PATCH", "POST", "PUT", "DELETE"))]
        assert "finalizers" not in api.objects(*FLEETS)[NS, "one"]["metadata"]


async def test_a_replica_that_went_while_it_was_counted_holds_nothing_up(
    api: KubeApi, kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = plain("one")
    fleet["spec"]["scaling"] = {"min": 3, "max": 3, "by": "none"}
    api.put(fleet)
    async with Cluster(api, kube) as c:
        await c.until(lambda: len(c.live("one")) == 3 and applied(api, "one"))
        names = [p["metadata"]["name"] for p in c.live("one")]

        def at(request: str) -> None:
            if request.startswith("PATCH") and f"/pods/{names[0]}" in request:
                api.faults.drop_deleted = True  # its end is told by the next relist
                api.remove("v1", "pods", names[0], NS)

        api.faults.meanwhile = at
        rows = {"one": {"queued": 0, "in_flight": 8, "pending": 8}}
        api.proxies[f"{NS}/g:9090"] = {"fleets": rows, "replicas": {n: {"in_flight": 4} for n in names}}

        def cost(name: str) -> str | None:
            pod = c.controllers.pods("one").get(name)
            return pod["metadata"]["annotations"].get(DELETION_COST) if pod else None

        await c.until(lambda: cost(names[2]) == "4")
        assert cost(names[1]) == "4"
        assert not [r for r in caplog.records if "again in" in r.getMessage()]


async def test_numbers_that_nobody_gives_any_more_leave_the_status(api: KubeApi, kube: Kube) -> None:
    api.put(plain("one"))
    async with Cluster(api, kube) as c:
        c.demand(one=7)
        await c.until(lambda: c.status("one").get("queued") == 7)
        del api.proxies[f"{NS}/g:9090"]
        await c.until(lambda: "queued" not in c.status("one"))
        await c.passes(3.5)
        seen = len(api.requests)
        await c.passes(6)
        assert not [r for r in api.requests[seen:] if r.startswith("PATCH")], "at rest nothing is written"


async def test_conflicts_are_tried_again_and_end(api: KubeApi, kube: Kube) -> None:
    api.put(plain("one"))
    api.faults.conflict = 3
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "one"), 20)
        api.faults.conflict = 9  # more than one call bears: the Fleet is tried again later
        change(api, "one", scaling={"min": 2, "max": 2, "by": "none"})
        await c.until(lambda: api.objects(*DEPLOYMENTS)[NS, "one"]["spec"]["replicas"] == 2, 20)
        await c.until(lambda: applied(api, "one"), 20)


async def test_the_api_server_restarts_and_nothing_is_lost(api: KubeApi, kube: Kube) -> None:
    api.put(plain("one"))
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "one"))
        api.faults.down = True
        api.break_watches()
        await c.passes(5)
        api.remove(*FLEETS, "one", NS)
        api.put(plain("two"))
        api.forget_history()
        api.faults.down = False
        await c.until(lambda: applied(api, "two"))
        seen = len(api.requests)
        await c.passes(6)
        assert not [r for r in api.requests[seen:] if r.startswith("PATCH") and "/one" in r]


async def test_the_next_leader_finishes_what_the_last_left_half_applied(api: KubeApi, kube: Kube) -> None:
    """The first one's API server hangs in the middle of an apply; the other has taken over before it comes back."""
    api.put(plain("one"))
    api.rights = RIGHTS | {
        ("seawall-system", "coordination.k8s.io", "leases", v) for v in ("get", "create", "update")
    }
    at_work: list[str] = []
    clock = StoryClock()
    story = Story(clock, api)

    def leader(name: str) -> asyncio.Task[None]:
        async def work() -> None:
            at_work.append(name)
            assert at_work == [name], "never two at once"
            try:
                await Operator(kube, None, clock, resync_s=0.5).run()
            finally:
                at_work.remove(name)

        lead = Leader(kube, "seawall-system", "op", name, clock)
        return asyncio.ensure_future(lead.run(work))

    first = leader("first")
    cut = asyncio.Event()
    loop = asyncio.get_running_loop()

    def at(request: str) -> None:
        if request.startswith("PATCH") and "/serviceaccounts/" in request:
            api.faults.meanwhile = None
            loop.call_soon_threadsafe(first.cancel)  # in the middle of the call
            loop.call_soon_threadsafe(cut.set)

    api.faults.meanwhile = at
    await story.until(cut.is_set)
    first.cancel()  # killed, without a release
    await asyncio.gather(first, return_exceptions=True)
    assert (NS, "one") not in api.objects(*DEPLOYMENTS)
    second = leader("second")
    await story.until(lambda: applied(api, "one"))
    assert at_work == ["second"]
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    (lease,) = api.objects("coordination.k8s.io/v1", "leases").values()
    assert lease["spec"]["holderIdentity"] == "second"
    assert lease["spec"]["leaseTransitions"] == 1


async def test_a_leader_stops_in_time_however_long_the_api_keeps_it_waiting(api: KubeApi, kube: Kube) -> None:
    clock, hangs = StoryClock(), asyncio.Event()

    class Hanging(Kube):
        async def request(self, *args: Any, **kwargs: Any) -> Any:
            if hangs.is_set():
                await asyncio.Event().wait()
            return await kube.request(*args, **kwargs)

    stopped: list[float] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(clock.now())

    lead = Leader(Hanging(kube.http), NS, "op", "a", clock)
    task = asyncio.ensure_future(lead.run(work))
    story = Story(clock, api)
    await story.until(lambda: lead.leads)
    hangs.set()  # it asks, and gets no answer
    await story.until(lambda: stopped)
    assert stopped[0] < HOLD_S
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_leader_without_rights_says_so_once(
    api: KubeApi, kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    api.rights = frozenset()
    lead = Leader(kube, NS, "op", "a")
    assert not await lead.attempt()
    assert not await lead.attempt()
    (line,) = [r.getMessage() for r in caplog.records]
    assert 'cannot get resource "leases"' in line


async def test_a_refused_eviction_is_an_answer_and_not_waited_for(api: KubeApi, kube: Kube) -> None:
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": NS}})
    api.faults.refuse_evictions = True
    began = time.monotonic()
    assert not await kube.evict(NS, "p")
    assert time.monotonic() - began < 2
    assert len([r for r in api.requests if "eviction" in r]) == 1


async def test_a_watch_that_is_forbidden_lists_ever_more_rarely_and_says_why(
    api: KubeApi, kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    api.rights = frozenset({("", "discovery.k8s.io", "endpointslices", "list")})

    async def follow() -> None:
        async for _ in kube.watch(Select(ENDPOINT_SLICE, NS), lambda o: o):
            pass

    kube.clock = clock = StoryClock()
    task = asyncio.ensure_future(follow())
    await Story(clock, api).passes(30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert 2 < len([r for r in api.requests if "limit=" in r]) < 12, "0.2 s to 10 s between two looks"
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert 'cannot watch resource "endpointslices"' in line


async def test_the_operator_drives_a_rollout_with_its_own_rights(api: KubeApi, kube: Kube) -> None:
    spec = str(EXAMPLES / "canary.yaml")
    await canary.start(kube, group_of((spec,)), "llama-8b", time.time())
    async with Cluster(api, kube) as c:
        await c.until(lambda: (NS, "llama-8b-canary") in api.objects(*DEPLOYMENTS))
        await canary.wish(kube, NS, "llama-8b", "abort")

        def told() -> str:
            return str(
                json.loads(api.objects("v1", "configmaps")[NS, "llama-8b-rollout"]["data"]["state"])["phase"]
            )

        await c.until(lambda: told() == "rolling-back")
        for d in api.objects(*DEPLOYMENTS).values():
            n = d["spec"].get("replicas", 1)
            done = {"updatedReplicas": n, "availableReplicas": n, "readyReplicas": n}
            api.put({**d, "status": {"observedGeneration": 99, **done}})
        await c.until(lambda: told() == "rolled-back")
        await c.until(lambda: (NS, "llama-8b-canary") not in api.objects(*DEPLOYMENTS))


async def test_a_fleets_candidate_is_rolled_out_and_the_fleet_stays_as_the_rollout_left_it(
    api: KubeApi, kube: Kube
) -> None:
    fleet = plain("one")
    fleet["spec"]["engine"] = {"kind": "sim", "env": {"SIDE": "old"}}
    fleet["spec"]["rollout"]["canary"] = {
        "steps": [{"weight": 10, "hold": 1}],
        "candidate": {"extraArgs": ["--sim-seed", "7"]},
    }
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
    api.put(fleet)

    def phase_of_rollout() -> str:
        stored = api.objects("v1", "configmaps").get((NS, "one-rollout"))
        return str(json.loads(stored["data"]["state"])["phase"]) if stored else ""

    def args(name: str) -> list[str]:
        found = api.objects(*DEPLOYMENTS).get((NS, name))
        return list(found["spec"]["template"]["spec"]["containers"][0]["args"]) if found else []

    async with Cluster(api, kube) as c:
        await c.until(lambda: phase_of_rollout() == "stepping" and args("one-canary"))
        await c.until(lambda: c.status("one").get("rollout") == "stepping, 10% of requests")
        owners = api.objects(*DEPLOYMENTS)[NS, "one-canary"]["metadata"]["ownerReferences"]
        assert owners[0]["name"] == "one", "what a rollout makes is the Fleet's own"
        await canary.wish(kube, NS, "one", "abort")
        await c.until(lambda: phase_of_rollout() == "rolling-back")
        for d in api.objects(*DEPLOYMENTS).values():
            n = d["spec"].get("replicas", 1)
            done = {"updatedReplicas": n, "availableReplicas": n, "readyReplicas": n}
            api.put({**d, "status": {"observedGeneration": 99, **done}})
        await c.until(lambda: phase_of_rollout() == "rolled-back" and not args("one-canary"))
        await c.until(lambda: c.status("one").get("rollout") == "rolled-back, 0% of requests")

        await c.stop()  # another leader finds the candidate in the spec, and the end of its rollout beside it
        c.start()
        await c.passes(7.5)
        assert not args("one-canary"), "rolled back is rolled back"
        assert "--sim-seed" not in args("one")
        changed = api.objects(*FLEETS)[NS, "one"]
        changed["spec"]["rollout"]["canary"]["candidate"]["extraArgs"] = ["--sim-seed", "8"]
        api.put(changed)
        await c.until(lambda: phase_of_rollout() == "stepping" and "8" in args("one-canary"))


async def test_a_rollout_ends_with_its_fleet(api: KubeApi, kube: Kube) -> None:
    fleet = plain("one")
    candidate = {"extraArgs": ["--sim-seed", "7"]}
    fleet["spec"]["rollout"]["canary"] = {"steps": [{"weight": 10, "hold": 1}], "candidate": candidate}
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
    uid = api.put(fleet)["metadata"]["uid"]
    async with Cluster(api, kube) as c:
        await c.until(lambda: (c.status("one").get("rollout") or "").startswith("stepping"))
        stored = api.objects("v1", "configmaps")[NS, "one-rollout"]
        assert [o["uid"] for o in stored["metadata"]["ownerReferences"]] == [uid]
        await canary.wish(kube, NS, "one", "abort")  # something to do
        api.remove(*FLEETS, "one", NS)
        await c.passes(5)  # what was begun may end; it carries the owner reference that ends it
        for _, name in api.objects(*DEPLOYMENTS):
            api.remove(*DEPLOYMENTS, name, NS)  # the garbage collector begins
        await c.passes(6)
        assert not api.objects(*DEPLOYMENTS), "nothing is made anew"


async def test_a_second_term_begins_anew(api: KubeApi, kube: Kube) -> None:
    """Another may have led in between: what this one remembers of its first term counts for nothing."""
    api.put(plain("one"))
    clock = StoryClock()
    story = Story(clock, api)
    lead = Leader(kube, NS, "op", "a", clock)
    task = asyncio.ensure_future(lead.run(lambda: operate(kube, None, clock, 0.5)))
    await story.until(lambda: applied(api, "one"))
    api.faults.down = True
    await story.until(lambda: not lead.leads)  # the lease ends while the API server is away
    api.remove(*DEPLOYMENTS, "one", NS)
    api.faults.down = False
    await story.until(lambda: (NS, "one") in api.objects(*DEPLOYMENTS))
    assert not task.done(), task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_promoted_candidate_stays_what_the_fleet_runs(api: KubeApi, kube: Kube) -> None:
    fleet = plain("one")
    candidate = {"extraArgs": ["--sim-seed", "7"]}
    fleet["spec"]["rollout"]["canary"] = {"steps": [{"weight": 10, "hold": 1}], "candidate": candidate}
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
    api.put(fleet)

    def args() -> list[str]:
        found = api.objects(*DEPLOYMENTS)[NS, "one"]
        return list(found["spec"]["template"]["spec"]["containers"][0]["args"])

    async with Cluster(api, kube) as c:
        await c.until(lambda: (c.status("one").get("rollout") or "").startswith("stepping"))
        assert "--sim-seed" not in args()
        stored = api.objects("v1", "configmaps")[NS, "one-rollout"]
        state = json.loads(stored["data"]["state"]) | {"phase": "promoted"}
        api.put({**stored, "data": {**stored["data"], "state": json.dumps(state)}})
        await c.until(lambda: "--sim-seed" in args())
        await c.until(lambda: (NS, "one-canary") not in api.objects(*DEPLOYMENTS))
        change(api, "one", rollout={"drain": 5, "preStop": 1})  # the candidate left the spec unpromoted
        await c.until(lambda: "--sim-seed" not in args())
