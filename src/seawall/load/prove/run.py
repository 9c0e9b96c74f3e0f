"""A proof from end to end: learn the right answers, then each scenario under full load, then the verdicts."""

from __future__ import annotations

import asyncio
import contextlib
import os
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

from seawall.errors import EngineError
from seawall.load.client import Client, Patience
from seawall.load.prove import settings
from seawall.load.prove.cases import Case, ask_reference, requests
from seawall.load.prove.mechanisms import off
from seawall.load.prove.pressure import Pressure, Record
from seawall.load.prove.scenarios import Scenario
from seawall.load.prove.stage import Stage
from seawall.load.prove.up import UpFleet
from seawall.load.prove.verdict import Verdict, judge

SIM_TOKENS = (60, 90, 120, 150, 75)
"""At 25 tokens/s: streams of 2.4 to 6 s."""
VLLM_TOKENS = (24, 48, 64, 32)
SETTLE_S = 1.5
"""Full load before anything happens."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the user asked for."""

    fleet: Path
    engine: str
    scenarios: Sequence[Scenario]
    streams: int = 100
    without: Sequence[str] = ()
    seed: int = 0
    keep_logs: Path | None = None
    jobs: int = 1
    """Scenarios at the same time, each with a deployment of its own. Real engines run one at a time."""
    stall_s: float = 14.0
    """A client takes a stream for lost after so long without an event. Longer than the gateway's own time-out."""


@dataclass
class Result:
    """Verdicts with the records that the timeline is drawn from."""

    verdicts: list[Verdict] = field(default_factory=list)
    records: dict[str, list[Record]] = field(default_factory=dict)
    shortened: dict[str, Any] = field(default_factory=lambda: dict(settings.PROOF))


async def prove(proof: Proof, say: Callable[[str], None], done: Callable[[Verdict], None]) -> Result:
    """Runs every scenario. `say` hears progress, `done` each verdict as it falls."""
    document = settings.read(proof.fleet)
    model = str(document.get("metadata", {}).get("name", "sim"))
    served = (document.get("spec") or {}).get("model", {}).get("servedNames") or [model]
    result = Result()
    folder = proof.keep_logs or Path(tempfile.mkdtemp(prefix="seawall-prove-"))
    folder.mkdir(parents=True, exist_ok=True)
    cases: list[Case] = []
    try:
        if proof.engine == "sim":
            say("learning the right answers from a quiet engine")
            cases = await _sim_answers(str(served[0]))
        places = asyncio.Semaphore(proof.jobs if proof.engine == "sim" else 1)

        async def one(scenario: Scenario) -> None:
            nonlocal cases
            async with places:
                say(f"{scenario.title}: starting {scenario.replicas} replica(s)")
                run = await _one(proof, scenario, document, str(served[0]), cases, folder, say)
                cases = run[2]
            result.verdicts.append(run[0])
            result.records[scenario.name] = run[1]
            done(run[0])

        fewer = 2 if proof.engine == "vllm" else 99
        chosen = [replace(s, replicas=min(s.replicas, fewer)) for s in proof.scenarios]
        tasks = [asyncio.ensure_future(one(scenario)) for scenario in chosen]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        if proof.keep_logs is None:
            shutil.rmtree(folder, ignore_errors=True)
    return result


async def _sim_answers(model: str) -> list[Case]:
    """From a simulated engine of its own, which takes no time for a step and serves nobody else."""
    argv = ["-m", "seawall", "engine", "sim", "--port", "0", "--model-name", model, "--sim-step", "0"]
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 90)).decode()
        if "http://" not in line:
            raise EngineError("the reference engine did not start.", "Try: seawall engine sim --port 0")
        return await ask_reference(line.split()[-1], requests(model, SIM_TOKENS, 42))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def _one(
    proof: Proof,
    scenario: Scenario,
    document: dict[str, Any],
    model: str,
    cases: list[Case],
    folder: Path,
    say: Callable[[str], None],
) -> tuple[Verdict, list[Record], list[Case]]:
    place = folder / scenario.name
    place.mkdir(parents=True, exist_ok=True)
    spec = place / "fleet.yaml"
    spec.write_text(
        yaml.safe_dump(settings.derive(document, scenario, proof.engine, proof.without), sort_keys=False)
    )
    budget_s = 120.0 if proof.engine == "sim" else 900.0
    flags = off(proof.without).flags
    up = await UpFleet.start(spec, proof.engine, place / "state", scenario.replicas, budget_s, flags)
    try:
        if not cases:
            say("learning the right answers from a replica that is still quiet")
            first = (await up.replicas())[0]
            cases = await ask_reference(first.url, requests(model, VLLM_TOKENS, 12), parallel=1)
        say(f"{scenario.title}: running")
        verdict, records = await play(proof, scenario, up, cases)
    finally:
        wrong = await up.stop()
    if wrong:
        verdict = replace(verdict, kept=False, broken=(*verdict.broken, *wrong))
    return verdict, records, cases


async def play(
    proof: Proof, scenario: Scenario, deployment: Any, cases: Sequence[Case]
) -> tuple[Verdict, list[Record]]:
    """One scenario against a deployment that is ready: load, event, the end of every stream, verdict."""
    client = Client(deployment.gateway_url)
    slow = proof.engine == "vllm"
    expectation = replace(scenario.expectation, worst_stall_s=60.0) if slow else scenario.expectation
    pressure = Pressure(
        client=client,
        cases=cases,
        streams=max(1, round(proof.streams * scenario.load)),
        seed=proof.seed,
        patience=Patience(first_s=90 if slow else 30, stall_s=60 if slow else proof.stall_s, total_s=300),
        slow_share=scenario.slow_share,
        leaving_share=scenario.leaving_share,
    )
    stage = Stage(deployment, slow)
    before = await stage.totals()
    load = asyncio.ensure_future(pressure.run())
    try:
        await asyncio.sleep(SETTLE_S * (6 if slow else 1))
        try:
            await scenario.play(stage)
        except (OSError, TimeoutError, EngineError, KeyError, ValueError) as e:
            stage.fail(f"the scenario itself failed: {type(e).__name__}: {e}")
        await asyncio.sleep(10.0 if slow else 0.5)
        pressure.stop()
        await asyncio.wait_for(load, 120 if not slow else 400)
    except TimeoutError:
        stage.fail("streams were still open two minutes after the last one was started")
    finally:
        load.cancel()
        client.close()
    after = await stage.totals()
    verdict = judge(
        scenario.name,
        scenario.title,
        pressure.records,
        expectation,
        duration_s=time.monotonic() - stage.started_s,
        resumed=round(after.get("resumed_total", 0) - before.get("resumed_total", 0)),
        retried=round(after.get("retried_total", 0) - before.get("retried_total", 0)),
        marks=stage.marks,
        broken=stage.broken,
        notes=stage.notes,
    )
    return verdict, pressure.records


def cpu_s() -> float:
    """CPU seconds of this process so far."""
    times = os.times()
    return times.user + times.system
