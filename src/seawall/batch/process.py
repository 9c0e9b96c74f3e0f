"""The lane's process: its surface and its worker, from their start to a clean end.

SIGTERM: nothing more is sent, what is under way finishes within the grace, its results are kept, exit 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from aiohttp import web

from seawall.batch.audit import ActionLog
from seawall.batch.buckets import open_bucket
from seawall.batch.lane import BatchLane
from seawall.batch.metrics import exposition
from seawall.batch.outlook import Outlook
from seawall.batch.send import Sender
from seawall.batch.surface import Surface
from seawall.batch.worker import LineWorker
from seawall.decide.batch.planned import PlannedSpeed
from seawall.decide.batch.rules import LaneRules
from seawall.domain.told import GatewayState, merged, read
from seawall.errors import InputError

log = logging.getLogger("seawall.batch")
ADDRESSES_S = 5.0
"""How long the addresses of a gateway's admin host are believed."""


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """What the command line says."""

    folder: Path
    gateway: str
    """Where lines are sent: http://HOST:PORT."""
    admin: str
    """Where gateways tell of themselves; a host with several addresses is several gateways."""
    listen: str = "127.0.0.1:0"
    store: str | None = None
    files: str | None = None
    """s3://BUCKET/FOLDER or gs://BUCKET/FOLDER; None: the folder."""
    secret: str = field(repr=False)
    grace_s: float = 30.0
    planned: Mapping[str, PlannedSpeed] = field(default_factory=dict)
    """Fleet -> what it was planned to do."""
    audit: str | None = None
    """A file, or `-`: one JSON line for what is done to files and batches."""
    without: frozenset[str] = frozenset()
    """Mechanisms that a proof has switched off (domain.switches.BATCH)."""


class GatewayLook:
    """Asks all gateways of an address what they tell of themselves."""

    def __init__(self, admin: str, sender: Sender) -> None:
        self._url, self._sender = urlsplit(admin), sender
        self._hosts: list[str] = []
        self._known_at = -ADDRESSES_S

    async def __call__(self) -> GatewayState | None:
        """All of them as one; None: nobody answers."""
        states = []
        for host in await self._addresses():
            page = await self._sender.get_json(
                f"{self._url.scheme}://{host}:{self._url.port or 80}/debug/state"
            )
            with contextlib.suppress(ValueError):
                states += [read(page)] if page is not None else []
        return merged(states) if states else None

    async def _addresses(self) -> list[str]:
        now = monotonic()
        if now - self._known_at >= ADDRESSES_S:
            self._known_at = now
            with contextlib.suppress(OSError):
                found = await asyncio.get_running_loop().getaddrinfo(
                    self._url.hostname, self._url.port or 80, type=socket.SOCK_STREAM
                )
                self._hosts = sorted(
                    {f"[{a[4][0]}]" if a[0] == socket.AF_INET6 else str(a[4][0]) for a in found}
                )
        return self._hosts


async def serve(settings: BatchSettings, rules: LaneRules, ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT."""
    bucket = open_bucket(settings.files, os.environ) if settings.files else None
    lazy = "write-ahead" in settings.without
    audit = ActionLog(settings.audit) if settings.audit else None
    lane = BatchLane(settings.folder, settings.store, rules, lazy=lazy, bucket=bucket, audit=audit)
    controlled = "spare-control" not in settings.without
    outlook, sender = Outlook(rules, settings.planned), Sender(settings.gateway, settings.secret, controlled)
    worker = LineWorker(lane, outlook, sender, GatewayLook(settings.admin, sender), controlled)
    surface = Surface(lane, outlook, settings.secret)

    async def healthy(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def metrics(request: web.Request) -> web.Response:
        text = await exposition(lane, outlook, worker)
        return web.Response(text=text, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    surface.app.router.add_get("/healthz", healthy)
    surface.app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(surface.app, access_log=None, handler_cancellation=False)
    await runner.setup()
    host, _, port = settings.listen.rpartition(":")
    site = web.TCPSite(runner, host.strip("[]") or "0.0.0.0", int(port), reuse_address=True)
    try:
        await site.start()
    except OSError as e:
        raise InputError(
            f"cannot listen on {settings.listen}: {e.strerror}.", "Choose another --listen."
        ) from None
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    name = runner.addresses[0]
    ready(f"http://{name[0]}:{name[1]}")
    working = asyncio.create_task(worker.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await worker.drain(settings.grace_s)
    finally:
        stopping.cancel()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        await runner.cleanup()
        await sender.close()
        await lane.close()
