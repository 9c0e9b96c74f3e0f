"""Every shape of body is refused here, or means to the engine what it means here; none is a fault of ours."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from seawall.config.load import parse_fleets
from seawall.decide.route.refusal import Refusal
from seawall.gateway.intake.manners import fields_of, manners_of, misses_manners, with_salt
from seawall.gateway.intake.peek import peek
from seawall.gateway.intake.routes import ROUTES as KNOWN
from tests.hostile.bodies import SHAPES
from tests.unit.gateway.both import EDGES, Edge, ask
from tests.unit.gateway.scripted import SPEC, Bench

ROUTES = (
    b"/v1/completions",
    b"/v1/chat/completions",
    b"/v1/messages",
    b"/v1/responses",
    b"/v1/embeddings",
    b"/pooling",
)
MEDIA_ROUTES = (b"/v1/audio/speech", b"/v1/images/generations")
STRICT = "tenants: [{name: a}], keysFile: none.json"
ADDED = {"return_token_ids", "stream_options", "seed", "stream", "include", "logprobs"}
"""Fields that the gateway may add, or set, so that an answer can be counted and resumed."""


def meaning(body: bytes) -> Any:
    """What an engine reads: Python's JSON, as Starlette calls it."""
    return json.loads(body.removeprefix(b"\xef\xbb\xbf"), parse_int=str)


async def came_of(edge: type[Edge], route: bytes, body: bytes) -> tuple[str, bytes]:
    """(what came of it, the body that a replica got)."""
    b = Bench(asyncio.get_running_loop())
    b.app.max_body = 1 << 22
    b.fleet.spec = b.fleet.spec.__class__(**{**vars(b.fleet.spec), "max_body": 1 << 22})
    client = edge(b)
    ask(client, body, route)
    async with asyncio.timeout(60):
        while not (b.up_pipe.out or client.answer):  # a large body is read beside the loop
            await asyncio.sleep(0.001)
    if b.up_pipe.out:
        return "passed", bytes(b.up_pipe.out).partition(b"\r\n\r\n")[2]
    answer = client.answer
    assert answer is not None and 400 <= answer.status < 500 and answer.whole, answer
    error = json.loads(answer.body)["error"]
    assert error["code"] and error["message"] and b"Traceback" not in answer.body
    return "refused", b""


def test_there_are_many() -> None:
    assert len(SHAPES) >= 150


@EDGES
@pytest.mark.parametrize("route", ROUTES)
def test_every_body_comes_to_what_the_table_says(route: bytes, edge: type[Edge]) -> None:
    async def main() -> list[tuple[str, ...]]:
        wrong: list[tuple[str, ...]] = []
        for name, (body, wanted) in SHAPES.items():
            what, got = await came_of(edge, route, body)
            if wanted not in (what, "either"):
                wrong.append((name, wanted, what))
            if what == "passed":
                sent, here = meaning(got), meaning(body)
                if {k: v for k, v in sent.items() if k not in ADDED} != {
                    k: v for k, v in here.items() if k not in ADDED
                }:
                    wrong.append((name, "another meaning"))
        return wrong

    assert asyncio.run(main()) == []


@EDGES
@pytest.mark.parametrize("route", MEDIA_ROUTES)
def test_no_body_is_a_fault_of_ours_where_media_are_named_under_many_keys(
    route: bytes, edge: type[Edge]
) -> None:
    async def main() -> None:
        for name, (body, _) in SHAPES.items():
            if " is " not in name:  # the typed ones are about fields of other routes
                await came_of(edge, route, body)

    asyncio.run(main())


@pytest.mark.parametrize("route", sorted(set(KNOWN.values())))
def test_no_body_of_a_tenant_is_a_fault_of_ours(route: str) -> None:
    fleet = parse_fleets(SPEC.replace("{maxBody: 2100,", f"{{{STRICT}, maxBody: 4Mi,"))[0]
    manners = manners_of(fleet.spec.gateway)
    assert manners.refused and manners.salted
    for body, _ in SHAPES.values():
        if isinstance(peek(body), Refusal):
            continue
        refusal = misses_manners(body, manners, route)
        assert refusal is None or 400 <= refusal.status < 500
        if refusal is None:
            assert meaning(with_salt(body, fields_of(body), "m", "a"))["cache_salt"]
