"""An answer that a gateway which is gone was giving goes on here: its tape is played again, then a replica goes on.

As after the death of this process's predecessor (intake/carry.py), but from the store, for records alone: whoever reads
one is a reader of the copy that is here, and notices nothing. Nothing is decided here of what a client gets.
"""

from __future__ import annotations

import secrets
from typing import cast

from seawall.decide.route.record import RecordState
from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.request import Request
from seawall.gateway.intake.app import App
from seawall.gateway.intake.gone_on import NO_REQUEST, go_on
from seawall.gateway.tier.kept import SharedRecord, SharedShelf

BEHIND = Refusal(
    410,
    "not_kept",
    "The gateway that was giving this answer is gone, and its last events with it, which would come out otherwise. "
    "Send the request without Last-Event-ID to run it anew.",
)


def adopt(
    app: App, shelf: SharedShelf, record: SharedRecord, facts: dict[str, bytes], tape: list[bytes]
) -> None:
    """Goes on with a record that is this gateway's from now on."""
    request = _request(record, facts)
    refusal: Refusal | None
    if request is None:
        refusal = NO_REQUEST
    elif record.furthest > record.count:
        refusal = BEHIND
    else:
        refusal = go_on(app, shelf, record, request, ((entry[0], entry[1:]) for entry in tape))
    if refusal is not None and record.state is RecordState.RUNNING:
        record.end(RecordState.FAILED, refusal)
        shelf.unlink(record)


def _request(record: SharedRecord, facts: dict[str, bytes]) -> Request | None:
    """The request as it was sent to the gateway that is gone, from the client that asks now."""
    asker = cast("Request | None", record.asker)
    if asker is None or not (facts.get("body") or asker.body):
        return None
    request = Request()
    request.method = b"POST"
    request.url = facts.get("url") or asker.url
    request.path = request.url.partition(b"?")[0]
    request.body = facts.get("body") or asker.body
    request.sent = facts.get("sent", b"")
    request.size = len(request.body)
    request.headers = {k: v for k, v in asker.headers.items() if k != b"content-encoding"}
    request.key, request.cors = asker.key, asker.cors
    request.id = asker.id or secrets.token_hex(8).encode()
    return request
