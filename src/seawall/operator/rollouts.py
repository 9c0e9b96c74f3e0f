"""The canary rollouts of the cluster as the operator keeps them: sees all, drives those that have not ended, and begins
one for a Fleet whose candidate's share nobody has fixed.

While a rollout runs, it applies what it has come to and the Fleet's own rendering rests; after its end the Fleet is
rendered as the rollout left it, until its spec says something else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Mapping
from dataclasses import replace

from seawall.domain.labels import ROLLOUT
from seawall.drivers.kube import CONFIG_MAP, Kube, Object, Refused, Select
from seawall.errors import SeawallError
from seawall.operator import canary
from seawall.operator.reconcile import Desired
from seawall.render.inputs import Group

log = logging.getLogger("seawall.operator")
Key = tuple[str, str]


class Rollouts:
    """What is known of each Fleet's rollout."""

    def __init__(self, kube: Kube, namespace: str | None) -> None:
        self._kube, self._namespace = kube, namespace
        self._seen: dict[Key, canary.Rollout] = {}
        self.known = False
        """They have been looked at: before that, an apply could undo what a rollout has come to."""

    def of(self, key: Key) -> canary.Rollout | None:
        return self._seen.get(key)

    def holds(self, key: Key) -> bool:
        """A rollout is under way."""
        rollout = self._seen.get(key)
        return rollout is not None and not rollout.ended

    async def tick(
        self, fleets: Mapping[Key, Object], desired: Mapping[Key, Desired], applied: Container[Key]
    ) -> set[Key]:
        """One look and what follows. Fleets whose rollout is another than at the last look. Raises SeawallError."""
        try:
            found = await self._kube.list(
                Select(CONFIG_MAP, self._namespace, labels=ROLLOUT), canary.rollout_seen
            )
        except Refused:
            self.known = True  # without the right to see any, there are none
            raise
        seen = {(ns, r.fleet): r for (ns, _), r in found.items() if r is not None}
        changed = {k for k in seen.keys() | self._seen.keys() if seen.get(k) != self._seen.get(k)}
        self._seen, self.known = seen, True
        for key, rollout in seen.items():
            # One whose Fleet is gone goes with it, and must make nothing anew meanwhile.
            if not rollout.ended and rollout.owner in ("", _uid(fleets.get(key))):
                await self._drive(key, fleets.get(key))
        for key, made in list(desired.items()):
            if key in applied and key in fleets:
                try:
                    await self._begin(key, made, fleets[key])
                except SeawallError as e:
                    log.warning("rollout %s/%s cannot begin: %s", *key, e)
        return changed

    async def _drive(self, key: Key, owner: Object | None) -> None:
        try:
            told = await canary.tick(self._kube, *key, time.time(), owner)
        except SeawallError as e:
            log.warning("rollout %s/%s: %s", *key, e)
            return
        if told and told.moved:
            log.info("rollout %s/%s: %s: %s", *key, told.phase, told.decision.reason)

    async def _begin(self, key: Key, desired: Desired, owner: Object) -> None:
        """Once for each spec."""
        fleet, known = desired.fleet, self._seen.get(key)
        policy = fleet.spec.rollout.canary if fleet else None
        if fleet is None or desired.member is None or policy is None or policy.candidate is None:
            return
        if policy.candidate.weight is not None or (known is not None and not known.ended):
            return
        if known is None or known.spec != canary.digest_of([fleet]):
            member = replace(desired.member, fleet=fleet)
            await canary.start(self._kube, Group(members=(member,)), key[1], time.time(), owner)
            log.info("rollout %s/%s: begun for the Fleet's candidate", *key)


def _uid(fleet: Object | None) -> str:
    """Of a Fleet that is there and stays."""
    meta = (fleet or {}).get("metadata") or {}
    return "gone" if meta.get("deletionTimestamp") else str(meta.get("uid") or "gone")
