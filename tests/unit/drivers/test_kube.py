"""The Kubernetes client against the API double: pages, server-side apply, and a picture that heals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from seawall.drivers.kube import DEPLOYMENT, POD, Changed, Kube, Refused, Select, Synced, connect
from seawall.errors import ClusterError, InputError
from seawall.testing.kube_api import KubeApi


def pod(name: str, namespace: str = "llm", **labels: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "labels": labels}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running"},
    }


def name_of(obj: dict[str, Any]) -> str:
    return str(obj["metadata"]["name"])


async def test_a_thousand_pods_are_three_pages_selected_by_the_server(api: KubeApi, kube: Kube) -> None:
    for n in range(1200):
        api.put(pod(f"p{n}", app="vllm" if n < 1100 else "other"))
    found = await kube.list(Select(POD, "llm", labels="app=vllm"), name_of)
    assert len(found) == 1100
    assert kube.requests == 3
    api.faults.expire_continue = 1
    assert (
        len(
            await kube.list(
                Select(POD, labels="app in (vllm, other)", fields="status.phase=Running"), name_of
            )
        )
        == 1200
    )


async def test_server_side_apply_owns_its_fields_and_names_a_conflict(api: KubeApi, kube: Kube) -> None:
    def deployment(**spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "d", "namespace": "llm"},
            "spec": {"template": {"spec": {"containers": [{"name": "vllm", "image": "a:1"}]}}, **spec},
        }

    await kube.apply(deployment(minReadySeconds=5, paused=False))
    await kube.patch(DEPLOYMENT, "llm", "d", {"spec": {"replicas": 7}})
    await kube.apply(deployment(minReadySeconds=5))
    stored = api.objects("apps/v1", "deployments")["llm", "d"]
    assert stored["spec"]["replicas"] == 7, "fields of others stay"
    assert "paused" not in stored["spec"], "what we no longer apply goes"
    other = {**deployment(minReadySeconds=9)}
    stored["metadata"]["managedFields"].append(
        {"manager": "kubectl-edit", "operation": "Apply", "fieldsV1": {"paths": ["spec\x1freplicas"]}}
    )
    api.put(stored)
    with pytest.raises(Refused, match="kubectl-edit") as e:
        await kube.apply({**other, "spec": {**other["spec"], "replicas": 3}})
    assert e.value.code == 409
    await kube.apply({**other, "spec": {**other["spec"], "replicas": 3}}, force=True)
    assert api.objects("apps/v1", "deployments")["llm", "d"]["spec"]["replicas"] == 3


async def test_a_dry_run_changes_nothing(api: KubeApi, kube: Kube) -> None:
    await kube.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}, dry_run=True
    )
    assert not api.objects("v1", "configmaps")


async def test_an_unknown_kind_says_what_to_install(kube: Kube) -> None:
    with pytest.raises(InputError, match="cluster-prereqs"):
        await kube.apply({"apiVersion": "nobody.dev/v1", "kind": "Thing", "metadata": {"name": "x"}})


async def test_a_kind_that_was_served_a_moment_ago_says_so_too(api: KubeApi, kube: Kube) -> None:
    """Its definitions were deleted since it was looked up; `404 page not found` would help nobody."""
    version = "keda.sh/v1alpha1"
    scaled = {"apiVersion": version, "kind": "ScaledObject", "metadata": {"name": "x", "namespace": "llm"}}
    api.served[version] = "scaledobjects"
    await kube.apply(scaled)
    served = api.unserve(version)
    with pytest.raises(InputError, match="does not serve") as e:
        await kube.apply(scaled)
    assert "cluster-prereqs" in e.value.cure and "page not found" not in e.value.message
    api.served[version] = served
    await kube.apply(scaled)


class Picture:
    """What a watcher believes."""

    def __init__(self, kube: Kube, select: Select, span_s: float) -> None:
        self.items: dict[tuple[str, str], str] = {}
        self.syncs = 0
        self._task = asyncio.ensure_future(self._follow(kube, select, span_s))

    async def _follow(self, kube: Kube, select: Select, span_s: float) -> None:
        async for news in kube.watch(select, name_of, span_s):
            match news:
                case Synced(items):
                    self.items = dict(items)
                    self.syncs += 1
                case Changed(key, None):
                    self.items.pop(key, None)
                case Changed(key, item):
                    assert item is not None
                    self.items[key] = item

    async def becomes(self, wanted: Callable[[Picture], bool], within_s: float = 10.0) -> None:
        async with asyncio.timeout(within_s):
            while not wanted(self):
                assert not self._task.done(), self._task
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_a_watch_follows_changes(api: KubeApi, kube: Kube) -> None:
    api.put(pod("a", app="vllm"))
    seen = Picture(kube, Select(POD, "llm", labels="app=vllm"), 30)
    await seen.becomes(lambda p: set(p.items.values()) == {"a"})
    api.put(pod("b", app="vllm"))
    api.put(pod("c", app="other"))
    await seen.becomes(lambda p: set(p.items.values()) == {"a", "b"})
    api.remove("v1", "pods", "a", "llm")
    api.put(pod("b", app="gone"))
    await seen.becomes(lambda p: not p.items)
    assert seen.syncs == 1
    await seen.stop()


async def test_events_that_never_come_are_healed_within_one_span(api: KubeApi, kube: Kube) -> None:
    for name in ("a", "b"):
        api.put(pod(name))
    seen = Picture(kube, Select(POD, "llm"), span_s=1.0)
    await seen.becomes(lambda p: len(p.items) == 2)
    api.faults.drop_deleted = True
    api.remove("v1", "pods", "a", "llm")
    await asyncio.sleep(0.2)
    assert len(seen.items) == 2, "the DELETED event was lost"
    await seen.becomes(lambda p: set(p.items.values()) == {"b"}, within_s=5)
    await seen.stop()


@pytest.mark.parametrize("trouble", ["cut", "gone", "forgotten", "busy", "away"])
async def test_every_break_ends_in_a_relist(api: KubeApi, kube: Kube, trouble: str) -> None:
    for name in ("a", "b"):
        api.put(pod(name))
    seen = Picture(kube, Select(POD, "llm"), span_s=60.0)
    await seen.becomes(lambda p: len(p.items) == 2)
    api.faults.drop_deleted = True
    api.remove("v1", "pods", "a", "llm")
    if trouble == "gone":
        api.faults.gone = 2
    if trouble == "busy":
        api.faults.fail = 3
    if trouble == "away":
        api.faults.down = True
    if trouble == "forgotten":
        api.forget_history()
    api.break_watches()
    if trouble == "away":
        await asyncio.sleep(0.5)
        assert len(seen.items) == 2, "the last picture stays good while the API server is away"
        api.faults.down = False
    await seen.becomes(lambda p: set(p.items.values()) == {"b"}, within_s=15)
    await seen.stop()


async def test_an_api_server_that_is_away_is_told_with_a_cure(api: KubeApi, kube: Kube) -> None:
    api.faults.down = True
    with pytest.raises(ClusterError, match="cluster-info"):
        await kube.get(POD, "llm", "x")


@pytest.mark.parametrize("text", ["", "a: b", "clusters: 3", "\x00", "{]"])
def test_a_broken_kubeconfig_is_the_users_to_mend(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(InputError):
        connect(kubeconfig=str(path))
    with pytest.raises(InputError):
        connect(kubeconfig=str(tmp_path / "none"))


async def test_rbac_is_asked_not_guessed(api: KubeApi, kube: Kube) -> None:
    assert await kube.may("list", POD, "llm")
    api.faults.deny = {"list pods"}
    assert not await kube.may("list", POD, "llm")


async def test_from_inside_a_pods_page_is_asked_of_the_pod_and_from_outside_of_the_api_server(
    api: KubeApi,
) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/debug/state" else 500)
            self.end_headers()
            self.wfile.write(b'{"from": "the Pod"}')

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as pod:
        threading.Thread(target=pod.serve_forever, args=(0.02,), daemon=True).start()
        port = pod.server_address[1]
        api.proxies[f"llm/g:{port}"] = {"from": "the API server"}
        for context, address, wanted in (
            ("in-cluster", "127.0.0.1", "the Pod"),
            ("prod", "127.0.0.1", "the API server"),
        ):
            async with Kube(httpx2.AsyncClient(base_url=api.url), "llm", context) as kube:
                assert (await kube.page("llm", "g", address, port, "debug/state"))["from"] == wanted
        pod.shutdown()
    async with Kube(httpx2.AsyncClient(base_url=api.url), "llm", "in-cluster") as kube:
        with pytest.raises(ClusterError, match="does not answer"):
            await kube.page("llm", "g", "127.0.0.1", port, "debug/state")
