"""The two services that a keeper keeps, an engine and the gateway: how each is started, proved and watched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seawall.decide.adapters import BACK_OFF_S, Failure, changes, failed
from seawall.decide.route.evidence import Pace
from seawall.decide.route.pace import pace_of
from seawall.decide.truth.fingerprint import Deviation, Fingerprint, KnownAnswer, compare
from seawall.decide.truth.standing import TruthStanding, told_all
from seawall.domain.told import FleetState, GatewayState, ReplicaState, read
from seawall.drivers import keeper
from seawall.drivers.process import free_port
from seawall.engines.vllm.client import EngineClient
from seawall.engines.vllm.load import EngineLoad
from seawall.errors import EngineError
from seawall.local.keeper import base_env
from seawall.local.launch import HOST, ReplicaRecipe

BATCH_GRACE_S = 5.0
"""Seconds for lines that are under way when the lane ends: what is cut off runs again."""
COVER_S = 30.0
"""Seconds for sweeps and rows before a replica is given traffic."""
AT_ONCE = 8
LOOK_S = 30.0
"""Between two looks at the adapters of a replica that has them all: somebody may have unloaded one by hand."""


class EngineService:
    """One replica. Every start takes a new port, so a port that somebody else took costs one retry."""

    def __init__(
        self,
        recipe: ReplicaRecipe,
        client: EngineClient,
        idle: Callable[[], bool | None],
        probe_s: float,
        now: Callable[[], float],
    ) -> None:
        self._now = now
        self.recipe, self._client, self._idle, self._probe_s = recipe, client, idle, probe_s
        self.port = 0
        self._key = os.environ.get("SEAWALL_ENGINE_API_KEY")
        self._tried: dict[str, Failure] = {}
        self._again_s = 0.0
        self.truth: Callable[[], Fingerprint | None] = lambda: None
        """What its answers must be, where a fingerprint lies beside the spec."""
        self.adapters: tuple[str, ...] | None = () if recipe.loads else None
        """What it has loaded and requests may ask of it; None: all that the spec names, from its start."""
        self.problem = ""
        """Why an adapter is missing; empty when all are there."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> tuple[list[str], dict[str, str]]:
        self.port = free_port(HOST)
        self._tried.clear()
        if self.recipe.loads:
            self.adapters, self._again_s = (), 0.0
        argv, env = self.recipe.command(self.port)
        return argv, env | {"SEAWALL_REPLICA_PORT": str(self.port)}

    async def listens(self) -> bool:
        return await self._client.listens(self.url)

    async def prove(self) -> str | None:
        headers = {"authorization": f"Bearer {self._key}"} if self._key else None
        try:
            await self._client.token(self.url, self.recipe.fleet.served_names[0], self._probe_s, headers)
            wrong = await self._answers_wrongly(headers)
        except EngineError as e:
            return e.message
        if wrong:
            return wrong
        await self._adapt()
        return None

    async def _answers_wrongly(self, headers: dict[str, str] | None) -> str:
        """Why its answers are not those of the fleet's fingerprint; empty: they are, or there is none. Sweeps and rows
        for as long as COVER_S, the common tokens first; what is left the gateway asks while it serves."""
        known = self.truth() if self.recipe.fleet.spec.gateway.truth_budget else None
        parts = [
            [k for k in (known.known if known is not None else ()) if k.prompt.kind in kinds]
            for kinds in (
                ("chat", "text"),
                ("ids",),
                ("rows",),
            )  # rows by themselves: see decide/truth/standing.py
        ]
        seen: list[Deviation] = []
        confirmed: list[Deviation] = []
        for n, part in enumerate(parts):
            end = asyncio.get_running_loop().time() + (COVER_S / 2 if n else math.inf)
            found = await self._asked(part, headers, end, AT_ONCE if n else 1)
            if found is None:
                return ""  # it cannot be asked; the gateway says so
            seen += found
            moved = [k for k in part if n and any(m.moved and m.prompt == k.prompt.name for m in found)]
            confirmed += await self._asked(moved[:2], headers, math.inf, 1) or []
            standing = told_all(TruthStanding(), seen, confirmed)
            if standing.state == "wrong":
                return standing.reason
        return ""

    async def _asked(
        self, known: Sequence[KnownAnswer], headers: dict[str, str] | None, end: float, at_once: int
    ) -> list[Deviation] | None:
        """How the answers are away that came until `end`; None: it cannot be asked."""
        model = self.recipe.fleet.served_names[0]
        left = list(reversed(known))
        seen: list[Deviation] = []
        failed: list[EngineError | None] = []

        async def some() -> None:
            while left and not failed and asyncio.get_running_loop().time() < end:
                one = left.pop()
                try:
                    answer = await self._client.answer(self.url, model, one.prompt, self._probe_s, headers)
                except EngineError as e:
                    failed.append(e)
                    return
                if answer is None:
                    failed.append(None)
                else:
                    seen.append(compare(one, answer))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(some())
        error = next(filter(None, failed), None)
        if error is not None:
            raise error
        return None if failed else seen

    async def load(self) -> EngineLoad | None:
        await self._adapt()
        return await self._client.load(self.url)

    def pace(self) -> Pace:
        return pace_of(self.recipe.plan)

    @property
    def computes(self) -> bool:
        """True for a real engine; the simulated one sleeps where a real one computes."""
        return self.recipe.engine == "vllm"

    async def _adapt(self) -> None:
        """Loads what it lacks of the spec's adapters, by the decision that the operator acts on, too. The model serves
        meanwhile, and without the one that cannot be loaded."""
        now = self._now()
        if self.adapters is None or now < self._again_s:
            return
        try:
            todo = changes(
                self.recipe.adapters, await self._client.adapters(self.url, key=self._key), self._tried, now
            )
            for new in todo.load:
                try:
                    await self._client.load_adapter(self.url, new.name, new.path, key=self._key)
                    self._tried.pop(new.name, None)
                except EngineError as e:
                    self._tried[new.name] = failed(self._tried.get(new.name), new.path, e.message, now)
            served = await self._client.adapters(self.url, key=self._key)
        except EngineError as e:
            self.problem, self._again_s = e.message, now + BACK_OFF_S[0]
            return
        after = changes(self.recipe.adapters, served, self._tried, now)
        self.adapters, self.problem = after.routable, after.problem
        self._again_s = min((f.again_s for f in self._tried.values()), default=now + LOOK_S)

    def idle(self) -> bool | None:
        return self._idle()

    async def sleep(self, patience_s: float) -> str | None:
        try:
            await self._client.sleep(self.url, patience_s)
        except EngineError as e:
            return e.message
        return None

    async def wake(self) -> str | None:
        try:
            await self._client.wake(self.url)
        except EngineError as e:
            return e.message
        return None


@dataclass(frozen=True, kw_only=True)
class GatewayPlace:
    """Where the gateway listens and what it reads."""

    specs: tuple[Path, ...]
    discovery: Path
    host: str
    port: int
    admin_port: int
    grace_s: float
    keeper: Path | None = None
    """The socket of the process that holds what a gateway would lose with its life; None: there is none."""
    batch_port: int = 0
    """Where the batch lane listens; 0: there is none."""
    batch_secret: str = field(default="", repr=False)
    """What the lane and the gateway know each other by."""
    batch_without: tuple[str, ...] = ()
    """Mechanisms of `domain.switches.BATCH` that a proof has switched off."""
    planned: tuple[str, ...] = ()
    """What fleets were planned to do, as the lane reads it."""
    without: tuple[str, ...] = ()
    """Mechanisms of `domain.switches.GATEWAY` that a proof has switched off."""

    @property
    def url(self) -> str:
        host = HOST if self.host in ("0.0.0.0", "") else self.host
        return f"http://{host}:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://{HOST}:{self.admin_port}"


class NoEngine:
    """What all kept processes that compute no model have in common."""

    def pace(self) -> Pace:
        """Pace of a process without long prompts to read: it owes every look an answer."""
        return Pace(prompt_token_s=0.0)

    @property
    def computes(self) -> bool:
        return False

    def idle(self) -> bool | None:
        """True: it finishes by itself on SIGTERM, and needs no notice first."""
        return True

    async def sleep(self, patience_s: float) -> str | None:
        return "only engines sleep"

    async def wake(self) -> str | None:
        return "only engines sleep"


class GatewayService(NoEngine):
    """The gateway as a kept process. Its `/debug/state` also tells the supervisor how much is asked of each fleet."""

    def __init__(self, place: GatewayPlace, client: EngineClient) -> None:
        self.place, self._client = place, client
        self.state: GatewayState | None = None
        """What it told last; None while it does not answer."""
        self._answered = 0

    def command(self) -> tuple[list[str], dict[str, str]]:
        p = self.place
        argv = [sys.executable, "-m", "seawall", "gateway", *map(str, p.specs)]
        argv += ["--discovery", f"file:{p.discovery}", "--listen", f"{p.host}:{p.port}"]
        argv += ["--admin", f"{HOST}:{p.admin_port}", "--grace", f"{p.grace_s:g}"]
        argv += ["--supervisor", str(p.discovery.with_name("state.json"))]
        argv += ["--keeper", str(p.keeper)] if p.keeper else []
        argv += ["--batch", f"{HOST}:{p.batch_port}"] if p.batch_port else []
        return [*argv, *(f"--without={name}" for name in p.without)], _with_secret(p)

    async def listens(self) -> bool:
        return await self._client.ok(f"{self.place.admin_url}/healthz")

    async def prove(self) -> str | None:
        return None if await self.listens() else "no 200 from /healthz"

    async def load(self) -> EngineLoad | None:
        """The gateway's sign of life: the number of looks that it answered by showing its state."""
        page = await self._client.get_json(f"{self.place.admin_url}/debug/state")
        try:
            self.state = None if page is None else read(page)
        except ValueError:
            self.state = None
        if self.state is None:
            return None
        self._answered += 1
        return EngineLoad(marks=(self._answered,))

    def fleet(self, name: str) -> FleetState | None:
        """What it tells of a fleet; None while it tells nothing."""
        return self.state.fleets.get(name) if self.state else None

    def replica(self, name: str, url: str) -> ReplicaState | None:
        """What it tells of a replica at this very address; None while it tells nothing."""
        found = self.state.replicas.get(name) if self.state else None
        return found if found is not None and found.url in (url, "") else None


class BatchService(NoEngine):
    """The batch lane (`seawall batch serve`) as a kept process, beside the gateway that it was told of."""

    def __init__(self, place: GatewayPlace, folder: Path, client: EngineClient) -> None:
        self.place, self._folder, self._client = place, folder, client
        self._answered = 0

    def command(self) -> tuple[list[str], dict[str, str]]:
        p = self.place
        argv = [sys.executable, "-m", "seawall", "batch", "serve", *map(str, p.specs)]
        argv += ["--gateway", p.url, "--admin", p.admin_url, "--listen", f"{HOST}:{p.batch_port}"]
        argv += ["--folder", str(self._folder), "--grace", f"{BATCH_GRACE_S:g}"]
        argv += [word for text in p.planned for word in ("--planned", text)]
        return [*argv, *(f"--without={name}" for name in p.batch_without)], _with_secret(p)

    async def listens(self) -> bool:
        return await self._client.ok(f"http://{HOST}:{self.place.batch_port}/healthz")

    async def prove(self) -> str | None:
        return None if await self.listens() else "no 200 from /healthz"

    async def load(self) -> EngineLoad | None:
        if not await self.listens():
            return None
        self._answered += 1
        return EngineLoad(marks=(self._answered,))


def _with_secret(place: GatewayPlace) -> dict[str, str]:
    """The environment of the gateway and of the lane, who know each other by it."""
    own = {"SEAWALL_BATCH_SECRET": place.batch_secret} if place.batch_secret else {}
    return {**base_env(), **own}


class KeeperService(NoEngine):
    """The keeper of the gateway's connections (drivers/keeper.py) as a kept process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answered = 0

    def command(self) -> tuple[list[str], dict[str, str]]:
        self._path.unlink(missing_ok=True)
        return [sys.executable, "-I", "-S", str(keeper.__file__), str(self._path)], base_env()

    async def listens(self) -> bool:
        return await asyncio.to_thread(keeper.answers, str(self._path))

    async def prove(self) -> str | None:
        return None if await self.listens() else "no answer on its socket"

    async def load(self) -> EngineLoad | None:
        if not await self.listens():
            return None
        self._answered += 1
        return EngineLoad(marks=(self._answered,))


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None when there is none."""
    with contextlib.suppress(OSError, ValueError):
        data = json.loads(path.read_text("utf-8"))
        return data if isinstance(data, dict) else None
    return None
