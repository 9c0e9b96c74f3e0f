"""A spec or a file of keys that is broken on disk: who serves goes on, and so does whoever comes after him."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
from tests.unit.gateway.conftest import FakeEngine
from tests.unit.gateway.keepers import SPEC, kept_gateway, kill
from tests.unit.gateway.processes import Process, exchange, gateway_process
from tests.unit.gateway.waiting import until

from seawall.gateway.tell import keyring

CONFIG_ERRORS = "seawall_config_errors_total"
BROKEN = {
    "half": SPEC[:60],
    "bytes": "\x00\x01",
    "empty": "",
    "deep": "[" * 2_000,
    "other": SPEC.replace("model:", "modell:"),
}


async def counted(gateway: Process, name: str) -> float:
    page = (await gateway.get("/metrics")).decode()
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


async def asked(gateway: Process, key: str = "") -> bytes:
    """Status and the rest of an answer."""
    body = b'{"model":"m","prompt":"x"}'
    head = f"POST /v1/completions HTTP/1.1\r\nHost: g\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n"
    got = await exchange(gateway.port, head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    return got.partition(b" ")[2][:3]


async def told_of_an_error(gateway: Process, before: float) -> None:
    while await counted(gateway, CONFIG_ERRORS) <= before:
        await asyncio.sleep(0.05)


async def test_the_successor_of_a_killed_gateway_serves_what_was_read_last(tmp_path: Path) -> None:
    async with FakeEngine() as engine, kept_gateway(tmp_path, engine) as (gateway, _):
        assert await asked(gateway) == b"200"
        for how, text in BROKEN.items():
            errors = await counted(gateway, CONFIG_ERRORS)
            (tmp_path / "f.yaml").write_text(text)
            await told_of_an_error(gateway, errors)
            assert await asked(gateway) == b"200", how
            await kill(gateway)
            assert await asked(gateway) == b"200", how
        (tmp_path / "f.yaml").write_text(SPEC.replace("file:///none", "file:///none, servedNames: [other]"))
        gateway.child.send_signal(signal.SIGHUP)
        while await asked(gateway) != b"404":
            await asyncio.sleep(0.05)


async def test_keys_that_cannot_be_read_open_and_close_no_door(tmp_path: Path) -> None:
    secret, key = keyring.make("a")
    keys = tmp_path / "keys.json"
    keyring.change(keys, add=key)
    async with (
        FakeEngine() as engine,
        kept_gateway(tmp_path, engine, SPEC, "--keys", str(keys)) as (gateway, _),
    ):
        keys.write_text("{")
        await kill(gateway)
        assert (await asked(gateway, secret), await asked(gateway, "no")) == (b"200", b"401")
        assert all(f.stat().st_mode & 0o077 == 0 for f in tmp_path.glob("*.read.json"))


async def test_a_worker_that_is_killed_comes_back(engine: FakeEngine, tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(SPEC + "  gateway: {keeper: false}\n")
    async with gateway_process(file, f"static:{engine.url}", "--workers", "2") as gateway:
        file.write_text("broken: [")
        workers = {p.pid for p in psutil.Process(gateway.child.pid).children()}
        for pid in workers:
            os.kill(pid, 9)

        def others() -> bool:
            now = {p.pid for p in psutil.Process(gateway.child.pid).children()}
            return len(now - workers) == 2

        await until(others, 60)
        while b"ok" not in await gateway.get("/readyz"):
            await asyncio.sleep(0.05)
        assert await asked(gateway) == b"200"


async def test_who_begins_anew_with_a_broken_spec_is_told(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("broken: [")
    with pytest.raises(AssertionError):
        async with gateway_process(file, "static:", "--keeper", str(tmp_path / "k")):
            pass
