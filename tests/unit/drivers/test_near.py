"""No proxy of the environment stands between our own processes, and none is forgotten: the sources are read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import seawall
from seawall.drivers.near import near

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
        of_httpx = isinstance(owner, ast.Name) and owner.id in ("httpx", "httpx2")
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
    ["httpx.Client(timeout=1)", "httpx.get(url)", "urllib.request.urlopen(url)", "httpx.AsyncClient()"],
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
