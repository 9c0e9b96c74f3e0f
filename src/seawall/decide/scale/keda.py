"""KEDA's own loop: when a target wakes from zero, idles, pauses, and goes back; with what conditions.

Why: scale to zero and from it is KEDA's work, not the HPA's, and its corners decide whether the first request
after a quiet night waits or is lost. Source: KEDA 2.20.2, pkg/scaling/executor/scale_scaledobjects.go, and 2.21 for
the HPA's health; docstrings name the function. Forbidden: what the HPA does (`hpa.py`), and metric values
(`keda_metrics.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

COOLDOWN_S = 300.0
PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
PAUSED = "autoscaling.keda.sh/paused"
PAUSED_IN = "autoscaling.keda.sh/paused-scale-in"
PAUSED_OUT = "autoscaling.keda.sh/paused-scale-out"
FORCED = "autoscaling.keda.sh/force-activation"


@dataclass(frozen=True, slots=True)
class Condition:
    status: str
    """True, False, Unknown; empty: not set."""
    reason: str = ""
    message: str = ""


READY = Condition("True", "ScaledObjectReady", "ScaledObject is defined correctly and is ready for scaling")
PARTIAL = Condition(
    "Unknown", "PartialTriggerError", "Some triggers defined in ScaledObject are not working correctly"
)
BROKEN = Condition("False", "TriggerError", "Triggers defined in ScaledObject are not working correctly")
ACTIVE = Condition("True", "ScalerActive", "Scaling is performed because triggers are active")
FORCED_ACTIVE = Condition(
    "True", "ScalerActive", "Scaling is performed because activation is being forced by annotation"
)
INACTIVE = Condition("False", "ScalerNotActive", "Scaling is not performed because triggers are not active")
COOLING = Condition("False", "ScalerCooldown", "Scaler cooling down because triggers are not active")


@dataclass(frozen=True, slots=True)
class Fallback:
    """`spec.fallback`: what stands in for a metric after more than `failure_threshold` failures in a row."""

    replicas: int
    failure_threshold: int
    behavior: str = ""

    @property
    def valid(self) -> bool:
        return self.failure_threshold >= 0 and self.replicas >= 0


@dataclass(frozen=True, slots=True)
class KedaEvent:
    type: str
    reason: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HpaSeen:
    """The HPA that KEDA made, as KEDA reads it."""

    read_error: bool = False
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    """Type -> condition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleSpec:
    """What a ScaledObject says about zero, idling, pausing and its bounds."""

    lowest: int = 0
    idle: int | None = None
    cooldown_s: float = COOLDOWN_S
    initial_cooldown_s: float = 0.0
    fallback: Fallback | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    """Kind and namespace/name, for the event's text."""

    def flag(self, annotation: str) -> bool:
        """Go's ParseBool, where what does not parse counts as true."""
        text = self.annotations.get(annotation)
        return text is not None and text not in ("0", "f", "F", "false", "False", "FALSE")


@dataclass(frozen=True, kw_only=True, slots=True)
class Poll:
    """One poll: what the triggers said, and what is remembered."""

    current: int
    active: bool
    error: bool
    last_active_s: float | None
    created_s: float
    now: float
    triggers: Sequence[str] = ()
    hpa: HpaSeen | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaled:
    """What one poll leads to. `scaled`: the count is written; `touched`: the target counts as active now."""

    replicas: int
    scaled: bool
    last_active_s: float | None
    touched: bool = False
    ready: Condition = READY
    active: Condition | None = None
    hpa_active: Condition | None = None
    paused: bool = False
    event: KedaEvent | None = None


def request_scale(spec: ScaleSpec, turn: Poll) -> Scaled:
    """`RequestScale` -> the count to write (if `scaled`), the last time anything was active, the conditions."""
    hpa_active = None if turn.hpa is None else hpa_health(turn.hpa)
    if hpa_active is not None and not hpa_active.status:
        hpa_active = None
    if PAUSED_REPLICAS in spec.annotations or spec.flag(PAUSED):
        # The count in the annotation is written when the ScaledObject is reconciled; here nothing moves.
        return Scaled(replicas=turn.current, scaled=False, last_active_s=turn.last_active_s, paused=True)
    if turn.active or spec.flag(FORCED):
        return _active(spec, turn, hpa_active)
    return _inactive(spec, turn, hpa_active)


def _active(spec: ScaleSpec, turn: Poll, hpa_active: Condition | None) -> Scaled:
    forced = spec.flag(FORCED)
    active = FORCED_ACTIVE if forced else ACTIVE
    idle = Scaled(
        replicas=turn.current,
        scaled=False,
        last_active_s=turn.last_active_s,
        active=active,
        hpa_active=hpa_active,
    )
    if (spec.idle is not None and turn.current < spec.lowest) or turn.current == 0:
        if spec.flag(PAUSED_OUT):
            return idle
        wanted = max(1, spec.lowest)
        cause = (
            "caused by forced activation annotation" if forced else f"triggered by {';'.join(turn.triggers)}"
        )
        note = f"Scaled {spec.target} from {turn.current} to {wanted}, {cause}"
        event = KedaEvent("Normal", "KEDAScaleTargetActivated", note)
        return replace(idle, replicas=wanted, scaled=True, last_active_s=turn.now, touched=True, event=event)
    if turn.error:
        return replace(idle, ready=PARTIAL)
    return replace(idle, last_active_s=turn.now, touched=True)


def _inactive(spec: ScaleSpec, turn: Poll, hpa_active: Condition | None) -> Scaled:
    def result(
        replicas: int, active: Condition = INACTIVE, ready: Condition = READY, event: KedaEvent | None = None
    ) -> Scaled:
        return Scaled(
            replicas=replicas,
            scaled=replicas != turn.current,
            last_active_s=turn.last_active_s,
            ready=ready,
            active=active,
            hpa_active=hpa_active,
            event=event,
        )

    if turn.error and spec.fallback is not None and spec.fallback.replicas != 0:
        return result(turn.current)
    if turn.error and spec.fallback is None:
        return result(turn.current, ready=BROKEN)
    if (spec.idle is not None and turn.current > spec.idle) or (turn.current > 0 and spec.lowest == 0):
        if spec.flag(PAUSED_IN):
            return result(turn.current)
        if not cooled(spec, turn):
            return result(turn.current, active=COOLING)
        wanted = spec.lowest if spec.idle is None else spec.idle
        note = f"Deactivated {spec.target} from {turn.current} to {wanted}"
        return result(wanted, event=KedaEvent("Normal", "KEDAScaleTargetDeactivated", note))
    if spec.idle is None and turn.current < spec.lowest:
        return result(spec.lowest)
    return result(turn.current)


def cooled(spec: ScaleSpec, turn: Poll) -> bool:
    """Strictly past the cooldown; never active yet: strictly past the initial cooldown since creation."""
    if turn.last_active_s is None:
        return turn.created_s + spec.initial_cooldown_s < turn.now
    return turn.last_active_s + spec.cooldown_s < turn.now


def hpa_health(hpa: HpaSeen | None) -> Condition:
    """`getHPAHealth` of KEDA 2.21: the condition HPAActive, beside Ready, which it no longer touches. An empty status
    means "cannot be observed"; disabled at zero replicas is healthy, with the HPA's own reason; its words are passed
    on."""
    if hpa is None or hpa.read_error:
        return Condition("")
    scaling = hpa.conditions.get("ScalingActive")
    if scaling is None:
        return Condition("")
    if scaling.status != "False":
        return Condition("True", "HPAActive", scaling.message)
    if scaling.reason == "ScalingDisabled":
        return Condition("True", scaling.reason, scaling.message)
    said = f"{scaling.reason}: {scaling.message}" if scaling.message else scaling.reason
    return Condition("False", "HPAMetricsUnavailable", said)


def hpa_health_applied(hpa: HpaSeen | None, previous: Condition) -> Condition:
    """`checkHPAHealth`: what cannot be observed leaves the condition as it was."""
    found = hpa_health(hpa)
    return found if found.status else previous
