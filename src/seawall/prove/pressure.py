"""The load of a proof: N clients, each of which starts a stream when its last one has ended. Every stream counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from seawall.load.client import ClientPatience, LoadClient, RequestOutcome
from seawall.load.lossy import lossy_request
from seawall.prove.cases import AnswerCheck, Case, check


@dataclass(slots=True)
class StreamRecord:
    """One stream: who asked, what, what came, whether it was right."""

    lane: int
    case: Case
    outcome: RequestOutcome
    checked: AnswerCheck | None = None
    behaviour: str = "reader"
    """reader, slow-reader, leaver or returner. A leaver goes away on purpose and is not counted as lost; a returner
    loses its connection, and comes again."""


@dataclass
class Pressure:
    """Keeps `streams` requests open until told to stop, then lets every one of them end."""

    clients: Sequence[LoadClient]
    """One, or one for each address that there is: client i takes the address i modulo their number."""
    cases: Sequence[Case]
    streams: int
    seed: int = 0
    patience: ClientPatience = field(
        default_factory=lambda: ClientPatience(first_s=60, stall_s=45, total_s=300)
    )
    slow_share: float = 0.0
    """Clients that read a few hundred bytes a second."""
    leaving_share: float = 0.0
    """Clients that leave in mid-stream."""
    returning_share: float = 0.0
    """Clients that lose their connection in mid-answer, and come again."""
    any_gateway: bool = False
    """Nothing is asked that only ours promises: a client that comes again and was given no event's `id` lets go what
    it has and begins anew; token ids that do not come at all are not missed, nor is a usage that nobody asked for."""
    honour_retry_after: bool = True
    ramp_s: float = 1.0
    records: list[StreamRecord] = field(default_factory=list)
    open: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """No new streams; `run` returns when the open ones have ended."""
        self._stop.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for lane in range(self.streams):
                group.create_task(self._lane(lane))

    async def _lane(self, lane: int) -> None:
        rng = random.Random(f"{self.seed}/{lane}")
        await asyncio.sleep(self.ramp_s * lane / max(1, self.streams))
        at = lane
        while not self._stop.is_set():
            case = self.cases[at % len(self.cases)]
            at += 7
            draw = rng.random()
            behaviour = "reader"
            if case.streams and draw < self.slow_share:
                behaviour = "slow-reader"
            elif case.streams and draw < self.slow_share + self.leaving_share:
                behaviour = "leaver"
            elif draw > 1.0 - self.returning_share:
                behaviour = "returner"
            self.open += 1
            record = StreamRecord(
                lane, case, RequestOutcome(intended_s=self._client(lane).clock()), behaviour=behaviour
            )
            self.records.append(record)
            await self._ask(record, rng)
            self.open -= 1
            if record.outcome.ok:
                record.checked = check(case, record.outcome, any_gateway=self.any_gateway)
            await self._breathe(record.outcome, rng)

    def _client(self, lane: int) -> LoadClient:
        return self.clients[lane % len(self.clients)]

    async def _ask(self, record: StreamRecord, rng: random.Random) -> None:
        case, client = record.case, self._client(record.lane)
        if record.behaviour == "returner":
            await lossy_request(
                client, case.path, case.payload, record.outcome, self.patience, rng, self.any_gateway
            )
            return
        await client.request(
            case.path,
            case.payload,
            outcome=record.outcome,
            patience=self.patience,
            read_rate=2000.0 if record.behaviour == "slow-reader" else None,
            stop_after=rng.randint(2, 15) if record.behaviour == "leaver" else None,
        )

    async def _breathe(self, outcome: RequestOutcome, rng: random.Random) -> None:
        """Waits after a failure, as the server says or for a moment, so that no client sends in a tight loop."""
        if outcome.ok or outcome.error == "cancelled":
            return
        wait_s = rng.uniform(0.1, 0.3)
        if self.any_gateway and not 0 < outcome.status < 500 and not outcome.event_s:
            wait_s = rng.uniform(
                0.8, 1.2
            )  # nobody is there, or nobody has time: not one loss more for every knock
        if outcome.error == "http-429" and self.honour_retry_after:
            wait_s = min(5.0, outcome.retry_after_s or 1.0) * rng.uniform(0.8, 1.2)
        try:
            async with asyncio.timeout(wait_s):
                await self._stop.wait()
        except TimeoutError:
            return
