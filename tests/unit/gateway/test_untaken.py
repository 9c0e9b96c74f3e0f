"""Answers that nobody reads: what lies here of them is counted, bounded, and given up before anybody else's."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest
from tests.unit.gateway.both import Http2, ask
from tests.unit.gateway.scripted import ASK, JSON_ANSWER, Bench, Pipe, post, with_bench
from tests.unit.gateway.test_bound import ALLOWED, DEAF, MIB, SPEC, Flood, deaf, held, most_mib
from tests.unit.gateway.waiting import until

from seawall.decide.route.room import bound_of
from seawall.gateway.edge.caller import SLACK
from seawall.gateway.edge.client_side import Client
from seawall.gateway.edge.http2 import Http2Connection
from seawall.gateway.intake.app import UNTAKEN_S

from . import processes


class Lying(Pipe):
    """A client that takes as much as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:  # type: ignore[override]
        self.aborted = self.closed = True


def lying(b: Bench, unsent: int) -> tuple[Client, Lying]:
    """A client whose whole answer lies here."""
    client, _ = b.connect()
    pipe = Lying()
    client.transport = pipe  # type: ignore[assignment]
    client.data_received(post(ASK))
    pipe.unsent = unsent
    client.pause_writing()
    b.up.data_received(JSON_ANSWER)
    return client, pipe


def test_who_has_not_read_its_answers_is_not_served_further() -> None:
    async def script(b: Bench) -> None:
        before = b.app.memory.held
        client, pipe = lying(b, SLACK + 9000)
        assert b.app.memory.held - before >= SLACK + 9000, "counted at once, not at the next look"
        sent, answered = len(b.up_pipe.out), len(pipe.out)
        client.data_received(post(ASK))
        client.data_received(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n" * 5)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(b.up_pipe.out), len(pipe.out)) == (sent, answered)
        assert client.idle_since > b.app.now(), "it is no idle connection"
        pipe.unsent = 0
        client.resume_writing()
        await until(lambda: len(b.up_pipe.out) > sent, 5)
        b.up.data_received(JSON_ANSWER)
        await until(lambda: pipe.out.count(b"HTTP/1.1 200 OK") == 7, 5)
        client.connection_lost(None)
        assert b.app.memory.held == before

    with_bench(script)


def test_over_the_bound_the_answer_that_has_lain_longest_goes_first() -> None:
    def script(b: Bench) -> None:
        b.app.memory.bound = 5 * MIB
        now = b.app.now()
        pairs = [lying(b, 2 * MIB) for _ in range(4)]
        for client, _ in pairs:
            client.check(now)
        reads = pairs[0][1]
        reads.unsent -= 1000
        pairs[2][0].taken_at = now - 5
        for client, _ in pairs:
            client.check(now + UNTAKEN_S + 0.1)
        b.app.sweep(now + UNTAKEN_S + 0.1)
        assert [pipe.aborted for _, pipe in pairs] == [False, True, True, False]
        for client, pipe in pairs:
            if pipe.aborted:
                client.connection_lost(None)
        assert not b.app.memory.over
        b.app.sweep(now + UNTAKEN_S + 0.2)
        assert not reads.aborted and not pairs[3][1].aborted

    with_bench(script)


def test_of_an_http2_connection_the_stream_goes_and_its_neighbours_stay() -> None:
    def script(b: Bench) -> None:
        e = Http2(b, ack=False)
        ask(e, ASK)
        deaf_id = e.id
        body = b'{"choices":[],"x":"' + b"y" * 900_000 + b'"}'
        b.up.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        e.turn()
        assert b.app.memory.held > 800_000
        b.app.memory.bound = 500_000
        now = b.app.now()
        connection: Http2Connection = e.connection
        connection.check(now)
        b.app.sweep(now + UNTAKEN_S + 0.1)
        e.turn()
        assert e.reset_of(deaf_id) is not None and not b.app.memory.over
        e.peer.increment_flow_control_window(100_000)
        ask(e, b"", b"/health", method=b"GET")
        assert e.answer is not None and e.answer.status == 200

    with_bench(script)


class Wide(Flood):
    """An engine whose whole answers are of a megabyte."""

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        body = b'{"choices":[{"text":"%b","finish_reason":"stop"}]}' % (b"h" * MIB)
        top = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                size = re.search(rb"content-length: (\d+)", await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(int(size[1]) if size else 0)
                writer.write(top + body)
                self._said += 1
                await writer.drain()


@pytest.mark.timeout(300)
async def test_clients_that_ask_on_and_read_nothing_stay_within_the_bound(tmp_path: Path) -> None:
    """Twenty of them held 374 MiB after eight seconds, and 21 of it were counted."""
    file = tmp_path / "fleet.yaml"
    file.write_text(SPEC)
    async with (
        Wide(1) as engine,
        processes.gateway_process(file, engine.discovery) as gateway,
        deaf(gateway.port) as writers,
    ):
        asked = post(b'{"model":"m","prompt":"x"}') * 100
        for writer in writers:
            writer.write(asked)
        assert len(writers) == DEAF
        await engine.stopped()
        assert await held(gateway) < bound_of(ALLOWED) * 1.5
        status, _, _ = await processes.ask(gateway.port)
        assert status in (200, 503) and gateway.child.returncode is None
        assert most_mib(gateway.child.pid) <= ALLOWED / MIB
