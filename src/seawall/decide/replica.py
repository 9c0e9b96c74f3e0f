"""The life of one replica as a table, and how long each part of it may take.

    starting --listens--> proving --proved--> ready --drain--> draining --exited--> stopped
        |                    |                  |
        |                    |                  |   ready --doze--> dozing --slept--> asleep --wake--> proving
        +--exited, overdue---+---exited, stalled+--> failed --retry--> starting

Pure: time is an argument, the caller (who runs processes or simulates them) acts on the phases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal


class Phase(StrEnum):
    """Where a replica is in its life."""

    STARTING = "starting"
    PROVING = "proving"
    """Listens, and has not yet generated a token."""
    READY = "ready"
    DRAINING = "draining"
    DOZING = "dozing"
    """Finishes what runs, then sleeps."""
    ASLEEP = "asleep"
    """vLLM's sleep mode: the process lives, its GPU memory is given back."""
    FAILED = "failed"
    """Waiting out its back-off."""
    STOPPED = "stopped"


class Event(StrEnum):
    """What can happen to a replica."""

    LISTENS = "listens"
    PROVED = "proved"
    EXITED = "exited"
    OVERDUE = "overdue"
    STALLED = "stalled"
    DRAIN = "drain"
    RETRY = "retry"
    DOZE = "doze"
    SLEPT = "slept"
    WAKE = "wake"


TABLE: dict[tuple[Phase, Event], Phase] = {
    (Phase.STARTING, Event.LISTENS): Phase.PROVING,
    (Phase.STARTING, Event.EXITED): Phase.FAILED,
    (Phase.STARTING, Event.OVERDUE): Phase.FAILED,
    (Phase.STARTING, Event.DRAIN): Phase.DRAINING,
    (Phase.PROVING, Event.PROVED): Phase.READY,
    (Phase.PROVING, Event.EXITED): Phase.FAILED,
    (Phase.PROVING, Event.OVERDUE): Phase.FAILED,
    (Phase.PROVING, Event.DRAIN): Phase.DRAINING,
    (Phase.READY, Event.EXITED): Phase.FAILED,
    (Phase.READY, Event.STALLED): Phase.FAILED,
    (Phase.READY, Event.DRAIN): Phase.DRAINING,
    (Phase.DRAINING, Event.EXITED): Phase.STOPPED,
    (Phase.READY, Event.DOZE): Phase.DOZING,
    (Phase.DOZING, Event.SLEPT): Phase.ASLEEP,
    (Phase.DOZING, Event.EXITED): Phase.FAILED,
    (Phase.DOZING, Event.STALLED): Phase.FAILED,
    (Phase.DOZING, Event.DRAIN): Phase.DRAINING,
    (Phase.ASLEEP, Event.WAKE): Phase.PROVING,
    (Phase.ASLEEP, Event.EXITED): Phase.FAILED,
    (Phase.ASLEEP, Event.DRAIN): Phase.DRAINING,
    (Phase.FAILED, Event.RETRY): Phase.STARTING,
    (Phase.FAILED, Event.DRAIN): Phase.STOPPED,
}


@dataclass(frozen=True, kw_only=True)
class LifePolicy:
    """How patient to be. Times are seconds."""

    startup_s: float = 900.0
    """From start to the first token. vLLM took 31-95 s on a quiet machine and over 300 s on a busy one."""
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    stable_s: float = 120.0
    """Ready for so long, earlier failures are forgotten."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """One replica's phase, since when, and why."""

    phase: Phase
    since_s: float
    reason: str
    failures: int = 0
    """In a row."""
    retry_at_s: float = 0.0
    born_s: float = 0.0
    """When the present start, or waking, began."""


def born(now: float, reason: str) -> Life:
    return Life(phase=Phase.STARTING, since_s=now, reason=reason, born_s=now)


def can(life: Life, event: Event) -> bool:
    """The table has a row for it."""
    return (life.phase, event) in TABLE


def step(life: Life, event: Event, now: float, policy: LifePolicy, why: str) -> Life:
    """The life after `event`. KeyError when the table has no such row: a bug of the caller."""
    phase = TABLE[life.phase, event]
    after = replace(life, phase=phase, since_s=now, reason=why)
    if phase is Phase.FAILED:
        stable = life.phase is Phase.READY and now - life.since_s >= policy.stable_s
        failures = 1 if stable else life.failures + 1
        wait = min(policy.backoff_max_s, policy.backoff_first_s * 2 ** min(failures - 1, 30))
        return replace(after, failures=failures, retry_at_s=now + wait)
    if phase is Phase.STARTING or event is Event.WAKE:
        return replace(after, born_s=now)
    return after


def due(life: Life, now: float, policy: LifePolicy) -> Literal[Event.OVERDUE, Event.RETRY] | None:
    """What the passing of time alone makes happen now."""
    if life.phase in (Phase.STARTING, Phase.PROVING) and now - life.born_s > policy.startup_s:
        return Event.OVERDUE
    if life.phase is Phase.FAILED and now >= life.retry_at_s:
        return Event.RETRY
    return None
