"""A cause, as a value: what is wrong, how sure that is, what shows it, what to do. Rules yield these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from seawall.diagnose.facts import Facts

CauseCertainty = Literal["certain", "likely", "possible"]
CauseKind = Literal["cause", "symptom", "risk"]
KINDS: dict[str, int] = {"cause": 0, "symptom": 1, "risk": 2}
ORDER: dict[str, int] = {"certain": 0, "likely": 1, "possible": 2}


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One explanation of what is seen."""

    id: str
    """The cause's name in the catalogue: `scheduling/taint`."""
    certainty: CauseCertainty
    subject: str
    """`Pod/llama-70b-6c9`."""
    what: str
    evidence: tuple[str, ...]
    do: str
    """The next command, or what to change."""
    weight: int = 50
    """Order among equally certain causes: what stops serving (100) before what degrades it (10)."""
    also: tuple[str, ...] = field(default=())
    """Other subjects with the same cause."""
    kind: CauseKind = "cause"
    """`symptom`: what is seen because of something else; `risk`: what will hurt later. Neither stands before a cause,
    however certain it is."""


CauseRule = Callable[[Facts], Iterator[Cause]]
RULES: list[CauseRule] = []


def rule(check: CauseRule) -> CauseRule:
    """Registers a rule."""
    RULES.append(check)
    return check
