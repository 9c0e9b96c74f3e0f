"""The deployment that `seawall prove --context` drives: a fleet on Kubernetes, by the verbs that any operator has.

Only objects that carry the fleet's label (and the one gateway of its namespace) are touched; each is found by selector
at the moment it is needed. Forbidden: creating, changing a spec beyond a restart annotation and a replica count.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from seawall.domain.labels import COMPONENT, ENGINES, FLEET, GATEWAYS, INSTANCE
from seawall.domain.told import GatewayState
from seawall.drivers import kube_gateways
from seawall.drivers.kube import DEPLOYMENT, POD, Kube, Object, ObjectKind, Select
from seawall.errors import ClusterError, InputError
from seawall.prove.stage import Seen, Stage

RESTARTED = "kubectl.kubernetes.io/restartedAt"
BUDGET_S = 120.0
"""Patience with a disruption budget, which may wait for another Pod to be ready."""
NEEDS: tuple[tuple[str, ObjectKind, str | None], ...] = (
    ("list", POD, None), ("list", DEPLOYMENT, None), ("create", POD, "eviction"), ("delete", POD, None),
    ("patch", DEPLOYMENT, None), ("patch", DEPLOYMENT, "scale"), ("get", POD, "proxy"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClusterTarget:
    """The fleet as it was found, before anything is disturbed."""

    fleet: str
    namespace: str
    engines: tuple[str, ...]
    """The fleet's Deployments: one, or a spot fleet's floor and spot (decision 51)."""
    gateway: str
    """Name of the gateway's Deployment."""
    replicas: int
    """Replicas of all these Deployments together."""

    @property
    def scaled(self) -> str:
        """The Deployment whose number of replicas may change."""
        return next((e for e in self.engines if e == f"{self.fleet}-spot"), self.engines[0])


async def find(kube: Kube, fleet: str, namespace: str) -> ClusterTarget:
    """The fleet's Deployment and its gateway's. InputError when this context does not run the fleet, ClusterError when
    a right is missing: before anything is touched."""
    allowed = await asyncio.gather(*(kube.may(verb, kind, namespace, sub) for verb, kind, sub in NEEDS))
    missing = [
        f"{verb} {kind.plural}{'/' + sub if sub else ''}"
        for (verb, kind, sub), yes in zip(NEEDS, allowed, strict=True)
        if not yes
    ]
    if missing:
        raise ClusterError(
            f"not allowed in namespace {namespace}: {', '.join(missing)}.",
            "Ask for the Role in docs/how-to/prove.md; nothing was touched.",
        )
    engines = await _names(kube, namespace, f"{FLEET}={fleet},{COMPONENT}=engine")
    if not engines:
        raise InputError(
            f"context {kube.context} runs no Deployment of the fleet {fleet} in namespace {namespace}.",
            "Name the --context and --namespace where it was applied: seawall status",
        )
    gateways = await _names(kube, namespace, GATEWAYS)
    own = [g for g in gateways if g in (f"{fleet}-gateway",) or len(gateways) == 1]
    spot = {f"{fleet}-floor", f"{fleet}-spot"}
    if not own or (len(engines) > 1 and set(engines) != spot):
        found = ", ".join((*engines, *gateways))
        raise InputError(
            f"which objects serve {fleet} is not clear: {found}.", "A canary runs? Finish it first."
        )
    return ClusterTarget(
        fleet=fleet,
        namespace=namespace,
        engines=tuple(sorted(engines)),
        gateway=own[0],
        replicas=sum(engines.values()),
    )


async def _names(kube: Kube, namespace: str, labels: str) -> dict[str, int]:
    def replicas(obj: Object) -> int:
        return int((obj.get("spec") or {}).get("replicas", 1))

    found = await kube.list(Select(DEPLOYMENT, namespace, labels=labels), replicas)
    return {name: count for (_, name), count in found.items()}


def _pod(obj: Object) -> Seen:
    meta, status = obj["metadata"], obj.get("status") or {}
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ()
    )
    return Seen(name=meta["name"], url="", pid=0, ready=ready and not meta.get("deletionTimestamp"))


@dataclass
class ClusterFleet:
    """Implements `stage.Deployment`."""

    kube: Kube
    target: ClusterTarget
    url: str

    @property
    def gateway_url(self) -> str:
        return self.url

    @property
    def addresses(self) -> list[str]:
        return [self.gateway_url]

    @property
    def admin_url(self) -> str:
        return ""

    async def replicas(self) -> list[Seen]:
        t = self.target
        labels = f"{FLEET}={t.fleet},{ENGINES}"
        return list((await self.kube.list(Select(POD, t.namespace, labels=labels), _pod)).values())

    async def wanted(self) -> dict[str, int]:
        """Deployment -> replicas that its spec asks for now."""
        t = self.target
        found = await _names(self.kube, t.namespace, f"{FLEET}={t.fleet},{COMPONENT}=engine")
        return {name: count for name, count in found.items() if name in t.engines}

    async def gateways(self) -> list[str]:
        """Names of the gateway's Pods."""
        select = Select(POD, self.target.namespace, labels=f"{GATEWAYS},{INSTANCE}={self.target.gateway}")
        return [name for _, name in await self.kube.list(select, lambda o: None)]

    async def gateway_pids(self) -> list[int]:
        return []

    async def supervisor_pid(self) -> int:
        return 0

    def set_clock(self, off_s: float) -> None:
        """Nothing to do: nobody's clock is set on a cluster."""

    async def control(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """`restart`, `scale`, `restart-gateway`, as the local supervisor takes them."""
        t = self.target
        async with asyncio.timeout(timeout_s):
            if request["do"] == "scale":
                others = sum(n for name, n in (await self.wanted()).items() if name != t.scaled)
                body: Object = {"spec": {"replicas": request["replicas"] - others}}
                await self.kube.patch(DEPLOYMENT, t.namespace, t.scaled, body, "scale")
                return {}
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            note = {"metadata": {"annotations": {RESTARTED: at}}}
            for name in t.engines if request["do"] == "restart" else (t.gateway,):
                await self.kube.patch(DEPLOYMENT, t.namespace, name, {"spec": {"template": note}})
        return {}


class ClusterStage(Stage):
    """A stage whose victims are Pods."""

    def __init__(self, fleet: ClusterFleet, wait_s: float) -> None:
        super().__init__(fleet, slow=True)
        self.fleet, self.wait_s = fleet, wait_s

    @property
    def tells(self) -> bool:
        """True: its Pods do, by way of the API server."""
        return True

    async def gateway_state(self) -> GatewayState:
        """All gateway Pods as one, of this fleet. Who is away is left out."""
        t = self.fleet.target
        state = (await kube_gateways.ask(self.fleet.kube, t.namespace, t.gateway)).of(t.namespace)
        return replace(state, fleets={n: f for n, f in state.fleets.items() if n == t.fleet})

    async def evict(self, name: str) -> bool:
        """Through the eviction API, as a drained node does; patient with a disruption budget."""
        patience_s = min(self.wait_s, BUDGET_S)
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if await self.fleet.kube.evict(self.fleet.target.namespace, name):
                return True
            await asyncio.sleep(1.0)
        self.fail(f"nothing was evicted: the disruption budget forbade {name} for {patience_s:.0f} s")
        return False

    async def settled(self, count: int) -> None:
        """Waits for this many ready replicas, unless somebody else (a scaler) asks for another number meanwhile."""

        async def holds() -> bool:
            wanted = sum((await self.fleet.wanted()).values())
            if wanted != count:
                self.notes.append(f"somebody else, a scaler perhaps, asks for {wanted} replicas, not {count}")
            return wanted != count or len(await self.ready()) == count

        await self.until(f"{count} ready replicas", holds, self.wait_s)

    async def replaced(self, gone: Sequence[str]) -> None:
        """Waits until as many replicas as before are ready and none of `gone` is there."""

        async def holds() -> bool:
            pods = await self.fleet.replicas()
            ready = sum(p.ready for p in pods)
            return ready >= self.fleet.target.replicas and not {p.name for p in pods} & set(gone)

        await self.until(f"a ready replica in the place of {', '.join(gone)}", holds, self.wait_s)
