"""One line sent to the gateway, and what its answer means: a result, or that it is to be sent again.

The gateway itself tries other replicas; what comes back from there is final, or says to wait. Forbidden here: the
store, and deciding when a line is sent.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from seawall.batch.lines import AskedLine
from seawall.batch.words import BatchRecord, LineResult
from seawall.domain.labels import BATCH_CLASS_HEADER, BATCH_SECRET_HEADER, BATCH_TENANT_HEADER, GAVE_WAY

WAITS: Final = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that say nothing about the line: it is sent again, for as long as its batch has time."""
TRIES: Final = 3
"""How often a line is sent that the gateway answers with 500."""
LONGEST_ANSWER: Final = 256 * 2**20


@dataclass(frozen=True)
class SendAgain:
    """The fate of a line that has no result: it is to be sent again."""

    refused: bool
    """There was no place for it."""
    why: str
    began: bool = False
    """True: the line had a place and lost it; it may have run, to no end."""


class _AnswerUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Answer(msgspec.Struct):
    usage: _AnswerUsage | None = None


_answer = msgspec.json.Decoder(_Answer)


class Sender:
    """Who sends lines, over connections that are kept."""

    def __init__(self, url: str, secret: str, controlled: bool = True) -> None:
        """Sends lines as what they are; without `controlled` as requests like any other (a proof's)."""
        self._url, self._secret, self._controlled = url.rstrip("/"), secret, controlled
        self._http: aiohttp.ClientSession | None = None

    async def send(
        self, batch: BatchRecord, line: AskedLine, due: bool, tries: int
    ) -> LineResult | SendAgain:
        """The result of a line. `due`: it waits in the gateway's line like others; else it takes what they leave."""
        http = self._session()
        headers = {
            BATCH_SECRET_HEADER: self._secret,
            BATCH_TENANT_HEADER: quote(batch.tenant, safe=""),
            BATCH_CLASS_HEADER: ("due" if due else "spare") if self._controlled else "ordinary",
            "content-type": "application/json",
            "x-request-id": f"{batch.id}.{line.line}",
        }
        try:
            async with http.post(self._url + batch.endpoint, data=line.body, headers=headers) as answer:
                status, request_id = answer.status, answer.headers.get("x-request-id", "")
                body = await answer.content.read(LONGEST_ANSWER)
                if not answer.content.at_eof():
                    rest = await answer.content.read(LONGEST_ANSWER)
                    while rest:
                        body += rest
                        if len(body) > LONGEST_ANSWER:
                            return failed(
                                batch, line, "answer_too_long", "The answer is too long to be kept."
                            )
                        rest = await answer.content.read(LONGEST_ANSWER)
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            return SendAgain(False, type(e).__name__)
        if status == 429:
            gave_way = GAVE_WAY.encode() in body[:1000]
            return SendAgain(True, "it gave way" if gave_way else "no place", gave_way)
        if status in WAITS or (status >= 500 and tries < TRIES):
            return SendAgain(False, f"status {status}")
        return _result(batch, line, status, request_id, body)

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            self._http = aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=True)
        return self._http

    async def get_json(self, url: str) -> Any:
        """A small page of the gateway's; None: it does not answer."""
        try:
            async with self._session().get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return msgspec.json.decode(await answer.read()) if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()


def _result(
    batch: BatchRecord, line: AskedLine, status: int, request_id: str, body: bytes
) -> LineResult | SendAgain:
    try:
        told = _answer.decode(body).usage if status < 400 else None
        shown = body if b"\n" not in body else msgspec.json.encode(msgspec.json.decode(body))
        if status >= 400:
            msgspec.json.decode(body)
    except (ValueError, RecursionError):
        if status < 400:
            return SendAgain(False, "an answer that is no JSON")
        shown = msgspec.json.encode({"error": {"message": body[:1000].decode("utf-8", "replace")}})
    usage = told or _AnswerUsage()
    text = (
        b'{"id":%b,"custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},"error":null}'
        % (
            _name(batch, line.line),
            msgspec.json.encode(line.custom_id),
            status,
            msgspec.json.encode(request_id),
            shown.strip(),
        )
    )
    return LineResult(
        line.line, status < 400, text,
        usage.prompt_tokens or usage.input_tokens or 0, usage.completion_tokens or usage.output_tokens or 0,
        units=line.units,
    )  # fmt: skip


def failed(batch: BatchRecord, line: AskedLine, code: str, message: str) -> LineResult:
    """The result of a line that was not answered, and will not be."""
    text = b'{"id":%b,"custom_id":%b,"response":null,"error":%b}' % (
        _name(batch, line.line),
        msgspec.json.encode(line.custom_id),
        msgspec.json.encode({"code": code, "message": message}),
    )
    return LineResult(line.line, False, text, units=line.units)


def _name(batch: BatchRecord, line: int) -> bytes:
    """The id of a result: the same, whoever writes it."""
    return msgspec.json.encode(f"batch_req_{batch.id.removeprefix('batch_')}_{line}")


async def pause(seconds: float, until: asyncio.Event) -> None:
    """Waits for an event, or for so long; the event is taken down."""
    try:
        async with asyncio.timeout(seconds):
            await until.wait()
    except TimeoutError:
        pass
    until.clear()
