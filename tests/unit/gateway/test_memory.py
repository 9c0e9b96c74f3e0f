"""What is held of others' bytes is counted as it comes, bounded, and all given back, however a request ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.scripted import ASK, JSON_ANSWER, Bench, post, with_bench
from tests.unit.gateway.waiting import until

from seawall.gateway import memory
from seawall.gateway.edge.budget import CHUNKS, MOST, PER_TURN, PIECES_PER_TURN

STREAM = b'{"model":"gpt-4","prompt":"x","stream":true}'
HEALTH = b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n"


def head(length: int) -> bytes:
    return b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % length


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from(["whole", "half", "chunk", "pipe", "bad", "gone", "answer"]), max_size=30),
)
def test_nothing_is_held_once_everybody_has_left(seed: int, acts: list[str]) -> None:
    rng = Random(seed)

    async def script(b: Bench) -> None:
        clients = [b.client]
        for act in acts:
            client, _ = b.connect()
            clients.append(client)
            match act:
                case "whole":
                    client.data_received(post(rng.choice([ASK, STREAM])))
                case "half":
                    client.data_received(head(2000) + b"x" * rng.randrange(2000))
                case "chunk":
                    client.data_received(
                        b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
                        + b"1\r\nx\r\n" * rng.randrange(300)
                    )
                case "pipe":
                    client.data_received(post(ASK) * 3 + HEALTH * 200 + post(ASK)[:-3])
                case "bad":
                    client.data_received(head(50) + b"x" * 50 + b"\x00junk")
                case "gone":
                    clients.pop(rng.randrange(len(clients))).connection_lost(None)
                case _:
                    if b.up.user is not None:
                        b.up.data_received(JSON_ANSWER)
            await asyncio.sleep(0)
        for client in clients:
            client.connection_lost(None)
        await asyncio.sleep(0.02)
        assert (b.app.memory.held, len(b.app.memory.readers)) == (0, 0)

    with_bench(script)


def test_a_body_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    def script(b: Bench) -> None:
        b.app.max_body = 2**24
        b.app.memory.bound = 2**20
        b.client.data_received(head(2**21))
        assert b.pipe.out.startswith(b"HTTP/1.1 503") and b"retry-after: " in b.pipe.out
        client, pipe = b.connect()
        client.data_received(post(ASK))
        assert not pipe.out and b.up_pipe.out, "a little one is served"

    with_bench(script)


def test_a_body_of_tiny_pieces_is_held_once() -> None:
    """A list of parts would take 40 bytes for each."""

    def script(b: Bench) -> None:
        b.app.max_body = 2**20
        b.client.data_received(
            b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\nx\r\n" * 1000
        )
        request = b.client._parsing
        assert (
            request is not None
            and request.growing is not None
            and len(request.growing) == request.held == 1000
        )

    with_bench(script)


def test_a_body_of_tiny_pieces_is_read_over_many_turns_of_the_loop() -> None:
    """A read of 256 KiB holds 40,000 chunks of one byte: the loop would be held for 60 ms."""

    async def script(b: Bench) -> None:
        b.app.max_body = 2**20
        b.fleet.spec = replace(b.fleet.spec, max_body=2**20)
        blob = b"1\r\n \r\n" * 43_000
        begin = b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
        b.client.data_received(begin + blob)
        request = b.client._parsing
        assert request is not None
        sizes = [request.size]
        while b.client._due:
            await asyncio.sleep(0)
            sizes.append(request.size)
        assert sizes[-1] == 43_000 and len(sizes) > 6
        assert max(b - a for a, b in pairwise([0, *sizes])) <= PIECES_PER_TURN + CHUNKS // 6
        b.client.data_received(b"%x\r\n%b\r\n0\r\n\r\n" % (len(ASK), ASK) + HEALTH)
        await until(lambda: bool(b.up_pipe.out), 10)
        assert bytes(b.up_pipe.out).endswith(b" " + ASK) and b.app.memory.held > 0

    with_bench(script)


def test_one_connection_gets_a_few_answers_per_turn_and_strangers_together_a_budget() -> None:
    async def script(b: Bench) -> None:
        pipes = []
        b.app.budget._since = 1e12  # the window lasts
        for _ in range(100):
            client, pipe = b.connect()
            client.data_received(HEALTH * 50)
            pipes.append(pipe)
        counts = [pipe.out.count(b"HTTP/1.1 200") for pipe in pipes]
        assert max(counts) <= PER_TURN and sum(counts) <= MOST + PER_TURN
        b.app.budget._since = 0.0
        await until(lambda: all(pipe.out.count(b"HTTP/1.1 200") == 50 for pipe in pipes), 60)

    with_bench(script)


def test_what_waits_of_a_pipeline_is_bounded_in_requests_too() -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ASK) + HEALTH * 5000)
        assert len(b.client._queue) < 64, "parsed requests take 30 times their bytes"

    with_bench(script)


def groups(folder: Path, lines: str, limits: dict[str, str]) -> int | None:
    own = folder / "own"
    own.write_text(lines)
    for name, value in limits.items():
        file = folder / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value + "\n")
    return memory.allowed(folder / "fs", own)


def test_the_bound_follows_from_the_strictest_control_group(tmp_path: Path) -> None:
    cases: list[tuple[str, dict[str, str], int | None]] = [
        ("0::/\n", {"memory.max": "536870912"}, 2**29),
        ("0::/a/b\n", {"memory.max": "max", "a/memory.max": "1000", "a/b/memory.max": "max"}, 1000),
        ("0::/\n", {"memory.max": "max"}, None),
        ("4:cpu,memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": "2000"}, 2000),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("0::/gone\n", {}, None),
    ]
    for n, (lines, limits, wanted) in enumerate(cases):
        folder = tmp_path / str(n)
        folder.mkdir()
        assert groups(folder, lines, limits) == wanted, lines
    assert memory.allowed(tmp_path, tmp_path / "none") is None
