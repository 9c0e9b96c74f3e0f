"""Decisions as lines of JSON that can be decided again: what was seen, when, by which policy, and what came of it.

Why: "why were there nine replicas at three in the morning?" is answered by running the very function on the very input.
A log holds them among other lines; whoever reads finds them. Pure; text in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from seawall.decide.scale.fleet import ScaleState, decide
from seawall.decide.scale.policy import DemandSeen, ScalePolicy
from seawall.errors import InputError

MOST_LINE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class DecisionRecord:
    """One look. `policy` stands where the memory began anew or the policy changed (then the memory goes on)."""

    decision: str
    """The fleet, as namespace/name; the key by which a line is known for one of these."""
    at_s: float
    seen: DemandSeen
    replicas: int
    reason: str
    begins: bool = False
    policy: ScalePolicy | None = None
    target: str = ""
    """The object that is scaled, where it is not named as the fleet."""

    @property
    def line(self) -> str:
        return msgspec.json.encode(self).decode()


def policy_text(policy: ScalePolicy) -> str:
    """The policy as JSON: what a ScaledObject's trigger carries."""
    return msgspec.json.encode(policy).decode()


def policy_from(text: str) -> ScalePolicy:
    """InputError for what is no policy."""
    try:
        return msgspec.json.decode(text.encode(), type=ScalePolicy)
    except msgspec.MsgspecError as e:
        raise InputError(
            f"the policy in the trigger cannot be read: {e}.",
            "Render the fleet again; scaler and ScaledObject are of different versions.",
        ) from None


def read(lines: Iterable[str]) -> Iterator[DecisionRecord]:
    """The decisions among the lines of a log, whatever stands before each. InputError for one that is broken."""
    for number, line in enumerate(lines, 1):
        start = line.find('{"decision":')
        if start < 0 or len(line) > MOST_LINE:
            continue
        try:
            yield msgspec.json.decode(line[start:].strip().encode(), type=DecisionRecord)
        except msgspec.MsgspecError as e:
            raise InputError(f"line {number} is no decision: {e}.", "Check the file.") from None


@dataclass(frozen=True)
class Replayed:
    """One decision, decided again."""

    record: DecisionRecord
    replicas: int
    reason: str

    @property
    def same(self) -> bool:
        return (self.replicas, self.reason) == (self.record.replicas, self.record.reason)


def replay(records: Iterable[DecisionRecord], policy: ScalePolicy | None = None) -> Iterator[Replayed]:
    """Each fleet's decisions, again, in their order. `policy`: in place of theirs (what another spec would have said;
    the counts that were seen stay those that came of the old one). What precedes a fleet's first beginning is
    skipped."""
    memory: dict[str, ScaleState] = {}
    policies: dict[str, ScalePolicy] = {}
    for record in records:
        fleet = record.decision
        if record.begins:
            memory[fleet] = {}
        if record.policy is not None:
            policies[fleet] = record.policy
        if fleet not in memory or fleet not in policies:
            continue
        decided, memory[fleet] = decide(policy or policies[fleet], record.seen, memory[fleet], record.at_s)
        yield Replayed(record, decided.replicas, decided.reason)
