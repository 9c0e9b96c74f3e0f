"""The canary rollouts of the cluster as the operator keeps them: sees all, drives those that have not ended, and begins
one for a Fleet whose candidate's share nobody has fixed.

While a rollout runs, it applies what it has come to and the Fleet's own rendering rests; after its end the Fleet is
rendered as the rollout left it, until its spec says something else.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from seawall.domain.labels import ROLLOUT
from seawall.drivers.clock import Clock
from seawall.drivers.kube import CONFIG_MAP, Kube, Object, Refused, Select
from seawall.errors import SeawallError
from seawall.operator import canary
from seawall.operator.reconcile import Desired
from seawall.operator.record import FleetKey, FleetRecord, Records
from seawall.render.inputs import Group

log = logging.getLogger("seawall.operator")


class Rollouts:
    """Looks at every rollout, and drives those that have not ended."""

    def __init__(self, kube: Kube, namespace: str | None, clock: Clock) -> None:
        self._kube, self._namespace, self._clock = kube, namespace, clock
        self.known = False
        """They have been looked at: before that, an apply could undo what a rollout has come to."""

    async def tick(self, records: Records) -> set[FleetKey]:
        """One look and what follows. Fleets whose rollout is another than at the last look. Raises SeawallError."""
        try:
            found = await self._kube.list(
                Select(CONFIG_MAP, self._namespace, labels=ROLLOUT), canary.rollout_seen
            )
        except Refused:
            self.known = True  # without the right to see any, there are none
            raise
        seen = {(ns, r.fleet): r for (ns, _), r in found.items() if r is not None}
        changed = set()
        for key in seen.keys() | {r.key for r in records if r.rollout is not None}:
            record = records.of(key)
            if record.rollout != seen.get(key):
                record.rollout = seen.get(key)
                changed.add(key)
        self.known = True
        for key, rollout in seen.items():
            record = records.of(key)
            # One whose Fleet is gone goes with it, and must make nothing anew meanwhile.
            if not rollout.ended and rollout.owner in ("", record.uid if record.stays else "gone"):
                await self._drive(key, record.obj)
        for record in records:
            if record.applied is not None and record.desired is not None and record.stays:
                try:
                    await self._begin(record, record.desired)
                except SeawallError as e:
                    log.warning("rollout %s/%s cannot begin: %s", *record.key, e)
        return changed

    async def _drive(self, key: FleetKey, owner: Object | None) -> None:
        try:
            told = await canary.tick(self._kube, *key, self._clock.time(), owner)
        except SeawallError as e:
            log.warning("rollout %s/%s: %s", *key, e)
            return
        if told and told.moved:
            log.info("rollout %s/%s: %s: %s", *key, told.phase, told.decision.reason)

    async def _begin(self, record: FleetRecord, desired: Desired) -> None:
        """Once for each spec."""
        fleet, known = desired.fleet, record.rollout
        policy = fleet.spec.rollout.canary if fleet else None
        if fleet is None or desired.member is None or policy is None or policy.candidate is None:
            return
        if policy.candidate.weight is not None or (known is not None and not known.ended):
            return
        if known is None or known.spec != canary.digest_of([fleet]):
            member = replace(desired.member, fleet=fleet)
            group = Group(members=(member,))
            await canary.start(self._kube, group, record.key[1], self._clock.time(), record.obj)
            log.info("rollout %s/%s: begun for the Fleet's candidate", *record.key)
