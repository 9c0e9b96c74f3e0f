"""Odd prompts: asked again of nobody who has refused them, and of everybody who might answer."""

from __future__ import annotations

from random import Random

import pytest

from seawall.decide.route.admit import Bounds, Ticket
from seawall.decide.route.attempt import SECOND_OPINIONS, Attempt, AttemptEvent, Judgement, Limits, Send
from seawall.decide.route.breaks import Break
from seawall.decide.route.desk import Desk, DeskRules
from seawall.decide.route.odd import MOST, ODD_S, OddPrompts, prompt_mark
from seawall.decide.route.pick import Ask, Target
from seawall.domain.seen import Replica


def desk_of(*names: str) -> Desk:
    desk = Desk(DeskRules(8, Bounds(4), 10.0, None), Random(1))
    discover(desk, *names)
    return desk


def discover(desk: Desk, *names: str) -> None:
    desk.discovered([Replica(name=n, fleet="f", url=f"http://{n}") for n in names])


def asked(desk: Desk, now: float = 0.0, mark: bytes = b"odd", good: str = "") -> list[str]:
    """The replicas that one request went to, which all but `good` answer with 5xx."""
    ticket = Ticket(Ask(10))
    desk.offer(ticket, now)
    attempt = Attempt(ticket, None, b"/v1/completions", b"{}", Limits("f", 2, None, None))
    visited: list[str] = []
    while True:
        target = ticket.target
        assert target is not None
        visited.append(target.name)
        for event in (AttemptEvent.PLACED, AttemptEvent.CONNECTED, AttemptEvent.ANSWERED):
            attempt.on(event)
        if target.name == good:
            desk.served(target)
            break
        settled = desk.settled(ticket, mark, now)
        found = attempt.answered(Judgement.PASS, 500, False, settled, now)
        if found is None:
            desk.erred(target, mark, now)
            break
        assert isinstance(found, Break)
        desk.broke(ticket, found._replace(mark=mark), now)
        assert isinstance(attempt.broke(found, now, 1), Send)
        assert desk.again(ticket, now) is not None
    desk.left(ticket, now)
    return visited


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_what_all_have_refused_is_asked_once_and_after_a_while_again(replicas: int) -> None:
    desk = desk_of(*"abc"[:replicas])
    assert len(asked(desk)) == 1 + SECOND_OPINIONS
    assert [len(asked(desk, now)) for now in (0.1, 1.0, 2.0)] == [1, 1, 1]
    assert all(t.state == "ready" for t in desk.router.targets.values())
    assert len(asked(desk, 2.1 + ODD_S)) == 1 + SECOND_OPINIONS


def test_of_many_replicas_each_is_asked_before_the_prompt_is_given_up() -> None:
    desk = desk_of(*"abcdef")
    seen: set[str] = set()
    for _ in range(20):
        seen.update(asked(desk))
    assert seen == set("abcdef") and len(asked(desk)) == 1


def test_one_that_is_new_answers_it_whoever_refused_it_before() -> None:
    desk = desk_of("a", "b")
    for _ in range(3):
        asked(desk)
    discover(desk, "a", "b", "c")
    for now in range(9):
        assert asked(desk, float(now), good="c")[-1] == "c"


def test_one_that_has_proved_itself_since_is_asked_again() -> None:
    desk = desk_of("a", "b")
    asked(desk)
    b = desk.router.targets["b"]
    desk.evict(b, "dead")
    desk.proven(b, 1.0)
    for now in (2.0, 3.0, 4.0):
        assert asked(desk, now, good="b")[-1] == "b"


def test_one_that_fails_other_prompts_too_gets_no_last_word() -> None:
    desk = desk_of("a", "b")
    asked(desk), asked(desk, mark=b"another")
    assert len(asked(desk)) > 1, "both may be ill"


def test_what_is_remembered_is_bounded_and_marks_are_of_prompts() -> None:
    odd = OddPrompts()
    target = Target(Replica(name="a", fleet="f", url="http://a"), 1)
    for n in range(2 * MOST):
        odd.note(b"%d" % n, target, 0.0)
    assert len(odd) == MOST
    path = b"/v1/completions"
    same = {prompt_mark(path, body) for body in (b'{"prompt":"a"}', b'{"seed":1,"prompt":"a","stream":true}')}
    assert len(same) == 1
    others = [
        b'{"prompt":"b"}',
        b'{"messages":"a"}',
        b"no json",
        b'{"n":1}',
        b"[" * 5000,
        b'{"prompt":"\xff"}',
    ]
    assert len(same | {prompt_mark(path, body) for body in others}) == 1 + len(others)
