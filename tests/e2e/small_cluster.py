"""A cluster small enough for a test: the API double, one "node" whose Pods are processes, two Deployments that roll.

An eviction or a delete really ends the process behind the Pod, as a kubelet does: SIGTERM after the preStop pause,
SIGKILL after the grace period. A Pod deleted with grace 0 is forgotten, and runs on for a grace period.
The gateway is the real one, finding its replicas in the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.within import within

from seawall.drivers.process import free_port
from seawall.engines.vllm.client import EngineClient
from seawall.testing.kube_api import KubeApi

NS = "llm"
PRE_STOP_S = 0.2
GRACE_S = 60


@dataclass
class Running:
    process: asyncio.subprocess.Process
    port: int
    admin: int
    template: str
    ready: bool = False
    ending: bool = False


class SmallCluster:
    """`async with SmallCluster(api, folder, spec)`: serves at `url` until it is left."""

    def __init__(self, api: KubeApi, folder: Path, spec: Path) -> None:
        self.api, self.folder, self.spec = api, folder, spec
        self.kubeconfig = api.kubeconfig(folder, NS)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.pods: dict[str, Running] = {}
        self.made = 0
        self.client = EngineClient()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> SmallCluster:
        engine = {"seawall.dev/fleet": "sim", "app.kubernetes.io/component": "engine"}
        gateway = {"app.kubernetes.io/name": "seawall-gateway", "app.kubernetes.io/component": "gateway"}
        for name, labels, count in (("sim", engine, 2), ("sim-gateway", gateway, 1)):
            meta = {"name": name, "namespace": NS, "labels": labels}
            spec = {"replicas": count, "template": {"metadata": {"annotations": {}}}}
            self.api.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
        self._run(self._reconcile())
        for _ in range(600):
            if sum(p.ready for p in self.pods.values()) == 3:
                return self
            await asyncio.sleep(0.1)
        raise AssertionError("the small cluster did not come up")

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pod in self.pods.values():
            with contextlib.suppress(ProcessLookupError):
                pod.process.kill()
            await pod.process.wait()
        await self.client.close()

    def _run(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reconcile(self) -> None:
        while True:
            for name in ("sim", "sim-gateway"):
                await self._roll(name)
            await self._kubelet()
            await asyncio.sleep(0.1)

    async def _roll(self, name: str) -> None:
        """The Deployment controller: one more at a time, the old ones go when the new are ready."""
        deployment = self.api.objects("apps/v1", "deployments")[NS, name]
        wanted, template = deployment["spec"]["replicas"], str(deployment["spec"]["template"])
        mine = {n: p for n, p in self.pods.items() if n.rpartition("-")[0] == name and not p.ending}
        old = [n for n, p in mine.items() if p.template != template]
        if len(mine) < wanted or (old and len(mine) == wanted and all(p.ready for p in mine.values())):
            await self._start(name, template)
        elif len(mine) > wanted and all(p.ready for p in mine.values()):
            self.api.delete("v1/pods", NS, (old or sorted(mine))[-1])

    async def _start(self, name: str, template: str) -> None:
        pod, port, admin = f"{name}-{self.made}", free_port(), free_port()
        self.made += 1
        if name == "sim":
            argv = ["engine", "sim", "--model-name", "sim", "--port", str(port), "--sim-step", "0.03",
                    "--max-num-seqs", "64", "--shutdown-timeout", "20", "--sim-seed", "1"]  # fmt: skip
            labels = {"seawall.dev/fleet": "sim", "seawall.dev/role": "engine"}
        else:
            argv = [
                "gateway",
                str(self.spec),
                "--listen",
                f"127.0.0.1:{self.port}",
                "--admin",
                f"127.0.0.1:{admin}",
            ]
            labels = {"app.kubernetes.io/name": "seawall-gateway", "app.kubernetes.io/instance": name}
        with (self.folder / f"{pod}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "seawall", *argv, stdout=log, stderr=log,
                env={**os.environ, "KUBECONFIG": self.kubeconfig},
            )  # fmt: skip
        self.pods[pod] = Running(process, port, admin, template)
        meta = {
            "name": pod,
            "namespace": NS,
            "labels": labels,
            "annotations": {"seawall.dev/port": str(port)},
        }
        spec = {"nodeName": "node-0", "terminationGracePeriodSeconds": GRACE_S}
        status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": []}
        self.api.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status})

    async def _kubelet(self) -> None:
        known = self.api.objects("v1", "pods")
        for name, pod in list(self.pods.items()):
            obj = known.get((NS, name))
            if pod.process.returncode is not None:
                del self.pods[name]
                if obj is not None:
                    self.api.delete("v1/pods", NS, name, at_once=True)
            elif obj is None or obj["metadata"].get("deletionTimestamp"):
                if not pod.ending:
                    pod.ending = True
                    grace_s = obj["metadata"]["deletionGracePeriodSeconds"] if obj else GRACE_S
                    self._run(self._terminate(pod, grace_s))
            else:
                await self._look(name, pod, obj)

    async def _look(self, name: str, pod: Running, obj: dict[str, Any]) -> None:
        gateway = name.startswith("sim-gateway")
        if gateway and pod.ready:
            state = await self.client.get_json(f"http://127.0.0.1:{pod.admin}/debug/state")
            self.api.proxies[f"{NS}/{name}:9090"] = state or {}
        elif not pod.ready:
            where = f"{pod.admin}/readyz" if gateway else f"{pod.port}/health"
            pod.ready = await self.client.ok(f"http://127.0.0.1:{where}")
            if pod.ready:
                obj["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
                self.api.put(obj)

    async def _terminate(self, pod: Running, grace_s: float) -> None:
        await asyncio.sleep(PRE_STOP_S)
        with contextlib.suppress(ProcessLookupError):
            pod.process.send_signal(signal.SIGTERM)
            try:
                await within(pod.process.wait(), grace_s)
            except TimeoutError:
                pod.process.kill()
