"""Copies of finished requests go to the canary; its answers are discarded, and compared where that means something.

An answer means something at temperature 0 without a stream: then the texts must be equal. Streams are copied
too (the canary sees real load), but not compared. Copies never queue, never retry, and take at most half of a
canary replica's places; a canary that fails them harms nobody.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from seawall.decide.route.pick import Ask
from seawall.gateway.probe import ask

if TYPE_CHECKING:
    from seawall.gateway.fleet import FleetRuntime

AT_ONCE = 16
TIMEOUT_S = 300.0


class _Told(msgspec.Struct, gc=False):
    """The parts of an answer that must be equal."""

    choices: list[dict[str, Any]] = []


_told = msgspec.json.Decoder(_Told)


class _Asked(msgspec.Struct, gc=False):
    temperature: float | None = None


_asked = msgspec.json.Decoder(_Asked)


def comparable(body: bytes) -> bool:
    """Whether the request determines its answer: temperature 0, said outright."""
    try:
        return _asked.decode(body).temperature == 0
    except (msgspec.MsgspecError, RecursionError):
        return False


def same(one: bytes, other: bytes) -> bool:
    """Whether two whole answers say the same; ids, times and usage do not count."""
    try:
        pair = [[_said(c) for c in _told.decode(x).choices] for x in (one, other)]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return False
    return pair[0] == pair[1]


def _said(choice: dict[str, Any]) -> tuple[Any, ...]:
    message = choice.get("message") or {}
    return choice.get("text"), message.get("content"), message.get("tool_calls"), choice.get("finish_reason")


class Shadow:
    """The copies of one fleet."""

    def __init__(self, fleet: FleetRuntime) -> None:
        self._fleet = fleet
        self._tasks: set[asyncio.Task[None]] = set()

    def copy(self, path: bytes, body: bytes, answer: bytes | None) -> None:
        """A request was answered by the stable side, with `answer` if it was no stream."""
        if len(self._tasks) >= AT_ONCE:
            return
        task = asyncio.get_running_loop().create_task(self._copy(path, body, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _copy(self, path: bytes, body: bytes, answer: bytes | None) -> None:
        fleet = self._fleet
        router, stats = fleet.router, fleet.stats
        wanted = Ask(tokens=1, group="canary")
        picked = router.pick(wanted, fleet.loop.time()) if router.alive("canary") else None
        if picked is None or picked.target.in_flight * 2 >= picked.target.cap:
            return
        router.start(picked.target, wanted)
        stats.shadowed += 1
        try:
            status, got = await ask(fleet.pool(picked.target), path, body, timeout_s=TIMEOUT_S)
        finally:
            fleet.left(picked.target, wanted)
        if answer is not None and comparable(body) and (status != 200 or not same(answer, got)):
            stats.shadow_differed += 1

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
