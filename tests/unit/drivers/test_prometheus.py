"""Prometheus on a good day and on bad ones, over a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from seawall.drivers.prometheus import Prometheus, step_for
from seawall.errors import InputError, SourceError


def answer(*series: list[Any]) -> bytes:
    result = [{"metric": {}, "values": values} for values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


class Double(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.code, self.body, self.mood = 200, answer(), ""
        self.stopped = threading.Event()
        self.seen: list[tuple[str, dict[str, list[str]], str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what is tested here."""


class Handler(BaseHTTPRequestHandler):
    server: Double

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.seen.append((parts.path, parse_qs(parts.query), self.headers.get("authorization", "")))
        self.send_response(self.server.code)
        self.send_header("location", "http://127.0.0.1:1/")
        self.end_headers()
        if self.server.mood == "huge":
            for _ in range(64):
                self.wfile.write(b" " * 2**20)
        while self.server.mood == "slow" and not self.server.stopped.wait(0.05):
            self.wfile.write(b" ")
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def double() -> Iterator[Double]:
    server = Double()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.stopped.set()
    server.shutdown()
    server.server_close()
    thread.join()


async def ask(double: Double, timeout_s: float = 30, token: str = "") -> list[tuple[float, float]]:
    async with Prometheus(double.url + "/", token=token, timeout_s=timeout_s) as prometheus:
        return await prometheus.range("up", 0, 600, 60)


async def test_numbers_come_back_and_nan_does_not(double: Double) -> None:
    double.body = answer([[0, "1.5"], [60, "NaN"], [120, "+Inf"], [180, "2"]])
    assert await ask(double, token="s3cret") == [(0, 1.5), (180, 2)]
    path, params, authorization = double.seen[0]
    assert path == "/api/v1/query_range" and params["query"] == ["up"] and params["step"] == ["60"]
    assert authorization == "Bearer s3cret"


async def test_nothing_is_nothing(double: Double) -> None:
    assert await ask(double) == []


@pytest.mark.parametrize(
    "code,word",
    [(401, "TOKEN"), (403, "TOKEN"), (404, "path"), (302, "elsewhere"), (500, "500"), (503, "503")],
)
async def test_a_refusal_has_a_cure_and_keeps_the_token(double: Double, code: int, word: str) -> None:
    double.code, double.body = code, b"<html>s3cret</html>"
    with pytest.raises(SourceError) as e:
        await ask(double, token="s3cret")
    assert word in str(e.value) and e.value.cure and "s3cret" not in str(e.value)
    assert len(double.seen) == 1


async def test_prometheus_own_words_about_a_bad_query_are_passed_on(double: Double) -> None:
    double.code, double.body = 422, json.dumps({"status": "error", "error": "too many samples"}).encode()
    with pytest.raises(SourceError, match="too many samples"):
        await ask(double)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[" * 100_000,
        b"[]",
        b'{"status":"error"}',
        b'{"status":"success","data":[]}',
        b'{"status":"success","data":{"result":[3]}}',
        answer([[0]]),
        answer([[0, "many"]]),
        answer([[0, "1"]], [[0, "2"]]),
        answer([[0, "1"]] * 12_000),
    ],
)
async def test_what_is_no_answer_is_refused(double: Double, body: bytes) -> None:
    double.body = body
    with pytest.raises(SourceError, match="Prometheus"):
        await ask(double)


async def test_a_flood_is_cut_off(double: Double) -> None:
    double.mood = "huge"
    with pytest.raises(SourceError, match="more than 8 MiB"):
        await ask(double)


async def test_a_trickle_that_never_ends_is_cut_off(double: Double) -> None:
    double.mood = "slow"
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"within 0\.5 s"):
        await ask(double, timeout_s=0.5)
    assert time.monotonic() - began < 20


async def test_nobody_there(double: Double) -> None:
    async with Prometheus("http://127.0.0.1:1") as prometheus:
        with pytest.raises(SourceError, match="cannot be reached"):
            await prometheus.range("up", 0, 600, 60)


@pytest.mark.parametrize("url", ["", "localhost:9090", "file:///etc/passwd", "http://", "http://h:99999999"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(InputError, match="no http"):
        Prometheus(url)


async def test_windows_that_prometheus_would_refuse_are_not_asked(double: Double) -> None:
    async with Prometheus(double.url) as prometheus:
        with pytest.raises(InputError, match="points"):
            await prometheus.range("up", 0, 90 * 86400, 1)
    assert double.seen == []
    assert all(w / step_for(w) <= 1500 for w in (3600, 86400, 7 * 86400, 90 * 86400))
