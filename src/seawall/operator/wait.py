"""Waits until an applied fleet serves, telling each step once: weights, scheduling, image, load, first token.

Polls (a wait of minutes needs no watch), judges by `phase_of` and by what the gateways tell, and gives up with the
reason that a person needs. An API server that restarts meanwhile is waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from seawall.diagnose.phase import leaving, paused, phase_of, refused_pods
from seawall.domain.labels import FLEET, GATEWAYS, INSTANCE, ROLE
from seawall.drivers.clock import Clock, SteadyClock
from seawall.drivers.kube import DEPLOYMENT, JOB, POD, Kube, Object, ObjectKind, Select, key_of
from seawall.drivers.kube_refusal import passing
from seawall.errors import CheckFailed, ClusterError
from seawall.operator.cordons import Cordons
from seawall.operator.fleet_object import fleet_object, verdict_of
from seawall.operator.show import serving
from seawall.operator.status import look as look_at

POLL_S = 2.0
STRIKES = 3
"""Looks at a failure until it is believed: the first crash may be a race that the restart mends."""
REFUSALS = 15
"""Looks at Pods that the API server refuses: a quota may be given back by what ends now."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class WaitProgress:
    """Where a fleet stands: `done`, or `failed` with why, or `step` is what it waits for now."""

    step: str
    done: bool = False
    failed: bool = False
    looks: int = STRIKES
    """Looks at a failure until it is believed; 1: nothing mends it by itself."""


def judge(deployments: list[Object], jobs: list[Object], pods: list[Object]) -> WaitProgress:
    """Pure: from the fleet's objects to where it stands."""
    for job in jobs:
        status = job.get("status") or {}
        name = key_of(job)[1]
        failed = [
            c
            for c in status.get("conditions") or []
            if c.get("type") == "Failed" and c.get("status") == "True"
        ]
        if failed:
            return WaitProgress(f"weights: Job {name} failed: {failed[0].get('message')}", failed=True)
        if not status.get("succeeded"):
            return WaitProgress(f"weights: Job {name} is loading them")
    # The loader's Pods end by themselves: their Job speaks for them. The gateway's have no role.
    roles = ("engine", None)
    engines = [p for p in pods if ((p["metadata"].get("labels") or {}).get(ROLE)) in roles]
    newest = _newest(engines)
    broken = [(key_of(p)[1], why) for p in newest for phase, why in [phase_of(p)] if phase == "failed"]
    if broken:
        return WaitProgress(f"{broken[0][0]}: {broken[0][1]}", failed=True)
    behind = [d for d in deployments if not _available(d)]
    if not deployments and not _all_ready(engines):
        # A replica that spans nodes is a LeaderWorkerSet's: its Pods alone say how far it is.
        return WaitProgress(
            f"{sum(phase_of(p)[0] == 'ready' for p in engines)} of {len(engines)} Pods are ready"
        )
    if not behind:
        names = ", ".join(sorted(key_of(d)[1] for d in deployments)) or "nothing"
        return WaitProgress(f"{names} available: {_PROOF[_engines(engines)]}", done=True)
    for deployment in behind:
        if gone := leaving(deployment):
            return WaitProgress(gone)
        if stopped := paused(deployment):
            return WaitProgress(stopped, failed=True, looks=1)
        if refusal := refused_pods(deployment):
            return WaitProgress(refusal, failed=True, looks=REFUSALS)
    waiting = sorted((phase_of(p) for p in newest), key=lambda t: t[0] != "pending")
    for phase, why in waiting:
        if phase == "pending":
            return WaitProgress(f"scheduling: {why}")
    for phase, why in waiting:
        if phase in ("starting", "loading"):
            return WaitProgress(f"{phase}: {why}")
    return WaitProgress(f"waiting for {key_of(behind[0])[1]}")


def _newest(pods: list[Object]) -> list[Object]:
    """Without the Pods of a Deployment's older revisions: an apply that mends a crash loop must not end by the very
    loop that it mends. The revision is that of the Pod made last."""
    last: dict[str, tuple[str, str]] = {}
    for pod in pods:
        deployment, revision = _revision(pod)
        made = str(pod["metadata"].get("creationTimestamp") or "")
        last[deployment] = max(last.get(deployment, ("", "")), (made, revision))
    return [p for p in pods for d, r in [_revision(p)] if not r or last[d][1] == r]


def _revision(pod: Object) -> tuple[str, str]:
    """(Deployment, its revision's hash), by the ReplicaSet that owns the Pod; empty where none does."""
    meta = pod["metadata"]
    revision = str((meta.get("labels") or {}).get("pod-template-hash") or "")
    owner = next((str(o.get("name")) for o in meta.get("ownerReferences") or []), "")
    return (owner.removesuffix(f"-{revision}"), revision) if revision and owner else ("", "")


def _all_ready(pods: list[Object]) -> bool:
    return bool(pods) and all(phase_of(p)[0] == "ready" for p in pods)


_PROOF = {True: "every ready replica has generated a token", False: "its Pods are ready"}


def _engines(pods: list[Object]) -> bool:
    return any((p["metadata"].get("labels") or {}).get(ROLE) == "engine" for p in pods)


def _available(deployment: Object) -> bool:
    spec, status, meta = deployment.get("spec") or {}, deployment.get("status") or {}, deployment["metadata"]
    wanted = int(spec.get("replicas", 1))
    seen = int(status.get("observedGeneration") or 0) >= int(meta.get("generation") or 0)
    updated = int(status.get("updatedReplicas") or 0)
    old = int(status.get("replicas") or 0) - updated
    return seen and updated >= wanted and old <= 0 and int(status.get("availableReplicas") or 0) >= wanted


class FleetWait:
    """One person's wait. Tells each step once, goes on while the API server is away, and gives up with the reason."""

    def __init__(self, kube: Kube, namespace: str, tell: Tell, clock: Clock | None = None) -> None:
        self._kube, self._namespace, self._tell = kube, namespace, tell
        self._clock = clock or SteadyClock()
        self._start = self._clock.now()

    async def for_operator(self, fleet: str, deadline_s: float) -> None:
        """Returns when the operator has taken what the Fleet object says now."""

        async def look() -> WaitProgress:
            found = await fleet_object(self._kube, self._namespace, fleet)
            if found is None:
                return WaitProgress(f"Fleet {fleet} is gone", failed=True)
            verdict = verdict_of(found)
            if verdict is None:
                return WaitProgress(f"the operator has taken Fleet {fleet}", done=True)
            if verdict:
                return WaitProgress(f"Fleet {fleet}: {verdict}", failed=True, looks=1)
            return WaitProgress(f"the operator has not looked at Fleet {fleet} yet (is one running?)")

        await self._until(look, fleet, deadline_s)

    async def for_gateway(self, gateway: str, deadline_s: float) -> None:
        """Returns when the gateway in front of the fleets is available; without it no client gets a token."""
        await self._until(lambda: self._judged(f"{GATEWAYS},{INSTANCE}={gateway}"), gateway, deadline_s)

    async def until_served(self, fleet: str, deadline_s: float) -> None:
        """Returns when the fleet's replicas serve. CheckFailed with the last step when it fails for good or time is
        over. A crash loop is given three looks: the first crash may be a race that the restart mends."""
        await self._until(lambda: self._judged(f"{FLEET}={fleet}"), fleet, deadline_s)

    async def until_used(self, fleet: str, deadline_s: float) -> None:
        """Returns when the gateways use as many replicas as are wanted: a replica that serves and that no gateway
        reaches serves nobody. Who may not ask the gateways is told so, once, and not kept waiting."""

        async def look() -> WaitProgress:
            view = next(iter(await look_at(self._kube, self._namespace, fleet)), None)
            if view is None or view.usable is None:
                why = view.silent if view else "there is no fleet of this name"
                return WaitProgress(
                    f"{fleet}: whether the gateways reach its replicas is not known: {why}", done=True
                )
            if view.usable >= view.desired:
                scaler = f"; {view.unscaled}" if view.unscaled else ""
                return WaitProgress(f"{fleet}: {serving(view)}{scaler}", done=True)
            return WaitProgress(f"{fleet}: {serving(view)}")

        await self._until(look, fleet, deadline_s)

    async def _judged(self, labels: str) -> WaitProgress:
        async def listed(kind: ObjectKind) -> list[Object]:
            found = await self._kube.list(Select(kind, self._namespace, labels=labels), lambda o: o)
            return list(found.values())

        found = judge(await listed(DEPLOYMENT), await listed(JOB), await listed(POD))
        return replace(found, step=await Cordons(self._kube).named(found.step))

    async def _until(self, look: Callable[[], Awaitable[WaitProgress]], name: str, deadline_s: float) -> None:
        start, said, strikes = self._clock.now(), "", 0
        while True:
            try:
                progress = await look()
            except ClusterError as e:
                if not passing(e):
                    raise
                progress = WaitProgress(f"{e.message.rstrip('.')}; looking again")
            if progress.step != said:
                self._tell(f"{self._clock.now() - self._start:5.0f} s  {progress.step}")
                said = progress.step
            if progress.done:
                return
            strikes = strikes + 1 if progress.failed else 0
            given_up = progress.failed and strikes >= progress.looks
            if given_up or self._clock.now() - start > deadline_s:
                why = progress.step
                if not given_up:
                    why = f"not serving after {deadline_s:.0f} s: {progress.step}"
                raise CheckFailed(why, f"seawall diagnose {name} --namespace {self._namespace}")
            await self._clock.sleep(POLL_S)
