"""How fast a fleet was planned to work on lines: what is gone by until the first of them has been measured.

The steps are those that `seawall plan` reckons with, and that `seawall simulate` and the simulated engine play
(`domain.action.Timing`): every running line gets one token a step, and prompts take the places of lines that end.
Forbidden here: clocks, measuring.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from seawall.decide.batch.finish import SURE
from seawall.domain.action import Plan, Timing

ESTIMATE_SURE: Final = 2.0
"""A window is refused for an estimate's sake only where so many times its speed would not do either."""
BYTES_PER_TOKEN: Final = 4.0
"""Bytes of a request's JSON; what a token really is only its engine knows."""


@dataclass(frozen=True)
class LineShape:
    """What lines are like, on average."""

    prompt_tokens: float
    answer_tokens: float
    units: float
    """Units of work (`pace.units`)."""


@dataclass(frozen=True)
class PlannedSpeed:
    """What one replica was planned to do, and how many there may be."""

    timing: Timing
    seats: int
    """Sequences that run at once."""
    kv_tokens: int
    start_s: float
    """From the call for a replica to its first token."""
    most: int
    """Replicas that there may be."""

    @property
    def sure(self) -> float:
        """How many times as fast it may be, as far as anybody knows."""
        return ESTIMATE_SURE if "estimate" in self.timing.source else SURE

    def units_per_s(self, shape: LineShape, replicas: int, busy: float = 0.0) -> float:
        """Units of such lines per second, beside so many requests that are none."""
        prompt, answer = shape.prompt_tokens, max(1.0, shape.answer_tokens)
        room = min(float(self.seats), self.kv_tokens / (prompt + answer))
        others = busy / replicas
        lines = max(1.0, room - others)
        begun = lines / answer
        held = (lines + others) * (prompt + answer / 2)
        step = self.timing.step_s(begun * prompt, lines + others, held, begun * prompt * prompt / 2)
        return replicas * lines / (answer * step) * shape.units


def planned_speed(plan: Plan, most: int) -> PlannedSpeed | None:
    """None: the model does not fit, or nobody knows what it holds."""
    if not plan.fits or plan.kv_cache_tokens <= 0:
        return None
    return PlannedSpeed(plan.timing, plan.max_num_seqs, plan.kv_cache_tokens, plan.startup.total_s, most)


def as_text(fleet: str, speed: PlannedSpeed) -> str:
    """One argument of a command line."""
    return f"{fleet}={json.dumps(asdict(speed), separators=(',', ':'))}"


def read_text(text: str) -> tuple[str, PlannedSpeed]:
    """(fleet, its speed). ValueError for what `as_text` has not written."""
    fleet, _, written = text.partition("=")
    try:
        fields: dict[str, Any] = json.loads(written)
        speed = PlannedSpeed(**{**fields, "timing": Timing(**fields["timing"])})
        if not min(speed.seats, speed.kv_tokens, speed.most, speed.timing.base_s) > 0:
            raise ValueError(text)
    except (KeyError, TypeError, RecursionError) as e:
        raise ValueError(text) from e
    return fleet, speed
