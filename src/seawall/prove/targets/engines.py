"""Engines behind a target: started here, each at an address that stays, started again when they die, as a Pod's
container is. Who is behind which gateway they do not know.

Forbidden here: telling a target anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from seawall.drivers.process import Child, free_port
from seawall.engines.vllm.client import EngineClient
from seawall.errors import EngineError
from seawall.local.launch import ReplicaRecipe
from seawall.prove.stage import Seen
from seawall.prove.targets.meter import TokenMeter

LOOK_S = 0.1
ENDS_S = 30.0
"""Beyond its drain."""


@dataclass
class TargetEngine:
    """One engine at its address, whichever process stands there at the moment."""

    name: str
    port: int
    child: Child | None = None
    ready: bool = False
    wanted: bool = True
    """False: when it has ended it is not started again."""
    starts: int = 0
    care: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class TargetEngines:
    """All engines of one cell. `start` some, `add` and `retire` others, `stop` them all."""

    recipe: ReplicaRecipe
    folder: Path
    meter: TokenMeter
    ready_s: float = 120.0
    port_of: Callable[[int], int] = lambda index: free_port()
    engines: list[TargetEngine] = field(default_factory=list)
    _client: EngineClient = field(default_factory=EngineClient)
    _made: int = 0

    @property
    def urls(self) -> list[str]:
        """Addresses of all that are to serve, ready or not."""
        return [e.url for e in self.engines if e.wanted]

    def seen(self) -> list[Seen]:
        return [
            Seen(name=e.name, url=e.url, pid=e.child.pid if e.child else 0, ready=e.ready)
            for e in self.engines
            if e.wanted
        ]

    async def add(self, count: int) -> list[TargetEngine]:
        """Starts so many more and waits until they answer. EngineError when one does not."""
        new = []
        for _ in range(count):
            port = self.port_of(self._made)
            engine = TargetEngine(f"engine-{port}", port)
            self._made += 1
            engine.care = asyncio.create_task(self._keep(engine))
            new.append(engine)
        self.engines += new
        end = time.monotonic() + self.ready_s
        while not all(e.ready for e in new):
            for e in new:
                if e.care is not None and e.care.done():
                    e.care.result()
            if time.monotonic() > end:
                raise EngineError(f"{new[0].name} was not ready after {self.ready_s:.0f} s.", self._cure())
            await asyncio.sleep(LOOK_S)
        return new

    async def retire(self, engine: TargetEngine) -> None:
        """SIGTERM, then the end that the engine itself makes of what it runs."""
        engine.wanted = engine.ready = False
        if engine.child is not None:
            engine.child.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.recipe.fleet.spec.rollout.drain + ENDS_S):
                    await engine.child.wait()
        await self._end(engine)

    async def stop(self) -> None:
        await asyncio.gather(*(self._end(e) for e in list(self.engines)))
        await self._client.close()

    async def _end(self, engine: TargetEngine) -> None:
        engine.wanted = engine.ready = False
        if engine.care is not None:
            engine.care.cancel()
            await asyncio.wait([engine.care])
        if engine.child is not None:
            engine.child.kill()
            await engine.child.wait()
        if engine in self.engines:
            self.engines.remove(engine)

    async def _keep(self, engine: TargetEngine) -> None:
        """Starts it, watches until it answers, and starts it again when it has died."""
        log = self.folder / f"{engine.name}.log"
        while engine.wanted:
            argv, env = self.recipe.command(engine.port)
            engine.starts += 1
            engine.child = await Child.start(argv, env, log)
            pid = engine.child.pid
            await self._until_it_answers(engine, log)
            self.meter.follow(engine.url, pid)
            engine.ready = True
            await engine.child.wait()
            engine.ready = False

    async def _until_it_answers(self, engine: TargetEngine, log: Path) -> None:
        child = engine.child
        assert child is not None
        while not await self._client.listens(engine.url):
            if child.exit_code is not None:
                words = log.read_text(errors="replace")[-300:].strip().replace("\n", " | ")
                if engine.starts == 1:
                    raise EngineError(f"{engine.name} ended with {child.exit_code}: {words}", self._cure())
                return
            await asyncio.sleep(LOOK_S)

    def _cure(self) -> str:
        return "Its log stays with --keep-logs DIR."
