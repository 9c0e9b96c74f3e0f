"""The only speaker of Prometheus' HTTP API: range queries, over a URL or through a cluster's API server.

An answer is somebody else's bytes: its size, its time and its number of points are bounded, and NaN is no number.
Forbidden here: knowing what is asked. The token goes into a header and nowhere else; redirects are not followed,
so that it stays with the server that it was meant for.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx2

from seawall.drivers.kube import Kube, Refused
from seawall.drivers.near import near
from seawall.errors import InputError, SourceError, in_words, of_kind

MOST_BYTES = 8 * 2**20
"""Largest answer that is read. 11,000 points, the most that Prometheus gives of one series, are under 0.5 MiB."""
MOST_POINTS = 11_000
TIMEOUT_S = 30.0
AT_ONCE = 4
"""Queries in flight: a Prometheus that alerts depend on is not to be stormed."""


def step_for(window_s: float) -> float:
    """Seconds between points: a minute, or as much as keeps a window under 1,500 points."""
    return max(60.0, math.ceil(window_s / 1500 / 60) * 60.0)


def token_of(path: str | None) -> str:
    """The bearer token in this file, or in SEAWALL_PROMETHEUS_TOKEN; empty: none. InputError for an unusable file."""
    if path is None:
        return os.environ.get("SEAWALL_PROMETHEUS_TOKEN", "").strip()
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: cannot be read: {in_words(e)}.", "Check the path.") from None
    if not text or len(text) > 8192 or not text.isascii() or not text.isprintable():
        raise InputError(f"{path} holds no token.", "It must be one line of ASCII.")
    return text


class Prometheus:
    """One server. Use as `async with`. `url` without a cluster; else `kube` with `namespace/service:port`."""

    def __init__(
        self,
        url: str = "",
        *,
        token: str = "",
        kube: Kube | None = None,
        service: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._timeout, self._kube = timeout_s, kube
        self._gate = asyncio.Semaphore(AT_ONCE)
        if kube is not None:
            namespace, _, name = service.partition("/")
            if not name or "/" in name:
                raise InputError(f"{service!r:.80} is no service.", "Write it NAMESPACE/SERVICE:PORT.")
            self._path = f"/api/v1/namespaces/{namespace}/services/{name}/proxy/api/v1/query_range"
            self.where = f"the service {service}"
            return
        parts = _checked(url)
        self.where = f"Prometheus at {parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._path = url.rstrip("/") + "/api/v1/query_range"
        headers = {"accept": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._http = httpx2.AsyncClient(
            headers=headers, timeout=timeout_s, follow_redirects=False, trust_env=not near(url)
        )

    async def __aenter__(self) -> Prometheus:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kube is None:
            await self._http.aclose()

    async def ranges(
        self, queries: Mapping[str, str], start: float, end: float, step: float
    ) -> dict[str, list[tuple[float, float]]]:
        """Every query's answer, by its name; a few are asked at a time."""
        answers = await asyncio.gather(*(self.range(q, start, end, step) for q in queries.values()))
        return dict(zip(queries, answers, strict=True))

    async def range(self, query: str, start: float, end: float, step_s: float) -> list[tuple[float, float]]:
        """(unix s, value) of a query that answers with at most one series; [] when there is none.

        Raises SourceError when the server is away, refuses, is too slow or sends something else.
        """
        if not 0 < (end - start) / step_s <= MOST_POINTS:
            raise InputError(
                f"{end - start:g} s in steps of {step_s:g} s are not 1 to {MOST_POINTS:,} points.",
                "Ask for another window.",
            )
        params = {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_s:g}"}
        async with self._gate:
            try:
                async with asyncio.timeout(self._timeout):
                    body = await (self._through(params) if self._kube else self._direct(params))
            except (TimeoutError, httpx2.TimeoutException):
                raise SourceError(
                    f"{self.where} did not answer within {self._timeout:g} s.",
                    "Ask for less with --since, or try again when it is less busy.",
                ) from None
            except httpx2.HTTPError as e:
                raise SourceError(
                    f"{self.where} cannot be reached ({of_kind(e)}).",
                    "Forward a port to it: kubectl port-forward -n monitoring svc/prometheus-operated 9090",
                ) from None
        return self._points(body)

    async def _direct(self, params: dict[str, str]) -> Any:
        async with self._http.stream("GET", self._path, params=params) as answer:
            content = bytearray()
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise SourceError(
                        f"{self.where} sent more than {MOST_BYTES // 2**20} MiB for one series.",
                        "Check that the address is Prometheus' own.",
                    )
        if answer.status_code != 200:
            raise self._refusal(answer.status_code, bytes(content))
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise self._strange("no JSON") from None

    async def _through(self, params: dict[str, str]) -> Any:
        assert self._kube is not None
        try:
            return await self._kube.request("GET", self._path, params, most=MOST_BYTES)
        except Refused as e:
            if e.code == 401:
                raise  # the API server's word, with its own cure
            raise SourceError(
                f"{self.where} answered {e.code} through the API server.",
                "Check the name and port, and that you may `get services/proxy` there.",
            ) from None
        except ValueError:
            raise self._strange("no JSON") from None

    def _refusal(self, code: int, content: bytes) -> SourceError:
        if code in (401, 403):
            return SourceError(
                f"{self.where} refused us ({code}).",
                "Set SEAWALL_PROMETHEUS_TOKEN, or name a file with --token-file.",
            )
        if 300 <= code < 400:
            return SourceError(
                f"{self.where} sends us elsewhere ({code}).", "Give the address that it points to."
            )
        if code == 404:
            return SourceError(f"{self.where} has no query API (404).", "Check the path of the address.")
        return SourceError(f"{self.where} answered {code}{_said(content)}.", "Look into its log.")

    def _points(self, body: Any) -> list[tuple[float, float]]:
        if not isinstance(body, dict) or body.get("status") != "success":
            raise self._strange("no successful query")
        data = body.get("data")
        result = data.get("result") if isinstance(data, dict) else None
        if not isinstance(result, list):
            raise self._strange("no result")
        if not result:
            return []
        if len(result) > 1:
            raise self._strange(f"{len(result)} series where one was asked for")
        values = result[0].get("values") if isinstance(result[0], dict) else None
        if not isinstance(values, list) or len(values) > MOST_POINTS + 1:
            raise self._strange("no list of values")
        return self.finite(values)

    def finite(self, values: list[Any]) -> list[tuple[float, float]]:
        """`[[t, "1.5"], [t, "NaN"]]` -> the pairs that are numbers."""
        kept = []
        for pair in values:
            try:
                when, value = (float(x) for x in pair)
            except (TypeError, ValueError):
                raise self._strange("a value that is no number") from None
            if math.isfinite(when) and math.isfinite(value):
                kept.append((when, value))
        return kept

    def _strange(self, what: str) -> SourceError:
        return SourceError(
            f"{self.where} answered, but with {what}.", "Check that the address is Prometheus' own."
        )


def _checked(url: str) -> Any:
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_ok = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok:
        raise InputError("the Prometheus address is no http(s) URL.", "Write it like http://localhost:9090.")
    return parts


def _said(content: bytes) -> str:
    """Prometheus' own words about a refused query, cut short; nothing of any other body."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    return f": {error!r:.160}" if isinstance(error, str) else ""
