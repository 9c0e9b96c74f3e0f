"""Where a scenario plays: the deployment under test, as far as a scenario needs to know it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from seawall.domain.told import FleetState, GatewayState, read, total
from seawall.engines.vllm.load import parse_load
from seawall.errors import EngineError
from seawall.load.client import LoadClient
from seawall.prove.verdict import TimelineMark

QUEUE_BOUND = 32


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One replica as the deployment shows it."""

    name: str
    url: str
    pid: int
    ready: bool


class Deployment(Protocol):
    """A gateway with replicas behind it that can be told to change."""

    @property
    def gateway_url(self) -> str: ...

    @property
    def addresses(self) -> Sequence[str]:
        """Where clients go: the gateway, or, where there is none, engines, of which each client has one."""
        ...

    @property
    def admin_url(self) -> str:
        """Where the gateway tells of itself; empty: nowhere."""
        ...

    async def replicas(self) -> list[Seen]: ...

    async def gateway_pids(self) -> list[int]: ...

    async def supervisor_pid(self) -> int: ...

    def set_clock(self, off_s: float) -> None:
        """Sets the supervisor's time of day wrong by so much."""
        ...

    async def control(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]: ...


@dataclass
class Stage:
    """One scenario's run: its clock, its marks, and what it can do to the deployment."""

    deployment: Deployment
    slow: bool = False
    """Real engines: a replica takes minutes to come back, and nobody waits for it."""
    queue_bound: int = QUEUE_BOUND
    """The gateway's, where overload is a scenario."""
    stall_s: float = 2.0
    """How long the gateway bears silence."""
    started_s: float = field(default_factory=time.monotonic)
    marks: list[TimelineMark] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    excused: list[tuple[float, float]] = field(default_factory=list)
    """Times of a monotonic clock between which a request may have begun that was answered wrongly: nobody could know
    yet. Its stream must still be whole."""

    def mark(self, text: str) -> None:
        self.marks.append(TimelineMark(at_s=round(time.monotonic() - self.started_s, 2), text=text))

    def fail(self, text: str) -> None:
        """A promise that the streams themselves do not show is broken."""
        self.broken.append(text)

    async def order(self, **request: Any) -> None:
        """One request to the deployment's control; a refusal is a broken promise."""
        answer = await self.deployment.control(request, 30.0)
        if answer.get("ok") is False:
            self.fail(f"{request['do']} was refused: {answer.get('error')}")

    async def ready(self) -> list[Seen]:
        return [r for r in await self.deployment.replicas() if r.ready]

    async def until(self, what: str, holds: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> bool:
        """Waits until it holds; a scenario that waits in vain is a broken promise, not an error."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if await holds():
                return True
            await asyncio.sleep(0.1)
        self.fail(f"waited {timeout_s:.0f} s in vain for {what}")
        return False

    async def until_ready(self, count: int, timeout_s: float = 60.0) -> bool:
        async def enough() -> bool:
            return len(await self.ready()) == count

        return await self.until(f"{count} ready replicas", enough, timeout_s)

    async def victim(self, but: str | None = None) -> Seen:
        """A ready replica, the busiest that the gateway knows of. EngineError if there is none."""
        ready = {r.name: r for r in await self.ready() if r.name != but}
        if not ready:
            raise EngineError("no replica is ready.", "Look at the replicas' logs in the state directory.")
        running = await self.running()
        return ready[max(ready, key=lambda n: running.get(n, 0))]

    @property
    def tells(self) -> bool:
        """Whether the gateway tells what it knows of its replicas. Ours does; of others what clients saw counts."""
        return bool(self.deployment.admin_url)

    async def running(self) -> dict[str, int]:
        """Requests at each replica, as the gateway counts them; if it tells nothing, as the engines themselves do."""
        if self.tells:
            return {name: r.in_flight for name, r in (await self.gateway_state()).replicas.items()}
        found = await asyncio.gather(*(self._running(r) for r in await self.deployment.replicas()))
        return {name: count for name, count in found if count is not None}

    async def _running(self, replica: Seen) -> tuple[str, int | None]:
        client = LoadClient(replica.url)
        try:
            status, body = await client.get("/metrics", 2.0)
        except (OSError, TimeoutError):
            return replica.name, None
        return replica.name, round(
            parse_load(body.decode("utf-8", "replace")).running
        ) if status == 200 else None

    async def until_busy(self, what: str) -> None:
        async def busy() -> bool:
            return any((await self.running()).values())

        await self.until(what, busy)

    def signal(self, pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            self.notes.append(f"pid {pid} was gone before {number.name}")

    async def fault(self, replica: Seen, **order: Any) -> None:
        """`POST /sim/fault` on a simulated replica."""
        client = LoadClient(replica.url)
        outcome = await client.request("/sim/fault", order)
        client.close()
        if outcome.status != 200:
            raise EngineError(
                f"{replica.name} took no fault: {outcome.error} {outcome.detail}",
                "This scenario needs simulated engines: use --engine sim.",
            )

    async def gateway_state(self) -> GatewayState:
        """What the gateway tells; an empty one while it does not answer, or if it never does."""
        if not self.tells:
            return GatewayState()
        client = LoadClient(self.deployment.admin_url)
        try:
            status, body = await client.get("/debug/state", 5.0)
            return read(json.loads(body)) if status == 200 else GatewayState()
        except (OSError, TimeoutError, ValueError):
            return GatewayState()

    async def totals(self) -> FleetState:
        """All fleets of the gateway as one."""
        return total(await self.gateway_state())
