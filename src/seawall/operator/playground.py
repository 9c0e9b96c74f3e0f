"""The playground of a cluster's console: a question is passed on to a Pod of the gateways that serve its model, by the
API server, as their numbers are read; the answer comes back as it is written.

The API server keeps the Authorization header to itself, so a gateway's key goes on as `x-api-key`. Nothing but a chat
is passed on: who reaches this page has the rights of somebody's kubeconfig behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping

import httpx2

from seawall.console import assets
from seawall.console.serve import GetRequest, PageAnswer
from seawall.domain.labels import HTTP_PORT
from seawall.domain.told import GatewayState
from seawall.drivers.kube import POD, Kube
from seawall.drivers.kube_gateways import PodKey
from seawall.errors import of_kind

CHAT = assets.ROOT + "/v1/chat/completions"
MOST_BYTES = 2**20
BODY_S = 10.0
PASSED_OVER_S = 2.0
ANSWER_S = 600.0
"""Seconds between two pieces of an answer, its first one included: it may queue."""
PASSED_ON = ("x-request-id", "retry-after")
WRONG = {404: "There is no such page.", 405: "Use POST.", 415: "Send application/json.", 413: "Send less than 1 MiB.",
         403: "A page from elsewhere may not use this one."}  # fmt: skip


class Playground:
    """`states`: what each gateway Pod told at the last look."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.states: Mapping[PodKey, GatewayState] = {}

    async def answer(self, request: GetRequest, reader: asyncio.StreamReader, send: PageAnswer) -> None:
        """The answer to one request below /console/v1 whose head has been read."""
        if code := _wrong(request):
            await _refuse(send, code, WRONG[code])
            await _passed_over(reader, request.headers.get("content-length", ""))
            return
        async with asyncio.timeout(BODY_S):
            body = await reader.readexactly(int(request.headers["content-length"]))
        model = _model(body)
        pod = self._serving(model)
        if pod is None:
            await _refuse(send, 404, f"No gateway that answered the last look serves {model[:100]!r}.")
            return
        passing = asyncio.ensure_future(self._pass_on(pod, request, body, send))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((passing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (passing, leaving):
                task.cancel()
            told, _ = await asyncio.gather(passing, leaving, return_exceptions=True)
        if isinstance(told, Exception):
            raise told

    def _serving(self, model: str) -> PodKey | None:
        """The Pod of a gateway that serves the model; one that is about to end only if there is no other."""
        found = [
            (state.draining, pod)
            for pod, state in self.states.items()
            if any(model in (fleet.models or [name]) for name, fleet in state.fleets.items())
        ]
        return min(found)[1] if found else None

    async def _pass_on(self, pod: PodKey, request: GetRequest, body: bytes, send: PageAnswer) -> None:
        namespace, name = pod
        path = POD.path(namespace, f"{name}:{HTTP_PORT}", "proxy/v1/chat/completions")
        headers = {"content-type": "application/json"}
        if key := request.headers.get("authorization", "").partition(" ")[2].strip():
            headers["x-api-key"] = key
        wait = httpx2.Timeout(10.0, read=ANSWER_S)
        try:
            async with self._kube.http.stream(
                "POST", path, content=body, headers=headers, timeout=wait
            ) as answer:
                kind = answer.headers.get("content-type", "application/json")
                more = {n: answer.headers[n] for n in PASSED_ON if n in answer.headers}
                await send.start(answer.status_code, kind, more)
                async for piece in answer.aiter_bytes():
                    await send.write(piece)
        except httpx2.HTTPError as e:
            if not send.started:
                await _refuse(send, 502, f"The API server could not pass this on to {name}: {of_kind(e)}.")


def _wrong(request: GetRequest) -> int:
    """The status of what is not to be passed on; 0: it is. A page of another origin cannot send JSON unasked, and is
    never allowed to; browsers say, too, whose page it is."""
    given = request.headers
    length = given.get("content-length", "")
    if request.path != CHAT:
        return 404
    if request.method != "POST":
        return 405
    if given.get("origin", "") not in ("", f"http://{given.get('host', '')}"):
        return 403
    if given.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415
    return 0 if length.isascii() and length.isdigit() and int(length) < MOST_BYTES else 413


async def _passed_over(reader: asyncio.StreamReader, length: str) -> None:
    """What a refused client still sends: closed with it unread, the connection would take the answer with it."""
    left = int(length) if length.isascii() and length.isdigit() and len(length) < 10 else 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PASSED_OVER_S):
            while left > 0 and (piece := await reader.read(left)):
                left -= len(piece)


def _model(body: bytes) -> str:
    with contextlib.suppress(ValueError, RecursionError):
        asked = json.loads(body)
        if isinstance(asked, dict):
            return str(asked.get("model", ""))
    return ""


async def _refuse(send: PageAnswer, code: int, why: str) -> None:
    await send.start(code, "application/json", {})
    await send.write(json.dumps({"error": {"message": why}}).encode() + b"\n")
