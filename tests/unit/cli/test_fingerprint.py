"""`seawall fingerprint`: from an engine of its own, or from replicas that agree; nothing from those that do not."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from seawall.cli.fingerprint import command
from seawall.engines.sim import flags
from seawall.engines.sim.server import SimulatedServer
from seawall.errors import CheckFailed, InputError
from seawall.local.fingerprint import verify, vocabulary_of
from seawall.weights.lockfile import Lock, LockedFile, write_lock

SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  engine: {kind: sim}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def replicas() -> Iterator[list[str]]:
    """Two simulated engines, in a loop of their own."""
    loop = asyncio.new_event_loop()
    servers = []
    for _ in range(2):
        args = flags.parser().parse_args(["--port", "0", "--model-name", "m", "--sim-step", "0.001"])
        servers.append(SimulatedServer(args, flags.timing(args)))

    async def begin() -> None:
        for server in servers:
            await server.listen()
            server.spawn(server.steps())

    loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield [f"http://127.0.0.1:{s.args.port}" for s in servers]

    async def end() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def run(*args: str) -> dict:
    done = CliRunner().invoke(command, [*args, "--rounds", "2", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_replicas_that_agree_make_it(spec: Path, replicas: list[str]) -> None:
    told = run(str(spec), "--url", replicas[0], "--url", replicas[1] + "/")
    made = json.loads((spec.parent / "m.truth.json").read_text())
    assert told["file"] == str(spec.parent / "m.truth.json")
    assert told["source"].startswith("agreed by http://127.0.0.1:") and told["others"] == []
    assert made["fingerprints"][0]["of"]["engine"] == "sim"
    assert len(made["fingerprints"][0]["known"]) == told["prompts"] >= 10


def test_replicas_that_disagree_make_none(spec: Path, replicas: list[str]) -> None:
    httpx2.post(f"{replicas[1]}/sim/fault", json={"kind": "wrong-weights"})
    with pytest.raises(CheckFailed, match="differently"):
        run(str(spec), "--url", replicas[0], "--url", replicas[1])
    assert not (spec.parent / "m.truth.json").exists()


def test_one_replica_alone_is_refused(spec: Path, replicas: list[str]) -> None:
    with pytest.raises(InputError, match="agrees with itself"):
        run(str(spec), "--url", replicas[0])


def test_an_engine_of_its_own_makes_it_without_replicas(spec: Path) -> None:
    told = run(str(spec), "--sweep", "96", "--out", str(spec.parent / "x.json"))
    assert told["file"].endswith("x.json")
    assert told["prompts"] == 12  # two sweeps beside the texts


def test_weights_are_compared_byte_by_byte(tmp_path: Path) -> None:
    folder, lock = tmp_path / "w", tmp_path / "m.lock"
    folder.mkdir()
    (folder / "config.json").write_text('{"text_config": {"vocab_size": 77}}')
    sha = "6a0b7a0b2b1a8ed9b5c4d7ed0c9f3c1b3a4b8a1c0f0e9d8c7b6a594837261504"
    with pytest.raises(InputError, match="no lockfile"):
        verify(folder, lock)
    write_lock(Lock("hf://a/b", "r", (LockedFile("config.json", 35, sha),)), lock)
    with pytest.raises(CheckFailed, match=r"config\.json"):
        verify(folder, lock)
    assert vocabulary_of(folder) == 77
    assert vocabulary_of(tmp_path) == 0
