"""Large bodies: read in a thread, in short steps, so that whoever else waits for the loop goes on meanwhile.

One thread for all of them: more would only take turns at the interpreter's lock. What a body says is then known (its
members, the fields that routing needs, whether it may pass), and the request goes the way of all others.
Forbidden here: deciding; waiting for anything but the thread.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from seawall.decide.route.members import TOO_DEEP, Members, Unreadable, read_members
from seawall.decide.route.poison import fingerprint
from seawall.decide.route.refusal import Refusal
from seawall.gateway.intake.body import Body
from seawall.gateway.intake.peek import body_of

Passes = Callable[[bytes, Body], Refusal | None]
"""Whether a body, of which these fields are known, may be passed on."""


class LargeBody(NamedTuple):
    """What is known of a body that was read in a thread."""

    members: Members
    body: Body
    mark: bytes
    """Its fingerprint."""


def read_large(path: bytes, data: bytes, passes: Passes) -> LargeBody | Refusal:
    """Runs in the thread."""
    try:
        members = read_members(data[len(BOM_UTF8) :] if data.startswith(BOM_UTF8) else data)
        members.look_for_parts()
        body = body_of(members.fields)
        refusal = body if isinstance(body, Refusal) else passes(members.body, body)
        if isinstance(body, Refusal) or refusal is not None:
            assert refusal is not None
            return refusal
        return LargeBody(members, body, fingerprint(path, members.body))
    except Unreadable as e:
        return e.refusal
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Refusal(400, "invalid_json", "The request body is not JSON. Send a JSON object.")
    except RecursionError:
        return TOO_DEEP
