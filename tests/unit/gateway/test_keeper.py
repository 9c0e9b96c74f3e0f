"""A gateway is killed, and its clients do not notice: who rests, who has sent half a request, who waits for an answer.
Nor does anybody notice the death of its keeper."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from tests.within import within

from seawall.gateway.tell import keyring

from .conftest import FakeEngine, split
from .keepers import SPEC, kept_gateway, kill, serving
from .processes import Process, exchange, gateway_process
from .waiting import until

ASK = json.dumps({"model": "m", "prompt": "x"}).encode()
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n"


async def answered(reader: asyncio.StreamReader) -> bytes:
    """The body of one whole answer."""
    top = await within(reader.readuntil(b"\r\n\r\n"), 60)
    assert top.startswith(b"HTTP/1.1 200"), top
    length = int(top.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return await within(reader.readexactly(length), 60)


async def metric(gateway: Process, name: str) -> float:
    page = (await gateway.get("/metrics")).decode()
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))


async def test_connections_that_rest_or_have_sent_half_a_request_go_on(tmp_path: Path) -> None:
    async with FakeEngine() as engine, kept_gateway(tmp_path, engine) as (gateway, _):
        halves = [b"", HEAD[:20], HEAD % len(ASK), HEAD % len(ASK) + ASK[:9]]
        conns = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in halves]
        used = await asyncio.open_connection("127.0.0.1", gateway.port)
        used[1].write(HEAD % len(ASK) + ASK)
        await answered(used[0])
        for (_, writer), half in zip(conns, halves, strict=True):
            writer.write(half)
        for _ in range(2):
            await asyncio.sleep(0.3)  # what was sent is read
            await kill(gateway)
        request = HEAD % len(ASK) + ASK
        for (reader, writer), half in zip([*conns, used], [*halves, b""], strict=True):
            writer.write(request[len(half) :])
            assert b"hello" in await answered(reader)
            writer.close()
        assert await metric(gateway, "seawall_carried_connections_total") == 10  # five, twice
        assert await metric(gateway, "seawall_carried_connections_lost_total") == 0


async def test_whole_answers_that_wait_are_asked_for_again(tmp_path: Path) -> None:
    async with FakeEngine() as engine, kept_gateway(tmp_path, engine) as (gateway, _):
        engine.gate = asyncio.Event()
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(HEAD % len(ASK) + ASK + HEAD % len(ASK) + ASK)  # and the next one behind it
        await until(lambda: len(engine.log) == 1)
        await kill(gateway)
        await until(lambda: len(engine.log) == 2)
        engine.gate.set()
        assert b"hello" in await answered(reader)
        assert b"hello" in await answered(reader)
        writer.close()


def counters(page: str) -> dict[str, float]:
    """All counters of a page, histograms too; not the process's own CPU time."""
    kinds = dict(line.split(" ")[2:4] for line in page.splitlines() if line.startswith("# TYPE"))
    samples = (line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#"))
    found = {name: float(value) for name, _, value in samples}
    stems = {name: name.partition("{")[0] for name in found}
    ends = ("", "_bucket", "_sum", "_count")
    return {
        name: value for name, value in found.items()
        if any(kinds.get(stems[name].removesuffix(end)) in ("counter", "histogram") for end in ends)
        and not name.startswith("process_")
    }  # fmt: skip


async def test_no_counter_falls_when_another_gateway_takes_over(tmp_path: Path) -> None:
    async with FakeEngine() as engine, kept_gateway(tmp_path, engine) as (gateway, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write((HEAD % len(ASK) + ASK) * 3)
        for _ in range(3):
            await answered(reader)
        writer.write(b"GET /none HTTP/1.1\r\nHost: g\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        engine.gate = asyncio.Event()
        waits = await asyncio.open_connection("127.0.0.1", gateway.port)
        waits[1].write(HEAD % len(ASK) + ASK)
        await until(lambda: len(engine.log) == 4)
        before = counters((await gateway.get("/metrics")).decode())
        total = 'seawall_requests_admitted_total{fleet="m"}'
        assert before[total] == 4
        for kills in (1, 2):
            await kill(gateway)
            after = counters((await gateway.get("/metrics")).decode())
            assert {n: (v, after.get(n)) for n, v in before.items() if after.get(n, 0) < v} == {}
            await until(lambda kills=kills: len(engine.log) == 4 + kills)
            before = after
        engine.gate.set()
        assert b"hello" in await answered(waits[0])
        page = counters((await gateway.get("/metrics")).decode())
        assert page[total] == 4  # nothing is counted twice
        assert page['seawall_requests_finished_total{fleet="m"}'] == 4
        assert page['seawall_requests_failed_total{fleet="m"}'] == 0
        state = json.loads(await gateway.get("/debug/state"))["fleets"]["m"]
        assert (state["admitted_total"], state["finished_total"], state["pending"]) == (4, 4, 0)
        for open_one in (writer, waits[1]):
            open_one.close()


async def test_a_killed_gateway_hands_nobody_a_fresh_minute(tmp_path: Path) -> None:
    """Neither a tenant nor a key with limits of its own; nor a fresh quota of a key."""
    tenants = (
        "gateway: {tenants: [{name: a, requestsPerMinute: 3}, {name: b}, {name: c}], keysFile: keys.json}"
    )
    keys = {}
    for tenant, limits in {"a": {}, "b": {"requests_per_minute": 3}, "c": {"token_quota": 15}}.items():
        keys[tenant], key = keyring.make(tenant, **limits)
        keyring.change(tmp_path / "keys.json", add=key)
    spec = (SPEC + f"  {tenants}\n").replace("keys.json", str(tmp_path / "keys.json"))
    async with FakeEngine() as engine, kept_gateway(tmp_path, engine, spec) as (gateway, _):

        async def ask(tenant: str) -> bytes:
            lines = f"Authorization: Bearer {keys[tenant]}\r\nConnection: close\r\n\r\n".encode()
            body = json.dumps({"model": "m", "prompt": "x", "max_tokens": 1}).encode()
            return await exchange(gateway.port, HEAD.replace(b"\r\n\r\n", b"\r\n") % len(body) + lines + body)

        for tenant, code in (("a", b"rate_limited"), ("b", b"rate_limited"), ("c", b"insufficient_quota")):
            answers = [await ask(tenant) for _ in range(4)]
            assert answers[0].startswith(b"HTTP/1.1 200"), answers
            while code not in answers[-1]:
                answers.append(await ask(tenant))
                assert len(answers) < 20
        await gateway.get("/metrics")  # what is told is written down
        for _ in range(2):
            await kill(gateway)
            assert [(await ask(tenant))[:12] for tenant in "abc"] == [b"HTTP/1.1 429"] * 3


async def test_a_new_connection_waits_for_the_next_gateway(tmp_path: Path) -> None:
    async with FakeEngine() as engine, kept_gateway(tmp_path, engine) as (gateway, _):
        os.kill(serving(gateway), signal.SIGKILL)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)  # not refused
        writer.write(HEAD % len(ASK) + ASK)
        assert b"hello" in await answered(reader)
        writer.close()


async def test_the_death_of_the_keeper_is_nobodys_loss(tmp_path: Path) -> None:
    async with FakeEngine() as engine, kept_gateway(tmp_path, engine) as (gateway, held):
        conns = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(3)]
        await until(lambda: held.descriptors >= 4)
        await held.kill()
        conns.append(await asyncio.open_connection("127.0.0.1", gateway.port))
        conns[0][1].write(HEAD % len(ASK) + ASK)
        assert b"hello" in await answered(conns[0][0])
        await held.start()
        await until(lambda: held.descriptors >= 5)  # four clients and who listens: handed over anew
        await kill(gateway)
        for reader, writer in conns:
            writer.write(HEAD % len(ASK) + ASK)
            assert b"hello" in await answered(reader)
            writer.close()
        await until(lambda: held.descriptors == 1)  # what is over is let go


async def test_a_gateway_that_ends_well_leaves_nothing_and_closes_what_it_closes(tmp_path: Path) -> None:
    async with FakeEngine() as engine, kept_gateway(tmp_path, engine) as (gateway, held):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write((HEAD % len(ASK)).replace(b"Host", b"Connection: close\r\nHost") + ASK)
        status, _, body = split(await within(reader.read(), 60))  # its end comes though the keeper holds it
        assert (status, b"hello" in body) == (200, True)
        writer.close()
        assert await gateway.stop() == 0
        await until(lambda: held.descriptors == 0)


async def test_a_container_that_is_killed_with_all_its_processes_loses_none(tmp_path: Path) -> None:
    """As the kubelet does it: nobody is left who could begin another gateway, and the next container begins one."""
    async with FakeEngine() as engine, kept_gateway(tmp_path, engine) as (gateway, held):
        engine.gate = asyncio.Event()
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(HEAD % len(ASK) + ASK)
        await until(lambda: len(engine.log) == 1)
        child = serving(gateway)
        os.kill(gateway.child.pid, signal.SIGSTOP)
        os.kill(child, signal.SIGKILL)
        os.kill(gateway.child.pid, signal.SIGKILL)
        await gateway.child.wait()
        async with gateway_process(
            tmp_path / "f.yaml", f"static:{engine.url}", "--keeper", str(held.path)
        ) as another:
            await until(lambda: len(engine.log) == 2)
            engine.gate.set()
            assert b"hello" in await answered(reader)
            writer.close()
            assert await metric(another, "seawall_carried_connections_total") == 1


async def test_a_keeper_ends_by_a_signal_also_as_process_1(tmp_path: Path) -> None:
    """Process 1 of a container is not ended by a signal that it does not handle; what it handles, it ends with 0."""
    argv = [sys.executable, "-I", "-m", "seawall.drivers.keeper", str(tmp_path / "k")]
    keeper = await asyncio.create_subprocess_exec(*argv)
    await until((tmp_path / "k").exists)
    keeper.terminate()
    assert await within(keeper.wait(), 30) == 0


async def test_a_gateway_that_cannot_begin_is_not_begun_again(tmp_path: Path) -> None:
    spec = tmp_path / "bad.yaml"
    spec.write_text("apiVersion: seawall.dev/v1alpha1\nkind: Fleet\nmetadata: {name: m}\nspec: {}\n")
    argv = (
        "gateway",
        str(spec),
        "--discovery",
        "static:",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "seawall",
        *argv,
        "--keeper",
        str(tmp_path / "k"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await within(child.communicate(), 60)
    assert child.returncode == 2
    assert b"spec.model" in errors
