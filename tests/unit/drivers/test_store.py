"""The store's scripts on a real server do what the pure rules say."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from tests.store_server import asked, store_server

from seawall.decide.route.lease import BudgetLease, Pot
from seawall.drivers.store import SharedStore
from seawall.drivers.store_client import StoreAway, parse_address
from seawall.drivers.store_scripts import SURE_S
from seawall.errors import InputError


@pytest.mark.parametrize("per_s", [10.0, 0.0])
async def test_the_script_and_the_pure_rule_grant_the_same(per_s: float) -> None:
    rng = Random(1)
    async with store_server() as server:
        store = SharedStore(parse_address(server.url))
        pot = Pot(600.0, per_s)
        leases = {f"g{i}": BudgetLease(600.0, per_s, 3) for i in range(3)}
        now = 1000.0
        for _ in range(150):
            now = round(now + rng.random() * 3, 3)
            name = rng.choice(list(leases))
            lease = leases[name]
            for _ in range(rng.randrange(5)):
                if lease.room(now) >= 3:
                    lease.take(rng.choice([3.0, 1.0, -1.0]))
            ask = lease.ask(now)
            wanted = pot.turn(name, ask, now)
            (got,) = await asked(store, store.leases(name, {"a": (600.0, per_s, ask)}, now))
            assert got.gateways == wanted.gateways
            assert got.granted == pytest.approx(wanted.granted, abs=0.01)
            assert got.level == pytest.approx(wanted.level, abs=0.01)
            lease.told(wanted, now)
        await store.close()


async def settled(store: SharedStore, fleet: str = "f") -> None:
    """A store that was empty lately may not have heard everybody: until then nobody gets more than it has."""
    await asked(store, store.places("nobody", fleet, 8, {}, {}))
    await asyncio.sleep(SURE_S + 0.05)


async def test_places_at_a_replica_are_given_once() -> None:
    async with store_server() as server:
        stores = {f"g{i}": SharedStore(parse_address(server.url)) for i in range(3)}
        await settled(stores["g0"])
        held = {}
        for name, store in stores.items():
            heard = await asked(store, store.places(name, "f", 8, {"t": (1.0, 10.0)}, {"r": (0, 5, 0)}))
            held[name] = heard.places[0][0]
        assert held == {"g0": 5, "g1": 3, "g2": 0}
        heard = await asked(stores["g0"], stores["g0"].places("g0", "f", 8, {}, {"r": (2, 2, 5)}))
        assert heard.places[0] == (2, 0, 3) and len(heard.demands) == 4
        heard = await asked(stores["g2"], stores["g2"].places("g2", "f", 8, {}, {"r": (1, 4, 0)}))
        assert heard.places[0] == (3, 2, 5), "what one gives back another has"
        heard = await asked(stores["g1"], stores["g1"].places("g1", "f", 8, {}, {"new": (0, 1, 0)}))
        assert heard.places[0] == (1, 0, 0)
        heard = await asked(stores["g2"], stores["g2"].places("g2", "f", 8, {}, {"r": (1, 8, 3)}))
        assert heard.places[0] == (6, 2, 2), "who does not tell of a replica any more has no place there"
        for store in stores.values():
            await store.close()


async def test_a_store_that_was_emptied_gives_nobody_more_places_than_it_had_before_all_have_told() -> None:
    async with store_server() as server:
        one, two = (SharedStore(parse_address(server.url)) for _ in range(2))
        await settled(one)
        assert (await asked(one, one.places("g0", "f", 8, {}, {"r": (8, 8, 8)}))).places[0] == (8, 0, 0)
        await one.link.client.flushall()
        assert (await asked(two, two.places("g1", "f", 8, {}, {"r": (0, 4, 0)}))).places[0][0] == 0
        assert (await asked(one, one.places("g0", "f", 8, {}, {"r": (8, 8, 8)}))).places[0] == (8, 0, 0)
        await one.close()
        await two.close()


async def test_a_gateway_that_died_at_rest_leaves_its_places_and_nothing_else_happens() -> None:
    async with store_server() as server:
        one, two = (SharedStore(parse_address(server.url)) for _ in range(2))
        await settled(one)
        await asked(two, two.places("dead", "f", 8, {"t": (1.0, 3.0)}, {"r": (0, 5, 0), "s": (1, 2, 0)}))
        await one.link.client.hset("{seawall}:fleet:f:m", "dead", "1.0")  # long ago
        for _ in range(2):
            heard = await asked(one, one.places("g0", "f", 8, {}, {"r": (0, 8, 0), "s": (0, 8, 0)}))
            assert heard.places == ((8, 0, 0), (8, 0, 0)) and {"t": [1.0, 3.0]} not in heard.demands
        await one.close()
        await two.close()


@pytest.mark.parametrize("lost", ["{seawall}:fleet:f:g:g0", "{seawall}:fleet:f:m", "{seawall}:fleet:f:c"])
async def test_no_place_is_lost_with_a_key_that_a_full_server_threw_away(lost: str) -> None:
    async with store_server() as server:
        one, two = (SharedStore(parse_address(server.url)) for _ in range(2))
        await settled(one)
        for _ in range(2):
            await asked(one, one.places("g0", "f", 8, {}, {"r": (3, 3, 3)}))
            await asked(two, two.places("g1", "f", 8, {}, {"r": (2, 5, 5)}))
        await one.link.client.delete(lost)
        for _ in range(2):
            await asked(one, one.places("g0", "f", 8, {}, {"r": (3, 3, 3)}))
            await asked(two, two.places("g1", "f", 8, {}, {"r": (2, 5, 5)}))
        assert (await asked(one, one.places("g0", "f", 8, {}, {"r": (0, 0, 3)}))).places[0] == (0, 2, 5)
        assert (await asked(two, two.places("g1", "f", 8, {}, {"r": (0, 0, 5)}))).places[0] == (0, 0, 0)
        assert (await asked(one, one.places("g0", "f", 8, {}, {"r": (0, 8, 0)}))).places[0][1:] == (0, 0)
        await one.close()
        await two.close()


async def test_news_reach_all_that_listen() -> None:
    async with store_server() as server:
        one, two = SharedStore(parse_address(server.url)), SharedStore(parse_address(server.url))
        assert await asked(two, two.news([])) == []
        await asked(one, one.news([{"what": "evicted", "replica": "r"}, {"what": "poison", "mark": "ff"}]))
        assert [n["what"] for n in await asked(two, two.news([]))] == ["evicted", "poison"]
        assert await asked(two, two.news([])) == []
        await one.close()
        await two.close()


async def test_a_store_that_is_killed_or_paused_is_away_and_comes_back() -> None:
    async with store_server() as server:
        store = SharedStore(parse_address(server.url))
        await asked(store, store.news([]))
        server.pause()
        with pytest.raises(StoreAway):
            await asked(store, store.news([]))
        server.go_on()
        await asked(store, store.news([]))
        await server.kill()
        with pytest.raises(StoreAway):
            await asked(store, store.news([]))
        await server.start()
        await asked(store, store.news([]))
        await store.close()


@pytest.mark.parametrize(
    "text", ["http://x", "redis://", "valkey+sentinel://h:1", "redis+both://h", "nothing"]
)
def test_a_wrong_address_is_said_with_its_cure_and_without_its_password(text: str) -> None:
    with pytest.raises(InputError, match="valkey"):
        parse_address(text)
    with pytest.raises(InputError) as raised:
        parse_address("http://user:s3cret@host")
    assert "s3cret" not in str(raised.value)


def test_addresses() -> None:
    for text, kind in {
        "valkey://h:6379/0": "one",
        "rediss://:pw@h": "one",
        "valkeys+cluster://h:6379": "cluster",
        "redis+sentinel://a:26379,b:26379/main/1": "sentinel",
    }.items():
        address = parse_address(text)
        assert address.kind == kind and "pw" not in address.shown
        assert SharedStore(address) is not None
