"""Every shape of request means the same whatever its writes, is refused or right, and smuggles nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.hostile.requests import SHAPES
from tests.unit.gateway.scripted import JSON_ANSWER, Bench

PROBE = b"GET /v1/models/smuggled HTTP/1.1\r\nHost: g\r\n\r\n"


async def settled(b: Bench) -> None:
    while b.client._due and not b.pipe.closed:
        await asyncio.sleep(0)


async def sent(data: bytes, step: int) -> tuple[str, bytes]:
    """(what came of it, the status lines)."""
    b = Bench(asyncio.get_running_loop())
    b.app.max_body = 1 << 20
    for at in range(0, len(data), step):
        if b.pipe.closed:
            break
        b.client.data_received(data[at : at + step])
        await settled(b)
    reached = bool(b.up_pipe.out)
    if reached:
        b.up.data_received(JSON_ANSWER)
        await settled(b)
    out = bytes(b.pipe.out).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    lines = b"".join(line[:12] for line in out.split(b"\r\n") if line.startswith(b"HTTP/1.1 "))
    assert b"HTTP/1.1 5" not in lines, "no shape of a request is a fault of ours"
    went_on = not (b.pipe.closed or b.client._refusing)
    if reached:
        what = "served"
    elif not lines:
        what = "waits" if went_on else "ends"
    elif lines.startswith(b"HTTP/1.1 200"):
        what = "own"
    else:
        what = "answered" if went_on else "refused"
    if went_on and what != "waits":
        before = len(b.pipe.out)
        b.client.data_received(PROBE)
        await settled(b)
        assert b.pipe.out[before:].startswith(b"HTTP/1.1 404"), "the next request is understood"
    assert b.up_pipe.out.count(b" HTTP/1.1\r\n") <= 1, "one request at most reached a replica"
    return what, lines


def test_there_are_many() -> None:
    assert len(SHAPES) >= 300


@pytest.mark.parametrize("step", [1 << 20, 1, 13])
def test_every_shape_comes_to_what_the_table_says(step: int) -> None:
    async def main() -> list[tuple[str, str, str]]:
        wrong = []
        for name, (data, wanted) in SHAPES.items():
            what, _ = await sent(data, max(step, len(data) // 4000))
            if what != wanted:
                wrong.append((name, wanted, what))
        return wrong

    assert asyncio.run(main()) == []


def test_the_answer_does_not_depend_on_the_writes() -> None:
    async def main() -> list[str]:
        return [
            name
            for name, (data, _) in SHAPES.items()
            if await sent(data, len(data)) != await sent(data, 1 + len(data) // 300)
        ]

    assert asyncio.run(main()) == []
