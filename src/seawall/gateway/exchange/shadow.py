"""Copies of finished requests go to the canary; its answers are discarded, and compared where that means something.

An answer means something at temperature 0: then the texts of both sides must be equal, of whole answers and of
streams (unless `resume: off`, which records nothing, or the copy's answer is larger than 1 MiB). Copies never
queue, never retry, and take at most half of a replica's places; a canary that fails them harms nobody.

Every second request that is compared is also asked of the stable side again, of another replica if there is one: how
often that side differs from itself is what the canary is measured against (`decide/canary.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Protocol

import msgspec

from seawall.decide.route.desk import Desk
from seawall.decide.route.pick import Ask, Picked, Target
from seawall.decide.route.resume import Policy, StreamSession
from seawall.gateway.replicas.probe import MAX_ANSWER, ask
from seawall.gateway.replicas.upstream import Pool
from seawall.gateway.tell.stats import FleetStats

AT_ONCE = 16
TIMEOUT_S = 300.0
CONTROL_EVERY = 2


class _Told(msgspec.Struct, gc=False):
    """The parts of an answer that must be equal: of chats and completions, of messages, of responses."""

    choices: list[dict[str, Any]] | None = None
    content: list[dict[str, Any]] | None = None
    output: list[dict[str, Any]] | None = None
    data: Any = None


_told = msgspec.json.Decoder(_Told)


class _Sampling(msgspec.Struct, gc=False):
    temperature: float | None = None


_asked = msgspec.json.Decoder(_Sampling)
_DRAWN = frozenset({"id", "call_id", "signature", "token_ids", "logprobs"})
"""Keys whose values may differ between two answers that say the same: drawn at random, or rounded."""


def comparable(body: bytes) -> bool:
    """Whether the request determines its answer: temperature 0, said outright."""
    try:
        return _asked.decode(body).temperature == 0
    except (msgspec.MsgspecError, RecursionError):
        return False


def same(one: bytes, other: bytes) -> bool:
    """Whether two whole answers say the same; ids, times and usage do not count."""
    try:
        pair = [_told.decode(x) for x in (one, other)]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return False
    first, second = ([_said(part) for part in (t.choices, t.content, t.output, t.data)] for t in pair)
    return first == second


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: said for k, v in value.items() if k not in _DRAWN and (said := _said(v)) is not None}
    if isinstance(value, list):
        return [_said(v) for v in value]
    return value


class Shadowed(Protocol):
    """The part of a fleet (`lane.FleetLane`) that its copies need."""

    desk: Desk
    stats: FleetStats
    policy: Policy

    @property
    def now(self) -> Callable[[], float]: ...

    def pool(self, target: Target) -> Pool: ...

    def pump(self) -> None: ...


class Shadow:
    """The copies of one fleet."""

    def __init__(self, fleet: Shadowed) -> None:
        self._fleet = fleet
        self._tasks: set[asyncio.Task[None]] = set()
        self._compared = 0
        self._differing: set[Target] = set()

    def take_differing(self) -> set[Target]:
        """Stable replicas of which one has answered as the other did not, since this was asked last. Which of two is
        wrong, if one is, only an answer that is known tells."""
        taken, self._differing = self._differing, set()
        return taken

    def copy(
        self, path: bytes, body: bytes, answer: bytes | None, session: StreamSession | None, by: Target | None = None
    ) -> None:  # fmt: skip
        """A request was answered by the stable side, by the replica `by`: whole with `answer`, or as the stream of
        `session`."""
        if len(self._tasks) >= AT_ONCE:
            return
        want: bytes | dict[str, str] | None = None
        if comparable(body):
            want = session.said() if session is not None else answer
        self._start(self._copy(path, body, want, "canary", by))
        if want is not None:
            self._compared += 1
            if self._compared % CONTROL_EVERY == 0:
                self._start(self._copy(path, body, want, "stable", by))

    def _start(self, copy: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(copy)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _copy(
        self, path: bytes, body: bytes, want: bytes | dict[str, str] | None, group: str, by: Target | None
    ) -> None:
        fleet = self._fleet
        stats = fleet.stats
        wanted = Ask(tokens=1, group=group)
        picked = self._lend(wanted, by)
        if picked is None:
            return
        stats.shadowed += group == "canary"
        try:
            status, got = await ask(fleet.pool(picked.target), path, body, timeout_s=TIMEOUT_S)
        finally:
            fleet.desk.give_back(picked.target, wanted)
            fleet.pump()
        if want is None or len(got) > MAX_ANSWER:
            return
        equal = status == 200 and (
            same(want, got) if isinstance(want, bytes) else self._streamed(path, body, got) == want
        )
        side = stats.sides[group]
        side.compared += 1
        side.differed += not equal
        if group != "canary" and not equal and status == 200 and by not in (None, picked.target):
            self._differing |= {picked.target} | ({by} if by is not None else set())
        if group == "canary":
            stats.shadow_same += equal
            stats.shadow_differed += not equal

    def _lend(self, wanted: Ask, by: Target | None) -> Picked | None:
        """A place for a copy, at a sibling of who has answered where there is one: what one replica says twice shows
        nothing of what another one says."""
        desk, now = self._fleet.desk, self._fleet.now()
        alive = desk.router.alive(wanted.group)
        if not alive:
            return None
        if by is not None and by.replica.group == wanted.group and alive > 1:
            return desk.lend(wanted.but(avoid=(by.name,)), now)
        return desk.lend(wanted, now)

    def _streamed(self, path: bytes, body: bytes, answer: bytes) -> dict[str, str] | None:
        """What a stream said; None if it did not end well."""
        session = StreamSession(path.decode(), body, self._fleet.policy, Random(0))
        session.feed(answer)
        return session.said() if session.finish_ok else None

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
