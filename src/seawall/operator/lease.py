"""Leader election by a Lease: one operator acts, the others stand by. Safe when the clock or the API jumps.

The holder stops acting `MARGIN_S` before anybody else may take over, measured on its own clock, however long the API
server keeps it waiting. Others judge by how long the Lease has not moved on *their* clock, so clocks need not agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from seawall.drivers.clock import Clock, SteadyClock
from seawall.drivers.kube import Kube, Object, ObjectKind, Refused
from seawall.errors import ClusterError

log = logging.getLogger("seawall.operator")
LEASE = ObjectKind("coordination.k8s.io/v1", "Lease", "leases")
HOLD_S = 15.0
RENEW_S = 4.0
MARGIN_S = 3.0
LOOK_S = 0.5
"""The clock is looked at so often: it may jump, as a machine's does that was asleep."""
ANSWER_S = 5.0
"""An answer that takes longer is none: it is asked again."""


class Leader:
    """`await leader.run(work)`: runs `work` while this process is the leader, again after each election."""

    def __init__(
        self, kube: Kube, namespace: str, name: str, identity: str, clock: Clock | None = None
    ) -> None:
        self._kube, self._namespace, self._name, self._identity = kube, namespace, name, identity
        self._clock = clock or SteadyClock()
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed = -HOLD_S
        self._told = ""
        self.leads = False

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Never returns by itself. When the lease is lost, `work` is cancelled before another may begin."""
        while True:
            while not await self.attempt():
                await self._clock.sleep(RENEW_S / 2)
            log.info("%s leads (Lease %s/%s)", self._identity, self._namespace, self._name)
            self.leads = True
            worker = asyncio.ensure_future(work())
            try:
                while not worker.done() and self._left() > 0:
                    await self._ended(worker, min(LOOK_S, self._left()))
                    if not worker.done() and HOLD_S - MARGIN_S - RENEW_S >= self._left() > 0:
                        await self.attempt(min(ANSWER_S, self._left()))
            finally:
                self.leads = False
                worker.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await worker
            log.warning("%s leads no more", self._identity)

    async def _ended(self, worker: asyncio.Future[Any], within_s: float) -> None:
        """Returns when it has ended, or so much time has passed."""
        pause = asyncio.ensure_future(self._clock.sleep(within_s))
        try:
            await asyncio.wait([worker, pause], return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()

    def _left(self) -> float:
        """Seconds for which the lease is surely ours."""
        return self._renewed + HOLD_S - MARGIN_S - self._clock.now()

    async def release(self) -> None:
        """Lets the next one begin at once (on SIGTERM)."""
        with contextlib.suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                held = await self._kube.get(LEASE, self._namespace, self._name)
                if held and (held.get("spec") or {}).get("holderIdentity") == self._identity:
                    spec = {**held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._write({**held, "spec": spec})

    async def attempt(self, within_s: float = ANSWER_S) -> bool:
        """Whether the lease is ours after one try to take or to keep it."""
        try:
            held = await self._within(within_s)
            self._told = ""
            return held
        except (ClusterError, TimeoutError) as e:
            # Told once: a missing right or namespace stays, and would else be a silent wait for ever.
            if isinstance(e, Refused) and e.code != 409 and str(e) != self._told:
                self._told = str(e)
                log.warning("Lease %s/%s: %s", self._namespace, self._name, e)
            return False

    async def _within(self, seconds: float) -> bool:
        """The answer, or TimeoutError: by the clock that judges the lease, and by that alone."""
        asked = asyncio.ensure_future(self._take())
        try:
            await self._ended(asked, seconds)
            if not asked.done():
                raise TimeoutError
            return asked.result()
        finally:
            asked.cancel()

    async def _take(self) -> bool:
        start = self._clock.now()
        held = await self._kube.get(LEASE, self._namespace, self._name)
        if held is None:
            body = {
                "apiVersion": LEASE.api_version,
                "kind": LEASE.name,
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": self._spec({}),
            }
            await self._kube.request("POST", LEASE.path(self._namespace), body=body)
            self._renewed = start
            return True
        spec, version = held.get("spec") or {}, str(held["metadata"].get("resourceVersion"))
        if spec.get("holderIdentity") != self._identity and spec.get("holderIdentity"):
            if self._seen[0] != version:
                self._seen = (version, self._clock.now())
            if self._clock.now() - self._seen[1] < float(spec.get("leaseDurationSeconds") or HOLD_S):
                return False
        await self._write({**held, "spec": {**spec, **self._spec(spec)}})
        self._renewed = start
        return True

    async def _write(self, lease: Object) -> None:
        """PUT with the resourceVersion that was read: of two that try, the API server lets one."""
        try:
            await self._kube.request("PUT", LEASE.path(self._namespace, self._name), body=lease)
        except Refused as e:
            if e.code == 409:
                raise ClusterError("another operator was faster.") from None
            raise

    def _spec(self, old: Object) -> Object:
        now = datetime.fromtimestamp(self._clock.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": int(HOLD_S), "renewTime": now}
        if old.get("holderIdentity") != self._identity:
            spec |= {
                "acquireTime": now,
                "leaseTransitions": int(old.get("leaseTransitions") or 0) + bool(old),
            }
        return spec
