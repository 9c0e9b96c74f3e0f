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


class ReplicaPhase(StrEnum):
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
    """Waits until its back-off is over."""
    STOPPED = "stopped"


class LifeEvent(StrEnum):
    """An event in a replica's life."""

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


TABLE: dict[tuple[ReplicaPhase, LifeEvent], ReplicaPhase] = {
    (ReplicaPhase.STARTING, LifeEvent.LISTENS): ReplicaPhase.PROVING,
    (ReplicaPhase.STARTING, LifeEvent.EXITED): ReplicaPhase.FAILED,
    (ReplicaPhase.STARTING, LifeEvent.OVERDUE): ReplicaPhase.FAILED,
    (ReplicaPhase.STARTING, LifeEvent.DRAIN): ReplicaPhase.DRAINING,
    (ReplicaPhase.PROVING, LifeEvent.PROVED): ReplicaPhase.READY,
    (ReplicaPhase.PROVING, LifeEvent.EXITED): ReplicaPhase.FAILED,
    (ReplicaPhase.PROVING, LifeEvent.OVERDUE): ReplicaPhase.FAILED,
    (ReplicaPhase.PROVING, LifeEvent.DRAIN): ReplicaPhase.DRAINING,
    (ReplicaPhase.READY, LifeEvent.EXITED): ReplicaPhase.FAILED,
    (ReplicaPhase.READY, LifeEvent.STALLED): ReplicaPhase.FAILED,
    (ReplicaPhase.READY, LifeEvent.DRAIN): ReplicaPhase.DRAINING,
    (ReplicaPhase.DRAINING, LifeEvent.EXITED): ReplicaPhase.STOPPED,
    (ReplicaPhase.READY, LifeEvent.DOZE): ReplicaPhase.DOZING,
    (ReplicaPhase.DOZING, LifeEvent.SLEPT): ReplicaPhase.ASLEEP,
    (ReplicaPhase.DOZING, LifeEvent.EXITED): ReplicaPhase.FAILED,
    (ReplicaPhase.DOZING, LifeEvent.STALLED): ReplicaPhase.FAILED,
    (ReplicaPhase.DOZING, LifeEvent.DRAIN): ReplicaPhase.DRAINING,
    (ReplicaPhase.ASLEEP, LifeEvent.WAKE): ReplicaPhase.PROVING,
    (ReplicaPhase.ASLEEP, LifeEvent.EXITED): ReplicaPhase.FAILED,
    (ReplicaPhase.ASLEEP, LifeEvent.DRAIN): ReplicaPhase.DRAINING,
    (ReplicaPhase.FAILED, LifeEvent.RETRY): ReplicaPhase.STARTING,
    (ReplicaPhase.FAILED, LifeEvent.DRAIN): ReplicaPhase.STOPPED,
}


@dataclass(frozen=True, kw_only=True)
class LifePolicy:
    """Limits of each phase. Times are seconds."""

    startup_s: float = 900.0
    """Longest time from start to the first token. vLLM took 31-95 s on a quiet machine and over 300 s on a busy one."""
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    stable_s: float = 120.0
    """Seconds of being ready after which earlier failures are forgotten."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """One replica's phase, since when, and why."""

    phase: ReplicaPhase
    since_s: float
    reason: str
    failures: int = 0
    """Failures in a row."""
    retry_at_s: float = 0.0
    born_s: float = 0.0
    """Time at which the present start, or waking, began."""


def born(now: float, reason: str) -> Life:
    return Life(phase=ReplicaPhase.STARTING, since_s=now, reason=reason, born_s=now)


def can(life: Life, event: LifeEvent) -> bool:
    """Whether the table has a row for this event."""
    return (life.phase, event) in TABLE


def step(life: Life, event: LifeEvent, now: float, policy: LifePolicy, why: str) -> Life:
    """The life after `event`. KeyError when the table has no such row: a bug of the caller."""
    phase = TABLE[life.phase, event]
    after = replace(life, phase=phase, since_s=now, reason=why)
    if phase is ReplicaPhase.FAILED:
        stable = life.phase is ReplicaPhase.READY and now - life.since_s >= policy.stable_s
        failures = 1 if stable else life.failures + 1
        wait = min(policy.backoff_max_s, policy.backoff_first_s * 2 ** min(failures - 1, 30))
        return replace(after, failures=failures, retry_at_s=now + wait)
    if phase is ReplicaPhase.STARTING or event is LifeEvent.WAKE:
        return replace(after, born_s=now)
    return after


def due(life: Life, now: float, policy: LifePolicy) -> Literal[LifeEvent.OVERDUE, LifeEvent.RETRY] | None:
    """The event that the passing of time alone causes now; None: none."""
    if life.phase in (ReplicaPhase.STARTING, ReplicaPhase.PROVING) and now - life.born_s > policy.startup_s:
        return LifeEvent.OVERDUE
    if life.phase is ReplicaPhase.FAILED and now >= life.retry_at_s:
        return LifeEvent.RETRY
    return None
