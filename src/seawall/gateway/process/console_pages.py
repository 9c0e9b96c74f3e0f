"""The console on the admin port: its page, its numbers, and a playground that goes the way of every other request.

Whoever may reach the admin port sees the page; its numbers ask for an API key where the gateway has keys, and the
playground for one that the model's tenants have. Looks are made by the sweep; forbidden here: touching a request that
did not come through this port.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from seawall.console import assets
from seawall.console.console import API, Console, OpenPage, Reply
from seawall.console.sight import ConsoleSight, of_gateway, with_supervisor
from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.caller import Caller
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import EVENT_STREAM
from seawall.gateway.intake.app import App
from seawall.gateway.intake.browser import from_elsewhere
from seawall.gateway.process.metrics import state

PREFIX = assets.ROOT.encode()
PLAYGROUND = frozenset({PREFIX + b"/v1/chat/completions", PREFIX + b"/v1/models"})
LATE_S = 10.0
"""A supervisor's file that is older says nothing about now."""
_LINES = "".join(f"{name}: {value}\r\n" for name, value in assets.HEADERS.items()).encode()
_FOREIGN = Refusal(403, "foreign_origin", "A page from elsewhere may not use this one.")


class ConsolePages:
    """See the module. `supervisor`: the state.json of the `seawall up` that keeps this gateway."""

    def __init__(self, app: App, supervisor: Path | None = None) -> None:
        self._app = app
        self._supervisor = supervisor
        self._read_at = 0
        self._snapshot: dict[str, Any] = {}
        self.console = Console()

    def evicted(self, fleet: str, replica: str, reason: str) -> None:
        """The gateway has stopped routing to a replica."""
        self.console.chronicle.evicted(fleet, replica, reason, time.time())

    def look(self) -> None:
        """One look at everything, told to every open page."""
        app, now = self._app, time.time()
        sight = of_gateway(state(app, everything=True))
        self.console.look(self._with_supervisor(sight, now), now)

    def _with_supervisor(self, sight: ConsoleSight, now: float) -> ConsoleSight:
        if self._supervisor is None:
            return sight
        try:
            changed = self._supervisor.stat().st_mtime_ns
            if changed != self._read_at:
                self._snapshot, self._read_at = json.loads(self._supervisor.read_bytes()), changed
        except (OSError, ValueError):
            return sight  # it is being replaced: the next look reads it
        if (
            not isinstance(self._snapshot, dict)
            or now - changed / 1e9 > LATE_S
            or self._snapshot.get("ended")
        ):
            return sight
        return with_supervisor(sight, self._snapshot, changed / 1e9)

    # -- HTTP

    def meet(self, request: Request) -> None:
        """The head has come."""
        if request.path in PLAYGROUND:
            self._app.meet(request)
        else:
            # Lines behind the answer's own; the client's side sends them where a request has an id.
            request.id, request.cors = b"console", _LINES

    def early(self, client: Caller, request: Request) -> Refusal | None:
        """By the head alone: who may ask."""
        if request.path in PLAYGROUND:
            return _FOREIGN if from_elsewhere(request.headers) else self._app.early(client, request)
        if request.path.startswith(API.encode()) and request.path != API.encode() + b"about":
            return self._app.early(client, request)
        return None

    def handle(self, client: Caller, request: Request) -> None:
        """A whole request below /console."""
        path = request.path
        if not self.console.looked:
            self.look()
        if path in PLAYGROUND:
            request.path = path[len(PREFIX) :]
            self._app.handle(client, request)
        elif request.method not in (b"GET", b"HEAD"):
            client.decline(Refusal(405, "method_not_allowed", "Use GET.", allow="GET, HEAD"))
        elif path == API.encode() + b"stream" and request.method == b"GET":
            PageStream(self.console, client).begin(_query(request))
        elif path.startswith(API.encode()):
            self.console.keys = self._app.keys is not None
            _answer(client, self.console.reply(path.decode("latin-1"), _query(request)))
        else:
            file = assets.asset(path.decode("latin-1"))
            if file is None:
                client.decline(
                    Refusal(404, "unknown_route", "There is no such page. The console is at /console.")
                )
            else:
                client.answer(200, file.kind.encode(), file.body)


class PageStream:
    """The events of one open page, until its client leaves. Implements `sink.Source`."""

    replica = ""

    def __init__(self, console: Console, client: Caller) -> None:
        self._console, self._client = console, client
        self._page: OpenPage | None = None
        self._started = False

    def begin(self, query: str) -> None:
        self._client.serve(self)
        opened = self._console.open(query, self._write, self._full)
        if isinstance(opened, Reply):
            self._client.exchange = None
            _answer(self._client, opened)
        else:
            self._page = opened

    def _write(self, data: bytes) -> None:
        if self._started:
            self._client.write(data)
        else:
            self._started = True
            self._client.start(200, EVENT_STREAM, data)

    def _full(self) -> bool:
        return self._client.full

    def pause(self) -> None:
        """`_full` says so."""

    def resume(self) -> None:
        """The next look is told."""

    def client_gone(self) -> None:
        if self._page is not None:
            self._console.close(self._page)


def _answer(client: Caller, reply: Reply) -> None:
    client.answer(reply.status, reply.kind.encode(), reply.body)


def _query(request: Request) -> str:
    return request.url.partition(b"?")[2].decode("latin-1")
