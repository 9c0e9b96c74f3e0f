"""One client's request as far as the gateway looks at it. Data, no acts.

Nothing of a request may be logged from here.
"""

from __future__ import annotations

from seawall.decide.route.cost import NOTHING_MADE
from seawall.gateway.tell.keyring import Key
from seawall.gateway.tell.tenants import ANYONE, Tenant


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
        "made",
        "method",
        "model",
        "parts",
        "path",
        "priority",
        "repeated",
        "size",
        "streams",
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
        self.streams = False
        """The client asks for a stream."""
        self.extra = b""
        """Header lines for the replica."""
        self.key: Key | None = None
        self.made = NOTHING_MADE
        """What its prompt is made of."""
        self.tenant: Tenant = ANYONE
        self.priority = 5
