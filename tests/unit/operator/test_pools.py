"""Pools and adapters on the API double, with a Deployment controller of a dozen lines and real (simulated) engines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from tests.unit.operator.test_operator import RIGHTS

from seawall.domain.labels import ADAPTERS, ASLEEP, DRAINING
from seawall.drivers.kube import Kube
from seawall.drivers.process import free_port
from seawall.operator.accounts import roles
from seawall.operator.loop import Operator
from seawall.testing.clock import StoryClock
from seawall.testing.kube_api import KubeApi
from seawall.testing.story import Story

NS = "llm"


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi() as double:
        gateway = {"name": "g", "namespace": NS, "labels": {"app.kubernetes.io/name": "seawall-gateway"}}
        double.put({"apiVersion": "v1", "kind": "Pod", "metadata": gateway, "status": {"phase": "Running"}})
        yield double


def fleet(name: str, pool: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "model": {"source": "hf://example/tiny", "revision": "a" * 40, **model},
        "engine": {"kind": "sim"},
        "hardware": {"gpu": "cpu"},
        "scaling": {"min": 0, "max": 1, "pollingInterval": 1, "idleAfter": 600},
        "rollout": {"drain": 5, "preStop": 1},
    }
    spec["model"]["config"] = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 512,
        "max_position_embeddings": 2048, "torch_dtype": "bfloat16",
    }  # fmt: skip
    if pool:
        spec["pool"] = pool
    meta = {"name": name, "namespace": NS}
    return {"apiVersion": "seawall.dev/v1alpha1", "kind": "Fleet", "metadata": meta, "spec": spec}


class Controllers:
    """Makes and removes Pods as Deployments say; a Pod leaves some time after it was told to."""

    def __init__(self, api: KubeApi, ports: dict[str, int], clock: StoryClock) -> None:
        self.api, self.ports, self.most, self.made, self.clock = api, ports, 0, 0, clock
        self._gone_at: dict[str, float] = {}

    def pods(self, name: str = "") -> dict[str, dict[str, Any]]:
        found = self.api.objects("v1", "pods")
        return {
            n: p for (_, n), p in found.items()
            if p["metadata"]["labels"].get("seawall.dev/role") == "engine"
            and name in ("", p["metadata"]["labels"]["seawall.dev/fleet"])
        }  # fmt: skip

    def step(self) -> None:
        for (_, name), d in self.api.objects("apps/v1", "deployments").items():
            labels = d["spec"]["template"]["metadata"]["labels"]
            if labels.get("seawall.dev/role") != "engine":
                continue
            pods = self.pods(name)
            live = [n for n, p in pods.items() if "deletionTimestamp" not in p["metadata"]]
            for _ in range(d["spec"].get("replicas", 1) - len(live)):
                self._make(name, labels, d["spec"]["template"]["metadata"].get("annotations", {}))
            # As the ReplicaSet does: those that are not ready go first.
            order = sorted(live, key=lambda n: pods[n]["metadata"]["annotations"].get(ASLEEP, "") <= "0")
            for n in order[: max(0, len(live) - d["spec"].get("replicas", 1))]:
                self.api.put({**pods[n], "metadata": {**pods[n]["metadata"], "deletionTimestamp": "now"}})
                self._gone_at[n] = self.clock.now() + 1.5
        for n, at in list(self._gone_at.items()):
            if self.clock.now() > at:
                del self._gone_at[n]
                self.api.remove("v1", "pods", n, NS)
        awake = [p for p in self.pods().values() if not p["metadata"]["annotations"].get(ASLEEP, "-") > "0"]
        self.most = max(self.most, len(awake))

    def _make(self, name: str, labels: dict[str, str], notes: dict[str, str]) -> None:
        self.made += 1
        port = self.ports.get(name, 1)
        container = {"name": "engine", "ports": [{"name": "http", "containerPort": port}]}
        status = {
            "phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "engine", "containerID": f"life-{self.made}"}],
        }  # fmt: skip
        meta = {"name": f"{name}-{self.made}", "namespace": NS, "labels": labels, "annotations": dict(notes)}
        spec = {"containers": [container]}
        self.api.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status})


class Cluster:
    """An operator and controllers at work while a test looks."""

    def __init__(
        self, api: KubeApi, kube: Kube, ports: dict[str, int] | None = None, resync_s: float = 0.5
    ) -> None:
        self.api, self.kube, self.resync_s = api, kube, resync_s
        api.rights = RIGHTS
        for role in roles(None):
            api.put(role)
        self.clock = kube.clock = StoryClock()
        self.controllers = Controllers(api, ports or {}, self.clock)
        self.story = Story(self.clock, api, self._step)
        self.start()

    def start(self) -> None:
        operator = Operator(self.kube, None, self.clock, self.resync_s)
        self.operator = asyncio.ensure_future(operator.run())

    async def stop(self) -> None:
        self.operator.cancel()
        await asyncio.gather(self.operator, return_exceptions=True)

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def demand(self, **queued: int) -> None:
        rows = {n: {"queued": q, "in_flight": 0, "pending": q} for n, q in queued.items()}
        self.api.proxies[f"{NS}/g:9090"] = {"fleets": rows, "replicas": {}}

    def status(self, name: str) -> dict[str, Any]:
        return self.api.objects("seawall.dev/v1alpha1", "fleets")[NS, name].get("status") or {}

    def live(self, name: str) -> list[dict[str, Any]]:
        pods = self.controllers.pods(name).values()
        return [p for p in pods if "deletionTimestamp" not in p["metadata"]]

    def _step(self) -> None:
        assert not self.operator.done(), self.operator
        self.controllers.step()

    async def passes(self, seconds: float) -> None:
        await self.story.passes(seconds)

    async def until(self, what: Callable[[], object], within_s: float = 60.0) -> None:
        try:
            await self.story.until(what, within_s)
        except TimeoutError:
            fleets = self.api.objects("seawall.dev/v1alpha1", "fleets")
            raise AssertionError({name: self.status(name) for _, name in fleets}) from None


POOL = {"name": "shared", "capacity": 1, "residence": 1}


async def test_two_fleets_take_turns_through_their_deployments(api: KubeApi, kube: Kube) -> None:
    for name in ("one", "two"):
        api.put(fleet(name, POOL))
    async with Cluster(api, kube) as c:
        c.demand(one=0, two=0)
        await c.until(lambda: len(api.objects("apps/v1", "deployments")) >= 4)
        assert not c.live("one"), "nobody has asked"
        assert not api.objects("keda.sh/v1alpha1", "scaledobjects"), "nobody else owns the count"
        c.demand(one=3, two=0)
        await c.until(lambda: len(c.live("one")) == 1)
        c.demand(one=0, two=2)
        await c.until(lambda: len(c.live("two")) == 1)
        assert not c.live("one")
        assert c.controllers.most == 1, "the place was free before it was given"
        assert c.status("two")["pool"]["move"] in ("load", "keep", "wait")
        await c.until(lambda: c.status("one")["pool"]["move"] in ("rest", "wait"))

        await c.stop()  # another leader goes on from the status
        made = c.controllers.made
        c.start()
        await c.passes(20)
        assert len(c.live("two")) == 1
        assert c.controllers.made == made, "nothing was stopped or started by the change of leader"


async def test_a_higher_priority_takes_the_place_at_once_and_blind_gateways_change_nothing(
    api: KubeApi, kube: Kube
) -> None:
    api.put(fleet("low", {**POOL, "residence": 600}))
    api.put(fleet("high", {**POOL, "residence": 600, "priority": 0}))
    async with Cluster(api, kube) as c:
        c.demand(low=5, high=0)
        await c.until(lambda: len(c.live("low")) == 1)
        del api.proxies[f"{NS}/g:9090"]
        await c.passes(20)
        assert len(c.live("low")) == 1
        c.demand(low=5, high=1)
        await c.until(lambda: len(c.live("high")) == 1)
        assert c.controllers.most == 1
        full = "the pool shared of 1 is full: high"
        await c.until(lambda: c.status("low")["pool"]["reason"] == full)


def look(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


@pytest.fixture
def engine() -> Iterator[Callable[..., int]]:
    """Starts a simulated engine with its admin routes open; its port."""
    processes = []

    def begin(*flags: str) -> int:
        port = free_port("127.0.0.1")
        env = os.environ | {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
        argv = [sys.executable, "-m", "seawall", "engine", "sim", "one", "--port", str(port), *flags]
        processes.append(subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL))
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                return port
            except OSError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    processes[-1].wait(0.1)  # or until it has died
        raise AssertionError("the simulated engine does not start")

    yield begin
    for p in processes:
        p.kill()
        p.wait()


async def test_a_replica_sleeps_out_of_routing_and_wakes(
    api: KubeApi, kube: Kube, engine: Callable[..., int]
) -> None:
    port = engine("--enable-sleep-mode")

    def asleep() -> bool:
        return bool(look(f"http://127.0.0.1:{port}/is_sleeping")["is_sleeping"])

    def note(name: str) -> str | None:
        found = c.live("one")[0]["metadata"]["annotations"].get(name)
        return str(found) if found is not None else None

    api.put(fleet("one", {**POOL, "sleep": True}))
    api.put(fleet("two", POOL))
    async with Cluster(api, kube, {"one": port}) as c:
        c.demand(one=1, two=0)
        await c.until(lambda: len(c.live("one")) == 1)
        c.demand(one=0, two=1)
        await c.until(lambda: len(c.live("two")) == 1)
        assert asleep()
        assert len(c.live("one")) == 1, "asleep, not stopped"
        assert note(DRAINING) == "true"
        assert float(note(ASLEEP) or 0) > 0
        await c.until(
            lambda: c.status("one").get("phase") == "Ready" or c.status("one")["pool"]["asleep"] == 1
        )
        c.demand(one=1, two=0)
        await c.until(lambda: not asleep())
        await c.until(lambda: note(DRAINING) is None)
        assert note(ASLEEP) is None
        assert c.controllers.most == 1


async def test_adapters_come_and_go_without_a_restart(
    api: KubeApi, kube: Kube, engine: Callable[..., int]
) -> None:
    port = engine("--enable-lora", "--max-loras", "4")

    def told() -> list[str]:
        (pod,) = c.live("one")
        note = json.loads(pod["metadata"]["annotations"][ADAPTERS])
        life = pod["status"]["containerStatuses"][0]["containerID"]
        return sorted(note["names"]) if note["life"] == life else []

    def served() -> set[str]:
        page = look(f"http://127.0.0.1:{port}/v1/models")
        return {m["id"] for m in page["data"] if m["parent"]}

    def wants(*names: str) -> dict[str, Any]:
        adapters = [{"name": n, "source": f"hf://example/{n}", "revision": "b" * 40} for n in names]
        made = fleet("one", None, adapters=adapters, adapterSlots=4)
        made["spec"]["scaling"] = {"min": 1, "max": 1, "by": "none"}
        return made

    def condition() -> dict[str, Any]:
        rows = {x["type"]: x for x in c.status("one").get("conditions", [])}
        return rows.get("Adapters", {})

    def template() -> Any:
        return api.objects("apps/v1", "deployments")[NS, "one"]["spec"]["template"]

    api.put(wants("poet"))
    async with Cluster(api, kube, {"one": port}) as c:
        await c.until(lambda: c.live("one") and told() == ["poet"])
        assert served() == {"poet"}
        before = template()
        changed = api.objects("seawall.dev/v1alpha1", "fleets")[NS, "one"]
        api.put({**changed, "spec": wants("sql")["spec"]})
        await c.until(lambda: told() == ["sql"])
        assert served() == {"sql"}
        assert template() == before, "the replica's template is the same, so nothing restarts"
        assert c.controllers.made == 1
        await c.until(lambda: condition().get("status") == "True")

        await asyncio.to_thread(
            httpx2.post, f"http://127.0.0.1:{port}/v1/unload_lora_adapter", json={"lora_name": "sql"}
        )
        (pod,) = c.live("one")
        pod["status"]["containerStatuses"][0]["containerID"] = "life-after-a-restart"
        api.put(pod)
        assert told() == [], "the annotation speaks of another life"
        await c.until(lambda: told() == ["sql"])

        port2 = engine()  # no --enable-lora: every load fails
        (pod,) = c.live("one")
        pod["spec"]["containers"][0]["ports"][0]["containerPort"] = port2
        pod["status"]["containerStatuses"][0]["containerID"] = "life-3"
        api.put(pod)
        await c.until(lambda: condition().get("status") == "False")
        assert condition()["reason"] == "Missing"
        assert "LoRA is not enabled" in condition()["message"]
        assert told() == []
