"""A proof from end to end: learn the right answers, then each scenario under full load, then the verdicts."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from seawall.domain.told import FleetState
from seawall.domain.units import counted, parse_seconds
from seawall.errors import EngineError, SeawallError
from seawall.load.client import ClientPatience, LoadClient
from seawall.prove import settings
from seawall.prove.cases import Case, CaseRequest, ask_reference, requests
from seawall.prove.mechanisms import off
from seawall.prove.pressure import Pressure, StreamRecord
from seawall.prove.scenarios import Scenario
from seawall.prove.stage import Deployment, Stage
from seawall.prove.tier import TierFleet
from seawall.prove.up import UpFleet
from seawall.prove.verdict import Expectation, ScenarioVerdict, excused, judge

SIM_TOKENS = (20, 25, 32, 40, 22)
"""At 8 tokens/s: streams of 2.4 to 4.8 s."""
VLLM_TOKENS = (24, 48, 64, 32)
START_S = 900.0
"""A real replica on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class ProofPace:
    """The times that a proof allows for things to happen, seconds."""

    settle_s: float = 1.5
    """Seconds of full load before anything is disturbed."""
    after_s: float = 0.5
    """Seconds of full load after the disturbance is over."""
    patience: ClientPatience = field(
        default_factory=lambda: ClientPatience(first_s=30, stall_s=14, total_s=300)
    )
    worst_stall_s: float | None = None
    """Instead of the scenario's own."""
    end_s: float = 120.0
    """Seconds for the last streams to end."""


QUICK = ProofPace()
"""Simulated engines: streams of seconds, replicas that start at once."""
REAL = ProofPace(
    settle_s=2.5,
    after_s=1.0,
    patience=ClientPatience(first_s=90, stall_s=60, total_s=300),
    worst_stall_s=60.0,
    end_s=400.0,
)
"""Real engines on a busy CPU."""


STREAMS = 100
"""Open at any time, unless somebody says otherwise."""
REAL_STREAMS = 6
"""The same with real engines on this machine: more would fill their places, and be refused."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the user asked for."""

    fleet: Path
    engine: str
    scenarios: Sequence[Scenario]
    streams: int = STREAMS
    without: Sequence[str] = ()
    seed: int = 0
    keep_logs: Path | None = None
    jobs: int = 1
    """Scenarios at the same time, each with a deployment of its own. Real engines run one at a time."""
    api_key: str | None = None
    any_gateway: bool = False
    """Clients ask nothing that only our gateway promises (prove/targets)."""


@dataclass
class Result:
    """Verdicts with the records that the timeline is drawn from."""

    verdicts: list[ScenarioVerdict] = field(default_factory=list)
    records: dict[str, list[StreamRecord]] = field(default_factory=dict)
    shortened: dict[str, Any] = field(default_factory=dict)


async def prove(
    proof: Proof, result: Result, say: Callable[[str], None], done: Callable[[ScenarioVerdict], None]
) -> None:
    """Runs every scenario into `result`. `say` hears progress, `done` each verdict as it falls."""
    here = _Here(proof, result, say, done)
    try:
        await (here.simulated() if proof.engine == "sim" else here.real())
    finally:
        if proof.keep_logs is not None:
            ignored = shutil.ignore_patterns("*.sock", "lock")
            shutil.copytree(here.folder, proof.keep_logs, ignore=ignored, dirs_exist_ok=True)
        shutil.rmtree(here.folder, ignore_errors=True)


class _Here:
    """A proof on this machine. Its folder is a short path, for the control sockets' sake."""

    def __init__(
        self,
        proof: Proof,
        result: Result,
        say: Callable[[str], None],
        done: Callable[[ScenarioVerdict], None],
    ) -> None:
        self.proof, self.result, self.say, self.done = proof, result, say, done
        self.document = settings.read(proof.fleet)
        name = str(self.document.get("metadata", {}).get("name", "sim"))
        self.model = str(((self.document.get("spec") or {}).get("model", {}).get("servedNames") or [name])[0])
        self.folder = Path(tempfile.mkdtemp(prefix="seawall-prove-"))
        self._exact = True
        result.shortened = settings.changed(self.document, proof.engine)

    async def simulated(self) -> None:
        """Each scenario on a fleet of its own, `jobs` at the same time."""
        self.say("learning the right answers from a quiet engine")
        cases = await sim_answers(self.model, requests(self.model, SIM_TOKENS, 42))
        places = asyncio.Semaphore(self.proof.jobs)

        async def one(scenario: Scenario) -> None:
            async with places:
                self.say(f"{scenario.title}: starting {counted(scenario.replicas, 'replica')}")
                own = scenario.asks and await sim_answers(self.model, scenario.asks(self.model, False))
                up = await (self._tier(scenario) if scenario.gateways > 1 else self._up(scenario, 120.0))
                try:
                    self.say(f"{scenario.title}: running")
                    verdict, records = await play(self.proof, scenario, up, own or cases)
                finally:
                    wrong = await up.stop()
                self._told(verdict, records, wrong)

        try:
            async with asyncio.TaskGroup() as group:
                for scenario in self._in_order():
                    group.create_task(one(scenario))
        except* SeawallError as failed:
            raise failed.exceptions[0] from None

    def _in_order(self) -> list[Scenario]:
        """Scenarios as asked, or the longest first: the last to end decides."""
        return sorted(self.proof.scenarios, key=lambda s: -s.takes_s if self.proof.jobs > 1 else 0.0)

    async def real(self) -> None:
        """Scenarios in turn on one fleet of two, for a start takes a minute; who scales or is alone has its own."""
        cases: list[Case] = []
        shared = [s for s in self.proof.scenarios if not _own_fleet(s)]
        groups = [shared] * bool(shared) + [[s] for s in self.proof.scenarios if _own_fleet(s)]
        for group in groups:
            first = replace(group[0], replicas=min(2, group[0].replicas) if _own_fleet(group[0]) else 2)
            self.say(f"starting {counted(first.replicas, 'real replica')}")
            up = await self._up(first, START_S)
            wrong: list[str] = []
            try:
                if not cases:
                    self.say("learning the right answers from replicas that are still quiet")
                    cases = await self._real_answers(up, requests(self.model, VLLM_TOKENS, 10))
                    if not settings.exact(self.document):
                        verdict, records = await play(self.proof, CONTROL, up, cases)
                        self._told(verdict, records, [])
                        self._exact = not verdict.wrong_tokens
                for scenario in group:
                    await self._whole(up, min(2, scenario.replicas), scenario.title)
                    asked = scenario.asks and scenario.asks(self.model, True)
                    own = asked and await self._real_answers(up, asked)
                    self.say(f"{scenario.title}: running")
                    scenario = replace(scenario, load=scenario.real_load or scenario.load, streams=None)
                    self._told(*await play(self.proof, scenario, up, own or cases), [])
            finally:
                wrong = await up.stop()
            if wrong:
                last = self.result.verdicts[-1]
                self.result.verdicts[-1] = replace(last, kept=False, broken=(*last.broken, *wrong))

    async def _real_answers(self, up: UpFleet, wanted: Sequence[CaseRequest]) -> list[Case]:
        """From every replica its share, one after another: none answers two at a time."""
        urls = [r.url for r in await up.replicas() if r.ready]
        shares = (ask_reference(url, wanted[i :: len(urls)], parallel=1) for i, url in enumerate(urls))
        return [case for share in await asyncio.gather(*shares) for case in share]

    async def _whole(self, up: UpFleet, count: int, title: str) -> None:
        """Waits, without load, until what the scenario before took is there again."""
        stage = Stage(up)
        self.say(f"{title}: waiting for {counted(count, 'replica')}")

        async def enough() -> bool:
            return len(await stage.ready()) >= count

        if not await stage.until(f"{count} ready replicas", enough, START_S):
            raise EngineError(f"before {title!r}: {stage.broken[0]}", "Look at the logs: --keep-logs DIR.")

    async def _up(self, scenario: Scenario, budget_s: float) -> UpFleet:
        place = self.folder / scenario.name
        place.mkdir(parents=True, exist_ok=True)
        spec = place / "fleet.yaml"
        derived = settings.derive(self.document, scenario, self.proof.engine, self.proof.without)
        spec.write_text(yaml.safe_dump(derived, sort_keys=False))
        if scenario.knows_answers:
            await _write_truth(spec)
        flags = off(self.proof.without).flags
        return await UpFleet.start(spec, self.proof.engine, place / "up", scenario.replicas, budget_s, flags)

    async def _tier(self, scenario: Scenario) -> TierFleet:
        derived = settings.derive(self.document, scenario, self.proof.engine, self.proof.without)
        fleet = TierFleet(self.folder / scenario.name, derived, off(self.proof.without).flags)
        await fleet.start(scenario.replicas, scenario.gateways)
        return fleet

    def _told(self, verdict: ScenarioVerdict, records: list[StreamRecord], wrong: Sequence[str]) -> None:
        if wrong:
            verdict = replace(verdict, kept=False, broken=(*verdict.broken, *wrong))
        if not self._exact:
            verdict = forgiven(verdict)
        self.result.verdicts.append(verdict)
        self.result.records[verdict.name] = records
        self.done(verdict)


def _own_fleet(scenario: Scenario) -> bool:
    return scenario.most is not None or scenario.alone


async def _write_truth(spec: Path) -> None:
    """The fingerprint of a scenario's fleet, made as users make it."""
    argv = ["-m", "seawall", "fingerprint", str(spec), "--sweep", "0", "--rounds", "2"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(300.0):
        said = (await process.communicate())[1].decode(errors="replace")
    if process.returncode:
        raise EngineError(f"seawall fingerprint ended with {process.returncode}: {said[-300:]}")


async def sim_answers(model: str, wanted: Sequence[CaseRequest]) -> list[Case]:
    """Right answers of a simulated engine of its own, which takes no time for a step and serves nobody else."""
    argv = ["-m", "seawall", "engine", "sim", "--port", "0", "--model-name", model, "--sim-step", "0"]
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(90.0):
            line = (await process.stdout.readline()).decode()
        if "http://" not in line:
            raise EngineError("the reference engine did not start.", "Try: seawall engine sim --port 0")
        return await ask_reference(line.split()[-1], wanted)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


def clients_of(deployment: Deployment, api_key: str | None) -> list[LoadClient]:
    """Who sends a proof's requests: clients of one address each, or of all gateways of a tier."""
    if isinstance(deployment, TierFleet):
        return [deployment.client(api_key)]
    return [LoadClient(url, api_key=api_key) for url in deployment.addresses]


async def play(
    proof: Proof,
    scenario: Scenario,
    deployment: Deployment,
    cases: Sequence[Case],
    stage: Stage | None = None,
    pace: ProofPace | None = None,
) -> tuple[ScenarioVerdict, list[StreamRecord]]:
    """One scenario against a deployment that is ready: load, event, the end of every stream, verdict."""
    pace = pace or (REAL if proof.engine == "vllm" else QUICK)
    clients = clients_of(deployment, proof.api_key)
    pressure = Pressure(
        clients=clients,
        cases=cases,
        streams=scenario.streams or max(1, round(proof.streams * scenario.load)),
        seed=proof.seed,
        patience=scenario.patience or pace.patience,
        slow_share=scenario.slow_share,
        leaving_share=scenario.leaving_share,
        returning_share=scenario.returning_share,
        any_gateway=proof.any_gateway,
    )
    if stage is None and proof.engine == "vllm":
        stall_s = parse_seconds(settings.REAL["gateway.stallTimeout"])
        stage = Stage(deployment, slow=True, queue_bound=settings.REAL["gateway.maxQueued"], stall_s=stall_s)
    stage = stage or Stage(deployment)
    before = await stage.totals()
    load = asyncio.ensure_future(pressure.run())
    try:
        await asyncio.sleep(pace.settle_s)
        try:
            await scenario.play(stage)
        except (OSError, TimeoutError, SeawallError, KeyError, ValueError) as e:
            stage.fail(f"the scenario itself failed: {type(e).__name__}: {e}")
        await asyncio.sleep(pace.after_s)
        pressure.stop()
        async with asyncio.timeout(pace.end_s):
            await load
    except TimeoutError:
        stage.fail(f"streams were still open {pace.end_s:.0f} s after the last one was started")
    finally:
        load.cancel()
        for client in clients:
            client.close()
    after = await stage.totals()
    verdict = judge(
        scenario.name,
        scenario.title,
        [excused(r) if _began_in(r, stage.excused) else r for r in pressure.records],
        _bounded(scenario, pace),
        duration_s=time.monotonic() - stage.started_s,
        # A gateway that was replaced counts from zero: then what it has counted itself is all that is known.
        resumed=max(0, after.resumed_total - before.resumed_total),
        retried=max(0, after.retried_total - before.retried_total),
        wasted_tokens=max(0, _wasted_tokens(after) - _wasted_tokens(before)),
        wasted_gpu_s=max(0.0, after.wasted_gpu_seconds_total - before.wasted_gpu_seconds_total),
        marks=stage.marks,
        broken=stage.broken,
        notes=stage.notes,
    )
    return verdict, pressure.records


def _wasted_tokens(told: FleetState) -> int:
    return told.wasted_prompt_tokens_total + told.wasted_completion_tokens_total


def _began_in(record: StreamRecord, times: Sequence[tuple[float, float]]) -> bool:
    return any(first <= record.outcome.intended_s <= last for first, last in times)


async def _nothing(stage: Stage) -> None:
    stage.mark("nothing happens")
    await asyncio.sleep(2.0)


CONTROL = Scenario(name="control", title="control: nothing happens", play=_nothing)


def forgiven(verdict: ScenarioVerdict) -> ScenarioVerdict:
    """Tokens that differ without any event, as a control has shown, prove nothing about one."""
    broken = tuple(b for b in verdict.broken if "wrong tokens" not in b)
    note = f"{verdict.wrong_tokens} tokens differ, as they do without any event: not counted"
    return replace(verdict, wrong_tokens=0, broken=broken, kept=not broken, notes=(note, *verdict.notes))


def _bounded(scenario: Scenario, pace: ProofPace) -> Expectation:
    """A slow engine's bounds in the place of the scenario's."""
    expectation, worst_s = scenario.expectation, pace.worst_stall_s
    if worst_s is None:
        return expectation
    if scenario.patience is not None:
        worst_s = scenario.patience.stall_s
    first = None if expectation.worst_ttft_s is None else worst_s
    return replace(expectation, worst_stall_s=worst_s, worst_ttft_s=first)
