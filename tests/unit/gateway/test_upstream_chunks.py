"""Chunks of a replica's answer: however the network cuts them, the same content comes out, in order."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from seawall.gateway.replicas.upstream import Pool, Upstream
from seawall.gateway.wire import WHOLE, chunk

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Listener:
    """What an exchange would be told."""

    def __init__(self) -> None:
        self.got = b""
        self.ended = False
        self.lost = ""

    def connected(self, conn: Upstream) -> None: ...

    def connect_failed(self, reason: str) -> None: ...

    def on_head(self, conn: Upstream) -> None: ...

    def on_body(self, parts: list[bytes], complete: bool) -> None:
        assert not self.ended
        self.got += b"".join(parts)
        self.ended = complete

    def on_lost(self, reason: str, answered: bool) -> None:
        self.lost = reason


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: object) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


def receive(reads: list[bytes]) -> Listener:
    loop = asyncio.new_event_loop()
    try:
        conn, user = Upstream(Pool("http://127.0.0.1:1", loop, set())), Listener()
        conn.connection_made(Wire())
        conn.send(user, b"")
        for data in reads:
            if conn.user is not None:
                conn.data_received(data)
        return user
    finally:
        loop.close()


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(i for i in at if i < len(data))})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


contents = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.sampled_from(
        [b"\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"data: x\n\n", b"a" * 15, b"a" * 16, b"a" * 4095]
    ),
)


@given(st.lists(contents, max_size=8), st.lists(st.integers(0, 3000), max_size=30), st.booleans())
@example([b"ab", b"5\r\nhello\r\n", b"cd"], [], True)
def test_any_cut_of_a_chunked_answer_gives_the_same_bytes(
    parts: list[bytes], at: list[int], whole: bool
) -> None:
    framed = [HEAD, *map(chunk, parts), b"0\r\n\r\n"]
    user = receive(framed if whole else cut(b"".join(framed), at))
    assert (user.got, user.ended, user.lost) == (b"".join(parts), True, "")


@given(st.integers(1, 24), st.sampled_from([b"7\r\nab\r\nxyz\r\n", b"b\r\n6\r\nwhole!\r\n\r\n"]))
def test_what_looks_like_a_chunk_inside_a_chunk_is_content(at: int, inner: bytes) -> None:
    framed = b"%x\r\n" % len(inner)
    reads = [HEAD + chunk(b"first"), framed, inner, b"\r\n", chunk(b"last"), b"0\r\n\r\n"]
    assert receive(reads).got == b"first" + inner + b"last"
    joined = b"".join(reads)
    assert receive([joined[: len(HEAD) + at], joined[len(HEAD) + at :]]).got == b"first" + inner + b"last"


class Slow(Listener):
    """Counts what it is told in one turn, and may ask for a pause."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.conn: Upstream | None = None

    def on_body(self, parts: list[bytes], complete: bool) -> None:
        super().on_body(parts, complete)
        self.calls.append(len(parts))
        if self.conn is not None:
            self.conn.pause()


class Stoppable(Wire):
    """Knows whether it is read."""

    reads = True

    def pause_reading(self) -> None:
        assert self.reads
        self.reads = False

    def resume_reading(self) -> None:
        assert not self.reads
        self.reads = True


def one_byte_chunks(count: int) -> bytes:
    return b"".join(b"1\r\n%c\r\n" % (65 + i % 26) for i in range(count))


async def test_chunks_of_one_byte_are_taken_a_few_thousand_in_a_turn() -> None:
    body = one_byte_chunks(43_000)
    for pauses in (False, True):
        conn, user, wire = (
            Upstream(Pool("http://127.0.0.1:1", asyncio.get_running_loop(), set())),
            Slow(),
            Stoppable(),
        )
        conn.connection_made(wire)
        conn.send(user, b"")
        conn.data_received(HEAD)
        user.conn = conn if pauses else None
        conn.data_received(body + b"0\r\n\r\n")
        assert len(user.calls) == 1 and not wire.reads, "the rest waits, and nothing is read meanwhile"
        while not user.ended:
            await asyncio.sleep(0)
            if pauses:
                before = len(user.calls)
                await asyncio.sleep(0)
                assert len(user.calls) == before, "its user wants no more"
                conn.resume()
        assert max(user.calls) <= 6000 and user.got == body[3::6]
        assert wire.reads and conn.pool.take() is conn and conn.user is None


async def test_what_waits_is_not_lost_with_its_connection_and_belongs_to_no_next_request() -> None:
    body = one_byte_chunks(20_000)
    for behind, lost in ((b"", "connection closed"), (b"0\r\n\r\n" + body, "more than the answer")):
        conn, user = Upstream(Pool("http://127.0.0.1:1", asyncio.get_running_loop(), set())), Slow()
        conn.connection_made(Stoppable())
        conn.send(user, b"")
        conn.data_received(HEAD)
        conn.data_received(body + behind)
        while behind and not user.lost:
            await asyncio.sleep(0)
        if not behind:
            conn.connection_lost(None)
            assert user.got == body[3::6]
        assert user.lost.startswith(lost) or "malformed" in user.lost
        assert conn.pool.take() is None


def test_other_spellings_of_a_size_are_read_too() -> None:
    reads = [HEAD, chunk(b"one"), b"00A\r\n" + b"b" * 10 + b"\r\n", b"3;x=y\r\ntwo\r\n", b"0\r\n\r\n"]
    assert receive(reads).got == b"one" + b"b" * 10 + b"two"


def test_a_wrong_size_is_found_between_whole_chunks() -> None:
    user = receive([HEAD, chunk(b"one"), b"4\r\ntwo\r\n\r\n", b"zz\r\n"])
    assert "malformed" in user.lost


def test_a_read_is_one_chunk_only_if_its_size_line_says_so() -> None:
    for size in (1, 15, 16, 255, 256, 4000):
        framed = chunk(b"x" * size)
        assert framed.startswith(WHOLE[len(framed)])
    assert (
        WHOLE[5] == WHOLE[21] == WHOLE[262] == b""
    )  # an empty chunk would be the last; no size fits the other


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time the test sets."""

    now = 100.0

    def time(self) -> float:
        return self.now


def kept_after(ends: list[tuple[float, Exception | None]], idle_s: float) -> bool:
    """Whether a connection is kept so long, after others ended as told after so many seconds of idling."""
    loop = Clock()
    try:
        pool = Pool("http://127.0.0.1:1", loop, set())
        for after_s, reset in ends:
            conn = idle(pool)
            loop.now += after_s
            conn.connection_lost(reset)
            assert pool.take() is None
        conn = idle(pool)
        loop.now += idle_s
        pool.sweep(loop.now)
        return pool.take() is conn
    finally:
        loop.close()


def idle(pool: Pool) -> Upstream:
    conn = Upstream(pool)
    conn.connection_made(Wire())
    pool.put(conn)
    return conn


def test_a_replica_that_closes_idle_connections_teaches_how_long_to_keep_them() -> None:
    assert kept_after([], 55)
    assert not kept_after([], 65)
    assert kept_after([(5.0, None)], 3.9)
    assert not kept_after([(5.0, None)], 4.1)


def test_an_end_for_other_reasons_teaches_nothing() -> None:
    assert kept_after([(5.0, ConnectionResetError()), (0.5, None)], 55)
