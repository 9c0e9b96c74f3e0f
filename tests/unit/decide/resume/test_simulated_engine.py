"""The matrix against two simulated engines over HTTP: the same kinds of request as against real vLLM."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2
import pytest

from .over_http import CASES, MODEL, TYPED, relay
from .through_gateway import ALL, Front, check, front
from .typed_client import story


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start_engine(port: int, *flags: str) -> subprocess.Popen[bytes]:
    """A simulated engine as a process; wait for it with `await_engine`."""
    command = [sys.executable, "-m", "seawall", "engine", "sim", "--port", str(port)]
    command += ["--served-model-name", MODEL, *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def await_engine(url: str) -> None:
    for _ in range(600):
        try:
            if httpx2.get(url + "/health").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.05)
    raise AssertionError("the simulated engine did not start")


FLAGS = (
    "--sim-step",
    "0.0005",
    "--sim-seed",
    "1",
    "--enable-auto-tool-choice",
    "--tool-call-parser",
    "hermes",
)


@contextlib.contextmanager
def engines(*flags: str) -> Iterator[list[str]]:
    """Two simulated engines, as processes; their URLs."""
    ports = [free_port(), free_port()]
    running = [start_engine(port, *flags) for port in ports]
    try:
        found = [f"http://127.0.0.1:{port}" for port in ports]
        for url in found:
            await_engine(url)
        yield found
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    with engines(*FLAGS) as found:
        yield found


@pytest.fixture(scope="module")
def unwatched() -> Iterator[list[str]]:
    """No gateway has ever heard of these two: nobody's question but the test's own meets a fault that was asked for."""
    with engines(*FLAGS) as found:
        yield found


@pytest.fixture(scope="module")
def wide() -> Iterator[list[str]]:
    """Chunks of three tokens: their boundaries may lie inside a character."""
    with engines(*FLAGS, "--stream-interval", "3") as found:
        yield found


@pytest.mark.parametrize("name", CASES)
def test_chunks_of_several_tokens_go_on_too(wide: list[str], name: str) -> None:
    route, body = CASES[name]
    with httpx2.Client(timeout=30) as http:
        want = relay(http, wide[:1], route, body)
        for cut in (1, 2, 3, 4, 5):
            got = relay(http, wide, route, body, (cut,))
            assert got.view.same_answer(want.view), (cut, got.retries, got.raw, want.raw)


@pytest.mark.parametrize("name", CASES)
def test_a_lost_stream_of_the_simulated_engine_goes_on(urls: list[str], name: str) -> None:
    route, body = CASES[name]
    with httpx2.Client(timeout=30) as http:
        want = relay(http, urls[:1], route, body)
        assert want.session.finish_ok
        for cuts in ((0,), (1,), (2,), (3,), (5,), (8,), (11,), (4, 3), (5, 1, 2)):
            got = relay(http, urls, route, body, cuts)
            assert got.view.same_answer(want.view), (cuts, got.retries, got.raw, want.raw)
            assert got.session.finish_ok
            assert len(got.view.ids) == len(got.view.created) == 1


@pytest.mark.parametrize("name", TYPED)
def test_messages_and_responses_go_on(urls: list[str], name: str) -> None:
    route, body = TYPED[name]
    with httpx2.Client(timeout=30) as http:
        want = relay(http, urls[:1], route, body)
        assert want.session.finish_ok
        for cuts in ((0,), (1,), (2,), (5,), (9,), (12,), (6, 3), (4, 8, 5)):
            got = relay(http, urls, route, body, cuts)
            assert story(got.raw) == story(want.raw), (cuts, got.retries)
            assert got.session.usage == want.session.usage


DEATHS = [(kind, "/v1/messages") for kind in ("eof", "reset", "abort", "done-only", "error")]
DEATHS += [(kind, "/v1/responses") for kind in ("eof", "reset", "error")]
"""An aborted response is called completed, by vLLM too: docs/critique.md."""


@pytest.mark.parametrize(("kind", "route"), DEATHS)
def test_every_way_to_die_is_noticed_on_these_routes_too(unwatched: list[str], kind: str, route: str) -> None:
    body = next(body for path, body in TYPED.values() if path == route)
    with httpx2.Client(timeout=30) as http:
        want = relay(http, unwatched, route, body)
        for after in (0, 1, 7):
            http.post(
                unwatched[0] + "/sim/fault", json={"kind": kind, "after_tokens": after}
            ).raise_for_status()
            got = relay(http, unwatched, route, body)
            assert story(got.raw) == story(want.raw) and got.retries


@pytest.fixture(scope="module")
def town(urls: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with front(tmp_path_factory.mktemp("front"), *(int(url.rpartition(":")[2]) for url in urls)) as town:
        yield town


@pytest.mark.parametrize("name", ALL)
def test_a_cut_between_gateway_and_replica_is_not_seen(town: Front, name: str) -> None:
    for cuts in ((0,), (1,), (2,), (7,), (3, 2)):
        check(town, name, *cuts)
    assert sum(p.made for p in town.proxies) >= 4
    assert town.unmended() <= 0


@pytest.mark.parametrize("kind", ["eof", "reset", "abort", "done-only", "error"])
def test_every_way_to_die_is_noticed(unwatched: list[str], kind: str) -> None:
    route, body = CASES["chat"]
    with httpx2.Client(timeout=30) as http:
        want = relay(http, unwatched, route, body)
        for after in (0, 1, 5, 15):
            http.post(
                unwatched[0] + "/sim/fault", json={"kind": kind, "after_tokens": after}
            ).raise_for_status()
            got = relay(http, unwatched, route, body)
            assert got.view.same_answer(want.view), (got.retries, got.raw)
            assert got.retries
