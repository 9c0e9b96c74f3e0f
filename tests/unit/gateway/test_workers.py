"""Several processes behind one port keep one account; a gateway is replaced under load and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

import psutil
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.within import within

from seawall.decide.route.meter import Meter
from seawall.gateway.process.board import Board
from seawall.gateway.tell import keyring

from .conftest import split
from .processes import Process, ask, exchange, gateway_process


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 10), st.integers(1, 300)), max_size=40))
@settings(max_examples=30, deadline=None)
def test_workers_together_grant_what_one_would(asks: list[tuple[int, float, int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        boards = [Board(Path(folder) / "b", i, 3) for i in range(3)]
        together = [Meter(10, 600, 3000) for _ in boards]
        for meter, board in zip(together, boards, strict=True):
            meter.share(board.share("tenant a"))
        alone, now = Meter(10, 600, 3000), 0.0
        for at, pause, tokens in asks:
            now += pause
            for meter in together:  # as each process does every 250 ms
                meter.look(now)
            wanted = alone.check(tokens, now)
            got = together[at].check(tokens, now)
            assert (got is None) == (wanted is None)
            if wanted is None:
                alone.take(tokens)
                together[at].take(tokens)
                alone.settle(tokens, tokens // 2)
                together[at].settle(tokens, tokens // 2)
        assert sum(m.used for m in together) == alone.used


def test_a_worker_that_died_holds_no_place_but_what_it_used_stays_used(tmp_path: Path) -> None:
    boards = [Board(tmp_path / "b", i, 2) for i in range(2)]
    here, there = Meter(4, None, 100), Meter(4, None, 100)
    here.share(boards[0].share("t"))
    there.share(boards[1].share("t"))
    boards[1].put("replica", 7)
    for _ in range(2):
        assert there.check(30, 0.0) is None
        there.take(30)
    assert here.check(30, 0.0) is None
    again = Board(tmp_path / "b", 1, 2)  # worker 1 was killed and starts anew
    assert boards[0].others("replica") == 0
    new = Meter(4, None, 100)
    new.share(again.share("t"))
    assert new.used == 60, "its quota is remembered"
    here.take(30)
    limited = new.check(30, 0.0)
    assert limited is not None and limited.what == "token quota"
    new.quota = here.quota = None
    assert here.check(1, 0.0) is None, "two of four by the dead one, one here: the restart gave nothing back"
    here.take(1)
    assert here.check(1, 0.0) is not None


def test_every_name_has_a_column_of_its_own(tmp_path: Path) -> None:
    boards = [Board(tmp_path / "b", i, 2) for i in range(2)]
    names = [f"replica-{i}" for i in range(2000)]
    for i, name in enumerate(names):
        boards[i % 2].put(name, i)
    assert [boards[1 - i % 2].others(name) for i, name in enumerate(names)] == list(range(2000))


async def test_two_processes_keep_one_rate(engine: Any, spec: str, tmp_path: Path) -> None:
    secret, key = keyring.make("a")
    keyring.change(tmp_path / "keys.json", add=key)
    file = tmp_path / "fleet.yaml"
    more = f"tenants: [{{name: a, requestsPerMinute: 12}}], keysFile: {tmp_path}/keys.json, "
    file.write_text(spec.replace("gateway: {", f"gateway: {{{more}"))
    async with gateway_process(file, f"static:{engine.url}", "--workers", "2") as gateway:
        began = time.monotonic()
        statuses = [(await ask(gateway.port, secret))[0] for _ in range(24)]
        earned = (time.monotonic() - began) * 12 / 60
        assert 12 <= statuses.count(200) <= 13 + earned, "a minute's allowance, and what refills meanwhile"
        assert statuses.count(429) == 24 - statuses.count(200)
        assert statuses[:12] == [200] * 12, "no worker refuses while the tenant has something left"
        state = await gateway.state()
        assert state["fleets"]["m"]["finished_total"] == statuses.count(200)
        await one_console(gateway, secret, statuses.count(200))


async def one_console(gateway: Process, secret: str, answered: int) -> None:
    """Workers have one console: it asks for their keys, adds them up, and a worker answers its playground."""
    about = json.loads(await gateway.get("/console/api/about"))
    assert about["keys"] is True
    key = f"Authorization: Bearer {secret}\r\nHost: g\r\n"
    ask = f"GET /console/api/now HTTP/1.1\r\n{key}\r\n".encode()
    assert split(await exchange(gateway.admin_port, ask.replace(secret.encode(), b"sk-sw-x-y")))[0] == 401
    async with asyncio.timeout(30):
        while True:  # a look a second
            shown = json.loads(split(await exchange(gateway.admin_port, ask))[2])
            if shown["fleets"]["rows"] and shown["fleets"]["rows"][0]["finished"] == answered:
                break
    assert shown["tenants"]["rows"][0]["name"] == "a"
    body = b'{"model": "m", "messages": []}'
    post = f"POST /console/v1/chat/completions HTTP/1.1\r\n{key}Content-Length: {len(body)}\r\n\r\n"
    status, _, _ = split(await exchange(gateway.admin_port, post.encode() + body))
    assert status in (200, 429), "the same limits hold"


async def test_counts_that_no_engine_can_mean_end_no_worker_and_pay_nobody_back(
    spec: str, tmp_path: Path
) -> None:
    """Workers keep one account in integers of 64 bits."""
    told = iter(("1e20", "100000000000000000000", "-99999999999", "1.5", "null", "9" * 400) * 4)

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, StopIteration):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                usage = '"usage":{"prompt_tokens":%s,"completion_tokens":3}' % (next(told) if length else "1")
                body = f'{{"choices":[{{"text":"hi","finish_reason":"stop"}}],{usage}}}'.encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    secret, key = keyring.make("a")
    keyring.change(tmp_path / "keys.json", add=key)
    file, errors = tmp_path / "fleet.yaml", tmp_path / "errors"
    limits = "requestsPerMinute: 12, tokensPerMinute: 100000000"
    more = f"truthBudget: 0, tenants: [{{name: a, {limits}}}], keysFile: {tmp_path}/keys.json, "
    file.write_text(spec.replace("gateway: {", f"gateway: {{{more}"))
    async with (
        server,
        gateway_process(file, f"static:{url}", "--workers", "2", shell=f"exec 2>{errors}") as gateway,
    ):
        served = [c.pid for w in workers_of(psutil.Process(gateway.child.pid)) for c in w.children()]
        statuses = [(await ask(gateway.port, secret))[0] for _ in range(20)]
        assert set(statuses) <= {200, 429, 502} and 12 <= len(statuses) - statuses.count(429) <= 14
        state = (await gateway.state())["fleets"]["m"]
        assert state["finished_total"] == statuses.count(200) and state["in_flight"] == 0
        page = (await gateway.get("/metrics")).decode()
        tokens = re.findall(r"^seawall_tenant_tokens_total\{.*\} (\S+)$", page, re.MULTILINE)
        assert all(0 <= float(n) < 1e8 for n in tokens), "what it said is counted as what was asked, or not"
        assert [c.pid for w in workers_of(psutil.Process(gateway.child.pid)) for c in w.children()] == served
    assert "Traceback" not in errors.read_text()


async def test_a_gateway_is_replaced_under_load_and_nobody_notices(
    engine: Any, other: Any, spec: str, tmp_path: Path
) -> None:
    """50 streams run and new connections keep coming while a second gateway takes over the port: 0 lost, 0 refused."""
    file = tmp_path / "fleet.yaml"
    file.write_text(spec)
    for e in (engine, other):
        e.tokens, e.pace_s = 60, 0.03
    discovery = f"static:{engine.url},{other.url}"
    done, stop = [], asyncio.Event()

    async def keep_asking() -> None:
        while not stop.is_set():
            done.append((await ask(port))[0])

    async with gateway_process(file, discovery) as old:
        port = old.port
        streams = [asyncio.ensure_future(ask(port, stream=True)) for _ in range(50)]
        while engine.open + other.open < 50:
            await asyncio.sleep(0.01)
        askers = [asyncio.ensure_future(keep_asking()) for _ in range(4)]
        async with gateway_process(file, discovery, listen=f"127.0.0.1:{port}") as new:
            before = len(done)
            assert await old.stop() == 0
            while len(done) < before + 50:
                await asyncio.sleep(0.02)
            stop.set()
            await asyncio.gather(*askers)
            answers = await asyncio.gather(*streams)
            assert {status for status, _, _ in answers} == {200}
            assert all(h["cut"] == "False" and b.endswith(b"data: [DONE]\n\n") for _, h, b in answers)
            assert set(done) == {200}
            fleet = (await new.state())["fleets"]["m"]
            assert fleet["finished_total"] > 0 and fleet["failed_total"] == fleet["pending"] == 0


async def test_a_shells_low_limit_of_descriptors_does_not_bound_the_clients(
    engine: Any, spec: str, tmp_path: Path
) -> None:
    (tmp_path / "fleet.yaml").write_text(spec)
    at = gateway_process(tmp_path / "fleet.yaml", f"static:{engine.url}", shell="ulimit -Sn 64")
    async with at as gateway, asyncio.TaskGroup() as group:
        opened = [group.create_task(asyncio.open_connection("127.0.0.1", gateway.port)) for _ in range(100)]
        for reader, writer in [await one for one in opened]:
            writer.write(b"GET /health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
            assert (await within(reader.read(), 10)).startswith(b"HTTP/1.1 200")
            writer.close()


async def totals(gateway: Any) -> tuple[float, float]:
    """Finished requests, as the state and as the metrics of all workers tell them."""
    state = await gateway.state()
    page = (await gateway.get("/metrics")).decode()
    told = [x for x in page.splitlines() if x.startswith("seawall_requests_finished_total")]
    return state["fleets"]["m"]["finished_total"], float(told[0].rpartition(" ")[2])


async def eventually(holds: Any, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.05)


def workers_of(parent: psutil.Process) -> list[psutil.Process]:
    """Its children but for the keeper."""
    found = []
    for child in parent.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "gateway" in child.cmdline():
                found.append(child)
    return found


async def test_workers_that_die_or_do_not_start_cost_neither_the_parent_nor_a_count(
    engine: Any, spec: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    file = tmp_path / "fleet.yaml"
    file.write_text(spec)
    async with gateway_process(file, f"static:{engine.url}", "--workers", "2") as gateway:
        parent = psutil.Process(gateway.child.pid)
        for _ in range(12):
            assert (await ask(gateway.port))[0] == 200
        assert await totals(gateway) == (12, 12), "a proxy of the environment stands between nobody of ours"
        first = workers_of(parent)
        (served,) = first[1].children()
        served.kill()  # its parent begins another, which goes on with its counts

        async def another_serves() -> bool:
            assert await totals(gateway) == (12, 12), "no sum falls meanwhile"
            now = first[1].children()
            return (
                bool(now)
                and now[0].pid != served.pid
                and b"seawall_workers 2" in await gateway.get("/metrics")
            )

        await eventually(another_serves)
        assert await totals(gateway) == (12, 12)
        file.write_text("kind: Nothing\n")
        folder = Path(first[0].cmdline()[first[0].cmdline().index("--board") + 1]).parent
        for copy in list(folder.glob("*.read.json")):  # with it a successor would serve what was read last
            copy.unlink()
        first[0].kill()

        async def failed_again() -> bool:
            """A successor was started, and ended."""
            young = [c for c in workers_of(parent) if c not in first]
            psutil.wait_procs(young, timeout=0)
            seen.update(c.pid for c in young)
            return len(seen) >= 2

        seen: set[int] = set()
        await eventually(failed_again)
        assert await totals(gateway) == (12, 12), "what a dead worker had counted stays counted"
        file.write_text(spec)

        async def both_serve() -> bool:
            page = await gateway.get("/metrics")
            return re.search(rb"^seawall_workers 2$", page, re.M) is not None

        await eventually(both_serve)
        assert (await totals(gateway))[0] == 12
        workers = workers_of(parent)
        parent.kill()
        gone, alive = await asyncio.to_thread(psutil.wait_procs, workers, 30)
        assert not alive and len(gone) == 2, "a worker without its parent ends: nobody would watch it"
