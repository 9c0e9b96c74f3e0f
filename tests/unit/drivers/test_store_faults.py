"""What happens to a store's server: new passwords and masters, no room, lost scripts, a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.store_server import asked, store_server

from seawall.cli.gateway import command
from seawall.decide.route.lease import BudgetLease, Pot
from seawall.drivers.kept_store import KeptStore
from seawall.drivers.kube_config import account_uid
from seawall.drivers.store import SharedStore
from seawall.drivers.store_client import StoreAddress, StoreAway, parse_address, shown
from seawall.drivers.store_scripts import SURE_S
from seawall.errors import InputError


@contextlib.asynccontextmanager
async def shared(url: str, *more: object) -> AsyncIterator[SharedStore]:
    store = SharedStore(parse_address(url), *more)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.close()


async def lease(store: SharedStore, name: str = "a") -> float:
    budget = BudgetLease(60.0, 1.0, 1)
    budget.room(0.0)
    (said,) = await asked(store, store.leases("g", {name: (60.0, 1.0, budget.ask(0.0))}))
    return said.granted


async def test_a_password_that_changes_is_read_again_and_until_then_it_is_said() -> None:
    passwords = ["one"]
    async with store_server() as server, shared(server.url) as owner:
        await owner.link.client.config_set("requirepass", "one")
        async with shared(server.url, lambda: passwords[-1]) as store:
            assert await lease(store) > 0
            await owner.link.client.config_set("requirepass", "two")
            await owner.link.client.client_kill_filter(skipme=True)
            with pytest.raises(StoreAway):
                await lease(store)  # its connection was closed
            with pytest.raises(StoreAway) as told:
                await lease(store)
            assert "Authentication" in str(told.value) and "one" not in str(told.value)
            passwords.append("two")
            assert await lease(store) >= 0


async def test_a_password_that_cannot_be_read_is_said() -> None:
    def unreadable() -> str:
        raise InputError("SEAWALL_STORE_PASSWORD_FILE x: cannot be read (Permission denied).", "Check it.")

    async with store_server() as server, shared(server.url, unreadable) as store:
        with pytest.raises(StoreAway, match="Permission denied"):
            await lease(store)


async def test_a_master_that_only_reads_now_is_left_for_who_stands_at_the_address() -> None:
    """As behind a Service: the connection stands, and what it leads to is not the master any more."""
    async with store_server() as old, store_server() as new:
        leads_to = old.port

        async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back, forth = await asyncio.open_connection("127.0.0.1", leads_to)

            async def copy(a: asyncio.StreamReader, b: asyncio.StreamWriter) -> None:
                with contextlib.suppress(OSError):
                    while data := await a.read(65536):
                        b.write(data)
                b.close()

            await asyncio.gather(copy(reader, forth), copy(back, writer))

        front = await asyncio.start_server(through, "127.0.0.1", 0)
        port = front.sockets[0].getsockname()[1]
        async with shared(f"redis://127.0.0.1:{port}/0") as store, shared(old.url) as owner:
            kept = KeptStore(parse_address(f"redis://127.0.0.1:{port}/0"))
            await lease(store)
            await kept.live("g")
            leads_to = new.port
            await owner.link.client.replicaof("127.0.0.1", new.port)
            with pytest.raises(StoreAway, match="ReadOnly"):
                await lease(store)
            with pytest.raises(StoreAway, match="ReadOnly"):
                await kept.live("g")
            assert await lease(store) > 0
            await kept.live("g")
            await kept.close()
        front.close()


async def test_a_full_server_is_away_and_says_why_until_it_has_room() -> None:
    async with store_server() as server, shared(server.url) as store:
        await lease(store)
        await store.link.client.config_set("maxmemory", 1)
        with pytest.raises(StoreAway, match="OutOfMemory"):
            await lease(store, "b")
        with pytest.raises(StoreAway, match="OutOfMemory"):
            await asked(store, store.news([{"what": "evicted"}]))
        await store.link.client.config_set("maxmemory", 0)
        assert await lease(store, "b") > 0


async def test_a_server_that_has_forgotten_scripts_is_told_them_again() -> None:
    async with store_server() as server, shared(server.url) as store:
        for _ in range(2):
            await lease(store)
            await asked(store, store.places("g", "f", 8, {}, {"r": (0, 1, 0)}))
            await store.link.client.script_flush()


async def test_what_nobody_can_read_is_a_store_that_is_away() -> None:
    async with store_server() as server, shared(server.url) as store:
        await asked(store, store.news([]))
        raw = KeptStore(parse_address(server.url))
        await raw.link.client.xadd("{seawall}:news", {b"what": b"\xff\xfe"})
        with pytest.raises(StoreAway):
            await asked(store, store.news([]))
        await raw.close()


# -- another clock


@pytest.mark.parametrize("ahead", [-3600.0, -2.0, 3600.0])
async def test_a_clock_that_jumps_neither_stops_a_limit_nor_gives_it_twice(ahead: float) -> None:
    async with store_server() as server, shared(server.url) as store:
        pot, budget, now = Pot(60.0, 1.0), BudgetLease(60.0, 1.0, 1), 10_000.0
        spent = 0
        for n in range(600):
            if n == 300:
                now += ahead
            now = round(now + 0.1, 3)
            if n < 100 or n >= 300:
                while budget.hand + max(0.0, budget.level) >= 1:
                    budget.used_at = float(n) / 10
                    budget.take(1)
                    spent += n >= 300
            ask = budget.ask(n / 10)._replace(active=True)
            (got,) = await asked(store, store.leases("g", {"a": (60.0, 1.0, ask)}, now))
            wanted = pot.turn("g", ask, now)
            assert got.granted == pytest.approx(wanted.granted, abs=0.01)
            budget.told(got, n / 10)
        refilled = 20 + 30
        most = 60 + 30 if ahead > 0 else refilled
        assert refilled - 4 <= spent <= most + 2, spent


async def test_places_are_given_though_the_clock_was_once_far_ahead() -> None:
    async with store_server() as server, shared(server.url) as store:
        client, base = store.link.client, "{seawall}:fleet:f"
        await asked(store, store.places("dead", "f", 8, {}, {"r": (0, 6, 0)}))
        seconds, _ = await client.time()
        await client.hset(f"{base}:m", "dead", f"{seconds + 3600:.3f}")
        await client.set(f"{base}:b", f"{seconds + 3600:.3f}")
        await asked(store, store.places("g", "f", 8, {}, {"r": (0, 8, 0)}))
        await asyncio.sleep(SURE_S + 0.05)
        heard = await asked(store, store.places("g", "f", 8, {}, {"r": (0, 8, 0)}))
        assert heard.places == ((8, 0, 0),)


# -- one store, several sets of gateways


async def test_gateways_of_another_scope_share_nothing() -> None:
    async with store_server() as server:
        here, there = (f"{server.url}?scope={s}" for s in ("one/m", "two/m"))
        async with shared(here) as a, shared(there) as b, shared(server.url) as c:
            kept = [KeptStore(parse_address(u)) for u in (here, there)]
            for store in (a, b, c):
                await asked(store, store.news([]))
                await asked(store, store.places("first", "m", 8, {}, {"r": (0, 0, 0)}))
            await asyncio.sleep(SURE_S + 0.05)
            for name, store in (("x", a), ("y", b), ("z", c)):
                heard = await asked(store, store.places(name, "m", 8, {"t": (1.0, 1.0)}, {"r": (0, 8, 0)}))
                assert heard.places == ((8, 0, 0),) and len(heard.demands) == 2
                assert await lease(store, "m: tenant a") == pytest.approx(1.0)
                assert await asked(store, store.tallies(name, "m", "{}")) == {}
                await asked(store, store.news([{"what": name}]))
                assert [n["what"] for n in await asked(store, store.news([]))] == [name]
            for one in kept:
                assert await one.claim("n", "g", 60_000, {"mark": b"m"})
                await one.push("n", "g", 60_000, {}, (0, [b"x"]), (0, []), "id")
                assert await one.name_of("id") == "n"
            for one in kept:
                await one.close()


def test_a_pods_account_is_the_scope_and_no_token_is_no_scope(tmp_path: Path) -> None:
    from base64 import urlsafe_b64encode
    from json import dumps

    claims = {"kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "gw", "uid": "12ab-34"}}}
    body = urlsafe_b64encode(dumps(claims).encode()).decode().rstrip("=")
    assert account_uid(tmp_path) is None
    for token, uid in {
        f"e30.{body}.sig": "12ab-34",
        "no token": None,
        "a.b.c": None,
        "a.W10.c": None,
    }.items():
        (tmp_path / "token").write_text(token)
        assert account_uid(tmp_path) == uid


# -- addresses


@pytest.mark.parametrize(
    "text",
    [
        "redis://:p/w-s3cret@h", "redis://h:s3cret/x@y", "redis://:s3cret@h:port", "redis://:s3cret@h:99999",
        "redis://:s3cret@", "redis://:s3cret@[::1", "redis://:s3cret@h/name", "redis://:s3cret@h/0/1",
        "redis+cluster://:s3cret@h/1", "redis://:s3cret@a:1,b:2", "redis://:s3cret@h?ssl_cert_reqs=none",
        "redis://:s3cret@h?scope=", "redis://:s3cret@h?scope=a}b", "redis+sentinel://:s3cret@h:x/main",
        "redis+sentinel://:s3cret@h/main/x", "redis://:s3cret@h#x", "redis://:s3cret@h:0", "redis://:s3cret@h:",
        "redis+sentinel://a,,b/main", "redis://:s3cret@@h?x@y",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_meant_is_refused_and_no_secret_is_shown(text: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_address(text)
    assert "s3cret" not in f"{raised.value} {raised.value.cure}" and raised.value.cure
    assert "s3cret" not in shown(text)


def test_what_addresses_say() -> None:
    one = parse_address("valkeys://us%40er:p%2Fw@h/2?ssl_ca_certs=/ca.pem&scope=eu")
    assert (one.hosts, one.tls, one.db, one.scope, one.ca) == ((("h", 6379),), True, 2, "eu", "/ca.pem")
    assert (one.user, one.password) == ("us@er", "p/w")
    assert "p%2Fw" not in f"{one} {one.shown}" and "us%40er" not in one.shown
    two = parse_address("redis+sentinel://u:p@[::1],b:2/main/3")
    assert (two.hosts, two.name, two.db, two.password) == ((("::1", 26379), ("b", 2)), "main", 3, "p")
    assert parse_address("redis+cluster://a,b:7000").hosts == (("a", 6379), ("b", 7000))
    assert isinstance(parse_address("redis://h"), StoreAddress)


def test_an_address_with_a_password_is_no_argument(tmp_path: Path) -> None:
    spec = tmp_path / "fleet.yaml"
    spec.write_text(
        "apiVersion: seawall.dev/v1alpha1\nkind: Fleet\nmetadata: {name: m}\nspec: {model: {source: 'file:///n'}}\n"
    )
    told = CliRunner().invoke(command, [str(spec), "--store", "redis://:s3cret@h/0"])
    assert isinstance(told.exception, InputError)
    assert "SEAWALL_STORE_PASSWORD_FILE" in told.exception.cure and "s3cret" not in str(told.exception)
