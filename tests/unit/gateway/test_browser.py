"""What a browser carries to a gateway without keys for a page that was given no right to it, on both edges."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.both import EDGES, Edge, Http1, ask
from tests.unit.gateway.conftest import FakeEngine, split
from tests.unit.gateway.processes import exchange, gateway_process
from tests.unit.gateway.scripted import ASK, Bench, with_bench

from seawall.gateway.intake.browser import from_elsewhere
from seawall.gateway.tell import keyring
from seawall.gateway.tell.keyring import KeyRing, Keys

PLAIN, JSON = b"text/plain;charset=UTF-8", b"application/json"
PAGE = b"https://evil.example"
REFUSED = (403, "foreign_origin")


def allow(b: Bench, *origins: str) -> None:
    gateway = replace(b.fleet.fleet.spec.gateway, allowed_origins=list(origins))
    b.app.configure([replace(b.fleet.fleet, spec=replace(b.fleet.fleet.spec, gateway=gateway))])


def came_of(edge: Edge, headers: dict[bytes, bytes], path: bytes = b"/v1/completions") -> Any:
    """(status, code) of a refusal; None: it goes to the engine."""
    ask(edge, ASK, path, headers)
    answer = edge.answer
    if answer is None:
        edge.leave()
        return None
    return answer.status, json.loads(answer.body)["error"]["code"]


def told(origin: bytes, kind: bytes | None = PLAIN, site: bytes = b"") -> dict[bytes, bytes]:
    """What a browser says of a request: its page, its kind, how far the page is."""
    said = {b"Origin": origin, b"Sec-Fetch-Site": site, b"Content-Type": kind or b""}
    return {name: value for name, value in said.items() if value}


@EDGES
@pytest.mark.parametrize("local", [True, False], ids=["loopback", "network"])
@pytest.mark.parametrize(
    "headers",
    [told(PAGE), told(PAGE, None), told(PAGE, b"application/x-www-form-urlencoded"),
     told(PAGE, b"multipart/form-data; boundary=x"), told(PAGE, b"TEXT/PLAIN", b"cross-site"),
     told(b"null"), told(b"http://g.evil.example"), told(b"http://g:3000", site=b"same-site"),
     told(b"", site=b"cross-site"), told(b"", None, b"same-site"),
     told(b"chrome-extension://abcdef")],
    ids=lambda h: "-".join(v.decode() for v in h.values()),
)  # fmt: skip
def test_what_a_page_of_another_origin_sends_unasked_reaches_no_engine(
    edge: Any, local: bool, headers: dict[bytes, bytes]
) -> None:
    def script(b: Bench) -> None:
        b.app.local = local
        assert came_of(edge(b), headers) == REFUSED
        assert not b.up_pipe.out and not b.fleet.active

    with_bench(script)


@EDGES
@pytest.mark.parametrize(
    "headers",
    [{}, told(b"", PLAIN), told(b"", JSON), told(b"http://g"), told(b"https://g"),
     told(b"http://chat.example", PLAIN, b"same-origin"), told(b"", PLAIN, b"none"),
     told(b"chrome-extension://abcdef", JSON), told(b"app://obsidian.md", JSON)],
    ids=lambda h: "-".join(v.decode() for v in h.values()) or "nothing",
)  # fmt: skip
def test_other_clients_own_pages_and_apps_are_served(edge: Any, headers: dict[bytes, bytes]) -> None:
    def script(b: Bench) -> None:
        b.app.local = True
        assert came_of(edge(b), headers) is None

    with_bench(script)


def test_a_port_that_goes_without_saying_makes_no_other_origin() -> None:
    for host, origin in ((b"g:80", b"http://g"), (b"g:443", b"https://g"), (b"G", b"http://g")):
        assert not from_elsewhere({b"host": host, b"origin": origin})
    for host, origin in ((b"g:443", b"http://g"), (b"g", b"http://g:80"), (b"", b"null"), (b"g", b"g")):
        assert from_elsewhere({b"host": host, b"origin": origin})


@EDGES
def test_pages_of_allowed_origins_and_clients_with_keys_are_served(edge: Any) -> None:
    def script(b: Bench) -> None:
        b.app.local = True
        allow(b, "https://chat.example")
        for kind in (PLAIN, JSON):
            assert came_of(edge(b), told(b"https://chat.example", kind, b"cross-site")) is None
            assert came_of(edge(b), told(PAGE, kind, b"cross-site")) == REFUSED
        allow(b, "*")
        assert came_of(edge(b), told(PAGE)) is None
        allow(b)
        keys = KeyRing()
        secret, key = keyring.make("someone")
        keys.replace(Keys(keys=(key,)))
        b.app.keys, b.app.keys_for_all = keys, True
        assert came_of(edge(b), told(PAGE)) == (401, "invalid_api_key")
        assert came_of(edge(b), told(PAGE) | {b"Authorization": b"Bearer " + secret.encode()}) is None

    with_bench(script)


def test_a_browser_that_was_allowed_by_a_proxy_is_believed_where_one_can_stand_before_us() -> None:
    def script(b: Bench) -> None:
        asked_first = told(PAGE, JSON, b"cross-site")
        assert came_of(Http1(b), asked_first) is None
        b.app.local = True
        assert came_of(Http1(b), asked_first) == REFUSED

    with_bench(script)


@pytest.mark.parametrize("path", [b"/v1/files", b"/v1/batches", b"/v1/audio/transcriptions", b"/nowhere"])
def test_no_route_takes_it(path: bytes) -> None:
    def script(b: Bench) -> None:
        b.app.local = True
        assert came_of(Http1(b), told(PAGE, b"multipart/form-data; boundary=x"), path) == REFUSED

    with_bench(script)


def named(host: str, more: str = "") -> bytes:
    body = json.dumps({"model": "m", "prompt": "x"})
    return (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{more}"
        f"Content-Type: application/json\r\nConnection: close\r\n\r\n{body}"
    ).encode()


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["one", "workers"])
async def test_a_page_whose_name_leads_to_this_machine_asks_nothing(
    engine: FakeEngine, spec: str, tmp_path: Path, more: tuple[str, ...]
) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(spec)
    async with gateway_process(file, f"static:{engine.url}", *more) as gateway:
        page = named("evil.example:8000", "Origin: http://evil.example:8000\r\n")
        status, _, answer = split(await exchange(gateway.port, page))
        assert (status, json.loads(answer)["error"]["code"]) == (403, "foreign_host") and not engine.log
        port = gateway.port
        served = {
            "a client": named("chat.example"),
            "a page behind a proxy with TLS": named(
                "chat.example", "Origin: https://chat.example\r\nSec-Fetch-Site: same-origin\r\n"
            ),
            "a page of this machine": named(f"localhost:{port}", f"Origin: http://localhost:{port}\r\n"),
        }
        for who, request in served.items():
            assert split(await exchange(port, request))[0] == 200, who
