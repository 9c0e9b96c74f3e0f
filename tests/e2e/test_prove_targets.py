"""Targets for real: a command of somebody's that forwards bytes, its death, another list of engines; nginx; and the
verb itself, which must be red where nothing protects a stream."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.config.load import load_fleets
from seawall.drivers.process import free_port
from seawall.load.client import LoadClient
from seawall.local.launch import sim_recipe
from seawall.prove.targets.adapter import TargetAdapter, TargetPlace
from seawall.prove.targets.engines import TargetEngines
from seawall.prove.targets.fleet import TargetFleet
from seawall.prove.targets.known import find
from seawall.prove.targets.meter import TokenMeter

ROOT = Path(__file__).parents[2]
FORWARDER = """
import asyncio, json, sys
port, path, at = int(sys.argv[1]), sys.argv[2], [0]
async def pipe(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def serve(reader, writer):
    engines = json.load(open(path))
    at[0] += 1
    host = engines[at[0] % len(engines)].removeprefix("http://")
    up, down = await asyncio.open_connection(*host.split(":"))
    await asyncio.gather(pipe(reader, down), pipe(up, writer), return_exceptions=True)
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()
asyncio.run(main())
"""
BODY = {
    "model": "smollm2",
    "prompt": "the tide",
    "max_tokens": 30,
    "temperature": 0,
    "stream": True,
    "ignore_eos": True,
}


async def a_fleet(adapter: TargetAdapter, folder: Path, count: int) -> tuple[TargetFleet, TokenMeter]:
    fleet = load_fleets(ROOT / "examples/smollm2.yaml")[0]
    meter = TokenMeter()
    engines = TargetEngines(sim_recipe(fleet), folder, meter)
    place = TargetPlace(
        folder=folder, port=free_port(), engines=(), names=fleet.served_names, program=adapter.install(),
        spare_ports=(free_port(), free_port()), fleet=ROOT / "examples/smollm2.yaml", fleet_name=fleet.name,
    )  # fmt: skip
    return await TargetFleet.start(adapter, place, engines, count), meter


async def test_a_command_is_started_again_when_it_dies_and_follows_its_engines(tmp_path: Path) -> None:
    (tmp_path / "forward.py").write_text(FORWARDER)
    target = find(f"{sys.executable} {tmp_path / 'forward.py'} {{port}} {{file}}")
    fleet, meter = await a_fleet(target, tmp_path / "run", 1)
    client = LoadClient(fleet.gateway_url)
    try:
        assert (await client.request("/v1/completions", BODY)).ok
        assert await meter.look() > 30, "what the engine computed is counted"
        (gateway,), (engine,) = await fleet.gateway_pids(), await fleet.replicas()

        os.kill(gateway, signal.SIGKILL)
        async with asyncio.timeout(60):
            while await fleet.gateway_pids() == [gateway] or not await fleet.answers():
                await asyncio.sleep(0.05)

        assert (await fleet.control({"do": "restart"}, 5.0))["ok"]
        async with asyncio.timeout(60):
            while engine.pid in {r.pid for r in await fleet.replicas()} or not fleet.engines.urls:
                await asyncio.sleep(0.05)
        (successor,) = await fleet.replicas()
        assert json.loads((tmp_path / "run/engines.json").read_text()) == [successor.url] != [engine.url]
        assert (await LoadClient(fleet.gateway_url).request("/v1/completions", BODY)).ok

        os.kill(successor.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while [(r.url, r.ready) for r in await fleet.replicas() if r.pid != successor.pid] != [
                (successor.url, True)
            ]:
                await asyncio.sleep(0.05)
    finally:
        client.close()
        await fleet.stop()


@pytest.mark.skipif(
    shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") is None, reason="no nginx"
)
async def test_nginx_serves_reloads_and_ends(tmp_path: Path) -> None:
    fleet, _ = await a_fleet(find("nginx"), tmp_path, 2)
    try:
        assert (await LoadClient(fleet.gateway_url).request("/v1/completions", BODY)).ok
        gone = fleet.engines.engines[0]
        await fleet.control({"do": "scale", "replicas": 1}, 5.0)
        async with asyncio.timeout(60):
            while len(await fleet.replicas()) > 1:
                await asyncio.sleep(0.05)
        assert gone.url.rpartition("/")[2] in (tmp_path / "nginx.conf").read_text()
        assert (await LoadClient(fleet.gateway_url).request("/v1/completions", BODY)).ok
        assert (await fleet.control({"do": "tune"}, 5.0))["ok"] is False
        (pid,) = await fleet.gateway_pids()
    finally:
        await fleet.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_the_verb_is_red_without_a_gateway_and_says_what_is_not_applicable(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "seawall",
        "prove",
        str(ROOT / "examples/smollm2.yaml"),
        "--json",
        "--streams",
        "6",
    ]
    argv += [
        "--target",
        "direct",
        "--target",
        "seawall",
        "--scenario",
        "kill",
        "--scenario",
        "keeper-kill",
        "--jobs",
        "3",
    ]
    argv += ["--html", str(tmp_path / "pages")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    cells = {(c["target"], c["scenario"]): c for c in told["cells"]}
    assert cells["direct", "kill"]["lost"] > 0 and cells["direct", "kill"]["wasted_engine_tokens"] > 0
    assert cells["direct", "keeper-kill"]["state"] == "not applicable"
    assert cells["seawall", "kill"]["state"] == cells["seawall", "keeper-kill"]["state"] == "kept", (
        done.stderr
    )
    assert told["targets"]["seawall"]["version"]
    assert (tmp_path / "pages/direct.kill.html").exists()
