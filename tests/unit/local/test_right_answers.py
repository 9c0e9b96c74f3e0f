"""A replica that `seawall up` starts is not published before its answers are those of the fleet's fingerprint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from seawall.config.load import load_fleet
from seawall.decide.truth.fingerprint import Distance, Fingerprint, Identity, KnownAnswer
from seawall.decide.truth.prompts import prompts
from seawall.decide.truth.standing import WRONG
from seawall.engines.sim import flags
from seawall.engines.sim.faults import Fault
from seawall.engines.sim.server import SimulatedServer
from seawall.engines.vllm.client import EngineClient
from seawall.local.documents import Documents
from seawall.local.launch import sim_recipe
from seawall.local.services import EngineService
from seawall.weights.truth_file import identity_of, truth_path, write_truth

FLEET = load_fleet(Path(__file__).parents[3] / "examples/smollm2.yaml")


@pytest.fixture
async def engine() -> AsyncIterator[SimulatedServer]:
    args = flags.parser().parse_args(["--port", "0", "--model-name", "smollm2", "--sim-step", "0.001"])
    server = SimulatedServer(args, flags.timing(args))
    await server.listen()
    steps = asyncio.ensure_future(server.steps())
    yield server
    steps.cancel()
    assert server.server is not None
    server.server.close()


async def known(client: EngineClient, url: str) -> Fingerprint:
    answers = [(p, await client.answer(url, "smollm2", p, 10.0)) for p in prompts()]
    known = tuple(KnownAnswer(p, a, Distance()) for p, a in answers if a is not None)
    return Fingerprint(identity_of(FLEET), "a test", known)


async def test_it_proves_itself_with_right_answers_only(engine: SimulatedServer) -> None:
    client = EngineClient()
    service = EngineService(sim_recipe(FLEET), client, lambda: True, 10.0, lambda: 0.0)
    service.port = engine.args.port
    made = await known(client, service.url)

    engine.inject(Fault(kind="wrong-weights"))
    assert await service.prove() is None, "nothing says what is right"
    service.truth = lambda: made
    failed = await service.prove()
    assert failed is not None and failed.startswith(WRONG)

    engine.inject(Fault(kind="clear"))
    assert await service.prove() is None
    await client.close()


async def test_a_model_that_only_embeds_cannot_be_asked_and_serves(engine: SimulatedServer) -> None:
    client = EngineClient()
    service = EngineService(sim_recipe(FLEET), client, lambda: True, 10.0, lambda: 0.0)
    service.port = engine.args.port
    made = await known(client, service.url)
    service.truth = lambda: made
    for path in ("/v1/completions", "/v1/chat/completions"):
        del engine.routes.table[path]
    engine.routes.table["/v1/embeddings"] = {"POST": engine.routes.embeddings}
    assert await service.prove() is None
    await client.close()


async def test_a_budget_of_nothing_asks_nothing(engine: SimulatedServer) -> None:
    client = EngineClient()
    gateway = replace(FLEET.spec.gateway, truth_budget=0.0)
    fleet = replace(FLEET, spec=replace(FLEET.spec, gateway=gateway))
    service = EngineService(sim_recipe(fleet), client, lambda: True, 10.0, lambda: 0.0)
    service.port = engine.args.port
    made = await known(client, service.url)
    engine.inject(Fault(kind="wrong-weights"))
    service.truth = lambda: made
    assert await service.prove() is None
    await client.close()


def test_the_file_beside_the_spec_is_brought_along_and_taken_away(tmp_path: Path) -> None:
    spec, state = tmp_path / "spec" / "f.yaml", tmp_path / "state"
    spec.parent.mkdir()
    state.mkdir()
    spec.write_text((Path(__file__).parents[3] / "examples/smollm2.yaml").read_text())
    documents = Documents([spec], {FLEET.name: None}, state / "fleets.yaml")
    documents.write([FLEET])
    assert not documents.truth("smollm2").exists()

    said: list[str] = []
    write_truth(truth_path(spec.parent, "smollm2"), Fingerprint(Identity(), "a", ()))
    documents.follow(lambda subject, what: said.append(what))
    assert documents.truth("smollm2").read_text() == truth_path(spec.parent, "smollm2").read_text()
    assert len(said) == 1

    truth_path(spec.parent, "smollm2").unlink()
    documents.follow(lambda subject, what: said.append(what))
    assert not documents.truth("smollm2").exists()


async def test_an_engine_that_computes_nan_is_kept_out(engine: SimulatedServer) -> None:
    """It gives tokens; asked for logprobs, vLLM 0.32 answers 400, as to a request that it does not know."""
    client = EngineClient()
    service = EngineService(sim_recipe(FLEET), client, lambda: True, 10.0, lambda: 0.0)
    service.port = engine.args.port
    made = await known(client, service.url)
    service.truth = lambda: made
    assert await service.prove() is None
    engine.inject(Fault(kind="nan"))
    assert "NaN" in (await service.prove() or "")
    await client.close()
