"""How far long work is: counted, with what is left, on a terminal and in a log."""

from __future__ import annotations

from seawall.cli.progress import Steps, left


def test_what_is_left_is_told_once_something_is_finished() -> None:
    now = [0.0]
    steps = Steps(15, "scenario", lambda: now[0])
    steps.say("kill: running")
    assert steps.line() == "0/15 scenarios: kill: running"
    for _ in range(3):
        now[0] += 20
        steps.done()
    steps.say("drain: running")
    assert steps.line() == "3/15 scenarios, about 4 min left: drain: running"
    assert Steps(1, "scenario", lambda: 0.0).line() == "0/1 scenario"


def test_nobody_is_told_zero_seconds_or_a_negative_time() -> None:
    assert left(5.0, 99, 100) == ", about 10 s left"
    assert left(5.0, 0, 100) == left(5.0, 100, 100) == left(5.0, 101, 100) == ""
