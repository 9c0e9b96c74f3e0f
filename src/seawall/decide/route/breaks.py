"""Breaks: how a replica can fail a request, and what each way says about the replica. Plain values, no decisions.

kind       what happened                                               blame
connect    no connection within the time, refused, TLS                 BROKEN
local      we had no descriptor, port or memory for a connection      ELSEWHERE
reset      the connection ended in the middle of an answer             DEATH
keepalive  an idle connection was closed just as we used it            NOTHING
stream     the stream ended early, or with an event of failure         DEATH (ELSEWHERE: two good ones differ)
dead       the engine says that it is dead                             DEATH
drain      the engine says that it is shutting down, or aborts         BROKEN
503        the replica is full                                         FULL
5xx        an error that may be the prompt's own fault                 ERROR
hang       silence for longer than its work explains or the spec       BROKEN (ELSEWHERE: only this request is silent)
           allows (`evidence`)
wrong      its answers are not the known ones (`decide/truth`)         BROKEN
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, NamedTuple

BreakKind = Literal[
    "connect", "local", "reset", "keepalive", "stream", "dead", "drain", "503", "5xx", "hang", "wrong"
]
"""Also the label `reason` of `seawall_retries_total`."""


class Blame(Enum):
    """What a break says about the replica."""

    NOTHING = "nothing: it may be asked again at once"
    ELSEWHERE = "nothing, but this request is asked elsewhere"
    ERROR = "little: only several in a row speak against it"
    FULL = "it is alive and full: it rests for a moment"
    BROKEN = "it is broken: nothing goes there until it has proved itself"
    DEATH = "the same, and one of the requests that waited there may have killed it"


class Break(NamedTuple):
    """One break. `reason` is for people: logs, states, error messages."""

    kind: BreakKind
    reason: str
    blame: Blame
    mark: bytes = b""
    """Of ERROR: the prompt's (`odd.prompt_mark`)."""
