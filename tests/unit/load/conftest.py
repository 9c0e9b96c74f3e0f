"""A deployment in a hundred lines: real simulated engines, the real gateway, no supervisor but this file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from seawall.load.client import Client
from seawall.load.prove.stage import Seen
from seawall.load.prove.up import free_port

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: sim}
spec:
  model: {source: "file:///nowhere"}
  engine: {kind: sim, maxNumSeqs: 64}
  hardware: {gpu: cpu, cloud: local}
  traffic: {maxContext: 4k}
  scaling: {min: 1, max: 4, target: 12}
"""


class Bare:
    """Replicas and a gateway as child processes, told apart by a discovery file."""

    def __init__(self, folder: Path, spec: Path, flags: list[str]) -> None:
        self.folder, self.spec, self.flags = folder, spec, flags
        self.children: dict[str, asyncio.subprocess.Process] = {}
        self.seen: dict[str, Seen] = {}
        self.draining: set[str] = set()
        self.version = 0
        self.count = 0
        self.port, self.admin = free_port(), free_port()

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin}"

    async def spawn(self, name: str, *argv: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.children[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "seawall", *argv, stdout=log, stderr=log
            )

    async def replica(self) -> str:
        name, port = f"sim-{self.count}", free_port()
        self.count += 1
        await self.spawn(name, "engine", "sim", "--model-name", "sim", "--port", str(port), *self.flags)
        url = f"http://127.0.0.1:{port}"
        await up(url, "/health")
        self.seen[name] = Seen(name=name, url=url, pid=self.children[name].pid, ready=True)
        self.publish()
        return name

    def publish(self) -> None:
        self.version += 1
        rows = [
            {"name": s.name, "fleet": "sim", "url": s.url, "ready": True, "draining": s.name in self.draining}
            for s in self.seen.values()
        ]
        new = self.folder / "replicas.new"
        new.write_text(json.dumps({"version": self.version, "replicas": rows}))
        new.replace(self.folder / "replicas.json")

    async def start_gateway(self) -> None:
        await self.spawn(
            "gateway", "gateway", str(self.spec), "--discovery", f"file:{self.folder / 'replicas.json'}",
            "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}",
        )  # fmt: skip
        await up(self.admin_url, "/readyz")

    async def replicas(self) -> list[Seen]:
        for name, child in list(self.children.items()):
            if child.returncode is not None and name in self.seen:
                del self.seen[name]
                self.publish()
        return [s for s in self.seen.values() if s.name not in self.draining]

    async def gateway_pids(self) -> list[int]:
        return [self.children["gateway"].pid]

    async def supervisor_pid(self) -> int:
        return os.getpid()

    def set_clock(self, off_s: float) -> None: ...

    async def control(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        if request["do"] == "restart":
            for old in list(self.seen):
                await self.replica()
                await self.retire(old)
        return {}

    async def retire(self, name: str) -> None:
        self.draining.add(name)
        self.publish()
        await asyncio.sleep(0.3)
        child = self.children[name]
        child.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), 15)
        self.seen.pop(name, None)
        self.publish()

    async def stop(self) -> None:
        for child in self.children.values():
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


async def up(url: str, path: str) -> None:
    client = Client(url)
    for _ in range(1200):
        with contextlib.suppress(OSError, TimeoutError):
            if (await client.get(path, 2.0))[0] == 200:
                return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{url}{path} never came up")


@pytest.fixture
async def make_bare(tmp_path: Path) -> AsyncIterator[Any]:
    """make_bare(replicas, spec text, flags) -> a running Bare."""
    made: list[Bare] = []

    async def make(
        replicas: int = 2, spec: str = FLEET, flags: tuple[str, ...] = ("--sim-step", "0.02")
    ) -> Bare:
        path = tmp_path / "fleet.yaml"
        path.write_text(spec)
        bare = Bare(tmp_path, path, list(flags))
        made.append(bare)
        await asyncio.gather(*(bare.replica() for _ in range(replicas)))
        await bare.start_gateway()
        return bare

    yield make
    for bare in made:
        await bare.stop()


@pytest.fixture
async def sim_engine() -> AsyncIterator[str]:
    """The URL of a fast simulated engine."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "seawall", "engine", "sim", "--port", "0", "--model-name", "sim", "--sim-step", "0.005",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    line = await asyncio.wait_for(child.stdout.readline(), 90)
    yield line.decode().split()[-1]
    child.kill()
    await child.wait()
