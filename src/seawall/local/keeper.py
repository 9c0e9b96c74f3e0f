"""Keeps one process alive and honest: start, prove, watch, restart with back-off, drain, stop.

A replica and the gateway are kept the same way; what differs is the `Service`: its command, how it proves
itself, what its pulse is. The phases are `decide/replica.py`'s table; this file only acts on them.
Forbidden here: choosing how many there should be.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, assert_never

from seawall.decide.replica import Life, LifeEvent, LifePolicy, ReplicaPhase, born, can, due, step
from seawall.decide.route.evidence import Opinion, Pace, Patience, Pulse, Sight, Verdict, look
from seawall.decide.truth.standing import WRONG
from seawall.domain.units import counted
from seawall.drivers.process import ProcessLimits, computing_cpu_s, own_cpu_s, resident_bytes
from seawall.engines.vllm.load import EngineLoad
from seawall.errors import EngineError, SeawallError
from seawall.local.causes import cause_of
from seawall.local.clock import Clock

SLICE_S = 0.2
"""How late a keeper may notice that its process has gone."""
MEMORY_LOOK_S = 5.0
BURY_S = 60.0
"""Seconds until killed processes must be gone. One in uninterruptible sleep is left to the kernel, with a warning."""


class Running(Protocol):
    """A started process, as `drivers.process.Child`."""

    pid: int
    limited_by: str

    @property
    def guardian_pid(self) -> int: ...

    @property
    def exit_code(self) -> int | None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int: ...


Spawn = Callable[[Sequence[str], Mapping[str, str], Path, ProcessLimits | None], Awaitable[Running]]


class Service(Protocol):
    """What is kept: one vLLM server, one simulated one, or the gateway."""

    def command(self) -> tuple[list[str], dict[str, str]]:
        """argv and environment of a fresh start; picks a new port where it may."""
        ...

    async def listens(self) -> bool: ...

    async def prove(self) -> str | None:
        """Asks for one piece of real work. None: it was done; else what came instead."""
        ...

    async def load(self) -> EngineLoad | None:
        """The service's load, whose `marks` are signs of life. None: it cannot be read. EngineError: nothing came."""
        ...

    def pace(self) -> Pace:
        """How fast it is planned to work: how long it may be silent."""
        ...

    @property
    def computes(self) -> bool:
        """Whether work costs CPU time of its child processes, so that none used means none done."""
        ...

    def idle(self) -> bool | None:
        """Nothing is in flight to it, as far as the router knows; None: not known."""
        ...

    async def sleep(self, patience_s: float) -> str | None:
        """Puts it to sleep, what runs ending first; None when it sleeps, else what came instead."""
        ...

    async def wake(self) -> str | None:
        """None when it is awake, else what came instead."""
        ...


@dataclass(frozen=True, kw_only=True)
class Care:
    """How a keeper treats its process. Times are seconds."""

    life: LifePolicy = field(default_factory=LifePolicy)
    patience: Patience = field(default_factory=Patience)
    look_s: float = 1.0
    """Seconds between two looks at a ready process."""
    probe_s: float = 15.0
    """How long one token may take."""
    notice_s: float = 15.0
    """Longest time between "route nothing here" and SIGTERM; less when the router says that nothing is in flight."""
    drain_s: float = 120.0
    """Seconds that the process may go on after SIGTERM; then it is killed."""
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    without: frozenset[str] = frozenset()
    """Mechanisms of `domain.switches.LOCAL` that a proof has switched off."""


class Keeper:
    """One process and its life. `run()` returns when it is stopped for good."""

    def __init__(
        self,
        name: str,
        service: Service,
        log: Path,
        care: Care,
        *,
        spawn: Spawn,
        clock: Clock,
        changed: Callable[[Keeper, str], None],
        generation: int = 0,
    ) -> None:
        self.name, self.service, self.log, self.care, self.generation = name, service, log, care, generation
        self._spawn, self._clock, self._changed = spawn, clock, changed
        self.life: Life = born(clock.now(), "wanted")
        self.child: Running | None = None
        self.load: EngineLoad | None = None
        self.memory_bytes = 0
        self.serving = False
        """Whether it has proved itself since its last start: requests may be in flight to it."""
        self.pulse = Pulse(sign_s=clock.now())
        self._told_wrong = ""
        """What was said of its answers last, before it served."""
        self._ask: asyncio.Task[str | None] | None = None
        """A direct ask for one token that is under way."""
        self._drain_why: str | None = None
        self._sleep_why: str | None = None
        self._hurry = False
        self._memory_at = 0.0

    def drain(self, why: str) -> None:
        """Asks the process to finish its requests and stop. Idempotent."""
        if self._drain_why is None:
            self._drain_why = why

    def doze(self, why: str) -> None:
        """Asks a ready process to finish its requests and sleep. Idempotent."""
        self._sleep_why = self._sleep_why or why

    def rouse(self) -> None:
        """Asks a sleeping process to wake. Idempotent."""
        self._sleep_why = None

    def hurry(self) -> None:
        """Ends a drain at once: kill."""
        self._hurry = True
        self.drain("stopped at once")

    async def run(self) -> None:
        """Starts, proves and watches the process until it is stopped for good; on cancellation it is killed."""
        try:
            while True:
                match self.life.phase:
                    case ReplicaPhase.STARTING:
                        await self._starting()
                    case ReplicaPhase.PROVING:
                        await self._proving()
                    case ReplicaPhase.READY:
                        await self._ready()
                    case ReplicaPhase.FAILED:
                        await self._failed()
                    case ReplicaPhase.DRAINING:
                        await self._draining()
                    case ReplicaPhase.DOZING:
                        await self._dozing()
                    case ReplicaPhase.ASLEEP:
                        await self._asleep()
                    case ReplicaPhase.STOPPED:
                        return
                    case _:
                        assert_never(self.life.phase)
        finally:
            await self._bury()
            await self._stop_asking()

    async def _stop_asking(self) -> None:
        ask, self._ask = self._ask, None
        if ask is not None:
            ask.cancel()
            await asyncio.gather(ask, return_exceptions=True)

    def _happen(self, event: LifeEvent, why: str) -> None:
        self.life = step(self.life, event, self._clock.now(), self.care.life, why)
        if self.life.phase in (ReplicaPhase.FAILED, ReplicaPhase.STOPPED):
            self.serving, self.load, self._sleep_why = False, None, None
        self._changed(self, why)

    async def _pause(self, seconds: float) -> None:
        """Waits, but ends at once when the process exits or a drain is asked for."""
        end = self._clock.now() + seconds
        while (left := end - self._clock.now()) > 0 and not self._interrupted():
            await self._clock.sleep(min(SLICE_S, left))

    def _interrupted(self) -> bool:
        gone = self.child is not None and self.child.exit_code is not None
        return (
            gone
            or self._hurry
            or (self._drain_why is not None and self.life.phase is not ReplicaPhase.DRAINING)
        )

    def _interruption(self) -> bool:
        """Handles an exit, a drain or the start-up budget; True when the phase has changed."""
        now = self._clock.now()
        if self._drain_why is not None and can(self.life, LifeEvent.DRAIN):
            self._happen(LifeEvent.DRAIN, self._drain_why)
            return True
        if (
            self.child is not None
            and (code := self.child.exit_code) is not None
            and can(self.life, LifeEvent.EXITED)
        ):
            self._happen(LifeEvent.EXITED, cause_of(code, self.log))
            return True
        if due(self.life, now, self.care.life) is LifeEvent.OVERDUE:
            self._happen(
                LifeEvent.OVERDUE, f"not ready within its start-up budget of {self.care.life.startup_s:.0f} s"
            )
            return True
        return False

    async def _starting(self) -> None:
        if self.child is None:
            argv, env = self.service.command()
            try:
                self.child = await self._spawn(argv, env, self.log, self.care.limits)
            except SeawallError as e:
                self._happen(LifeEvent.EXITED, e.message)
                return
            self._changed(self, f"pid {self.child.pid}")
        while not self._interruption():
            if "start-proof" in self.care.without or await self.service.listens():
                self._happen(LifeEvent.LISTENS, "it listens")
                return
            await self._pause(0.5)

    async def _proving(self) -> None:
        while not self._interruption():
            failed = None if "start-proof" in self.care.without else await self.service.prove()
            if failed is None:
                now = self._clock.now()
                self.pulse, self.serving = Pulse(sign_s=now), True
                self._happen(
                    LifeEvent.PROVED, f"proved itself {now - self.life.born_s:.1f} s after its start"
                )
                return
            if failed.startswith(WRONG) and failed != self._told_wrong:
                self._told_wrong = failed
                self._changed(self, f"gets no requests: {failed}")
            await self._pause(0.5)

    async def _ready(self) -> None:
        while not self._interruption():
            if self._sleep_why is not None:
                self._happen(LifeEvent.DOZE, self._sleep_why)
                return
            opinion = self._opinion(deaf=not await self._read_load())
            if opinion.verdict is Verdict.DEAD:
                self._happen(LifeEvent.STALLED, f"stalled: {opinion.reason}")
                return
            if self._too_large():
                self._happen(LifeEvent.STALLED, f"uses {self.memory_bytes >> 20} MiB, over its limit")
                return
            await self._pause(self.care.look_s)

    async def _read_load(self) -> bool:
        """False: the service answered nothing in time."""
        try:
            self.load = await self.service.load()
        except EngineError:
            self.load = None
            return False
        return True

    def _opinion(self, deaf: bool) -> Opinion:
        """One look at its signs of life; asks it for a token where that may tell more."""
        answered, ask = None, self._ask
        if ask is not None and ask.done():
            failed, self._ask = ask.result(), None
            answered = failed is None
            if failed is not None and not self.pulse.unanswered:
                self._changed(self, f"did not answer a probe: {failed}")
        pace, load = self.service.pace(), self.load
        if load is not None and load.prompt_token_s is not None:
            pace = replace(pace, prompt_token_s=load.prompt_token_s, prompt_pair_s=0.0, seen=True)
        cpu, server_cpu = None, None
        if self.child is not None and self.service.computes:
            cpu, server_cpu = computing_cpu_s(self.child.pid), own_cpu_s(self.child.pid)
        marks = load.marks if load else None
        sight = Sight(marks=marks, deaf=deaf, answered=answered, cpu_s=cpu, server_cpu_s=server_cpu)
        opinion, self.pulse = look(self.pulse, sight, pace, self.care.patience, self._clock.now())
        if opinion.ask and self._ask is None:
            self._ask = asyncio.create_task(self.service.prove(), name=f"{self.name} ask")
        return opinion

    def _too_large(self) -> bool:
        """Whether the process uses more memory than it may, where the system itself enforces no limit."""
        now, child = self._clock.now(), self.child
        if child is None or now - self._memory_at < MEMORY_LOOK_S:
            return False
        self._memory_at = now
        self.memory_bytes = resident_bytes(child.pid)
        limit = self.care.limits.memory_bytes
        return limit is not None and child.limited_by == "nothing" and self.memory_bytes > limit

    async def _dozing(self) -> None:
        """The router has been told; what is in flight finishes, within the drain's time, and then it sleeps."""
        began = self._clock.now()
        while self._clock.now() - began < self.care.notice_s and not self.service.idle():
            if self._interruption():
                return
            await self._pause(SLICE_S)
        failed = await self.service.sleep(self.care.drain_s)
        if self._interruption():
            return
        if failed is not None:
            self._happen(LifeEvent.STALLED, f"could not be put to sleep: {failed}")
            return
        self.serving, self.load = False, None
        self._happen(LifeEvent.SLEPT, f"asleep after {self._clock.now() - began:.1f} s")

    async def _asleep(self) -> None:
        while not self._interruption():
            if self._sleep_why is None:
                failed = await self.service.wake()
                if failed is None:
                    self._happen(LifeEvent.WAKE, "woken")
                    return
                self.drain(f"could not be woken: {failed}")
                continue
            await self._pause(self.care.look_s)

    async def _failed(self) -> None:
        await self._bury()
        while due(self.life, self._clock.now(), self.care.life) is not LifeEvent.RETRY:
            if self._interruption():
                return
            await self._pause(min(1.0, max(0.01, self.life.retry_at_s - self._clock.now())))
        await self._stop_asking()
        self._happen(LifeEvent.RETRY, f"started again after {counted(self.life.failures, 'failed start')}")

    async def _draining(self) -> None:
        """Drains in three steps: notice (the router evicts), SIGTERM (vLLM ends its streams), SIGKILL in the end."""
        began = self._clock.now()
        served = self.serving
        if served and not self._hurry:
            while self._clock.now() - began < self.care.notice_s and not self._exited() and not self._hurry:
                if self.service.idle():
                    break
                await self._pause(SLICE_S)
            if self.child is not None and not self._exited():
                self.child.terminate()
                end = self._clock.now() + self.care.drain_s
                while self._clock.now() < end and not self._exited() and not self._hurry:
                    await self._pause(SLICE_S)
        whole = self._exited()
        took = self._clock.now() - began
        await self._bury()
        self._happen(
            LifeEvent.EXITED, f"stopped after {took:.1f} s" + ("" if whole or not served else ", killed")
        )

    def _exited(self) -> bool:
        return self.child is None or self.child.exit_code is not None

    async def _bury(self) -> None:
        """Kills what is left of the process and waits for it."""
        child, self.child = self.child, None
        if child is not None:
            child.kill()
            async with asyncio.timeout(BURY_S):
                await asyncio.shield(child.wait())


def base_env() -> dict[str, str]:
    """What every child inherits: the caller's environment without Python's and the virtual environment's own."""
    drop = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
    return {k: v for k, v in os.environ.items() if k not in drop}
