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

from seawall.errors import EngineError, SeawallError
from seawall.load.client import Client, Patience
from seawall.load.prove import settings
from seawall.load.prove.cases import Case, ask_reference, requests
from seawall.load.prove.mechanisms import off
from seawall.load.prove.pressure import Pressure, Record
from seawall.load.prove.scenarios import Scenario
from seawall.load.prove.stage import Deployment, Stage
from seawall.load.prove.up import UpFleet
from seawall.load.prove.verdict import Verdict, judge

SIM_TOKENS = (60, 90, 120, 150, 75)
"""At 25 tokens/s: streams of 2.4 to 6 s."""
VLLM_TOKENS = (24, 48, 64, 32)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a proof gives things, seconds."""

    settle_s: float = 1.5
    """Full load before anything happens."""
    after_s: float = 0.5
    """Full load after it is over."""
    patience: Patience = field(default_factory=lambda: Patience(first_s=30, stall_s=14, total_s=300))
    worst_stall_s: float | None = None
    """Instead of the scenario's own."""
    end_s: float = 120.0
    """For the last streams to end."""


QUICK = Pace()
"""Simulated engines: streams of seconds, replicas that start at once."""
REAL = Pace(settle_s=9.0, after_s=10.0, patience=Patience(first_s=90, stall_s=60, total_s=300), worst_stall_s=60.0,
            end_s=400.0)  # fmt: skip
"""Real engines on a busy CPU."""


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
    api_key: str | None = None


@dataclass
class Result:
    """Verdicts with the records that the timeline is drawn from."""

    verdicts: list[Verdict] = field(default_factory=list)
    records: dict[str, list[Record]] = field(default_factory=dict)
    shortened: dict[str, Any] = field(default_factory=lambda: dict(settings.PROOF))


async def prove(
    proof: Proof, result: Result, say: Callable[[str], None], done: Callable[[Verdict], None]
) -> None:
    """Runs every scenario into `result`. `say` hears progress, `done` each verdict as it falls."""
    document = settings.read(proof.fleet)
    model = str(document.get("metadata", {}).get("name", "sim"))
    served = (document.get("spec") or {}).get("model", {}).get("servedNames") or [model]
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
    proof: Proof,
    scenario: Scenario,
    deployment: Deployment,
    cases: Sequence[Case],
    stage: Stage | None = None,
    pace: Pace | None = None,
) -> tuple[Verdict, list[Record]]:
    """One scenario against a deployment that is ready: load, event, the end of every stream, verdict."""
    pace = pace or (REAL if proof.engine == "vllm" else QUICK)
    client = Client(deployment.gateway_url, api_key=proof.api_key)
    pressure = Pressure(
        client=client,
        cases=cases,
        streams=max(1, round(proof.streams * scenario.load)),
        seed=proof.seed,
        patience=pace.patience,
        slow_share=scenario.slow_share,
        leaving_share=scenario.leaving_share,
    )
    stage = stage or Stage(deployment, slow=proof.engine == "vllm")
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
        await asyncio.wait_for(load, pace.end_s)
    except TimeoutError:
        stage.fail(f"streams were still open {pace.end_s:.0f} s after the last one was started")
    finally:
        load.cancel()
        client.close()
    after = await stage.totals()
    verdict = judge(
        scenario.name,
        scenario.title,
        pressure.records,
        replace(scenario.expectation, worst_stall_s=pace.worst_stall_s or scenario.expectation.worst_stall_s),
        duration_s=time.monotonic() - stage.started_s,
        # A gateway that was replaced counts from zero: then what it has counted itself is all that is known.
        resumed=max(0, round(after.get("resumed_total", 0) - before.get("resumed_total", 0))),
        retried=max(0, round(after.get("retried_total", 0) - before.get("retried_total", 0))),
        marks=stage.marks,
        broken=stage.broken,
        notes=stage.notes,
    )
    return verdict, pressure.records
