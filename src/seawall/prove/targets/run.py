"""The grid: every target under every scenario, a cell each, in a deployment of its own.

A fault that a target cannot take part in makes its cell *not applicable*, never red. What a proof of our own fleet
shortens (time-outs) is left as each target has it; instead clients have more patience, and silence lasts longer.
"""

from __future__ import annotations

import asyncio
import copy
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from seawall.config.load import load_fleets
from seawall.drivers import cache
from seawall.drivers.process import free_port
from seawall.errors import SeawallError
from seawall.load.client import ClientPatience
from seawall.local.launch import ReplicaRecipe
from seawall.local.prepare import Wish, prepare
from seawall.prove import settings
from seawall.prove.cases import Case, ask_reference, requests
from seawall.prove.pressure import StreamRecord
from seawall.prove.run import (
    REAL,
    SIM_TOKENS,
    VLLM_TOKENS,
    Proof,
    ProofPace,
    play,
    sim_answers,
)
from seawall.prove.scenarios import Scenario, healthy_slow
from seawall.prove.silence import STEP_S
from seawall.prove.stage import Stage
from seawall.prove.targets.adapter import Need, TargetAdapter, TargetPlace
from seawall.prove.targets.command import FIRST_PORT, UrlTarget
from seawall.prove.targets.engines import TargetEngines
from seawall.prove.targets.fleet import TargetFleet
from seawall.prove.targets.grid import Cell, Grid, TargetFacts
from seawall.prove.targets.meter import TokenMeter

NEEDS: dict[str, Need] = {
    "rolling-update": Need.REPLICAS, "scale": Need.REPLICAS, "slow-weights": Need.REPLICAS,
    "gateway-restart": Need.SUCCESSOR, "gateway-kill": Need.PROCESS, "keeper-kill": Need.KEEPER,
    "scaler-blind": Need.SUPERVISOR, "clock-jump": Need.SUPERVISOR, "batch-kill": Need.BATCH,
    "batch-beside": Need.BATCH,
    "tier-limits": Need.STORE, "tier-kill": Need.STORE, "store-away": Need.STORE,
}  # fmt: skip
"""Scenario -> what it needs of a target."""
HEALTHY = frozenset({"healthy-slow", "long-prefill", "held-back"})
"""Scenarios in which nothing fails: a stream that is lost was cut though its engine was at work."""
DEAF = frozenset({"slow-readers"})
"""Scenarios with clients that never read: nobody can say what of their tokens was of use."""
SILENT_S = 66.0
"""Longer than the minute that many proxies bear by default."""
STALL_BOUND_S = 40.0
"""A gateway that cannot tell a long prefill from a hang has to wait for half a minute."""
PACE = ProofPace(
    patience=ClientPatience(first_s=60, stall_s=60, total_s=300), worst_stall_s=STALL_BOUND_S, end_s=320.0
)
ENGINES_DRAIN = "15s"
OVERLOAD_CLIENTS = 240
"""Clients, fifteen for each place of the engine: as many as a proof of ours has, however few the other cells have."""
AT_ONCE = 2
"""Deployments that start at the same time: a busy machine must not make one look as if it did not start."""


async def prove_targets(
    proof: Proof, targets: Sequence[TargetAdapter], grid: Grid, say: Callable[[str], None], done: Callable[[Cell], None]
) -> None:  # fmt: skip
    """Plays every scenario against every target into `grid`."""
    here = _Bench(replace(proof, any_gateway=True), grid, say, done)
    try:
        await here.all(targets)
    finally:
        here.close()


class _Bench:
    """The place of one run."""

    def __init__(
        self, proof: Proof, grid: Grid, say: Callable[[str], None], done: Callable[[Cell], None]
    ) -> None:
        self.proof, self.grid, self.say, self.done = proof, grid, say, done
        self.document = settings.read(proof.fleet)
        self.folder = Path(tempfile.mkdtemp(prefix="seawall-prove-"))
        self._cases: list[Case] = []
        self._starting = asyncio.Semaphore(AT_ONCE)

    def close(self) -> None:
        if self.proof.keep_logs is not None:
            ignored = shutil.ignore_patterns("*.sock")
            shutil.copytree(self.folder, self.proof.keep_logs, ignore=ignored, dirs_exist_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def all(self, targets: Sequence[TargetAdapter]) -> None:
        model = load_fleets(self.proof.fleet)[0].served_names[0]
        if self.proof.engine == "sim":
            self.say("learning the right answers from a quiet engine")
            self._cases = await sim_answers(model, requests(model, SIM_TOKENS, 42))
        alone = not self._sim or any(isinstance(t, UrlTarget) for t in targets)
        jobs = 1 if alone else self.proof.jobs
        places = asyncio.Semaphore(jobs)
        programs: dict[str, Path | None] = {}
        for target in targets:
            try:
                self.say(f"{target.name}: installing, if it is not here")
                programs[target.name] = await asyncio.to_thread(target.install)
            except SeawallError as e:
                self._told(
                    Cell(target=target.name, scenario="", title="", not_applicable=str(e), failed=True)
                )

        async def one(target: TargetAdapter, scenario: Scenario) -> None:
            async with places:
                await self._cell(target, scenario, programs[target.name], model)

        wanted = [(t, s) for s in self.proof.scenarios for t in targets if t.name in programs]
        if jobs > 1:
            wanted.sort(key=lambda pair: -_fitted(pair[1]).takes_s)
        async with asyncio.TaskGroup() as group:
            for target, scenario in wanted:
                group.create_task(one(target, scenario))

    async def _cell(
        self, target: TargetAdapter, scenario: Scenario, program: Path | None, model: str
    ) -> None:
        cell = Cell(target=target.name, scenario=scenario.name, title=scenario.title)
        need = NEEDS.get(scenario.name)
        if need is not None and need not in target.can:
            self._told(replace(cell, not_applicable=need.value))
            return
        self.say(f"{target.name}, {scenario.title}: running")
        scenario = _fitted(scenario)
        try:
            self._told(await self._played(cell, target, scenario, program, model))
        except SeawallError as e:
            self._told(replace(cell, not_applicable=str(e), failed=True))

    async def _played(
        self, cell: Cell, target: TargetAdapter, scenario: Scenario, program: Path | None, model: str
    ) -> Cell:  # fmt: skip
        folder = self.folder / target.name / scenario.name
        recipe, spec = await asyncio.to_thread(self._recipe, folder, scenario)
        meter = TokenMeter()
        port_of = (
            (lambda index: FIRST_PORT + index)
            if isinstance(target, UrlTarget)
            else (lambda index: free_port())
        )
        engines = TargetEngines(recipe, folder, meter, ready_s=120.0 if self._sim else 900.0, port_of=port_of)
        place = TargetPlace(
            folder=folder, port=free_port(), engines=(), names=recipe.fleet.served_names, program=program,
            spare_ports=(free_port(), free_port()), fleet=spec, fleet_name=recipe.fleet.name,
            api_key=self.proof.api_key,
        )  # fmt: skip
        if isinstance(target, UrlTarget):
            self.say(
                f"engines of {target.url}: 127.0.0.1, ports {FIRST_PORT} to {FIRST_PORT + scenario.replicas - 1}"
            )
        count = scenario.replicas if self._sim else min(2, scenario.replicas)
        async with self._starting:
            fleet = await TargetFleet.start(target, place, engines, count)
        reading = asyncio.create_task(meter.run())
        try:
            self._know(target, place)
            cases = await self._answers(scenario, fleet, model)
            before = await meter.look()
            stage = Stage(fleet, slow=not self._sim, queue_bound=2**31, stall_s=STALL_BOUND_S)
            verdict, records = await play(self.proof, scenario, fleet, cases, stage, self._pace)
            wasted = int(await meter.look() - before) - of_use(records)
        finally:
            reading.cancel()
            await fleet.stop()
        self.grid.records[target.name, scenario.name] = records
        if fleet.problems:
            verdict = replace(verdict, kept=False, broken=(*verdict.broken, *fleet.problems))
        cut = verdict.lost if scenario.name in HEALTHY else 0
        known = None if scenario.name in DEAF else max(0, wasted)
        return replace(cell, verdict=replace(verdict, wasted_tokens=known or 0), cut=cut, wasted=known)

    @property
    def _sim(self) -> bool:
        return self.proof.engine == "sim"

    @property
    def _pace(self) -> ProofPace:
        return PACE if self._sim else replace(REAL, end_s=500.0)

    async def _answers(self, scenario: Scenario, fleet: TargetFleet, model: str) -> list[Case]:
        """The right answers to this cell's requests, from engines that nobody else asks."""
        if self._sim:
            return await sim_answers(model, scenario.asks(model, False)) if scenario.asks else self._cases
        wanted = scenario.asks(model, True) if scenario.asks else requests(model, VLLM_TOKENS, 10)
        urls = fleet.engines.urls
        shares = (ask_reference(url, wanted[i :: len(urls)], parallel=1) for i, url in enumerate(urls))
        return [case for share in await asyncio.gather(*shares) for case in share]

    def _recipe(self, folder: Path, scenario: Scenario) -> tuple[ReplicaRecipe, Path]:
        """How its engines are started, and the Fleet as a gateway of ours reads it."""
        document = copy.deepcopy(dict(self.document))
        changes: dict[str, Any] = {"rollout.drain": ENGINES_DRAIN, "engine.kind": self.proof.engine}
        changes |= settings.SIM if self._sim else settings.ENGINE_REAL
        changes |= {path: value for path, value in scenario.settings.items() if path.startswith("engine.")}
        changes |= {
            "scaling.min": scenario.replicas,
            "scaling.max": max(scenario.replicas, scenario.most or 0),
        }
        if not self._sim and settings.exact(self.document):
            changes |= settings.EXACT
        for path, value in changes.items():
            settings.put(document, path, value)
        if scenario.served_names:
            names = document["spec"]["model"].get("servedNames") or [document["metadata"]["name"]]
            settings.put(document, "model.servedNames", [*names, *scenario.served_names])
        if self._sim:
            mine = ["--sim-step", str(STEP_S), "--sim-seed", "1", *scenario.engine_args]
            document["spec"]["engine"]["extraArgs"] = [
                *document["spec"]["engine"].get("extraArgs", []),
                *mine,
            ]
        folder.mkdir(parents=True, exist_ok=True)
        spec = folder / "fleet.yaml"
        spec.write_text(yaml.safe_dump(document, sort_keys=False))
        wish = Wish(
            specs=(spec,), fleets=tuple(load_fleets(spec)), state_dir=folder / "state", cache=cache.root(),
            engine=self.proof.engine, port=free_port(),
        )  # fmt: skip
        setup = prepare(wish, self.say)
        return setup.recipes[0], setup.documents.path

    def _know(self, target: TargetAdapter, place: TargetPlace) -> None:
        """What is run, from the first of its cells, without this machine's paths."""
        if target.name in self.grid.facts:
            return

        def plain(text: str) -> str:
            for path, word in (
                (place.folder, "DIR"),
                (place.folder_for_sockets, "DIR"),
                (cache.root(), "CACHE"),
            ):
                text = text.replace(str(path), word)
            return text.replace(str(Path.home()), "HOME")

        argv = [Path(w).name if i == 0 else plain(w) for i, w in enumerate(target.argv(place))]
        self.grid.facts[target.name] = TargetFacts(
            name=target.name, title=target.title, source=target.source, version=target.version(place.program),
            command=tuple(argv), files={n: plain(t) for n, t in target.files(place).items()},
            settings=target.settings,
        )  # fmt: skip

    def _told(self, cell: Cell) -> None:
        self.grid.cells.append(cell)
        self.done(cell)


def _fitted(scenario: Scenario) -> Scenario:
    """The scenario as targets play it: with longer silence, and the time that this takes."""
    if scenario.name == "healthy-slow":
        return healthy_slow(SILENT_S)
    if scenario.name == "overload":
        told = replace(scenario.expectation, any_refusal=True)
        scenario = replace(scenario, streams=OVERLOAD_CLIENTS, expectation=told)
    longer = {"hung": 2 * STALL_BOUND_S, "black-hole": STALL_BOUND_S}.get(scenario.name, 0.0)
    return replace(scenario, takes_s=scenario.takes_s + longer)


def of_use(records: Sequence[StreamRecord]) -> int:
    """Tokens of prompts and answers that came whole, and what clients had read who then left."""
    total = 0
    for r in records:
        if r.outcome.ok:
            total += r.case.prompt_tokens + len(r.case.ids)
        elif r.outcome.error == "cancelled":
            total += r.case.prompt_tokens + len(r.outcome.event_s)
    return total
