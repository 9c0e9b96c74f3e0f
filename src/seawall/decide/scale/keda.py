"""KEDA's loop: when a target wakes from zero, idles, and goes back.

Source: KEDA 2.20.2, pkg/scaling/executor/scale_scaledobjects.go. Forbidden: what the HPA does (`hpa.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

COOLDOWN_S = 300.0
HPA_MAX = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleSpec:
    """What a ScaledObject says about zero, idling and its bounds."""

    lowest: int = 0
    idle: int | None = None
    cooldown_s: float = COOLDOWN_S
    initial_cooldown_s: float = 0.0
    fallback_replicas: int | None = None
    """None: no fallback is configured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One poll: what the triggers said, and what is remembered."""

    current: int
    active: bool
    error: bool
    last_active_s: float | None
    created_s: float
    now: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaled:
    replicas: int
    scaled: bool
    last_active_s: float | None


def request_scale(spec: ScaleSpec, turn: Turn) -> Scaled:
    """`RequestScale` -> the count to write (if `scaled`) and the last time anything was active."""
    current, last = turn.current, turn.last_active_s
    wanted = current
    if turn.active:
        if (spec.idle is not None and current < spec.lowest) or current == 0:
            wanted = max(1, spec.lowest)
            last = turn.now
        elif not turn.error:
            last = turn.now
    elif turn.error:
        pass
    elif (spec.idle is not None and current > spec.idle) or (current > 0 and spec.lowest == 0):
        if _cooled(spec, turn):
            wanted = spec.idle if spec.idle is not None else spec.lowest
    elif spec.idle is None and current < spec.lowest:
        wanted = spec.lowest
    return Scaled(replicas=wanted, scaled=wanted != current, last_active_s=last)


def _cooled(spec: ScaleSpec, turn: Turn) -> bool:
    """Strictly past the cooldown; never active yet: strictly past the initial cooldown since creation."""
    if turn.last_active_s is None:
        return turn.created_s + spec.initial_cooldown_s < turn.now
    return turn.last_active_s + spec.cooldown_s < turn.now
