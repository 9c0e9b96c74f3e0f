"""A request's Host: what may stand there, and which name must not read the admin port of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seawall.gateway.edge.host import rebound, valid_host

from .conftest import FakeEngine, split
from .processes import exchange, gateway_process

READS = ("/metrics", "/debug/state", "/debug/console", "/console", "/console/api/now", "/console/v1/models")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9090", "a.evil.example.",
                                  "127.0.0.1.evil.example", "localhost.evil.example",
                                  "1.2.3.4.5", "xn--a.b:1", "a.b", "svc.evil.example", "a.notlocal"])  # fmt: skip
def test_a_name_that_somebody_may_own_is_told_from_one_of_this_machine(host: str) -> None:
    assert rebound(host, "127.0.0.1") and rebound(host, "::1") and rebound(host, "::ffff:127.0.0.1")
    assert not rebound(host, "10.0.0.7") and not rebound(host, ""), (
        "the network decides who comes from elsewhere"
    )


@pytest.mark.parametrize("host", ["", "localhost", "localhost:9090", "LOCALHOST.", "a.localhost", "127.0.0.1",
                                  "127.9.9.9:1", "[::1]", "[::1]:9090", "g", "gateway:9090",
                                  "10.2.3.4:9090", "[fe80::1%eth0]:80", "m-admin.llm.svc:9090",
                                  "m-admin.llm.svc.cluster.local.", "node-1.internal:9090"])  # fmt: skip
def test_addresses_and_local_names_are_nobodys(host: str) -> None:
    assert valid_host(host.encode()) and not rebound(host, "127.0.0.1")
    assert not rebound(host, "127.0.0.6"), "a mesh's proxy hands on from there what Pods ask"


def request(path: str, host: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


async def looked_at(port: int) -> None:
    """A page whose name was made to lead to this machine reads nothing; who typed an address does, and probes do."""
    for path in READS:
        status, _, body = split(await exchange(port, request(path, "evil.example:9090")))
        assert (status, json.loads(body)["error"]["code"]) == (403, "foreign_host"), path
    for path in ("/metrics", "/debug/state", "/console"):
        assert split(await exchange(port, request(path, f"localhost:{port}")))[0] == 200, path
    for path in ("/healthz", "/readyz"):
        assert split(await exchange(port, request(path, "evil.example")))[0] == 200, path


async def test_a_page_that_leads_its_name_here_reads_nothing_on_the_admin_port(
    start: Any, engine: FakeEngine
) -> None:
    gateway = await start(engine)
    await looked_at(gateway.admin_port)
    served = await gateway.raw(request("/v1/models", "llm.example.com"))
    assert split(served)[0] == 200, "the port for traffic has names of its own"


async def test_nor_on_the_one_of_several_workers(engine: Any, spec: str, tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(spec)
    async with gateway_process(file, f"static:{engine.url}", "--workers", "2") as gateway:
        await looked_at(gateway.admin_port)
