"""A canary on a cluster, from start to its end, against the API double: the cluster follows every decision."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.cli.fleets import group_of
from seawall.drivers.kube import Kube
from seawall.errors import InputError
from seawall.operator import canary
from seawall.testing.kube_api import KubeApi

SPEC = str(Path(__file__).parents[3] / "examples" / "canary.yaml")
NS, NAME = "llm", "llama-8b"


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi() as double:
        labels = {"app.kubernetes.io/name": "seawall-gateway"}
        meta = {"name": "gw", "namespace": NS, "labels": labels}
        double.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"phase": "Running"}})
        yield double


def traffic(api: KubeApi, stable: int, other: int, errors: int = 0, ttft: float = 0.3) -> None:
    """What the gateway's /debug/state says from now on."""

    def side(n: int, bad: int, seconds: float) -> dict[str, float]:
        x, y = math.log(seconds), math.log(0.03)
        times = {"ttft_n": n, "ttft_log": n * x, "ttft_log2": n * (x * x + 0.1)}
        times |= {"tpot_n": n, "tpot_log": n * y, "tpot_log2": n * (y * y + 0.1)}
        return {"requests": n, "errors": bad, "slow": 0, **times}

    both = {"stable": side(stable, 0, 0.3), "canary": side(other, errors, ttft)}
    api.proxies[f"{NS}/gw:9090"] = {"fleets": {NAME: {"sides": both}}}


def weight(api: KubeApi) -> int | None:
    """The canary's share as the gateway reads it: the label of its Service. None without a canary."""
    service = api.objects("v1", "services").get((NS, f"{NAME}-canary"))
    return None if service is None else int(service["metadata"]["labels"]["seawall.dev/canary-weight"])


def image(api: KubeApi, name: str = NAME) -> str | None:
    found = api.objects("apps/v1", "deployments").get((NS, name))
    return None if found is None else found["spec"]["template"]["spec"]["containers"][0]["image"]


def available(api: KubeApi) -> None:
    """The Deployment controller has done its work."""
    for d in api.objects("apps/v1", "deployments").values():
        n = d["spec"].get("replicas", 1)
        d["status"] = {
            "observedGeneration": 99,
            "updatedReplicas": n,
            "availableReplicas": n,
            "readyReplicas": n,
        }
        api.put(d)


class Clock:
    def __init__(self, kube: Kube) -> None:
        self.kube, self.now = kube, 1000.0

    async def ticks(self, seconds: float) -> canary.Told:
        end, told = self.now + seconds, None
        while self.now < end:
            self.now += 60
            told = await canary.tick(self.kube, NS, NAME, self.now) or told
        assert told is not None
        return told


async def test_a_good_candidate_climbs_and_becomes_the_fleet(api: KubeApi, kube: Kube) -> None:
    traffic(api, 50_000, 0)
    clock = Clock(kube)
    await canary.start(kube, group_of((SPEC,)), NAME, clock.now)
    with pytest.raises(InputError, match="under way"):
        await canary.start(kube, group_of((SPEC,)), NAME, clock.now)
    await clock.ticks(60)
    assert weight(api) == 5
    assert "0.31.0" in str(image(api))
    assert "0.32.0" in str(image(api, f"{NAME}-canary"))
    traffic(api, 150_000, 6_000)
    assert (await clock.ticks(600)).step == 1
    assert weight(api) == 25
    await clock.ticks(660)
    assert weight(api) == 50
    told = await clock.ticks(1860)
    assert told.phase == "promoting", told.decision.reason
    assert weight(api) == 50, "the canary keeps its share until the fleet has taken over"
    assert "0.32.0" in str(image(api))
    available(api)
    told = await clock.ticks(180)
    assert told.phase == "promoted"
    assert weight(api) is None
    assert image(api, f"{NAME}-canary") is None
    told_ = await canary.told(kube, NS, NAME)
    assert [h["weight"] for h in told_["history"]] == [5, 25, 50, 50, 0]

    await canary.wish(kube, NS, NAME, "undo")
    await clock.ticks(60)
    assert "0.31.0" in str(image(api))


async def test_a_failing_candidate_is_taken_away_at_the_next_look(api: KubeApi, kube: Kube) -> None:
    traffic(api, 50_000, 0)
    clock = Clock(kube)
    await canary.start(kube, group_of((SPEC,)), NAME, clock.now)
    await clock.ticks(60)
    traffic(api, 52_000, 100, errors=80)
    told = await clock.ticks(60)
    assert told.phase == "rolling-back"
    assert weight(api) == 0
    assert "errors" in told.decision.reason
    available(api)
    told = await clock.ticks(120)
    assert told.phase == "rolled-back"
    assert weight(api) is None
    assert "0.31.0" in str(image(api))


async def test_a_crash_between_two_writes_is_mended_by_the_next_tick(api: KubeApi, kube: Kube) -> None:
    traffic(api, 50_000, 0)
    clock = Clock(kube)
    await canary.start(kube, group_of((SPEC,)), NAME, clock.now)
    api.faults.fail = 0
    await clock.ticks(60)
    stored = api.objects("v1", "configmaps")[NS, f"{NAME}-rollout"]
    stored["data"]["applied"] = "half"
    api.put(stored)
    service = api.objects("v1", "services")[NS, f"{NAME}-canary"]
    service["metadata"]["labels"]["seawall.dev/canary-weight"] = "99"
    api.put(service)
    await clock.ticks(60)
    assert weight(api) == 5


async def test_wishes_are_obeyed_and_silence_changes_nothing(api: KubeApi, kube: Kube) -> None:
    api.proxies[f"{NS}/gw:9090"] = {"fleets": {}}
    clock = Clock(kube)
    await canary.start(kube, group_of((SPEC,)), NAME, clock.now)
    await clock.ticks(120)
    await canary.wish(kube, NS, NAME, "pause")
    assert (await clock.ticks(60)).phase == "paused"
    assert (await clock.ticks(7200)).phase == "paused"
    await canary.wish(kube, NS, NAME, "resume")
    assert (await clock.ticks(60)).phase == "stepping"
    await canary.wish(kube, NS, NAME, "abort")
    assert (await clock.ticks(60)).phase == "rolling-back"
    assert weight(api) == 0


async def test_what_cannot_be_read_is_told(api: KubeApi, kube: Kube) -> None:
    with pytest.raises(InputError, match="no rollout"):
        await canary.tick(kube, NS, NAME, 0.0)
    plain = str(Path(SPEC).with_name("llama-70b-4xh100.yaml"))
    with pytest.raises(InputError, match="no candidate"):
        await canary.start(kube, group_of((plain,)), "llama-70b", 0.0)
    broken = {"name": f"{NAME}-rollout", "namespace": NS}
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": broken, "data": {"state": json.dumps({})}})
    with pytest.raises(Exception, match="no rollout that can be read"):
        await canary.tick(kube, NS, NAME, 0.0)
