"""A session that is played again from its tape has given the same bytes, and goes on as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.decide.route.resume import Policy, Retry, StreamSession
from seawall.decide.route.resume.tape import LINE, RELAYED, Tape
from seawall.gateway.edge.record import Arena, Record, read

from .client import CHAT, View, run, view
from .model_engine import Server, serve
from .test_matrix import CASES


@pytest.fixture(scope="module")
def tape() -> Iterator[Record]:
    """The gateway's own: entries in memory."""
    arena = Arena(blocks=256)
    yield Record(arena, arena.take_slot())
    arena.close()


def entries(tape: Record) -> list[tuple[int, bytes]]:
    past = read(tape.arena, tape.slot)
    assert past is not None
    return past.entries


def new(route: str, body: dict[str, Any], tape: Tape | None = None) -> StreamSession:
    session = StreamSession(route, json.dumps(body).encode(), Policy(max_resumes=1), Random(7))
    session.tape = tape
    return session


@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_a_stream_survives_the_deaths_of_any_number_of_gateways(
    name: str, tape: Record, data: st.DataObject
) -> None:
    """Each gateway dies after so many events, and its successor has its tape alone; every stream may break once in
    60 s by a replica's fault, and as often as it likes by a gateway's."""
    route, body, _ = CASES[name]
    alone = run(route, body).view
    out, path = b"", route
    tape.renew()
    session = new(route, body, tape)
    sent = session.first_request()
    for death in range(data.draw(st.integers(1, 5), label="deaths")):
        events = serve(path, sent, Server("ab"[death % 2]))
        for event in events[: data.draw(st.integers(0, len(events)), label=f"events before death {death}")]:
            out += session.feed(event)
        seed, session = session.seed, new(route, body)
        session.reseed(seed)
        again = b"".join([session.relive(kind, entry) for kind, entry in entries(tape)])
        assert again == out
        session.tape = tape
        decision = session.broken("its gateway died", 1.0, counts=False)
        if not isinstance(decision, Retry):
            _check(view(out + decision.event), alone)
            return
        path, sent = decision.path, decision.body
    for event in serve(path, sent, Server("b")):
        out += session.feed(event)
    assert session.done
    _check(view(out), alone)


def _check(got: View, alone: View) -> None:
    assert got.same_answer(alone)
    assert len(got.ids) == 1


def test_an_ordinary_chunk_takes_a_line(tape: Record) -> None:
    _, body, _ = CASES["chat-greedy"]
    tape.renew()
    session = new(CHAT, body, tape)
    for event in serve(CHAT, session.first_request(), Server("a")):
        session.feed(event)
    lines = [entry for kind, entry in entries(tape) if kind in (LINE, RELAYED)]
    assert len(lines) > 10
    assert max(map(len, lines)) < 40
