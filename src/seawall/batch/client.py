"""What `seawall batch` asks of a gateway, as any client of OpenAI's Batch API could. Blocking."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import httpx2

from seawall.batch.lines import LONGEST, raw_lines
from seawall.drivers.near import near
from seawall.errors import ClusterError, InputError, SeawallError, in_words

PATIENCE_S = 600.0
"""Seconds for the look through a large file at a batch's creation."""

_LINE = 'A line is {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}.'


class BatchClient:
    """See the module."""

    def __init__(self, url: str, key: str | None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx2.Timeout(PATIENCE_S, connect=10.0)
        try:
            self._http = httpx2.Client(
                base_url=url.rstrip("/"), headers=headers, timeout=timeout, trust_env=not near(url)
            )
        except (httpx2.InvalidURL, ValueError) as e:
            raise InputError(f"--url {url}: {e}.", "Such as http://127.0.0.1:8000.") from None
        self._url = url

    def __enter__(self) -> BatchClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, path: Path, endpoint: str, window: str, metadata: dict[str, str]) -> dict[str, Any]:
        """The batch that was made of a file."""
        with path.open("rb") as source:
            files = {"file": (path.name, source, "application/jsonl")}
            file = self._ask("POST", "/v1/files", data={"purpose": "batch"}, files=files)
        asked = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": window}
        body = {**asked, "metadata": metadata} if metadata else asked
        key = {"idempotency-key": secrets.token_hex(16)}
        return self._ask("POST", "/v1/batches", json=body, headers=key)

    def models(self) -> list[str]:
        """Names of the models that may be asked."""
        return [str(model["id"]) for model in self._ask("GET", "/v1/models")["data"]]

    def batch(self, batch: str) -> dict[str, Any]:
        return self._ask("GET", f"/v1/batches/{batch}")

    def batches(self, limit: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", "/v1/batches", params={"limit": limit})["data"]
        return found

    def cancel(self, batch: str) -> dict[str, Any]:
        return self._ask("POST", f"/v1/batches/{batch}/cancel")

    def save(self, file: str, path: Path | None) -> None:
        """Writes a file's content; None: to standard output."""
        part = path.with_name(f"{path.name}.part") if path is not None else None
        try:
            with self._http.stream("GET", f"/v1/files/{file}/content") as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise self._error(answer)
                if part is None or path is None:
                    _copy(answer, sys.stdout.buffer)
                    return
                with part.open("wb") as out:
                    _copy(answer, out)
                part.replace(path)
        except httpx2.HTTPError as e:
            raise self._away(e) from None

    def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **more)
        except httpx2.HTTPError as e:
            raise self._away(e) from None
        if answer.status_code >= 400:
            raise self._error(answer)
        found: dict[str, Any] = answer.json()
        return found

    def _away(self, e: httpx2.HTTPError) -> SeawallError:
        return ClusterError(
            f"{self._url} does not answer: {in_words(e)}.",
            "Name the gateway with --url; `seawall up` prints it.",
        )

    def _error(self, answer: httpx2.Response) -> SeawallError:
        try:
            message = str(answer.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"{self._url} says {answer.status_code}."
        if answer.status_code == 404 and "no such route" in message:
            return InputError(
                f"{self._url} has no batch lane.", "Set spec.gateway.batch: {} (docs/how-to/batch.md)."
            )
        if answer.status_code < 500 and answer.status_code != 429:
            return InputError(message)
        return ClusterError(message, "Try it again in a while.")


def _copy(answer: httpx2.Response, out: IO[bytes]) -> None:
    for chunk in answer.iter_bytes():
        out.write(chunk)


def first_endpoint(path: Path) -> str:
    """The endpoint that a file's first line asks; InputError where it asks none."""
    with path.open("rb") as source:
        first = next(raw_lines(source, LONGEST), None)
    if first is None:
        raise InputError(f"{path} has no line with a request.", _LINE)
    try:
        url = json.loads(first[1])["url"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"{path}:{first[0]}: no request.",
            _LINE,
        ) from None
    return str(url)
