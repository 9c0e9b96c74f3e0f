"""One client's request as far as the gateway looks at it, and who handles it. Data and a protocol, no acts.

Nothing of a request may be logged from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from seawall.decide.route.refusal import Refusal
from seawall.gateway.keyring import Key
from seawall.gateway.tenants import ANYONE, Tenant
from seawall.gateway.wire import Clock

if TYPE_CHECKING:
    from seawall.gateway.client_side import Client


class Request:
    """One request as far as the gateway looks at it."""

    __slots__ = (
        "body",
        "cors",
        "extra",
        "headers",
        "http10",
        "id",
        "keep",
        "key",
        "method",
        "model",
        "parts",
        "path",
        "priority",
        "repeated",
        "size",
        "tenant",
        "url",
    )

    def __init__(self) -> None:
        self.method = b""
        self.url = b""
        self.path = b""
        """The URL without its query."""
        self.headers: dict[bytes, bytes] = {}
        self.parts: list[bytes] = []
        self.size = 0
        self.body = b""
        self.keep = True
        self.http10 = False
        self.id = b""
        self.repeated = b""
        """A header that must stand once and stands twice."""
        self.cors = b""
        """Header lines that let a web page read the answer."""
        self.model = ""
        self.extra = b""
        """Header lines for the replica."""
        self.key: Key | None = None
        self.tenant: Tenant = ANYONE
        self.priority = 5


class Handler(Protocol):
    """What serves requests: the application, or the admin pages."""

    wanted: frozenset[bytes]
    """Lower-case names of the headers to keep."""
    max_body: int
    clock: Clock
    closing: bool
    clients: set[Client]

    def early(self, client: Client, request: Request) -> Refusal | None: ...

    def handle(self, client: Client, request: Request) -> None: ...

    def refused(self, client: Client, refusal: Refusal) -> None: ...
