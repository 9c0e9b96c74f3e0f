"""The console of a cluster: Pods and gateways in one picture, served to this machine alone."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx2
import pytest
from tests.unit.operator.test_apply import READY, engine_pod
from tests.unit.operator.test_readiness import NS, gateway, served
from tests.within import within

from seawall.drivers.kube import Kube
from seawall.errors import InputError
from seawall.operator.sights import serve, sight_of
from seawall.operator.status import SHOWN
from seawall.testing.kube_api import KubeApi


async def test_pods_and_gateways_make_one_picture(api: KubeApi, kube: Kube) -> None:
    served(api)
    gateway(api, p0="ready", p1="evicted", p2="ready")
    sight = await sight_of(kube, NS)
    (fleet,) = sight.fleets
    assert (fleet.name, fleet.wanted, fleet.ready, fleet.told.queued) == ("llama", 3, 2, 2)
    phases = {r.name: (r.phase, r.reason) for r in sight.replicas}
    assert phases == {"p0": ("ready", ""), "p1": ("evicted", "connection refused"), "p2": ("ready", "")}
    everywhere = await sight_of(kube, None)
    assert [f.name for f in everywhere.fleets] == ["llm/llama"]
    assert {r.name for r in everywhere.replicas} == {"llm/p0", "llm/p1", "llm/p2"}


async def test_every_replica_is_there_and_a_silent_gateway_is_said(api: KubeApi, kube: Kube) -> None:
    served(api, wanted=0)
    for n in range(SHOWN + 5):
        api.put(engine_pod(f"p{n}", **READY))
    gateway(api)
    del api.proxies[f"{NS}/g:9090"]
    sight = await sight_of(kube, NS)
    assert len(sight.replicas) == SHOWN + 5
    assert "a gateway could not be asked (g: " in sight.silent


async def test_the_page_is_served_to_loopback_names_only_and_ends_cleanly(api: KubeApi, kube: Kube) -> None:
    served(api)
    gateway(api, p0="ready", p1="ready", p2="ready")
    where: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(serve(kube, NS, 0, where.set_result))
    try:
        url = await within(where, 10)
        async with httpx2.AsyncClient(trust_env=False) as client:
            page = await client.get(url)
            assert page.status_code == 200 and "'unsafe" not in page.headers["content-security-policy"]
            assert (await client.get(url, headers={"host": "rebound.example"})).status_code == 403
            assert (await client.post(url + "/api/now")).status_code == 405
            assert (await client.get(url + "/nothing")).status_code == 404
            async with client.stream("GET", url + "/api/stream", timeout=20) as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("data: ") and json.loads(line[6:])["replicas"]["total"] == 3:
                        break
        other = serve(kube, NS, int(url.split(":")[2].partition("/")[0]), lambda url: None)
        with pytest.raises(InputError, match="cannot listen on port"):
            await other
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_the_playground_talks_through_the_api_server_and_streams(api: KubeApi, kube: Kube) -> None:
    """A server that stands for the gateway sends its second half only when the first has been read."""
    served(api)
    gateway(api, p0="ready")
    api.proxies[f"{NS}/g:9090"]["fleets"]["llama"]["models"] = ["llama-70b"]  # type: ignore[index]
    heads: list[bytes] = []
    go_on = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: 1\n\n"
        )
        await go_on.wait()
        writer.write(b"data: [DONE]\n\n")
        writer.close()

    pod = await asyncio.start_server(answer, "127.0.0.1", 0)
    api.proxies[f"{NS}/g:8000"] = f"http://127.0.0.1:{pod.sockets[0].getsockname()[1]}"
    where: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(serve(kube, NS, 0, where.set_result))
    try:
        url = await within(where, 10)
        chat, ask = url + "/v1/chat/completions", {"model": "llama-70b", "messages": [], "stream": True}
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
            async with client.stream("GET", url + "/api/stream") as seen:
                async for line in seen.aiter_lines():
                    if line.startswith("data: ") and json.loads(line[6:])["replicas"]["total"]:
                        break
            key = {"authorization": "Bearer sk-sw-1"}
            async with client.stream("POST", chat, json=ask, headers=key) as stream:
                assert stream.status_code == 200 and stream.headers["content-type"] == "text/event-stream"
                pieces = stream.aiter_bytes()
                assert await within(anext(pieces), 20) == b"data: 1\n\n"
                go_on.set()
                assert b"".join([p async for p in pieces]) == b"data: [DONE]\n\n"
            head = heads[0].lower()
            assert head.startswith(b"post /v1/chat/completions ") and b"x-api-key: sk-sw-1\r\n" in head
            assert b"authorization" not in head
            refused = {
                404: [await client.post(chat, json={"model": "nobody"}), await client.post(url + "/v1/files", json={})],
                403: [await client.post(chat, json=ask, headers={"origin": "https://elsewhere.example"}),
                      await client.post(chat, json=ask, headers={"host": "rebound.example"})],
                415: [await client.post(chat, content=b"{}", headers={"content-type": "text/plain"})],
                413: [await client.post(chat, json={"model": "llama-70b", "messages": "x" * 2**20})],
                405: [await client.get(chat)],
            }  # fmt: skip
            assert {code: {a.status_code for a in got} for code, got in refused.items()} == {
                c: {c} for c in refused
            }
            assert len(heads) == 1
            del api.proxies[f"{NS}/g:8000"]
            assert (await client.post(chat, json=ask)).status_code == 503
    finally:
        go_on.set()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        pod.close()


async def test_the_command_prints_the_address_serves_and_ends_with_ctrl_c(
    api: KubeApi, tmp_path: Path
) -> None:
    served(api)
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
    gateway(api, p0="ready", p1="ready", p2="ready")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "seawall", "console", "--kubeconfig", str(api.kubeconfig(tmp_path, NS)), "-o", "json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        line = await within(child.stdout.readline(), 60)
        assert b"url" in line, line
        url = json.loads(line)["url"]
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert "Seawall console" in (await client.get(url)).text
    finally:
        child.send_signal(signal.SIGINT)
        _, said = await within(child.communicate(), 30)
    assert child.returncode == 0, said
    assert b"Traceback" not in said
