"""A conversation goes on at the replica that keeps it, whichever gateway the next turn comes to."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from seawall.decide.route.response import UNPLACED, keeper_of, mark_of
from seawall.gateway.tell import keyring

from .test_background import ASK, Answers, call, documents
from .test_reattach import KEEPS
from .waiting import until

STORES = KEEPS.replace(
    "source: file:///none}", 'source: file:///none}\n  engine: {env: {VLLM_ENABLE_RESPONSES_API_STORE: "1"}}'
)
FIRST = {"model": "m", "input": "x"}


class Keeps(Answers):
    """Remembers its responses, as vLLM with its store does, and no others."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.kept: set[str] = set()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: dict[str, Any]
    ) -> None:
        previous = data.get("previous_response_id")
        if previous is not None and previous not in self.kept:
            return self._json(
                writer, 404, {"error": {"message": f"Response with id '{previous}' not found."}}
            )
        if "input" in data:
            self.kept.add(data.get("request_id", "resp_engine"))
        return await super()._answer(reader, writer, data)


async def both(stack: contextlib.AsyncExitStack) -> list[Keeps]:
    return [await stack.enter_async_context(Keeps(name)) for name in "ab"]


async def test_a_follow_up_goes_to_the_replica_that_keeps_what_it_follows(start: Any) -> None:
    async with contextlib.AsyncExitStack() as stack:
        engines = await both(stack)
        gateways = [await start(*engines, spec=STORES) for _ in range(2)]
        for n in range(8):
            streams = bool(n % 2)
            _, _, answer = await call(gateways[0], "POST", "/v1/responses", {**FIRST, "stream": streams})
            id = documents(answer)[0]["response"]["id"] if streams else answer["id"]
            for turn in range(3):
                ask = {**FIRST, "previous_response_id": id}
                status, _, answer = await call(gateways[turn % 2], "POST", "/v1/responses", ask)
                assert status == 200, answer
                id = answer["id"]
                assert UNPLACED not in id
        assert all(len(e.kept) > 3 for e in engines), "both take part"


async def test_who_keeps_a_response_in_the_background_is_known_too(start: Any) -> None:
    async with contextlib.AsyncExitStack() as stack:
        engines = await both(stack)
        gateway = await start(*engines, spec=STORES)
        kept = gateway.server.app.fleets["m"].kept
        for _ in range(6):
            made = (await call(gateway, "POST", "/v1/responses", ASK))[2]
            await until(lambda: not kept.running)
            ask = {**FIRST, "previous_response_id": made["id"]}
            assert (await call(gateway, "POST", "/v1/responses", ask))[0] == 200


async def test_a_follow_up_waits_for_its_replica_however_busy(start: Any) -> None:
    async with contextlib.AsyncExitStack() as stack:
        engines = await both(stack)
        gateway = await start(*engines, spec=STORES.replace("keepFor: 5m", "keepFor: 5m, maxInFlight: 1"))
        first = (await call(gateway, "POST", "/v1/responses", FIRST))[2]
        keeper = next(e for e in engines if first["id"] in e.kept)
        keeper.gate = asyncio.Event()
        ask = {**FIRST, "previous_response_id": first["id"]}
        turns = [asyncio.ensure_future(call(gateway, "POST", "/v1/responses", ask)) for _ in range(2)]
        fleet = gateway.server.app.fleets["m"]
        await until(lambda: fleet.admission.queued == 1)
        assert (await call(gateway, "POST", "/v1/responses", FIRST))[0] == 200, "others are served meanwhile"
        keeper.gate.set()
        assert [status for status, _, _ in await asyncio.gather(*turns)] == [200, 200]


async def test_another_tenants_response_cannot_be_followed(start: Any, tmp_path: Path) -> None:
    auth = {}
    for tenant in ("a", "b"):
        secret, key = keyring.make(tenant)
        keyring.change(tmp_path / "keys.json", add=key)
        auth[tenant] = f"Bearer {secret}"
    spec = STORES.replace("keepFor: 5m", "keepFor: 5m, tenants: [{name: a}, {name: b}]")
    async with contextlib.AsyncExitStack() as stack:
        gateway = await start(*await both(stack), spec=spec, keys=tmp_path / "keys.json")
        first = (await call(gateway, "POST", "/v1/responses", FIRST, Authorization=auth["a"]))[2]
        ask = {**FIRST, "previous_response_id": first["id"]}
        assert (await call(gateway, "POST", "/v1/responses", ask, Authorization=auth["a"]))[0] == 200
        status, _, body = await call(gateway, "POST", "/v1/responses", ask, Authorization=auth["b"])
        assert (status, body["error"]["code"]) == (404, "response_not_found")


async def test_the_replica_that_keeps_a_response_is_asked_for_it(start: Any) -> None:
    async with contextlib.AsyncExitStack() as stack:
        engines = await both(stack)
        gateway = await start(*engines, spec=STORES)
        for _ in range(4):
            first = (await call(gateway, "POST", "/v1/responses", FIRST))[2]
            path = f"/v1/responses/{first['id']}"
            await call(gateway, "GET", path + "?include=x")
            keeper = next(e for e in engines if first["id"] in e.kept)
            assert keeper.log[-1][0] == path + "?include=x"
            assert (await call(gateway, "POST", path + "/cancel"))[0] == 404
            wrong = path[:-1] + ("0" if path[-1] != "0" else "1")
            assert (await call(gateway, "GET", wrong))[0] == 404
            assert keeper.log[-1][0] == path + "?include=x", "nobody is asked for it"
        for e in engines:
            await e.kill()
        assert (await call(gateway, "GET", path))[0] == 404


async def test_a_prompt_that_looks_like_a_mark_reaches_the_engine_as_it_is(start: Any) -> None:
    """A table in Markdown is made of dashes."""
    async with contextlib.AsyncExitStack() as stack:
        engine = (await both(stack))[0]
        gateway = await start(engine, spec=STORES)
        for text in ("|----------------|---------|", f"resp_{'0' * 32}{UNPLACED}", "x" * 300_000 + UNPLACED):
            _, _, answer = await call(gateway, "POST", "/v1/responses", {**FIRST, "input": text})
            sent = engine.log[-1][2]
            assert sent["input"] == text and UNPLACED not in sent["request_id"]
            assert keeper_of(sent["request_id"], gateway.server.app.fleets["m"].router.targets, "")
            assert answer["id"] == sent["request_id"]


async def test_engines_that_keep_nothing_get_what_the_client_sent(start: Any) -> None:
    async with contextlib.AsyncExitStack() as stack:
        engine = (await both(stack))[0]
        gateway = await start(engine, spec=KEEPS)
        ask = {**FIRST, "previous_response_id": "resp_x"}
        assert (await call(gateway, "POST", "/v1/responses", ask))[0] == 404
        assert engine.log[-1][2] == ask


def test_a_mark_is_one_replicas_and_one_tenants() -> None:
    id = "resp_abc" + mark_of("m-1", "t")
    assert keeper_of(id, ["m-0", "m-1"], "t") == "m-1"
    assert keeper_of(id, ["m-0", "m-1"], "u") is None
    assert keeper_of(id, ["m-0"], "t") is None
    assert keeper_of("", ["m-0"], "t") is None
