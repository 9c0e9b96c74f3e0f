"""The admin port: health, readiness, metrics, state, console. For the operator's network only; it has no tenants.

What it tells without a key: fleets, replicas' addresses, counters, tenants' names and their use; never a prompt, an
answer or a key. Who may reach it is the network's matter (the rendered NetworkPolicy: Prometheus alone), but for a
browser on the same machine, which carries any web page's requests to a loopback address: those are told by their Host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from seawall.decide.route.refusal import Refusal
from seawall.domain.told import encoded
from seawall.gateway.edge.budget import StrangersBudget
from seawall.gateway.edge.caller import Caller, Connected, Keep
from seawall.gateway.edge.host import rebound
from seawall.gateway.edge.request import Request
from seawall.gateway.intake.app import App
from seawall.gateway.intake.headers import WANTED
from seawall.gateway.memory import HeldMemory
from seawall.gateway.process.console_pages import PREFIX, ConsolePages
from seawall.gateway.process.metrics import Line, exposition, state

ROUTES = ("/healthz", "/readyz", "/metrics", "/debug/state", "/debug/console")
PROBES = frozenset({b"/healthz", b"/readyz"})
"""They tell nothing that is anybody's."""
ADMIN_CLIENTS = 256
TEXT = b"text/plain; charset=utf-8"
FOREIGN_HOST = Refusal(
    403,
    "foreign_host",
    "Ask for this by an address, or by a name that nobody can register: localhost, *.svc, *.local.",
)
EXPOSITION = b"text/plain; version=0.0.4; charset=utf-8"


class Admin:
    """Implements `caller.Handler`."""

    wanted = WANTED
    max_body = 1 << 20
    max_head = 32 * 1024
    max_clients = ADMIN_CLIENTS
    idle_s = 75.0
    keep_alive = b""
    http2 = False

    def __init__(
        self,
        app: App,
        more: Callable[[], Iterable[Line]],
        console: ConsolePages,
        note: Callable[[], None] = lambda: None,
    ) -> None:
        """`note`: called before any count is told."""
        self.app = app
        self.console = console
        self.clock = app.clock
        self.now = app.now
        self.closing = False
        self.clients: set[Connected] = set()
        self.memory = HeldMemory()
        self.budget = StrangersBudget()
        self.keep: Keep | None = None
        self._more = more
        self._note = note

    def meet(self, request: Request) -> None:
        request.path = request.url.partition(b"?")[0]
        if _of_console(request.path):
            self.console.meet(request)

    def early(self, client: Caller, request: Request) -> Refusal | None:
        if request.path not in PROBES and rebound(
            request.headers.get(b"host", b"").decode("latin-1"), client.peer
        ):
            return FOREIGN_HOST
        return self.console.early(client, request) if _of_console(request.path) else None

    def hand_through(self, request: Request, transport: asyncio.Transport, data: bytes) -> Refusal:
        """Nothing goes through here."""
        return Refusal(404, "unknown_route", f"Known: {' '.join(ROUTES)} /console.")

    def handle(self, client: Caller, request: Request) -> None:
        path, app = request.path, self.app
        if _of_console(path):
            self.console.handle(client, request)
        elif request.method not in (b"GET", b"HEAD"):
            client.decline(Refusal(405, "method_not_allowed", "Use GET.", allow="GET, HEAD"))
        elif path == b"/healthz":
            client.answer(200, TEXT, b"ok\n")
        elif path == b"/readyz":
            missing = not_ready(app)
            client.answer(503 if missing else 200, TEXT, (missing or "ok").encode() + b"\n")
        elif path == b"/metrics":
            self._note()
            client.answer(200, EXPOSITION, exposition(app, self._more()))
        elif path == b"/debug/state":
            self._note()
            client.answer(200, b"application/json", encoded(state(app)) + b"\n")
        elif path == b"/debug/console":
            self._note()
            client.answer(200, b"application/json", encoded(state(app, everything=True)) + b"\n")
        else:
            client.decline(Refusal(404, "unknown_route", f"Known: {' '.join(ROUTES)} /console."))

    def crowded(self, now: float) -> bool:
        """Nobody is sent away for another: probes and scrapes are short."""
        return False

    def refused(self, refusal: Refusal) -> None:
        """Not counted: nobody's request."""


def _of_console(path: bytes) -> bool:
    return path == PREFIX or path.startswith(PREFIX + b"/")


def not_ready(app: App) -> str:
    """Why traffic should not come here; empty when it should. A fleet without replicas does not make the
    gateway unready: it queues for it, and the other fleets are served."""
    if app.closing:
        return "draining"
    if not app.fleets:
        return "no fleet is configured"
    return ""
