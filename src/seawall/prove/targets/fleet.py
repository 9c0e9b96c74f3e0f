"""A target in front of its engines, as the deployment that scenarios play on.

What happens to engines is done here (they are ours), what happens to the gateway through its adapter. A gateway that
dies is started again at once, as a kubelet does. Forbidden here: knowing one target from another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import httptools
import psutil

from seawall.drivers.process import Child
from seawall.errors import EngineError, SeawallError
from seawall.load.client import LoadClient
from seawall.local.keeper import base_env
from seawall.prove.stage import Seen
from seawall.prove.targets.adapter import TargetAdapter, TargetPlace
from seawall.prove.targets.engines import TargetEngines

PRE_STOP_S = 2.0
"""Between the moment in which the target is told that an engine goes and the engine's SIGTERM."""
STOP_S = 20.0
SHORT_LIFE_S = 0.5
"""One that ends sooner is not started again in a tight loop."""


class TargetFleet:
    """One target with its engines. Make it with `start`, end it with `stop`."""

    def __init__(self, adapter: TargetAdapter, place: TargetPlace, engines: TargetEngines) -> None:
        self.adapter, self.place, self.engines = adapter, place, engines
        self._child: Child | None = None
        self._old: list[Child] = []
        self._care: asyncio.Task[None] | None = None
        self._at_work: set[asyncio.Task[None]] = set()
        self._starts = 0
        self._spawned = 0.0
        self.problems: list[str] = []
        """What went wrong after an order had been answered."""
        self._beside: dict[str, Child] = {}

    @classmethod
    async def start(
        cls, adapter: TargetAdapter, place: TargetPlace, engines: TargetEngines, count: int
    ) -> TargetFleet:
        """Engines first, then the target, until it lists the model. EngineError with its last words if it does not."""
        place.folder.mkdir(parents=True, exist_ok=True)
        one = cls(adapter, place, engines)
        try:
            await engines.add(count)
            await one._begin()
        except BaseException:
            await one.stop()
            raise
        return one

    async def _begin(self) -> None:
        self.place.engines = self.engines.urls
        self.place.write(self.adapter.files(self.place))
        for name, argv in self.adapter.companions(self.place).items():
            await self._start_beside(name, argv)
            self._at_work.add(asyncio.create_task(self._keep_beside(name, argv)))
        if self.adapter.argv(self.place):
            self._child = await self._spawn()
            self._care = asyncio.create_task(self._keep())
        end = time.monotonic() + self.adapter.start_s
        while not await self.answers():
            if self._starts > 3 or time.monotonic() > end:
                words = self.last_words()
                raise EngineError(f"{self.adapter.name} does not serve: {words}", "Its log: --keep-logs DIR.")
            await asyncio.sleep(0.1)

    async def _spawn(self) -> Child:
        self._starts += 1
        self._spawned = time.monotonic()
        env = base_env() | self.adapter.env(self.place)
        return await Child.start(self.adapter.argv(self.place), env, self.place.folder / "target.log")

    async def _keep_beside(self, name: str, argv: list[str]) -> None:
        while True:
            await self._beside[name].wait()
            await self._start_beside(name, argv)

    async def _start_beside(self, name: str, argv: list[str]) -> None:
        self._beside[name] = await Child.start(argv, base_env(), self.place.folder / f"{name}.log")

    async def _keep(self) -> None:
        """Starts it again whenever it has died; one that has been replaced is not missed."""
        while True:
            child = self._child
            assert child is not None
            await child.wait()
            if child is self._child:
                if time.monotonic() - self._spawned < SHORT_LIFE_S:
                    await asyncio.sleep(SHORT_LIFE_S)
                self._child = await self._spawn()

    async def answers(self) -> bool:
        """Whether every address of it lists the model."""
        for url in self.addresses:
            try:
                client = LoadClient(url, api_key=self.place.api_key)
                if (await client.get("/v1/models", 2.0))[0] != 200:
                    return False
            except (OSError, TimeoutError, httptools.HttpParserError):
                return False
        return True

    async def _ready(self) -> bool:
        """Whether the process that was started last serves; only its own state tells it from one that still runs."""
        if not self.admin_url:
            return await self.answers()
        try:
            return (await LoadClient(self.admin_url).get("/readyz", 2.0))[0] == 200
        except (OSError, TimeoutError):
            return False

    def last_words(self) -> str:
        with contextlib.suppress(OSError):
            return (
                (self.place.folder / "target.log")
                .read_text(errors="replace")[-400:]
                .strip()
                .replace("\n", " | ")
            )
        return ""

    @property
    def addresses(self) -> list[str]:
        return self.adapter.addresses(self.place)

    @property
    def gateway_url(self) -> str:
        return self.addresses[0]

    @property
    def admin_url(self) -> str:
        return self.adapter.admin_url(self.place)

    async def replicas(self) -> list[Seen]:
        return self.engines.seen()

    async def gateway_pids(self) -> list[int]:
        """Who serves: the children of the process that was started, or, without any, that process itself."""
        if self._child is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [c.pid for c in psutil.Process(self._child.pid).children()] or [self._child.pid]
        return []

    async def _companion(self, name: str) -> dict[str, Any]:
        pid = self._beside[name].pid
        ready = await self.adapter.companion_ready(self.place, pid)
        return {"pid": pid, "phase": "ready" if ready else "starting"}

    async def supervisor_pid(self) -> int:
        return os.getpid()

    def set_clock(self, off_s: float) -> None:
        """Nothing: who supervises here has no clock of its own. Scenarios that need one are not applicable."""

    async def control(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Orders of `seawall up`'s control socket. What takes long goes on after the answer, as there."""
        match request.get("do"):
            case "restart":
                self._go_on(self._roll())
            case "scale" if request.get("replicas"):
                self._go_on(self._scale(int(request["replicas"])))
            case "restart-gateway":
                return await self._replace()
            case "status":
                return {name: await self._companion(name) for name in self._beside}
            case _:
                return {"ok": False, "error": f"{request.get('do')} is not for a target"}
        return {"ok": True}

    def _go_on(self, work: Coroutine[Any, Any, None]) -> None:
        async def told() -> None:
            try:
                await work
            except SeawallError as e:
                self.problems.append(e.message)

        task = asyncio.ensure_future(told())
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _roll(self) -> None:
        """One engine after another: its successor answers, the target is told, then the old one may stop."""
        for old in list(self.engines.engines):
            await self.engines.add(1)
            await self._without([old])

    async def _scale(self, count: int) -> None:
        here = list(self.engines.engines)
        if count > len(here):
            await self.engines.add(count - len(here))
            await self._reload(self.engines.urls)
        else:
            await self._without(here[count:])

    async def _without(self, leaving: Sequence[Any]) -> None:
        gone = {e.url for e in leaving}
        await self._reload([url for url in self.engines.urls if url not in gone])
        await asyncio.sleep(PRE_STOP_S)
        await asyncio.gather(*(self.engines.retire(e) for e in leaving))

    async def _reload(self, urls: list[str]) -> None:
        self.place.engines = urls
        self.place.generation += 1
        await self.adapter.reload(self.place, self._child.pid if self._child else 0)

    async def _replace(self) -> dict[str, Any]:
        old = self._child
        if old is None or not await self.adapter.replace(self.place, old.pid):
            return {"ok": old is not None}
        new = self._child = await self._spawn()
        self._old.append(old)
        while not await self._ready():
            if new.exit_code is not None:
                return {"ok": False, "error": f"its successor ended: {self.last_words()}"}
            await asyncio.sleep(0.1)
        old.terminate()
        return {"ok": True}

    async def stop(self) -> None:
        for task in [*self._at_work, *([self._care] if self._care else [])]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        mine = [self._child, *self._old, *self._beside.values()]
        await asyncio.gather(*(_end(c) for c in mine if c is not None))
        await self.engines.stop()
        shutil.rmtree(self.place.folder_for_sockets, ignore_errors=True)


async def _end(child: Child) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGCONT)
    child.terminate()
    try:
        async with asyncio.timeout(3.0):
            await child.wait()
    except TimeoutError:
        child.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await child.wait()
