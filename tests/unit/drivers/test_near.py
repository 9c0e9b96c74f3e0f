"""No proxy of the environment stands between our own processes, and none is forgotten: the sources are read."""

from __future__ import annotations

import ast
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import seawall
from seawall.drivers.near import here, near
from seawall.gateway.tell.otel import VARIABLES, Spans
from seawall.weights.sources import http as web
from seawall.weights.sources.s3 import s3_client

SOURCES = sorted(Path(seawall.__file__).parent.rglob("*.py"))
CLIENTS = {"AsyncClient", "Client"}
AT_ONCE = {"delete", "get", "head", "options", "patch", "post", "put", "request", "stream"}


def untold(source: str) -> list[int]:
    """Lines that make an HTTP client, or ask with none, and do not say whether the environment is trusted."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, node.func.value
        of_httpx = isinstance(owner, ast.Name) and owner.id == "httpx2"
        told = {k.arg for k in node.keywords}
        if (of_httpx and name in CLIENTS | AT_ONCE and "trust_env" not in told) or name in (
            "urlopen",
            "urlretrieve",
            "install_opener",
        ):
            lines.append(node.lineno)
        if name == "ClientSession" and "trust_env" in told:  # aiohttp's does not unless it is asked to
            lines.append(node.lineno)
        if name == "build_opener" and "ProxyHandler({})" not in ast.unparse(node):
            lines.append(node.lineno)
    return lines


def test_every_client_of_ours_says_whether_it_trusts_the_environment() -> None:
    found = {str(p): lines for p in SOURCES if (lines := untold(p.read_text("utf-8")))}
    assert not found


@pytest.mark.parametrize(
    "line",
    ["httpx2.Client(timeout=1)", "httpx2.get(url)", "urllib.request.urlopen(url)", "httpx2.AsyncClient()"],
)
def test_a_client_that_says_nothing_would_be_found(line: str) -> None:
    assert untold(line) == [1]


@pytest.mark.parametrize(
    ("url", "is_near"),
    [
        ("http://127.0.0.1:9090", True),
        ("http://localhost", True),
        ("http://[::1]:1", True),
        ("http://10.2.3.4", True),
        ("http://prometheus-operated.monitoring.svc:9090", True),
        ("http://prometheus.monitoring.svc.cluster.local", True),
        ("http://gateway", True),
        ("https://llm.example.com", False),
        ("https://8.8.8.8", False),
        ("https://svc.example.org", False),
    ],
)
def test_who_is_a_neighbour(url: str, is_near: bool) -> None:
    assert near(url) is is_near


@pytest.mark.parametrize(
    ("url", "is_here"),
    [("https://127.0.0.1:6443", True), ("https://localhost.:1", True), ("https://[::1]", True),
     ("https://kind.localhost", True), ("https://10.0.0.1", False), ("https://k8s.example.com", False)],
)  # fmt: skip
def test_what_is_on_this_machine(url: str, is_here: bool) -> None:
    assert here(url) is is_here


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        self.server.posted.append(self.path)  # type: ignore[attr-defined]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    """A neighbour with a file `a`, and an environment whose proxy answers nobody."""
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "a").write_bytes(b"weights")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))
    ) as served:
        served.posted = []  # type: ignore[attr-defined]
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def test_weights_come_from_a_mirror_within_the_network_past_the_proxy(
    server: http.server.ThreadingHTTPServer,
) -> None:
    url = f"http://127.0.0.1:{server.server_port}/bucket/a"
    assert web.get_small(web.client({}, url), url, "a", attempts=1).content == b"weights"


def test_so_do_those_of_a_bucket_in_the_cluster(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = s3_client({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"})
    assert client.head_object(Bucket="bucket", Key="a")["ContentLength"] == len(b"weights")


def test_spans_reach_a_collector_beside_us(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLES[0], f"http://127.0.0.1:{server.server_port}")
    spans = Spans()
    spans._tracer.start_span("one").end()
    spans.close()
    assert server.posted == ["/v1/traces"]  # type: ignore[attr-defined]
