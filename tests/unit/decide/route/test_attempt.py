"""What becomes of a request whose replica failed it: retries, resumes, hedges, poison, hangs, as scripts. And the
picture in the docs is the table."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from seawall.decide.route import resume
from seawall.decide.route.admit import Ticket
from seawall.decide.route.attempt import (
    MEANING,
    TABLE,
    VERDICT_S,
    Attempt,
    AttemptEvent,
    AttemptPhase,
    AwaitVerdict,
    Fail,
    Judgement,
    Limits,
    Send,
    Switch,
)
from seawall.decide.route.breaks import Blame, Break
from seawall.decide.route.pick import Ask, Target
from seawall.domain.seen import Replica

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "gateway.md"
LIMITS = Limits("f", retries=2, first_byte_s=120.0, stall_s=20.0)
RESET = Break("reset", "connection reset", Blame.DEATH)
BUSY = Break("503", "answered 503", Blame.FULL)
RACE = Break("keepalive", "connection closed", Blame.NOTHING)
WAY = {
    AttemptPhase.CONNECTING: (AttemptEvent.PLACED,),
    AttemptPhase.SENT: (AttemptEvent.PLACED, AttemptEvent.CONNECTED),
    AttemptPhase.HOLDING: (AttemptEvent.PLACED, AttemptEvent.CONNECTED, AttemptEvent.ANSWERED),
    AttemptPhase.OPENED: (AttemptEvent.PLACED, AttemptEvent.CONNECTED, AttemptEvent.OPENED),
    AttemptPhase.STREAMING: (
        AttemptEvent.PLACED,
        AttemptEvent.CONNECTED,
        AttemptEvent.OPENED,
        AttemptEvent.FLOWED,
    ),
}


class Told:
    """A stream that answers as it is told."""

    def __init__(self, *answers: resume.Decision) -> None:
        self.answers = list(answers)
        self.full: list[bool] = []

    def broken(self, reason: str, now: float, *, full: bool = False, counts: bool = True) -> resume.Decision:
        self.full.append(full)
        return self.answers.pop(0)


RETRY = resume.Retry(path="/v1/completions", body=b"rest", reason="")


def attempt_at(phase: AttemptPhase, stream: Any = None, begun: bool = False) -> Attempt:
    attempt = Attempt(Ticket(Ask(1)), stream, b"/v1/chat/completions", b"first", LIMITS)
    move(attempt, phase)
    attempt.begun = begun
    return attempt


def move(attempt: Attempt, phase: AttemptPhase) -> None:
    for event in WAY[phase]:
        attempt.on(event)


def broke(attempt: Attempt, what: Break, now: float = 0.0) -> Any:
    """As the desk and the attempt are told."""
    if what.blame is not Blame.NOTHING:
        ticket = attempt.ticket
        ticket.ask = ticket.ask.but(avoid=(*ticket.ask.avoid, f"r{len(ticket.ask.avoid)}"))
    return attempt.broke(what, now, 7)


def test_before_the_client_has_anything_it_is_tried_elsewhere_as_often_as_the_spec_says() -> None:
    attempt = attempt_at(AttemptPhase.SENT)
    for _ in range(LIMITS.retries):
        assert broke(attempt, RESET) == Send(b"/v1/chat/completions", b"first", False)
        assert attempt.phase is AttemptPhase.WAITING
        move(attempt, AttemptPhase.CONNECTING)
    fail = broke(attempt, RESET)
    assert isinstance(fail, Fail) and fail.refusal.code == "upstream_lost"
    assert "3 replicas failed this request, the last with: connection reset" in fail.refusal.message
    assert (attempt.retried, attempt.resumed) == (LIMITS.retries, 0)


def test_a_lost_race_for_an_idle_connection_costs_no_retry() -> None:
    attempt = attempt_at(AttemptPhase.SENT)
    for _ in range(10):
        assert isinstance(broke(attempt, RACE), Send)
        move(attempt, AttemptPhase.SENT)


def test_when_every_replica_is_full_the_client_is_told_when_to_come_back() -> None:
    attempt = attempt_at(AttemptPhase.HOLDING)
    for _ in range(LIMITS.retries):
        broke(attempt, BUSY)
        move(attempt, AttemptPhase.HOLDING)
    fail = broke(attempt, BUSY)
    assert (fail.refusal.status, fail.refusal.code, fail.refusal.retry_after_s) == (503, "overloaded", 7)


def test_a_stream_that_has_begun_goes_on_with_what_its_session_says_and_may_be_retried_anew() -> None:
    attempt = attempt_at(AttemptPhase.STREAMING, Told(RETRY, RETRY), begun=True)
    assert broke(attempt, RESET) == Send(b"/v1/completions", b"rest", True)
    for _ in range(LIMITS.retries):  # the continuation finds no replica: these are retries of it
        move(attempt, AttemptPhase.CONNECTING)
        assert broke(attempt, RESET) == Send(b"/v1/completions", b"rest", True)
    move(attempt, AttemptPhase.STREAMING)
    assert isinstance(broke(attempt, RESET), Send) and attempt.resumed == 2
    move(attempt, AttemptPhase.CONNECTING)
    assert isinstance(broke(attempt, RESET), Send), "each resume has its own retries"


def test_a_stream_of_which_only_the_end_is_missing_is_ended() -> None:
    attempt = attempt_at(AttemptPhase.STREAMING, Told(resume.Finish(event=b"end", reason="")), begun=True)
    assert broke(attempt, RESET) == resume.Finish(event=b"end", reason="")


def test_a_stream_that_cannot_go_on_fails_with_its_own_event() -> None:
    attempt = attempt_at(
        AttemptPhase.STREAMING, Told(resume.GiveUp(event=b"sorry", reason="off")), begun=True
    )
    fail = broke(attempt, RESET)
    assert fail.event == b"sorry" and fail.refusal.code == "upstream_lost"


def test_a_huge_answer_that_breaks_on_its_way_out_is_lost() -> None:
    attempt = attempt_at(AttemptPhase.HOLDING)
    attempt.on(AttemptEvent.FLOWED)
    attempt.begun = True
    assert isinstance(broke(attempt, RESET), Fail)


def test_a_convict_waits_for_its_verdict() -> None:
    attempt = attempt_at(AttemptPhase.SENT)
    attempt.ticket.convicted = True
    assert broke(attempt, RESET) == AwaitVerdict(VERDICT_S, False)
    assert attempt.verdict(False) == Send(b"/v1/chat/completions", b"first", False)
    attempt.ticket.convicted = True
    fail = attempt.verdict(True)
    assert isinstance(fail, Fail) and fail.refusal.code == "poison_request"


def test_a_second_attempt_that_is_under_way_goes_on() -> None:
    attempt = attempt_at(AttemptPhase.SENT)
    attempt.ticket.second = Target(Replica(name="b", fleet="f", url="http://b"), 1)
    assert broke(attempt, RESET) == Switch()
    attempt.took_over(connected=True, opened=True)
    assert attempt.phase is AttemptPhase.OPENED and attempt.retried == 0


def test_the_second_attempt_may_overtake_the_first_wherever_both_are() -> None:
    for first, (connected, opened) in itertools.product(
        (AttemptPhase.CONNECTING, AttemptPhase.SENT, AttemptPhase.OPENED),
        ((False, False), (True, False), (True, True)),
    ):
        attempt = attempt_at(first)
        attempt.took_over(connected, opened)
        assert attempt.phase is (
            AttemptPhase.OPENED if opened else AttemptPhase.SENT if connected else AttemptPhase.CONNECTING
        )


@pytest.mark.parametrize(
    ("verdict", "kind", "blame"),
    [
        (Judgement.BUSY, "503", Blame.FULL),
        (Judgement.DEAD, "dead", Blame.DEATH),
        (Judgement.DRAINING, "drain", Blame.BROKEN),
        (Judgement.ABORTED, "drain", Blame.BROKEN),
    ],
)
def test_an_answer_that_shows_the_replicas_state_is_a_break(
    verdict: Judgement, kind: str, blame: Blame
) -> None:
    found = attempt_at(AttemptPhase.HOLDING).answered(verdict, 500, False, False, 0.0)
    assert isinstance(found, Break) and (found.kind, found.blame) == (kind, blame)


def test_an_error_is_asked_of_two_others_and_then_it_is_the_answer() -> None:
    attempt = attempt_at(AttemptPhase.HOLDING)
    for _ in range(2):
        found = attempt.answered(Judgement.PASS, 500, False, False, 0.0)
        assert isinstance(found, Break) and found.kind == "5xx"
        broke(attempt, found)
        move(attempt, AttemptPhase.HOLDING)
    assert attempt.answered(Judgement.PASS, 500, False, False, 0.0) is None
    assert attempt_at(AttemptPhase.HOLDING).answered(Judgement.PASS, 400, False, False, 0.0) is None


def test_a_400_that_says_that_the_engine_computes_nan_is_an_error_of_the_engine() -> None:
    found = attempt_at(AttemptPhase.HOLDING).answered(Judgement.SENSELESS, 400, False, False, 0.0)
    assert isinstance(found, Break) and found.kind == "5xx"


def test_an_error_that_is_known_to_be_the_prompts_own_is_the_answer() -> None:
    assert attempt_at(AttemptPhase.HOLDING).answered(Judgement.PASS, 500, False, True, 0.0) is None
    found = attempt_at(AttemptPhase.HOLDING).answered(Judgement.DEAD, 500, False, True, 0.0)
    assert isinstance(found, Break), "a death is never the prompt's"


def test_a_continuation_that_does_not_fit_the_context_is_the_proper_end() -> None:
    stream = Told(resume.Finish(event=b"length", reason=""))
    attempt = attempt_at(AttemptPhase.HOLDING, stream, begun=True)
    assert attempt.answered(Judgement.PASS, 400, True, False, 0.0) == resume.Finish(
        event=b"length", reason=""
    ) and stream.full == [True]
    found = attempt_at(AttemptPhase.HOLDING, Told(), begun=True).answered(
        Judgement.PASS, 404, False, False, 0.0
    )
    assert isinstance(found, Fail) and "answered with 404" in found.refusal.message


def test_the_gateways_own_key_is_not_the_clients_fault() -> None:
    found = attempt_at(AttemptPhase.HOLDING).answered(Judgement.LOCKED, 401, False, False, 0.0)
    assert isinstance(found, Fail) and found.refusal.code == "upstream_auth"


@pytest.mark.parametrize(
    ("phase", "begun", "limit"),
    [
        (AttemptPhase.SENT, False, 120.0),
        (AttemptPhase.HOLDING, False, 120.0),
        (AttemptPhase.OPENED, False, 120.0),
        (AttemptPhase.SENT, True, 20.0),
        (AttemptPhase.STREAMING, True, 20.0),
    ],
)
def test_silence_is_a_hang_after_the_specs_time_and_blames_a_replica_that_is_wholly_silent(
    phase: AttemptPhase, begun: bool, limit: float
) -> None:
    attempt = attempt_at(phase, Told(), begun)
    assert attempt.silent(limit, limit) is None
    alone, whole = attempt.silent(limit + 1, limit / 2), attempt.silent(limit + 1, limit + 1)
    assert alone is not None and (alone.kind, alone.blame) == ("hang", Blame.ELSEWHERE)
    assert whole is not None and whole.blame is Blame.BROKEN and f"{limit:g} s" in whole.reason


def test_who_waits_does_not_hang() -> None:
    attempt = Attempt(Ticket(Ask(1)), None, b"", b"", LIMITS)
    assert attempt.silent(1e9, 1e9) is None
    move(attempt, AttemptPhase.CONNECTING)
    assert attempt.silent(1e9, 1e9) is None


def test_who_waited_too_long_is_told_why() -> None:
    fresh = Attempt(Ticket(Ask(1)), None, b"", b"", LIMITS)
    assert fresh.waited(60.0, True, 9).refusal[:2] == (429, "queue_timeout")
    assert fresh.waited(60.0, True, 9).refusal.retry_after_s == 9
    assert fresh.waited(60.0, False, 9).refusal[:2] == (503, "no_replica")
    assert attempt_at(AttemptPhase.STREAMING, begun=True).waited(60.0, False, 9).refusal[:2] == (
        502,
        "upstream_lost",
    )


def test_no_event_happens_where_the_table_has_no_line() -> None:
    for phase, event in itertools.product(AttemptPhase, AttemptEvent):
        attempt = Attempt(Ticket(Ask(1)), None, b"", b"", LIMITS)
        attempt.phase = phase
        if (phase, event) in TABLE:
            attempt.on(event)
            assert attempt.phase is TABLE[phase, event]
        else:
            with pytest.raises(AssertionError, match=event.name):
                attempt.on(event)


def test_every_phase_can_be_reached_and_left_for_good() -> None:
    def reach(start: AttemptPhase) -> set[AttemptPhase]:
        seen, todo = set(), [start]
        while todo:
            now = todo.pop()
            todo += [then for (phase, _), then in TABLE.items() if phase is now and then not in seen]
            seen |= {then for (phase, _), then in TABLE.items() if phase is now}
        return seen

    assert reach(AttemptPhase.WAITING) >= set(AttemptPhase)
    assert all(AttemptPhase.OVER in reach(phase) for phase in AttemptPhase if phase is not AttemptPhase.OVER)
    assert not reach(AttemptPhase.OVER)


def drawn() -> str:
    """The table as the docs show it."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {phase.name.lower()}: {phase.name.lower()}<br>{MEANING[phase]}" for phase in AttemptPhase]
    lines += [
        f"    {a.name.lower()} --> {b.name.lower()}: {event.name.lower()}" for (a, event), b in TABLE.items()
    ]
    return "\n".join([*lines, "```"])


def test_the_picture_in_the_docs_is_the_table() -> None:
    assert drawn() in PAGE.read_text("utf-8"), f"put this into {PAGE.name}:\n{drawn()}"
