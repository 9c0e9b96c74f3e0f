"""A process and a service that do what a story says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from seawall.decide.route.evidence import Pace
from seawall.drivers.process import ProcessLimits
from seawall.engines.vllm.load import EngineLoad
from seawall.errors import EngineError
from seawall.local.keeper import Running
from seawall.testing.clock import JumpClock

NO_SUCH_PID = 99_000_000
"""Beyond Linux's largest, so nobody's memory is measured."""


class FakeProcess:
    """Runs until told; on SIGTERM it goes after `drain_s` seconds of the clock, or never."""

    def __init__(self, pid: int, clock: JumpClock, drain_s: float | None) -> None:
        self.pid, self.limited_by, self._clock, self._drain_s = pid, "nothing", clock, drain_s
        self.said: list[tuple[str, float]] = []
        self._code: int | None = None
        self._gone_at: float | None = None

    @property
    def guardian_pid(self) -> int:
        return self.pid + 1000

    @property
    def exit_code(self) -> int | None:
        if self._code is None and self._gone_at is not None and self._clock.t >= self._gone_at:
            self._code = 0
        return self._code

    def die(self, code: int) -> None:
        self._code = code

    def terminate(self) -> None:
        self.said.append(("term", self._clock.t))
        if self._drain_s is not None:
            self._gone_at = self._clock.t + self._drain_s

    def kill(self) -> None:
        self.said.append(("kill", self._clock.t))
        if self._code is None:
            self._code = 137

    async def wait(self) -> int:
        return self._code or 0


class FakeService:
    """Listens after `load_s`; whatever else the story sets."""

    def __init__(self, clock: JumpClock, load_s: float = 5.0) -> None:
        self.clock, self.load_s = clock, load_s
        self.processes: list[FakeProcess] = []
        self.drain_s: float | None = 3.0
        self.proof: str | None = None
        self.tokens: float | None = 0.0
        self.moving = True
        self.deaf = False
        self.prompt_token_s = 0.0005
        self.quiet: bool | None = None
        self._started = 0.0
        self.asleep = False
        self.refuses: str | None = None

    async def spawn(
        self, argv: Sequence[str], env: Mapping[str, str], log: Path, limits: ProcessLimits | None
    ) -> Running:
        self.processes.append(FakeProcess(NO_SUCH_PID + len(self.processes), self.clock, self.drain_s))
        self._started = self.clock.t
        return self.processes[-1]

    def command(self) -> tuple[list[str], dict[str, str]]:
        return ["/bin/engine"], {}

    async def listens(self) -> bool:
        return self.clock.t - self._started >= self.load_s

    async def prove(self) -> str | None:
        if self.proof:
            self.clock.t += 15
        return self.proof

    async def load(self) -> EngineLoad | None:
        if self.deaf:
            self.clock.t += 5
            raise EngineError("no answer to /metrics within 5 s")
        if self.tokens is None:
            return None
        self.tokens += self.moving
        return EngineLoad(marks=(self.tokens,))

    def pace(self) -> Pace:
        return Pace(prompt_token_s=self.prompt_token_s, step_tokens=2048)

    @property
    def computes(self) -> bool:
        return False

    def idle(self) -> bool | None:
        return self.quiet

    async def sleep(self, patience_s: float) -> str | None:
        self.asleep = self.refuses is None
        return self.refuses

    async def wake(self) -> str | None:
        self.asleep = self.refuses is not None
        return self.refuses
