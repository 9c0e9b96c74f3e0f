"""The desk as stories: who gets a place, who waits, which replica is out. No sockets, a clock that is told."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seawall.decide.route.admit import DUE, LEAST, SPARE, Bounds, Queued, Rejected, Ticket
from seawall.decide.route.breaks import Blame, Break
from seawall.decide.route.desk import BURST, ERRORS_IN_A_ROW, REST_S, Desk, DeskRules
from seawall.decide.route.pick import Ask, Picked, Target
from seawall.domain.seen import Replica

RESET = Break("reset", "connection reset", Blame.DEATH)
ERROR = Break("5xx", "answered 500", Blame.ERROR)
BUSY = Break("503", "answered 503", Blame.FULL)
RACE = Break("keepalive", "connection closed", Blame.NOTHING)


def desk_of(*names: str, cap: int = 2, queue_s: float = 10.0, hedge_s: float | None = None) -> Desk:
    desk = Desk(DeskRules(cap, Bounds(4), queue_s, hedge_s), Random(1))
    desk.discovered(replicas(*names))
    return desk


def replicas(*names: str, draining: str = "") -> list[Replica]:
    return [Replica(name=n, fleet="f", url=f"http://{n}", draining=n == draining) for n in names]


def placed(desk: Desk, now: float = 0.0) -> Ticket:
    ticket = Ticket(Ask(10))
    assert isinstance(desk.offer(ticket, now), Picked)
    return ticket


def target(desk: Desk, name: str) -> Target:
    return desk.router.targets[name]


def test_places_then_the_queue_then_a_refusal() -> None:
    desk = desk_of("a")
    first, second = placed(desk), placed(desk)
    waiting = [Ticket(Ask(10)) for _ in range(4)]
    assert all(isinstance(desk.offer(t, 0.0), Queued) for t in waiting)
    refused = Ticket(Ask(10))
    assert isinstance(desk.offer(refused, 0.0), Rejected) and refused not in desk.tickets
    desk.left(first, 1.0)
    assert [p.ticket for p in desk.tick(1.0).placed] == [waiting[0]]
    desk.left(second, 2.0)
    desk.left(waiting[1], 2.0)
    assert [p.ticket for p in desk.pump(2.0)] == [waiting[2]], "whoever left while waiting is passed over"


def test_who_waits_too_long_is_told_and_stays_known_until_it_left() -> None:
    desk = desk_of("a", cap=1)
    placed(desk)
    late, patient = Ticket(Ask(10), deadline=3.0), Ticket(Ask(10))
    desk.offer(late, 0.0)
    desk.offer(patient, 0.0)
    assert desk.tick(2.9).late == []
    assert desk.tick(3.3).late == [late] and late in desk.tickets
    desk.left(late, 3.3)
    assert desk.tick(10.3).late == [patient], "the fleet's own bound is for who brings no deadline"


def test_the_loss_of_the_last_replica_is_borne_until_somebody_can_have_said_that_it_comes_back() -> None:
    """Seen on real vLLM on a busy machine: its supervisor told of the restart 2 s after the gateway had lost it."""
    desk = desk_of("a", queue_s=2.0)
    lost = placed(desk, 100.0)
    desk.tick(100.0)
    desk.broke(lost, RESET, 100.1)
    assert desk.again(lost, 100.1) is None
    new = Ticket(Ask(10))
    desk.offer(new, 101.0)
    for now in (102.2, 103.2, 104.3):
        assert desk.tick(now).late == []
    desk.discovered([], coming=True)
    assert not any(desk.tick(now).late for now in range(105, 160)), "it is known now, and waited for"
    desk.discovered([], coming=False)
    assert {t for now in range(160, 166) for t in desk.tick(now).late} == {lost, new}, "nobody brings it back"


def test_while_a_fleet_comes_back_only_its_own_deadline_ends_a_requests_wait() -> None:
    desk = desk_of("a", queue_s=2.0)
    begun = placed(desk, 100.0)
    desk.tick(100.0)
    desk.broke(begun, RESET, 100.1)
    begun.begun = True
    assert desk.again(begun, 100.1) is None
    desk.discovered([], coming=True)
    new, patient = Ticket(Ask(10), deadline=149.5), Ticket(Ask(10))
    desk.offer(new, 101.0)
    desk.offer(patient, 101.0)
    late = {now: desk.tick(float(now)).late for now in range(102, 400)}
    assert {now: tickets for now, tickets in late.items() if tickets} == {150: [new]}


def test_a_fleet_that_never_served_is_not_waited_for() -> None:
    desk = desk_of(queue_s=2.0)
    ticket = Ticket(Ask(10))
    desk.offer(ticket, 100.0)
    assert desk.tick(102.5).late == [ticket]


def test_a_broken_request_goes_elsewhere_before_everybody() -> None:
    desk = desk_of("a", "b", cap=1)
    first, _second = placed(desk), placed(desk)
    waiting = Ticket(Ask(10))
    desk.offer(waiting, 0.0)
    was = first.target
    assert was is not None and desk.broke(first, RESET, 1.0) and was.state == "evicted"
    picked = desk.again(first, 1.0)
    assert picked is not None and picked.target is not was, "a tenth, and at least one, above the cap"
    assert desk.pump(1.0) == []


def test_when_nobody_else_could_serve_it_who_failed_it_may_try_again() -> None:
    desk = desk_of("a")
    only = placed(desk)
    desk.broke(only, ERROR, 0.0)
    picked = desk.again(only, 0.0)
    assert picked is not None and picked.target.name == "a"


def test_while_another_is_merely_full_who_failed_it_is_not_asked_again() -> None:
    desk = desk_of("a", "b", cap=1)
    ticket, other = placed(desk), placed(desk)
    spare = Ticket(Ask(10, urgent=True))
    assert other.target is not None
    desk.router.start(other.target, spare.ask)  # also the place above the cap is taken
    desk.broke(ticket, ERROR, 0.0)
    assert desk.again(ticket, 0.0) is None
    desk.left(other, 1.0)
    desk.router.end(target(desk, "b" if ticket.ask.avoid == ("a",) else "a"), spare.ask)
    assert [p.picked.target.name for p in desk.pump(1.0)] != list(ticket.ask.avoid)


def test_a_broken_request_waits_no_longer_than_the_queue_allows() -> None:
    desk = desk_of("a")
    ticket = placed(desk)
    desk.broke(ticket, RESET, 5.0)
    assert desk.again(ticket, 5.0) is None
    assert desk.tick(14.9).late == [] and desk.tick(15.3).late == [ticket]


def test_a_replica_that_is_full_rests_for_a_moment() -> None:
    desk = desk_of("a", "b")
    ticket = placed(desk)
    was = ticket.target
    assert was is not None and not desk.broke(ticket, BUSY, 0.0)
    assert was.state == "ready" and was.resting and desk.waits
    assert desk.again(ticket, 0.0) is not None and ticket.target is not was
    desk.tick(REST_S)
    assert not was.resting


def test_errors_in_a_row_take_a_replica_out_and_one_good_answer_between_does_not() -> None:
    desk = desk_of("a")
    a = target(desk, "a")
    for n in range(ERRORS_IN_A_ROW - 1):
        assert not desk.erred(a, b"%d" % n, 0.0)
    desk.served(a)
    assert [desk.erred(a, b"%d" % n, 0.0) for n in range(ERRORS_IN_A_ROW)] == [False] * (
        ERRORS_IN_A_ROW - 1
    ) + [True]
    assert desk.proven(a, 9.0) and a.state == "ready" and not a.errors
    assert not any(desk.erred(a, b"the same", 0.0) for _ in range(99)), (
        "one request says nothing about the replica"
    )


def test_a_lost_race_for_an_idle_connection_says_nothing() -> None:
    desk = desk_of("a")
    ticket = placed(desk)
    assert not desk.broke(ticket, RACE, 0.0)
    assert ticket.ask.avoid == () and target(desk, "a").state == "ready"


def test_of_two_deaths_the_one_that_waited_at_both_is_convicted_unless_a_replica_proves_itself() -> None:
    desk = desk_of("a", "b", "c")
    poison = placed(desk)
    for _ in range(2):
        poison.awaits = True
        desk.broke(poison, RESET, 1.0)
        if not poison.convicted:
            desk.again(poison, 1.0)
    assert poison.convicted
    desk.convict(poison, 2.0)
    assert desk.waits and desk.tick(1.9).verdicts == [] and desk.tick(2.0).verdicts == [poison]
    assert desk.died_of(poison, 0.0) is None, "resets are no evidence of a death"
    first, second = (target(desk, name) for name in poison.ask.avoid)
    desk.died(first, 1.5)
    assert desk.died_of(poison, 0.0) is None, "of both it takes evidence"
    desk.died(second, 1.5)
    assert desk.died_of(poison, 0.0) is True
    desk.proven(first, 2.0)
    desk.evict(first, "reset")
    assert desk.died_of(poison, 0.0) is False, "it gave a token since: only its connection had broken"
    desk.discovered(replicas("c"))
    assert desk.died_of(poison, 3.0) is True, "both have left"


def test_a_late_first_token_is_asked_of_a_second_replica_within_the_budget() -> None:
    desk = desk_of("a", "b", cap=4, hedge_s=0.5)
    ticket = placed(desk)
    ticket.awaits = True
    desk.watch(ticket, 0.0)
    assert desk.tick(0.4).seconds == []
    (second,) = desk.tick(0.5).seconds
    assert second.picked.target is ticket.second is not ticket.target
    desk.take_second(ticket)
    assert ticket.target is second.picked.target and ticket.second is None
    assert desk.router.in_flight == 1 and desk.credit < 1
    other = placed(desk)
    other.awaits = True
    desk.watch(other, 1.0)
    assert desk.tick(2.0).seconds == [], "the budget is spent"
    desk.credit = BURST
    desk.watch(other, 2.0)
    other.awaits = False
    assert desk.tick(3.0).seconds == [], "it has a token by now"


def test_a_drained_replica_takes_nothing_and_keeps_what_it_has() -> None:
    desk = desk_of("a", "b")
    ticket = placed(desk)
    was = ticket.target
    assert was is not None
    desk.discovered(replicas("a", "b", draining=was.name))
    assert all(placed(desk).target is not was for _ in range(2)) and was.in_flight == 1


class Forgetful(RuleBasedStateMachine):
    """Whatever happens in whatever order: nobody is forgotten, and every place is given back."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = desk_of("a", "b", "c", hedge_s=0.2)
        self.now = 0.0
        self.known: set[Ticket] = set()
        self.convicts: set[Ticket] = set()

    def _at_replica(self) -> list[Ticket]:
        return sorted((t for t in self.known if t.target), key=id)

    @rule(tokens=st.integers(1, 100), urgent=st.booleans(), patience=st.sampled_from([1.0, 30.0]))
    def arrive(self, tokens: int, urgent: bool, patience: float) -> None:
        ticket = Ticket(Ask(tokens), deadline=self.now + patience)
        found = self.desk.offer(ticket, self.now)
        if not isinstance(found, Rejected):
            self.known.add(ticket)
        if isinstance(found, Picked):
            ticket.awaits = True
            self.desk.watch(ticket, self.now)

    @rule(n=st.integers(0, 20))
    def leave(self, n: int) -> None:
        if self.known:
            ticket = sorted(self.known, key=id)[n % len(self.known)]
            self.known.discard(ticket)
            self.convicts.discard(ticket)
            self.desk.left(ticket, self.now)

    @rule(n=st.integers(0, 20), what=st.sampled_from([RESET, ERROR, BUSY, RACE]))
    def break_one(self, n: int, what: Break) -> None:
        there = self._at_replica()
        if not there:
            return
        ticket = there[n % len(there)]
        self.desk.broke(ticket, what, self.now)
        if ticket.second is not None:
            self.desk.take_second(ticket)
        elif ticket.convicted:
            self.convicts.add(ticket)
            self.desk.convict(ticket, self.now + 1.0)
        else:
            self.desk.again(ticket, self.now)

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        tick = self.desk.tick(self.now)
        for ticket in tick.late:
            self.known.discard(ticket)
            self.desk.left(ticket, self.now)
        for ticket in tick.verdicts:
            self.convicts.discard(ticket)
            ticket.convicted = False
            self.desk.again(ticket, self.now)

    @rule(name=st.sampled_from("abc"))
    def prove(self, name: str) -> None:
        if name in self.desk.router.targets:
            self.desk.proven(target(self.desk, name), self.now)

    @rule(names=st.sets(st.sampled_from("abc")), draining=st.sampled_from(["", "a", "b"]))
    def discover(self, names: set[str], draining: str) -> None:
        self.desk.discovered(replicas(*sorted(names), draining=draining))
        self.desk.pump(self.now)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        desk = self.desk
        assert desk.tickets == self.known
        somewhere = [t for t in self.known if t.target or t.bucket >= 0 or t in self.convicts]
        assert len(somewhere) == len(self.known)
        assert sum(t.bucket >= 0 for t in self.known) == desk.admission.queued
        places = sum(t.target is not None for t in self.known) + sum(t.second is not None for t in self.known)
        assert places == desk.router.in_flight
        for t in desk.router.targets.values():
            assert 0 <= t.in_flight <= t.cap + 1


TestForgetful = Forgetful.TestCase
TestForgetful.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("cap", [1, 5])
def test_a_new_cap_holds_at_once(cap: int) -> None:
    desk = desk_of("a", cap=2)
    placed(desk), placed(desk)
    assert not desk.router.free()
    desk.configure(DeskRules(cap))
    assert desk.router.free() is (cap > 2)


def line_at(desk: Desk) -> Ticket:
    """A line of a batch that has a place."""
    line = Ticket(Ask(10), priority=SPARE)
    assert not isinstance(desk.offer(line, 0.0), Rejected)
    return line


def test_the_line_that_has_run_the_least_gives_its_place_to_who_comes() -> None:
    desk = desk_of("a", cap=3)
    first, second = line_at(desk), line_at(desk)
    placed(desk)
    waits = Ticket(Ask(10))
    assert isinstance(desk.offer(waits, 1.0), Queued)
    assert desk.give_way(waits) is second
    desk.left(second, 1.0)
    assert [p.ticket for p in desk.pump(1.0)] == [waits]
    after = Ticket(Ask(10))
    desk.offer(after, 1.0)
    assert desk.give_way(after) is first and desk.give_way(after) is None, "each gives way once"


def test_no_line_gives_way_where_it_helps_nobody() -> None:
    desk = desk_of("a", cap=2)
    assert isinstance(line_at(desk).target, Target)
    placed(desk)
    for ask, priority in ((Ask(10), DUE), (Ask(10, only="b"), 5)):
        waits = Ticket(ask, priority=priority)
        desk.offer(waits, 1.0)
        assert desk.give_way(waits) is None


def test_lines_leave_a_place_for_who_comes_next() -> None:
    desk = desk_of("a", cap=4)
    for _ in range(3):
        line_at(desk)
    assert isinstance(desk.offer(Ticket(Ask(10), priority=SPARE), 0.0), Rejected)
    placed(desk)


def test_a_line_whose_time_is_short_gives_way_after_those_that_live_on_what_is_left() -> None:
    desk = desk_of("a", cap=4)
    due, spare = Ticket(Ask(10), priority=DUE), Ticket(Ask(10), priority=SPARE)
    assert isinstance(desk.offer(due, 0.0), Picked) and isinstance(desk.offer(spare, 0.0), Picked)
    placed(desk), placed(desk)
    first, second, third = Ticket(Ask(10), priority=LEAST), Ticket(Ask(10)), Ticket(Ask(10))
    for waits, line in ((first, spare), (second, due), (third, None)):
        desk.offer(waits, 1.0)
        assert desk.give_way(waits) is line


def test_lines_that_wait_stand_in_nobody_s_way_and_no_eighth_turn_is_theirs() -> None:
    desk = desk_of("a", cap=2)
    desk.configure(DeskRules(2, Bounds(40), 10.0))
    mine = [placed(desk), placed(desk)]
    lines = [Ticket(Ask(10), priority=DUE) for _ in range(3)]
    assert all(isinstance(desk.offer(line, 1.0), Queued) for line in lines)
    assert desk.admission.due == desk.admission.queued == 3
    desk.left(mine.pop(), 1.0)
    assert desk.pump(1.0) == [], "the last place is left for who comes next"
    after = Ticket(Ask(10))
    assert isinstance(desk.offer(after, 1.0), Picked)
    waiting = [Ticket(Ask(10)) for _ in range(12)]
    assert all(isinstance(desk.offer(ticket, 1.0), Queued) for ticket in waiting)
    desk.left(after, 2.0)
    served = []
    for _ in waiting:
        (at,) = desk.pump(2.0)
        served.append(at.ticket)
        desk.left(at.ticket, 2.0)
    assert served == waiting
