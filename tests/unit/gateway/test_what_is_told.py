"""What pages that need no key tell of requests: nothing that a client sent or got, nothing that opens a door."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.conftest import FakeEngine, split
from tests.unit.gateway.processes import exchange
from tests.unit.gateway.test_background import KEEPS

from seawall.gateway.tell import keyring

PAGES = (
    "/metrics",
    "/debug/state",
    "/debug/console",
    "/console",
    "/console/api/about",
    "/readyz",
    "/healthz",
)
OPEN_TO_KEYS = ("/console/api/now", "/console/api/events?rows=5", "/console/api/stream", "/console/v1/models")
SECRETS = ("my-prompt", "my-session", "my-copy", "my-agent", "hello", "t0 ")


def asking(path: str, more: str = "", body: str = "") -> bytes:
    method = "POST" if body else "GET"
    return (
        f"{method} {path} HTTP/1.1\r\nHost: g\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n{body}"
    ).encode()


async def test_pages_without_a_key_hold_no_prompt_answer_or_key(
    start: Any, engine: FakeEngine, tmp_path: Path
) -> None:
    secret, key = keyring.make("a")
    keyring.change(tmp_path / "keys.json", add=key)
    gateway = await start(engine, spec=KEEPS, keys=tmp_path / "keys.json")
    auth = f"Authorization: Bearer {secret}\r\n"
    said = f"{auth}x-session-id: my-session\r\nIdempotency-Key: my-copy\r\nUser-Agent: my-agent\r\n"
    ask = {"model": "m", "prompt": "my-prompt", "stream": True, "user": "my-agent"}
    engine.faults.append("cut_after_2")
    engine.gate = asyncio.Event()
    running = asyncio.create_task(exchange(gateway.port, asking("/v1/completions", said, json.dumps(ask))))
    while len(engine.log) < 1:
        await asyncio.sleep(0.01)
    for _ in range(2):  # while it runs, and when it is over, continued elsewhere and kept
        for path in PAGES:
            status, _, page = split(await exchange(gateway.admin_port, asking(path)))
            assert status == 200, path
            told = page.decode()
            assert not [s for s in (*SECRETS, secret, key.sha256) if s in told], path
        for path in OPEN_TO_KEYS:
            assert split(await exchange(gateway.admin_port, asking(path)))[0] == 401, path
        engine.gate.set()
        await running


@pytest.mark.parametrize(
    "path", ["/debug/state", "/debug/console", "/metrics", "/console", "/healthz", "/readyz"]
)
async def test_the_port_for_traffic_has_none_of_them(
    start: Any, engine: FakeEngine, tmp_path: Path, path: str
) -> None:
    gateway = await start(engine)
    for said in (asking(path), asking(path + "?a=b"), asking(f"http://g{path}"), asking(path, body="{}")):
        assert split(await gateway.raw(said))[0] == 404
