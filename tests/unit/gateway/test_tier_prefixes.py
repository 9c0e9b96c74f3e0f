"""Which replica has which prompt cached, known at every gateway."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from random import Random
from typing import Any

import pytest
from tests.store_server import store_server

from seawall.decide.route.prefix import MOST_NEWS, Brought, PrefixIndex, blocks_of
from seawall.gateway.tier.prefixes import MESSAGE, packed, unpacked

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  gateway: {resume: "off", sessions: "off"}
"""


def text(seed: int, size: int) -> bytes:
    return Random(seed).randbytes(size).hex().encode()[:size]


def told(index: PrefixIndex) -> str:
    assert index.news is not None
    news = index.news
    return json.dumps(packed(lambda: news.popleft() if news else None))


def test_what_one_index_learns_another_finds() -> None:
    one, other = PrefixIndex(10_000), PrefixIndex(10_000)
    one.share()
    system, question = text(1, 40_000), text(2, 8_000)
    one.learn(blocks_of(system), "r", len(system))
    other_learns = told(one)
    for brought in unpacked(other_learns):
        other.hear(brought)
    whole = system + question
    found = other.match(blocks_of(whole), len(whole))
    assert found["r"] == pytest.approx(10_000, rel=0.05)

    steps = one.find(blocks_of(whole))["r"]
    one.learn(blocks_of(whole), "r", len(whole), steps)
    second = told(one)
    assert len(second) < len(other_learns), "only what is new is told"
    for brought in unpacked(second):
        other.hear(brought)
    assert other.match(blocks_of(whole), len(whole))["r"] == pytest.approx(12_000, rel=0.05)
    one.learn(blocks_of(whole), "r", len(whole), one.find(blocks_of(whole))["r"])
    assert json.loads(told(one)) == {}, "the same prompt again tells nothing"


def test_what_is_told_is_bounded_and_what_is_no_such_thing_tells_nothing() -> None:
    index = PrefixIndex(1000)
    index.share()
    for n in range(3 * MOST_NEWS):
        index.learn([at << 32 | n for at in range(8)], f"r{n % 3}", 4096)
    assert index.news is not None and len(index.news) == MOST_NEWS
    waits = deque(index.news)
    assert len(told(index)) < 2 * MESSAGE and index.news, "the rest waits for the next round"
    assert len(waits) > len(index.news)
    heard = PrefixIndex(50)
    for n in range(200):
        heard.hear(Brought("r", 0, (n,), 512))
    assert len(heard) <= 50
    for junk in ("", "[]", "{", '{"r": 1}', '{"r": "!"}', '{"r": "AAAA"}', '{"r": "//8AAP////8="}'):
        assert list(unpacked(junk)) == []


async def test_a_prompt_that_one_gateway_has_sent_to_a_replica_goes_there_from_the_other(
    start: Any, engine: Any, other: Any
) -> None:
    async with store_server() as store:
        gateways = [await start(engine, other, spec=FLEET, store=store.url) for _ in range(2)]
        async with asyncio.timeout(20):
            while not all(g.server.tier.rounds > 3 for g in gateways):
                await asyncio.sleep(0.02)
        index = gateways[1].server.app.fleets["m"].router.prefix
        for n in range(6):
            known = len(index)
            prompt = text(n, 20_000).decode()
            body = {"model": "m", "prompt": prompt, "max_tokens": 1}
            assert (await gateways[0].post("/v1/completions", body))[0] == 200
            async with asyncio.timeout(20):
                while len(index) == known:
                    await asyncio.sleep(0.02)
            assert (await gateways[1].post("/v1/completions", {**body, "prompt": prompt + "?"}))[0] == 200
            met = [
                sum((data or {}).get("prompt", "").startswith(prompt) for *_, data in e.log)
                for e in (engine, other)
            ]
            assert sorted(met) == [0, 2], "both went to one replica"
