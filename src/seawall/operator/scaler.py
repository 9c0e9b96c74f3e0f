"""KEDA's questions answered by our own decision: `decide/scale` on what the gateways of a namespace tell now.

Why: KEDA and the HPA cannot forecast. They go on owning the Deployment; what they ask is how many replicas there should
be, and the policy comes with the question (the trigger carries it). A look is taken when KEDA asks, so nothing runs for
fleets that are gone. What cannot be seen is said (`Blind`): then KEDA's own fallback decides, and nothing shrinks
meanwhile.

Forbidden: gRPC (`drivers/keda.py`), and deciding (`decide/scale`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from seawall.decide import scale
from seawall.decide.scale.record import DecisionRecord, policy_from
from seawall.domain.labels import ENGINES, FLEET
from seawall.drivers.clock import Clock
from seawall.drivers.keda import Blind, KedaQuestion
from seawall.drivers.kube import DEPLOYMENT, POD, Kube, Object, Select
from seawall.drivers.kube_gateways import Answers, PodKey, ask
from seawall.errors import InputError, SeawallError

log = logging.getLogger("seawall.scaler")
FRESH_S = 1.0
"""Within so long, questions are answered by the last look: KEDA asks twice each time."""
BLIND_S = 60.0
"""So long the last decision stands while nothing can be seen; then KEDA is told, and falls back."""
PUSH_S = 1.0
"""How often a fleet at zero is looked at for a first request."""
RATE_S = 10.0
"""A rate is told of so long at least: KEDA and the HPA ask at odd times."""
MOST_FLEETS = 1000
FORGOTTEN_S = 900.0
"""A fleet that nobody has asked for so long is forgotten."""


@dataclass
class ScaledFleet:
    """One fleet that KEDA asks for."""

    policy_text: str = ""
    policy: scale.ScalePolicy | None = None
    state: scale.ScaleState = field(default_factory=lambda: scale.ScaleState())
    begun: bool = False
    why: str = "it was not looked yet"
    """Why nothing was seen at the last look; empty: it was."""
    decided: int = 0
    active: bool = False
    looked_at: float = float("-inf")
    seen_at: float = float("-inf")
    asked_at: float = 0.0
    admitted: dict[PodKey, int] = field(default_factory=dict)
    """Requests that each gateway had admitted at the last look."""
    counted_at: float = 0.0
    arrivals_per_s: float | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True)
class PushTrigger:
    """What the trigger of a ScaledObject says."""

    fleet: str
    target: str
    """The Deployment that is scaled."""
    floor: int
    """Replicas beside it (on demand) that the decision counts."""
    policy: str

    @classmethod
    def of(cls, asked: KedaQuestion) -> PushTrigger:
        """InputError where something is missing."""
        try:
            said = asked.trigger
            return cls(said["fleet"], said["target"], int(said.get("floor", "0")), said["policy"])
        except (KeyError, ValueError) as e:
            raise InputError(
                f"ScaledObject {asked.namespace}/{asked.name}: its trigger has no usable {e}.",
                "Render the fleet again and apply it.",
            ) from None


HearsDecisions = Callable[[DecisionRecord, int], None]
"""Hears of every look, with the count before it."""


class DecidingScaler:
    """The answers, with a memory per fleet."""

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        tell: HearsDecisions,
        hear: Callable[[Kube, str], Awaitable[Answers]] = ask,
    ) -> None:
        self._kube, self._clock, self._tell, self._hear = kube, clock, tell, hear
        self._watched: dict[tuple[str, str], ScaledFleet] = {}

    async def replicas(self, asked: KedaQuestion) -> int:
        watched = await self._look(asked)
        return max(0, watched.decided - PushTrigger.of(asked).floor)

    async def active(self, asked: KedaQuestion) -> bool:
        return (await self._look(asked)).active

    async def activity(self, asked: KedaQuestion) -> AsyncIterator[bool]:
        """At once, on change, and again every minute: a stream that says nothing looks like one that is broken."""
        told: bool | None = None
        told_at = 0.0
        while True:
            try:
                active = await self.active(asked)
            except Blind:
                active = told or False
            now = self._clock.now()
            if active != told or now - told_at >= BLIND_S:
                told, told_at = active, now
                yield active
            await self._clock.sleep(PUSH_S if not active else 5.0)

    async def _look(self, asked: KedaQuestion) -> ScaledFleet:
        key, now = (asked.namespace, asked.name), self._clock.now()
        if key not in self._watched:
            self._forget(now)
        watched = self._watched.setdefault(key, ScaledFleet())
        watched.asked_at = now
        async with watched.lock:
            if self._clock.now() - watched.looked_at >= FRESH_S:
                await self._decide(watched, asked, PushTrigger.of(asked))
        age = self._clock.now() - watched.seen_at
        if not watched.begun or (watched.why and age > BLIND_S):
            raise Blind(f"nothing is known of the demand: {watched.why}.", "Look at the gateways.")
        return watched

    def _forget(self, now: float) -> None:
        for key in [k for k, w in self._watched.items() if now - w.asked_at > FORGOTTEN_S]:
            del self._watched[key]
        if len(self._watched) >= MOST_FLEETS:
            raise Blind(f"{MOST_FLEETS} fleets are asked for already.", "Run another scaler for the rest.")

    async def _decide(self, watched: ScaledFleet, asked: KedaQuestion, trigger: PushTrigger) -> None:
        changed = watched.policy_text != trigger.policy
        if changed:
            watched.policy, watched.policy_text = policy_from(trigger.policy), trigger.policy
        policy = watched.policy
        assert policy is not None
        watched.looked_at = now = self._clock.now()
        try:
            seen = await self._seen(watched, asked.namespace, trigger)
            watched.why = "" if seen.fresh else "a gateway does not answer"
        except SeawallError as e:
            watched.why = e.message.rstrip(".")
        if watched.why:
            log.warning("%s/%s: blind: %s", asked.namespace, trigger.fleet, watched.why)
            return
        watched.seen_at = now
        begins = not watched.begun
        decided, watched.state = scale.decide(policy, seen, watched.state, now)
        watched.begun, watched.decided = True, decided.replicas
        watched.active = seen.demand > policy.activation or policy.lowest_at(seen.unix_s) > 0
        self._tell(
            DecisionRecord(
                decision=f"{asked.namespace}/{trigger.fleet}",
                at_s=now,
                seen=seen,
                replicas=decided.replicas,
                reason=decided.reason,
                begins=begins,
                policy=policy if begins or changed else None,
                target=trigger.target,
            ),
            seen.replicas,
        )

    async def _seen(self, watched: ScaledFleet, namespace: str, trigger: PushTrigger) -> scale.DemandSeen:
        target = await self._kube.get(DEPLOYMENT, namespace, trigger.target)
        if target is None:
            raise Blind(f"there is no Deployment {namespace}/{trigger.target}.", "Apply the fleet.")
        spec = target.get("spec") or {}
        replicas = int(spec.get("replicas", 1)) + trigger.floor
        select = Select(POD, namespace, labels=f"{FLEET}={trigger.fleet},{ENGINES}")
        pods = list((await self._kube.list(select, _pod)).values())
        ready = sum(p.ready for p in pods)
        answers = await self._hear(self._kube, namespace)
        told = answers.of(namespace).fleets.get(trigger.fleet)
        if told is None and not answers.silent:
            raise Blind(f"no gateway of {namespace} serves {trigger.fleet}.", "Look at the gateways.")
        ahead_s = self._kube.ahead_s
        there = [p for p in pods if p.holds]
        made = tuple(sorted(p.made_s - ahead_s for p in there if p.made_s is not None))
        seen = scale.DemandSeen(
            replicas=replicas,
            ready=ready,
            there=len(there),
            fresh=False,
            unix_s=self._clock.time(),
            made_s=() if watched.begun else made,
        )
        if told is None or answers.silent:
            return seen
        return replace(
            seen,
            running=float(told.pending - told.queued),
            queued=float(told.queued),
            fresh=True,
            arrivals_per_s=self._arrivals(watched, answers, trigger.fleet),
        )

    def _arrivals(self, watched: ScaledFleet, answers: Answers, fleet: str) -> float | None:
        """New requests per second since the last look, by those gateways that were there then; None at the first."""
        now, before, since = self._clock.now(), watched.admitted, self._clock.now() - watched.counted_at
        if before and since < RATE_S:
            return watched.arrivals_per_s
        counts = {
            key: state.fleets[fleet].arrived_total
            for key, state in answers.states.items()
            if fleet in state.fleets
        }
        watched.admitted, watched.counted_at = counts, now
        known = [counts[k] - before[k] for k in counts if k in before and counts[k] >= before[k]]
        # A gateway that has just come took its share from the others.
        watched.arrivals_per_s = sum(known) / since * len(counts) / len(known) if known else None
        return watched.arrivals_per_s


@dataclass(frozen=True, slots=True)
class ScaledPod:
    """What is kept of a replica's Pod."""

    ready: bool
    made_s: float | None
    """When it was made, Unix time; None: it does not say."""
    holds: bool
    """It has not ended, whatever it does."""


def _pod(pod: Object) -> ScaledPod:
    meta, conditions = pod.get("metadata") or {}, (pod.get("status") or {}).get("conditions") or []
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    try:
        made = datetime.fromisoformat(str(meta.get("creationTimestamp"))).timestamp()
    except ValueError:
        made = None
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return ScaledPod(ready and not meta.get("deletionTimestamp"), made, not ended)
