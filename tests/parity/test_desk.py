"""What the simulator says of queues, retries and evictions is what the gateway does: one script of arrivals, answers,
breaks, drains and rests goes through the gateway's own code (bytes in, bytes out) and through the simulator's front,
under one clock, and both must send every request to the same replica, keep it, refuse it or give it up."""

from __future__ import annotations

import asyncio
import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.scripted import JSON_ANSWER, Pipe, post
from tests.unit.sim.conftest import PLAN, fleet_of

from seawall.decide.route.admit import Rejected, Ticket
from seawall.decide.route.attempt import AwaitVerdict, Fail, Send
from seawall.decide.route.breaks import Blame, Break
from seawall.decide.route.pick import Ask
from seawall.domain.seen import Replica, Replicas
from seawall.domain.spec import Gateway, Scaling
from seawall.gateway.edge.client_side import Client
from seawall.gateway.exchange.exchange import Exchange
from seawall.gateway.intake.app import App
from seawall.gateway.intake.means import Means
from seawall.gateway.replicas.upstream import Upstream
from seawall.sim.engine import Seq
from seawall.sim.front import OurGateway
from seawall.sim.setup import setup_of

Step = tuple[str, Any]
NAMES = ("a", "b", "c")
SPEC = Gateway(max_in_flight=2, max_queued=3, queue_timeout=10, retries=2, resume="off")
FLEET = fleet_of(Scaling(min=3, max=3), gateway=SPEC)
STATUS = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
OURS = {"reset": b"", "503": STATUS % 503, "500": STATUS % 500}


class Script:
    """The clock and the replicas of one play."""

    def __init__(self) -> None:
        self.now = 100.0
        self.draining: set[str] = set()

    def seen(self) -> list[Replica]:
        urls = {name: f"http://127.0.0.1:{i + 1}" for i, name in enumerate(NAMES)}
        return [Replica(name=n, fleet="f", url=urls[n], draining=n in self.draining) for n in NAMES]


class ByGateway(Script):
    """An application whose connections are pipes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.app = App(loop, Random(1), Means(now=lambda: self.now))
        self.app.configure([FLEET])
        self.fleet = self.app.fleets["f"]
        self.clients: dict[int, tuple[Client, Pipe]] = {}
        self.discover()

    def discover(self) -> None:
        self.app.discovered(Replicas(replicas=tuple(self.seen())))

    def _top_up(self) -> None:
        """Every replica has idle connections."""
        for target in self.fleet.targets:
            pool = self.fleet.pool(target)
            for _ in range(8):
                up = Upstream(pool)
                up.connection_made(Pipe())  # type: ignore[arg-type]
                pool.put(up)

    def arrive(self, rid: int) -> None:
        self._top_up()
        client, pipe = Client(self.app, self.app.loop), Pipe()
        client.connection_made(pipe)  # type: ignore[arg-type]
        self.clients[rid] = client, pipe
        # Every body is another one: a convict's copies are kept out by their words, and simulated requests have none.
        client.data_received(post(b'{"model":"f","prompt":"%03d","max_tokens":5}' % rid))

    def happen(self, rid: int, what: str) -> None:
        self._top_up()
        exchange = self.clients[rid][0].exchange
        assert isinstance(exchange, Exchange)
        conn = exchange._conn
        assert conn is not None
        if what == "reset":
            conn.answered = True  # a byte had come: no race with an idle connection
            conn.connection_lost(ConnectionResetError())
        else:
            conn.data_received(OURS.get(what, JSON_ANSWER))

    def proven(self, name: str) -> None:
        self._top_up()
        self.fleet.proven(self.fleet.router.targets[name])

    async def settle(self) -> None:
        self._top_up()
        self.fleet.sweep(self.now)
        for _ in range(3):
            await asyncio.sleep(0)

    def where(self, rid: int) -> str:
        client, pipe = self.clients[rid]
        if client.exchange is None:
            return {b"200": "answered", b"429": "refused"}.get(bytes(pipe.out[9:12]), "failed")
        assert isinstance(client.exchange, Exchange)
        target = client.exchange.target
        return target.name if target is not None else "waits"


class BySimulator(Script):
    """The simulator's front; what its world would do with a decision is done here."""

    def __init__(self) -> None:
        super().__init__()
        self.front = OurGateway(setup_of(FLEET, PLAN, recipe="fixed"), Random(1))
        self.seqs: dict[int, Seq] = {}
        self.ended: dict[int, str] = {}
        self.discover()

    def discover(self) -> None:
        self.front.discovered(self.seen())

    def arrive(self, rid: int) -> None:
        seq = self.seqs[rid] = Seq(rid, 10, 5, self.now)
        seq.ticket = Ticket(Ask(16))
        if isinstance(self.front.offer(seq.ticket, self.now), Rejected):
            self.ended[rid] = "refused"

    def happen(self, rid: int, what: str) -> None:
        seq = self.seqs[rid]
        for other in self.seqs.values():
            other.ticket.awaits = other.ticket.target is not None
        if what == "reset":
            self._break(rid, Break("reset", "reset", Blame.DEATH))
        elif what == "503":
            self._break(rid, Break("503", "answered 503", Blame.FULL))
        elif what == "500" and (broke := self.front.failed(seq, self.now)) is not None:
            self._break(rid, broke)
        else:
            if what == "answer":
                self.front.served(seq.ticket.target)
            else:
                self.front.desk.erred(seq.ticket.target, b"%d" % rid, self.now)
            self._end(rid, "answered" if what == "answer" else "failed")

    def _break(self, rid: int, what: Break) -> None:
        self._obey(rid, self.front.broke(self.seqs[rid], what, self.now).decision)

    def _obey(self, rid: int, decision: Any) -> None:
        match decision:
            case Send():
                self.seqs[rid].ticket.begun = True  # a whole answer that a replica was at work on
                self.front.again(self.seqs[rid].ticket, self.now)
            case AwaitVerdict(seconds=seconds):
                self.front.convict(self.seqs[rid].ticket, self.now + seconds)
            case Fail():
                self._end(rid, "failed")

    def _end(self, rid: int, how: str) -> None:
        self.front.left(self.seqs[rid].ticket, self.now)
        self.ended[rid] = how

    def proven(self, name: str) -> None:
        self.front.proven(self.front.targets()[name], self.now)

    async def settle(self) -> None:
        tick = self.front.tick(self.now)
        for ticket in tick.verdicts:
            self._obey(self.rid(ticket), self.front.verdict(self.seqs[self.rid(ticket)], self.now))
        for ticket in tick.late:
            rid = self.rid(ticket)
            self._end(
                rid, "refused" if any(t.state == "ready" for t in self.front.targets().values()) else "failed"
            )
        self.front.tick(self.now)

    def rid(self, ticket: Ticket) -> int:
        return next(rid for rid, seq in self.seqs.items() if seq.ticket is ticket)

    def where(self, rid: int) -> str:
        target = self.seqs[rid].ticket.target
        return self.ended.get(rid) or (target.name if target is not None else "waits")


async def play(player: Any, script: list[Step]) -> list[Any]:
    """The decision log: after every step, where every request is and how every replica is seen."""
    ids = itertools.count()
    log: list[Any] = []
    arrived = 0
    for step, value in script:
        if step == "arrive":
            player.arrive(next(ids))
            arrived += 1
        elif step == "wait":
            player.now += value
        elif step == "drain":
            player.draining ^= {NAMES[value]}
            player.discover()
        elif step == "proven":
            player.proven(NAMES[value])
        else:
            at_replica = [rid for rid in range(arrived) if player.where(rid) in NAMES]
            if at_replica:
                player.happen(at_replica[value % len(at_replica)], step)
        await player.settle()
        desk = player.front.desk if isinstance(player, BySimulator) else player.fleet.desk
        states = {t.name: (t.state, t.resting, t.in_flight) for t in desk.router.targets.values()}
        log.append(([player.where(rid) for rid in range(arrived)], states, desk.admission.queued))
    return log


async def both(script: list[Step]) -> tuple[list[Any], list[Any]]:
    loop = asyncio.get_running_loop()
    return await play(ByGateway(loop), script), await play(BySimulator(), script)


async def test_one_script_gives_one_decision_log() -> None:
    script: list[Step] = [
        *[("arrive", 0)] * 10,  # six have places, three wait, one is refused
        ("answer", 0),
        ("reset", 1),  # it is tried elsewhere, before those who wait; its replica is out
        ("503", 0),  # that replica rests
        ("wait", 0.3),
        ("drain", 2),
        ("answer", 2),
        ("answer", 1),
        ("proven", 0),
        ("proven", 1),
        ("drain", 2),
        *[("500", 0)] * 6,
        ("wait", 5.0),
        *[("arrive", 0)] * 3,
        ("wait", 11.0),
        *[("answer", 0)] * 9,
    ]
    gateway, simulator = await both(script)
    assert gateway == simulator
    seen = {state for where, _, _ in gateway for state in where}
    assert {"a", "b", "c", "waits", "refused", "answered"} <= seen
    assert any(state[0] == "evicted" for _, states, _ in gateway for state in states.values())
    assert any(state[1] for _, states, _ in gateway for state in states.values()), "one rested"


STEPS = st.one_of(
    st.tuples(st.just("arrive"), st.just(0)),
    st.tuples(st.sampled_from(["answer", "503", "500", "reset"]), st.integers(0, 5)),
    st.tuples(st.sampled_from(["drain", "proven"]), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 0.3, 2.0, 11.0])),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=60))
def test_any_script_gives_one_decision_log(script: list[Step]) -> None:
    gateway, simulator = asyncio.run(both(script))
    assert gateway == simulator
