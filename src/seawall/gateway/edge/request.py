"""One client's request as far as the gateway looks at it. Data, no acts.

Nothing of a request may be logged from here.
"""

from __future__ import annotations

from seawall.decide.route.cost import NOTHING_MADE
from seawall.decide.route.members import Members
from seawall.gateway.edge.chunks import ChunkWalk
from seawall.gateway.edge.decode import BodyDecoder
from seawall.gateway.tell.keyring import Key
from seawall.gateway.tell.tenants import ANYONE, Tenant


class Request:
    """One request as far as the gateway looks at it."""

    __slots__ = (
        "body",
        "coded",
        "cors",
        "decoder",
        "dropped",
        "extra",
        "form",
        "growing",
        "headers",
        "held",
        "http10",
        "http11",
        "id",
        "keep",
        "key",
        "limits",
        "made",
        "mark",
        "members",
        "method",
        "model",
        "only",
        "path",
        "priority",
        "repeated",
        "sent",
        "size",
        "streams",
        "tenant",
        "through",
        "tries",
        "unplaced",
        "upgrades",
        "url",
        "walk",
    )

    def __init__(self) -> None:
        self.method = b""
        self.url = b""
        self.path = b""
        """The URL without its query."""
        self.headers: dict[bytes, bytes] = {}
        self.growing: bytearray | None = None
        """Of a body that comes in several reads."""
        self.size = 0
        """Bytes of its body."""
        self.members: Members | None = None
        """Of a large body that has been read."""
        self.mark = b""
        """The fingerprint of a large body, before it was rewritten."""
        self.held = 0
        """Bytes of its body, in all forms, that are held now."""
        self.walk: ChunkWalk | None = None
        """Of a chunked body: where it ends."""
        self.decoder: BodyDecoder | None = None
        """Of a body that comes compressed."""
        self.dropped = False
        """It was given up before it was whole."""
        self.form = False
        """Its body is a form with files, and no JSON."""
        self.coded = 0
        """Bytes of it as they came; `size` is what they stand for."""
        self.body = b""
        self.keep = True
        self.http10 = False
        self.http11 = False
        """Its first line ends in just these bytes."""
        self.upgrades = False
        """It offers to go on in another protocol: `Upgrade`, and `Connection: upgrade`."""
        self.id = b""
        self.repeated = b""
        """A header that must stand once and stands twice."""
        self.cors = b""
        """Header lines that let a web page read the answer."""
        self.limits = b""
        """Header lines that tell what is left of the client's rates."""
        self.tries = 0
        """How often an answer of ours was put off to learn more."""
        self.sent = b""
        """The body for the engine, where it is another than the client's; empty: the client's."""
        self.unplaced = b""
        """An id in that body that ends in the mark of the replica that it is sent to, once that is known
        (decide/route/response.py)."""
        self.only: str | None = None
        """The one replica that keeps what it refers to."""
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
        self.through = False
        """Another process of ours answers it, and reads it from the connection itself."""
