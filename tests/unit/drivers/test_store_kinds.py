"""The store as a cluster and behind sentinels: real servers of both kinds, and all that gateways ask of one."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.store_server import TOOLS, asked
from tests.unit.gateway.conftest import make_certificate
from tests.within import within

from seawall.decide.route.lease import BudgetLease
from seawall.drivers.kept_store import KeptStore
from seawall.drivers.store import SharedStore
from seawall.drivers.store_client import Password, StoreAway, parse_address

PASSWORD = "s3cret"


def free_ports(count: int) -> list[int]:
    """Below those that have a bus port of their own, 10,000 above."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            s = stack.enter_context(socket.socket())
            s.bind(("127.0.0.1", 0))
            if (port := s.getsockname()[1]) < 55_000:
                ports.append(port)
        return ports


async def said(port: int, *words: str, password: str = "") -> str:
    """What a server answers to one command."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for command in ([["AUTH", password]] if password else []) + [list(words)]:
            parts = [f"*{len(command)}\r\n", *(f"${len(w.encode())}\r\n{w}\r\n" for w in command)]
            writer.write("".join(parts).encode())
            answer = (await within(reader.read(65536), 10)).decode()
        return answer
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def servers(
    folder: Path, *commands: tuple[str, ...]
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    path = shutil.which("redis-server", path=f"{TOOLS}:/usr/bin:/usr/local/bin")
    assert path is not None, "redis-server is missing: scripts/test_tools.sh fetches it"
    started: list[asyncio.subprocess.Process] = []
    try:
        for i, command in enumerate(commands):
            place = folder / str(i)
            place.mkdir()
            started.append(
                await asyncio.create_subprocess_exec(
                    path, *command, "--bind", "127.0.0.1", "--dir", str(place), "--daemonize", "no",
                    stdout=asyncio.subprocess.DEVNULL, cwd=place,
                )
            )  # fmt: skip
        yield started
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()


async def until(port: int, words: tuple[str, ...], expected: str, password: str = "") -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                if expected in await said(port, *words, password=password):
                    return
            await asyncio.sleep(0.05)


async def everything(address: str, password: Password | None = None, ca: Path | None = None) -> None:
    """All that gateways ask of a store, once."""
    store = SharedStore(parse_address(address), password, ca)
    kept = KeptStore(parse_address(address), password, ca)
    try:
        await answering(store)
        asks = {n: (60.0, 1.0, BudgetLease(60.0, 1.0, 1).ask(0.0)) for n in ("a b", "c")}
        assert [told.gateways for told in await asked(store, store.leases("g", asks))] == [1, 1]
        heard = await asked(
            store, store.places("g", "fleet", 8, {"t": (1.0, 2.0)}, {"r": (2, 4, 4), "s": (0, 1, 1)})
        )
        assert heard.places == ((4, 0, 0), (1, 0, 0)) and heard.demands == ({"t": [1.0, 2.0]},)
        await asked(store, store.news([]))
        await asked(store, store.news([{"what": "evicted"}]))
        assert [n["what"] for n in await asked(store, store.news([]))] == ["evicted"]

        await kept.live("g")
        assert await kept.claim("n", "g", 60_000, {"mark": b"m"})
        assert not await kept.claim("n", "other", 60_000, {})
        news = {"state": b"running"}, (0, [b"one", b"two"]), (0, [b"\x07seed"])
        assert await kept.push("n", "g", 60_000, *news, "id") == "ok"
        assert await kept.push("n", "g", 60_000, *news, "id") == "ok", "the same again changes nothing"
        assert await kept.push("n", "other", 60_000, {}, (2, []), (1, [])) == "taken"
        assert await kept.push("n", "g", 60_000, {}, (5, []), (1, [])) == "lost"
        assert await kept.name_of("id") == "n" and await kept.name_of("none") is None
        found = await kept.fetch("n", 1, 10)
        assert found is not None and (found.pieces, found.count, found.alive) == ([b"two"], 2, True)
        assert found.facts["mark"] == b"m" and await kept.tape("n", 0, 10) == [b"\x07seed"]
        assert not await kept.take("n", "g", "heir"), "its owner is there"
        await kept.leave("g")
        assert await kept.take("n", "g", "heir") and not await kept.take("n", "g", "another")
        await kept.remove("n", "g")
        assert await kept.fetch("n", 0, 1) is not None, "only its owner lets it go"
        await kept.remove("n", "heir")
        assert await kept.fetch("n", 0, 1) is None
        assert await kept.push("n", "heir", 60_000, {}, (0, []), (0, [])) == "gone"
        assert await kept.claim("n", "g", 60_000, {}), "the key is free again"
    finally:
        await store.close()
        await kept.close()


async def answering(store: SharedStore) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(StoreAway):
                await asked(store, store.news([]))
                return
            await asyncio.sleep(0.1)


async def test_one_server_with_a_password(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with servers(tmp_path, ("--port", str(port), "--requirepass", PASSWORD)):
        await until(port, ("PING",), "PONG", PASSWORD)
        await everything(f"valkey://127.0.0.1:{port}/0", lambda: PASSWORD)


async def test_a_cluster_keeps_all_of_it_in_one_slot(tmp_path: Path) -> None:
    ports = free_ports(2)
    commands = [("--port", str(p), "--cluster-enabled", "yes", "--requirepass", PASSWORD, "--masterauth", PASSWORD)
                for p in ports]  # fmt: skip
    async with servers(tmp_path, *commands):
        for p in ports:
            await until(p, ("PING",), "PONG", PASSWORD)
        halves = (("0", "8191"), ("8192", "16383"))
        for p, half in zip(ports, halves, strict=True):
            assert "OK" in await said(p, "CLUSTER", "ADDSLOTSRANGE", *half, password=PASSWORD)
        await said(ports[0], "CLUSTER", "MEET", "127.0.0.1", str(ports[1]), password=PASSWORD)
        for p in ports:
            await until(p, ("CLUSTER", "INFO"), "cluster_state:ok", PASSWORD)
            await until(p, ("CLUSTER", "INFO"), "cluster_known_nodes:2", PASSWORD)
        gone = free_ports(1)[0]
        await everything(f"redis+cluster://127.0.0.1:{gone},127.0.0.1:{ports[0]}", lambda: PASSWORD)


async def test_mute_nodes_of_a_cluster_leave_time_for_the_one_that_answers_and_one_that_falls_silent_is_left(
    tmp_path: Path,
) -> None:
    """A black hole accepts what it is sent, and says nothing: first those of the address, then the keeper itself."""
    first, heir = free_ports(2)
    commands = [
        ("--port", str(p), "--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        for p in (first, heir)
    ]
    still = [await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0) for _ in range(2)]
    async with servers(tmp_path, *commands) as processes:
        for p in (first, heir):
            await until(p, ("PING",), "PONG")
        assert "OK" in await said(first, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        await said(heir, "CLUSTER", "MEET", "127.0.0.1", str(first))
        await until(heir, ("CLUSTER", "INFO"), "cluster_known_nodes:2")
        own = (await said(first, "CLUSTER", "MYID")).split()[-1]
        await until(heir, ("CLUSTER", "REPLICATE", own), "OK")
        await until(first, ("CLUSTER", "SLOTS"), str(heir))
        hosts = ",".join(f"127.0.0.1:{p}" for p in (*(s.sockets[0].getsockname()[1] for s in still), first))
        store = SharedStore(parse_address(f"redis+cluster://{hosts}"))
        await answering(store)
        processes[0].send_signal(signal.SIGSTOP)
        await until(heir, ("CLUSTER", "FAILOVER", "TAKEOVER"), "OK")
        await answering(store)
        processes[0].send_signal(signal.SIGCONT)
        await store.close()
    for one in still:
        one.close()


async def test_behind_a_sentinel_the_master_is_asked(tmp_path: Path) -> None:
    master, watch = free_ports(2)
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {watch}\nsentinel monitor main 127.0.0.1 {master} 1\n")
    async with servers(tmp_path, ("--port", str(master)), (str(config), "--sentinel")):
        await until(master, ("PING",), "PONG")
        await until(watch, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"), str(master))
        await everything(f"valkey+sentinel://127.0.0.1:{watch}/main/0")


async def test_a_master_that_falls_silent_is_left_for_the_one_that_sentinels_name_then(
    tmp_path: Path,
) -> None:
    """It is stopped, not killed: its port takes connections, and answers nothing."""
    master, heir, watch, gone = free_ports(4)
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {watch}\nsentinel monitor main 127.0.0.1 {master} 1\n"
        "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n"
    )
    replica = (
        "--port",
        str(heir),
        "--replicaof",
        "127.0.0.1",
        str(master),
        "--repl-diskless-sync-delay",
        "0",
    )
    commands = ("--port", str(master)), replica, (str(config), "--sentinel")
    async with servers(tmp_path, *commands) as (first, *_):
        await until(heir, ("INFO", "replication"), "master_link_status:up")
        await until(watch, ("SENTINEL", "REPLICAS", "main"), str(heir))
        store = SharedStore(parse_address(f"valkey+sentinel://127.0.0.1:{gone},127.0.0.1:{watch}/main/0"))
        await answering(store)
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreAway):
            await asked(store, store.news([]))
        told = ""
        while "No master" not in told:  # for a moment the sentinels know of none
            try:
                await asked(store, store.news([]))
                break
            except StoreAway as e:
                told = str(e)
        assert "<" not in told, "objects of the library are for nobody to read"
        await until(watch, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"), str(heir))
        await until(heir, ("ROLE",), "master")
        await answering(store)  # while the old master still takes connections
        await asked(store, store.news([{"what": "evicted"}]))
        first.send_signal(signal.SIGCONT)
        await until(master, ("ROLE",), "slave")
        await asked(store, store.news([]))
        assert "seawall" in await said(heir, "KEYS", "*")
        await store.close()


async def test_sentinels_may_have_no_password_where_their_master_has_one_and_are_asked_in_turn(
    tmp_path: Path,
) -> None:
    master, watch, gone = free_ports(3)
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {watch}\nsentinel monitor main 127.0.0.1 {master} 1\nsentinel auth-pass main {PASSWORD}\n"
    )
    async with servers(
        tmp_path, ("--port", str(master), "--requirepass", PASSWORD), (str(config), "--sentinel")
    ):
        await until(master, ("PING",), "PONG", PASSWORD)
        await until(watch, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"), str(master))
        still = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        mute = still.sockets[0].getsockname()[1]
        hosts = ",".join(f"127.0.0.1:{p}" for p in (gone, mute, watch))
        await everything(f"valkey+sentinel://{hosts}/main/0", lambda: PASSWORD)
        still.close()


async def test_over_tls_the_servers_certificate_is_checked(tmp_path: Path) -> None:
    master, watch = free_ports(2)
    cert, key = make_certificate(tmp_path)
    tls = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-ca-cert-file", str(cert))
    tls += ("--tls-auth-clients", "no", "--tls-replication", "yes")
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port 0\ntls-port {watch}\nsentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n"
        f"sentinel monitor main localhost {master} 1\n"
    )
    async with servers(
        tmp_path, ("--port", "0", "--tls-port", str(master), *tls), (str(config), "--sentinel", *tls)
    ):
        await everything(f"rediss://localhost:{master}/0", ca=cert)
        await everything(f"valkeys+sentinel://localhost:{watch}/main/0?ssl_ca_certs={cert}&scope=two")
        stranger = SharedStore(parse_address(f"rediss://localhost:{master}/0"))
        with pytest.raises(StoreAway, match="CERTIFICATE_VERIFY_FAILED"):
            await asked(stranger, stranger.news([]))
        await stranger.close()
