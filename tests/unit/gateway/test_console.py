"""The console on a real gateway's admin port: the page, its stream, keys, and the playground."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.within import within

from seawall.gateway.tell import keyring

from .conftest import FakeEngine, Gateway, split

EXACT = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  gateway: {resume: exact}
"""


@asynccontextmanager
async def opened(gateway: Gateway, query: str = "", *lines: str) -> AsyncIterator[Any]:
    """The stream of an open page: call it for the next event."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.admin_port)
    head = "".join(f"{line}\r\n" for line in ("Host: g", *lines))
    writer.write(f"GET /console/api/stream?{query} HTTP/1.1\r\n{head}\r\n".encode())
    top = await within(reader.readuntil(b"\r\n\r\n"), 10)
    assert top.startswith(b"HTTP/1.1 200"), top
    assert b"text/event-stream" in top

    async def told() -> dict[str, Any]:
        while True:
            line = await within(reader.readline(), 10)
            if line.startswith(b"data: "):
                event: dict[str, Any] = json.loads(line[6:])
                return event

    try:
        yield told
    finally:
        writer.transport.abort()


async def test_the_page_its_files_and_its_policy(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine)
    for path, kind in (
        ("/console", "text/html"),
        ("/console/main.js", "text/javascript"),
        ("/console/console.css", "text/css"),
    ):
        status, headers, body = await gateway.get(path, admin=True)
        assert status == 200 and body and headers["content-type"].startswith(kind)
        assert "'unsafe" not in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
    assert (await gateway.get("/console/nothing", admin=True))[0] == 404
    assert (await gateway.get("/console"))[0] == 404, "tenants' port knows no console"
    post = b"POST /console HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert split(await gateway.raw(post, gateway.admin_port))[0] == 405


async def test_a_killed_replica_is_seen_out_and_back(
    start: Any, engine: FakeEngine, other: FakeEngine
) -> None:
    gateway = await start(engine, other, spec=EXACT)
    engine.gate = other.gate = asyncio.Event()
    async with opened(gateway) as told, asyncio.timeout(30):
        await told()
        asked = asyncio.ensure_future(gateway.complete(stream=True, max_tokens=5, temperature=0))
        while not engine.open + other.open:
            await asyncio.sleep(0.01)
        killed, left = (engine, other) if engine.open else (other, engine)
        await killed.kill()
        while not left.open:
            await asyncio.sleep(0.01)
        engine.gate.set()
        assert (await asked)[0] == 200
        await killed.start()
        kinds: dict[str, str] = {}
        while not {"eviction", "return"} <= kinds.keys():
            for event in (await told()).get("events", []):
                kinds[event["kind"]] = f"{event['subject']} {event['text']}"
        assert kinds["return"].endswith("back in service: gave a token")


async def test_a_page_that_is_closed_is_forgotten(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine)
    console = gateway.server.console.console
    async with opened(gateway) as told:
        await told()
        assert len(console.pages) == 1
    async with asyncio.timeout(10):
        while console.pages:
            await asyncio.sleep(0.01)


async def test_numbers_ask_for_a_key_where_the_api_does(
    start: Any, engine: FakeEngine, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    secret, entry = keyring.make("acme")
    keyring.change(keys, add=entry)
    gateway = await start(engine, keys=keys)
    assert (await gateway.get("/console", admin=True))[0] == 200
    about = json.loads((await gateway.get("/console/api/about", admin=True))[2])
    assert about["keys"] is True
    for path in ("now", "events", "stream"):
        status, headers, _ = await gateway.get(f"/console/api/{path}", admin=True)
        assert status == 401 and headers["www-authenticate"] == "Bearer", path
    assert (await gateway.get(f"/console/api/now?key={secret}", admin=True))[0] == 401, "never in an address"
    async with opened(gateway, "", f"Authorization: Bearer {secret}") as told:
        assert (await told())["fleets"]["rows"][0]["name"] == "m"


async def test_the_playground_goes_the_way_of_every_request(
    start: Any, engine: FakeEngine, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    secret, entry = keyring.make("acme")
    keyring.change(keys, add=entry)
    gateway = await start(engine, keys=keys)
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}).encode()

    async def play(*lines: str) -> tuple[int, dict[str, str], bytes]:
        head = "".join(f"{line}\r\n" for line in ("Host: g", *lines))
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        request = f"POST /console/v1/chat/completions HTTP/1.1\r\n{head}".encode() + body
        return split(await gateway.raw(request, gateway.admin_port))

    assert (await play())[0] == 401
    status, headers, answer = await play(f"Authorization: Bearer {secret}", "Origin: http://g")
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    assert answer.rstrip().endswith(b"data: [DONE]")
    assert [path for path, _, _ in engine.log][-1] == "/v1/chat/completions"
    assert (await gateway.reconciled())["finished_total"] == 1
    status, _, _ = await play(f"Authorization: Bearer {secret}", "Origin: http://elsewhere.example")
    assert status == 403
    for path in ("/console/v1/completions", "/console/v1/models/../x", "/console/v1/load_lora_adapter"):
        post = f"POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        assert split(await gateway.raw(post.encode(), gateway.admin_port))[0] == 405


async def test_what_the_supervisor_wrote_is_shown_while_it_is_fresh(
    start: Any, engine: FakeEngine, tmp_path: Path
) -> None:
    file = tmp_path / "state.json"
    gateway = await start(engine, supervisor=file)
    pages = gateway.server.console
    pages.look()
    assert not pages.console.sight.decides, "there is no file yet"
    up = {
        "engine": "sim", "state_dir": "here", "ended": False,
        "fleets": [{"name": "m", "wanted": 2, "ready": 1, "min": 1, "max": 2, "scale_reason": "busy"}],
        "replicas": [{"name": "x-1", "fleet": "m", "phase": "starting", "for_s": 4, "stage": "weights 3 of 9"}],
        "events": [{"at": 5.0, "subject": "m", "text": "1 -> 2 replicas: busy"}],
    }  # fmt: skip
    file.write_text("{")
    pages.look()
    assert not pages.console.sight.decides, "it is being written"
    file.write_text(json.dumps(up))
    pages.look()
    (replica,) = pages.console.sight.replicas
    assert (replica.phase, replica.reason) == ("starting", "weights 3 of 9")
    assert pages.console.sight.fleets[0].scale == "busy"
    assert pages.console.chronicle.page(0, 1, "scale", "m")[0].text == "1 -> 2 replicas: busy"
    file.write_text(json.dumps(up | {"ended": True}))
    pages.look()
    assert pages.console.sight.replicas[0].name != "x-1", "the gateway's own word, when nobody else has one"


async def test_debug_console_tells_everything_and_debug_state_stays_small(
    start: Any, engine: FakeEngine
) -> None:
    gateway = await start(engine)
    assert (await gateway.complete(stream=True))[0] == 200
    state = await gateway.state()
    assert state["fleets"]["m"]["tenants"] == {}
    assert sum(state["fleets"]["m"]["ttft_counts"]) == 1
    whole = json.loads((await gateway.get("/debug/console", admin=True))[2])
    assert whole["fleets"]["m"]["tenants"][""]["outcomes"] == {"finished": 1}
