"""A replica that answers wrongly is found between requests, taken out, and comes back only with right answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from tests.within import within

from seawall.decide.truth.fingerprint import Distance, Fingerprint, Identity, KnownAnswer
from seawall.decide.truth.prompts import prompts
from seawall.engines.sim import flags
from seawall.engines.sim.server import SimulatedServer
from seawall.engines.vllm.truth import answer_of, ask_of
from seawall.gateway.replicas.truth import TruthWatch
from seawall.weights.truth_file import write_truth

from .waiting import until as waited_until

SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  engine: {kind: sim}
  gateway: {truthBudget: 0.1}
"""


async def until(condition) -> None:
    """Waits for as long as a busy machine takes: what an ask takes decides when the next one comes."""
    await waited_until(condition, 80)


class Sim:
    """A simulated engine in this process."""

    def __init__(self) -> None:
        args = flags.parser().parse_args(["--port", "0", "--model-name", "m", "--sim-step", "0.002"])
        self.server = SimulatedServer(args, flags.timing(args))
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> Sim:
        await self.server.listen()
        self.tasks = [asyncio.ensure_future(self.server.steps())]
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.args.port}"

    async def fault(self, kind: str) -> None:
        async with httpx2.AsyncClient() as client:
            assert (await client.post(f"{self.url}/sim/fault", json={"kind": kind})).status_code == 200


@pytest.fixture
async def sims() -> AsyncIterator[list[Sim]]:
    made = [await Sim().begin() for _ in range(3)]
    yield made
    for sim in made:
        for task in sim.tasks:
            task.cancel()
        assert sim.server.server is not None
        sim.server.server.close()


async def fingerprint(sim: Sim) -> Fingerprint:
    known = []
    async with httpx2.AsyncClient(base_url=sim.url) as client:
        for prompt in prompts():
            path, body = ask_of(prompt, "m", "x")
            answer = await client.post(path, json=body)
            known.append(KnownAnswer(prompt, answer_of(answer.json()), Distance()))
    return Fingerprint(Identity(model="file:///none"), "verified weights", tuple(known))


@contextlib.asynccontextmanager
async def traffic(gateway) -> AsyncIterator[None]:
    """Clients that ask one thing after another, so that every replica serves. Without a pause they would take all
    of the loop, which the engines and the watch run on as well."""

    async def ask() -> None:
        while True:
            await gateway.complete(model="m", prompt="The sea", max_tokens=2)
            await asyncio.sleep(0.05)

    tasks = [asyncio.ensure_future(ask()) for _ in range(3)]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def replicas(gateway):
    return {t.name: t for t in gateway.server.app.fleets["m"].targets}


async def metrics(gateway) -> str:
    return (await gateway.get("/metrics", admin=True))[2].decode()


@pytest.mark.parametrize(
    ("fault", "kind"), [("wrong-weights", None), ("wrong-template", "template"), ("nan", "numeric")]
)
async def test_it_is_taken_out_named_and_brought_back(start, sims, tmp_path: Path, fault: str, kind) -> None:
    write_truth(tmp_path / "m.truth.json", await fingerprint(sims[0]))
    gateway = await start(*(s.url for s in sims), spec=SPEC)
    async with traffic(gateway):
        await until(lambda: gateway.server.truth.fleets["m"].asked.get("same", 0) >= 3)

        await sims[1].fault(fault)
        victim = replicas(gateway)["m-1"]
        await until(lambda: victim.state != "ready")
        assert "it answers wrongly" in victim.reason
        if kind:
            assert f'kind="{kind}"' in await metrics(gateway)
            assert {"template": "chat template", "numeric": "NaN"}[kind] in victim.reason
        assert 'seawall_replica_answers_wrongly{fleet="m",replica="m-1"' in await metrics(gateway)
        assert all(replicas(gateway)[n].state == "ready" for n in ("m-0", "m-2"))

        await asyncio.sleep(0.5)
        assert victim.state != "ready", "a token that is not the right one brings nobody back"
        await sims[1].fault("clear")
        await until(lambda: victim.state == "ready")
        assert "answers_wrongly{" not in await metrics(gateway)


async def test_what_a_replica_holds_that_answers_wrongly_goes_on_elsewhere(
    start, sims, tmp_path: Path
) -> None:
    """Streams and whole answers, which it would have gone on with for minutes."""
    write_truth(tmp_path / "m.truth.json", await fingerprint(sims[0]))
    gateway = await start(*(s.url for s in sims), spec=SPEC)
    asked = {"prompt": "The sea", "max_tokens": 3000, "temperature": 0, "ignore_eos": True}
    for sim in sims:
        await sim.fault("slow")
    await sims[1].fault("wrong-weights")
    held = [asyncio.ensure_future(gateway.complete(stream=n < 3, **asked)) for n in range(6)]
    victim = replicas(gateway)["m-1"]
    await until(lambda: victim.in_flight > 0)
    await until(lambda: victim.state != "ready" and not victim.in_flight)
    assert sum(t.in_flight for t in replicas(gateway).values()) == len(held)
    assert not any(task.done() for task in held)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)


async def test_right_answers_are_learned_from_replicas_that_agree(start, sims) -> None:
    await sims[2].fault("wrong-weights")
    gateway = await start(*(s.url for s in sims), spec=SPEC)
    async with traffic(gateway):
        await until(lambda: replicas(gateway)["m-2"].state != "ready")
    assert 'seawall_truth_known{fleet="m",source="learned"} 1' in await metrics(gateway)
    assert gateway.server.truth.fleets["m"].fingerprint.source == "agreed by m-0, m-1"


async def test_two_that_disagree_are_served_and_said(start, sims) -> None:
    await sims[1].fault("wrong-weights")
    gateway = await start(sims[0].url, sims[1].url, spec=SPEC)
    await until(lambda: gateway.server.truth.fleets["m"].problem)
    assert "seawall fingerprint" in gateway.server.truth.fleets["m"].problem
    assert 'seawall_truth_disagree{fleet="m"} 1' in await metrics(gateway)
    assert all(t.state == "ready" for t in replicas(gateway).values())


async def test_an_outdated_fingerprint_takes_nobody_out(start, sims, tmp_path: Path) -> None:
    await sims[2].fault("wrong-weights")
    write_truth(tmp_path / "m.truth.json", await fingerprint(sims[2]))
    gateway = await start(sims[0].url, sims[1].url, spec=SPEC)
    truth = gateway.server.truth.fleets["m"]
    async with traffic(gateway):
        await until(lambda: [s.state for s in truth.standings.values()] == ["wrong", "wrong"])
    assert [t.state for t in replicas(gateway).values()] == ["ready", "ready"]


async def test_without_a_budget_nobody_is_asked(start, sims, tmp_path: Path) -> None:
    write_truth(tmp_path / "m.truth.json", await fingerprint(sims[0]))
    gateway = await start(sims[0].url, sims[1].url, spec=SPEC.replace("0.1}", "0}"))
    await sims[1].fault("wrong-weights")
    await asyncio.sleep(1.0)
    assert not gateway.server.truth.fleets["m"].asked
    assert "seawall_truth_asks_total{" not in await metrics(gateway)


async def test_a_fingerprint_of_another_model_is_said_and_not_used(start, sims, tmp_path: Path) -> None:
    other = await fingerprint(sims[0])
    write_truth(tmp_path / "m.truth.json", Fingerprint(Identity(model="hf://a/b"), "x", other.known))
    gateway = await start(sims[0].url, spec=SPEC)
    assert gateway.server.truth.fleets["m"].fingerprint is None
    assert "seawall_config_errors_total 1" in await metrics(gateway)


async def test_a_sick_stream_brings_an_ask_before_its_turn(start, sims, tmp_path: Path) -> None:
    write_truth(tmp_path / "m.truth.json", await fingerprint(sims[0]))
    gateway = await start(sims[0].url, sims[1].url, spec=SPEC.replace("0.1}", "0.0001}"))
    truth, fleet = gateway.server.truth, gateway.server.app.fleets["m"]
    await until(lambda: truth.fleets["m"].asked.get("same", 0) >= 2)
    target = replicas(gateway)["m-1"]
    assert truth.look(fleet, fleet.now()) == []
    truth.sick(fleet, target, "its last 48 tokens are 1 different ones")
    assert truth.look(fleet, fleet.now()) == [target]


async def test_of_siblings_that_say_different_things_the_wrong_one_is_found_before_its_turn(
    start, sims, tmp_path: Path
) -> None:
    write_truth(tmp_path / "m.truth.json", await fingerprint(sims[0]))
    groups = ("stable", "stable", "canary")
    found = [
        {"name": f"m-{n}", "fleet": "m", "url": sim.url, "group": group}
        for n, (sim, group) in enumerate(zip(sims, groups, strict=True))
    ]
    file = tmp_path / "discovery.json"
    file.write_text(json.dumps({"version": 1, "replicas": found}))
    spec = SPEC.replace("0.1}", "0.0001}") + "  rollout: {canary: {shadow: true}}\n"
    gateway = await start(spec=spec, discovery=f"file:{file}")
    truth = gateway.server.truth
    await until(lambda: truth.fleets["m"].asked.get("same", 0) >= 2)
    victim = replicas(gateway)["m-1"]
    await sims[1].fault("wrong-weights")
    standings = truth.fleets["m"].standings
    for target, standing in list(standings.items()):
        standings[target] = replace(standing, due_s=float("inf"))

    async def compared() -> None:
        while victim.state == "ready":
            await gateway.complete(model="m", prompt="The sea", max_tokens=8, temperature=0)

    await within(compared(), 80)
    assert "it answers wrongly" in victim.reason
    assert replicas(gateway)["m-0"].state == "ready", "it was asked as well"


async def test_many_replicas_are_asked_in_turn_and_no_more_than_ten_a_second(
    start, sims, tmp_path: Path
) -> None:
    write_truth(tmp_path / "m.truth.json", await fingerprint(sims[0]))
    gateway = await start(*[sims[0].url] * 25, spec=SPEC.replace("0.1}", "0}"))
    fleet, truth = gateway.server.app.fleets["m"], TruthWatch()
    truth.configure({"m": (await fingerprint(sims[0]), 0.01, Identity())}, 0.0)
    first, second = truth.look(fleet, 100.0), truth.look(fleet, 100.5)
    assert (len(first), len(second)) == (10, 5)


async def test_an_idle_replica_is_left_alone_once_it_was_asked(start, sims, tmp_path: Path) -> None:
    write_truth(tmp_path / "m.truth.json", await fingerprint(sims[0]))
    gateway = await start(sims[0].url, spec=SPEC)
    fleet, truth = gateway.server.app.fleets["m"], gateway.server.truth
    target = replicas(gateway)["m-0"]
    await until(lambda: truth.standing(fleet, target).turn == 1)
    await until(lambda: truth.standing(fleet, target).due_s <= fleet.now())
    assert truth.look(fleet, fleet.now()) == []
    assert (await gateway.complete(max_tokens=1))[0] == 200
    await until(lambda: truth.standing(fleet, target).turn > 1)


async def test_asks_of_ours_take_places_of_the_replica_and_never_one_too_many(
    start, sims, tmp_path: Path
) -> None:
    """Each replica takes one request at a time here, and is always asked for more."""
    write_truth(tmp_path / "m.truth.json", await fingerprint(sims[0]))
    gateway = await start(*(s.url for s in sims), spec=SPEC.replace("0.1}", "0.1, maxInFlight: 1}"))
    most, looks = 0, True

    async def look() -> None:
        nonlocal most
        while looks:
            held = [len(s.server.scheduler.running) + len(s.server.scheduler.waiting) for s in sims]
            most = max(most, *held)
            await asyncio.sleep(0.002)  # as long as the shortest request

    looking = asyncio.ensure_future(look())
    async with traffic(gateway), traffic(gateway):
        await until(lambda: gateway.server.truth.fleets["m"].asked.get("same", 0) >= 3)
    looks = False
    await looking
    assert most == 1
    await until(lambda: all(t.taken == 0 for t in replicas(gateway).values()))
    assert gateway.server.app.fleets["m"].router.asks == 0
