"""A gateway process, two simulated engines, kill -9 in mid-stream: every stream arrives whole and exact."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

MODEL = "smol"
FLEET = f"""
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: {MODEL}}}
spec:
  model: {{source: "hf://example/tiny"}}
  engine: {{kind: sim, maxNumSeqs: 128}}
  hardware: {{gpu: cpu, cloud: local}}
  traffic: {{maxContext: 4k}}
  scaling: {{min: 2, max: 2}}
  gateway: {{maxInFlight: 256}}
"""
STREAMS = 100


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


class Town:
    """Two engines behind a gateway, as processes."""

    def __init__(self, folder: Path) -> None:
        self.spec = folder / "fleet.yaml"
        self.spec.write_text(FLEET, "utf-8")
        self.ports = [free_port() for _ in range(4)]
        self.engines = [self._start_engine(port) for port in self.ports[:2]]
        self.url, self.admin = (f"http://127.0.0.1:{port}" for port in self.ports[2:])
        engines = ",".join(f"http://127.0.0.1:{port}" for port in self.ports[:2])
        listen = ["--listen", self.url.removeprefix("http://"), "--admin", self.admin.removeprefix("http://")]
        self.gateway = self._run("gateway", str(self.spec), "--discovery", f"static:{engines}", *listen)
        self.wait()

    @staticmethod
    def _run(*args: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "seawall", *args], stdout=subprocess.DEVNULL)

    def _start_engine(self, port: int) -> subprocess.Popen[bytes]:
        return self._run(
            "engine", "sim", "--port", str(port), "--served-model-name", MODEL, "--sim-step", "0.01"
        )

    def wait(self) -> None:
        """Until the gateway knows both replicas as ready."""
        for _ in range(1200):
            if answers(self.admin + "/readyz") and set(self.states()) == {"ready"}:
                return
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.states()}")

    def states(self) -> list[str]:
        state = httpx2.get(self.admin + "/debug/state", trust_env=False).json()
        return [replica["state"] for replica in state["replicas"].values()]

    def counters(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx2.get(self.admin + "/debug/state", trust_env=False).json()["fleets"][
            MODEL
        ]
        return found

    def kill(self, index: int) -> None:
        self.engines[index].send_signal(signal.SIGKILL)
        self.engines[index].wait()

    def revive(self, index: int) -> None:
        self.engines[index] = self._start_engine(self.ports[index])
        self.wait()

    def stop(self) -> None:
        for process in (self.gateway, *self.engines):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"))
    try:
        yield town
    finally:
        town.stop()


def body(i: int) -> tuple[str, dict[str, Any]]:
    """A mix: chats and completions, greedy and seeded, structured, stop strings, usage, several choices."""
    text = f"Tell me about wall number {i % 10}."
    chat: dict[str, Any] = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": text}]}
    plain: dict[str, Any] = {"model": MODEL, "stream": True, "prompt": text}
    usage = {"stream_options": {"include_usage": True}}
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", chat | {"temperature": 0, "max_tokens": 90, "ignore_eos": True} | usage),
        ("/v1/completions", plain | {"temperature": 0, "max_tokens": 80, "ignore_eos": True} | usage),
        (
            "/v1/chat/completions",
            chat | {"temperature": 0.9, "seed": i, "max_tokens": 70, "ignore_eos": True},
        ),
        ("/v1/chat/completions", chat | {"temperature": 0, "max_tokens": 80, "stop": ["zzz", "qqqq"]}),
        ("/v1/chat/completions", chat | {"temperature": 1, "seed": i, "n": 2, "max_tokens": 30} | usage),
        ("/v1/completions", plain | {"temperature": 0, "max_tokens": 40, "logprobs": 1, "ignore_eos": True}),
    ]
    return kinds[i % len(kinds)]


def read(raw: str) -> dict[str, Any]:
    """What a client makes of a stream; raises when it is not whole."""
    found: dict[str, Any] = {"text": {}, "finish": {}, "usage": None, "ids": set(), "offsets": []}
    events = [event.removeprefix("data: ") for event in raw.split("\n\n") if event.startswith("data: ")]
    assert events[-1] == "[DONE]", events[-1:]
    for doc in map(json.loads, events[:-1]):
        assert "error" not in doc, doc
        found["ids"].add(doc["id"])
        found["usage"] = doc.get("usage") or found["usage"]
        for choice in doc["choices"]:
            text = choice.get("text") or choice.get("delta", {}).get("content") or ""
            found["text"][choice["index"]] = found["text"].get(choice["index"], "") + text
            if choice.get("finish_reason"):
                found["finish"][choice["index"]] = choice["finish_reason"]
            if choice.get("logprobs"):
                found["offsets"] += choice["logprobs"]["text_offset"]
    assert len(found.pop("ids")) == 1
    return found


async def stream(http: httpx2.AsyncClient, url: str, i: int, flowing: set[int]) -> dict[str, Any]:
    path, data = body(i)
    async with http.stream("POST", url + path, json=data) as answer:
        assert answer.status_code == 200
        raw, reads = b"", 0
        async for part in answer.aiter_raw():
            raw += part
            reads += 1
            if reads == 4:
                flowing.add(i)
        return read(raw.decode())


async def all_streams(town: Town, upset: Callable[[], Awaitable[None]] | None = None) -> list[Any]:
    """All requests at once; `upset` happens when most of them are in mid-stream."""
    flowing: set[int] = set()
    limits = httpx2.Limits(max_connections=STREAMS)
    async with httpx2.AsyncClient(timeout=60, limits=limits, trust_env=False) as http:
        tasks = [asyncio.create_task(stream(http, town.url, i, flowing)) for i in range(STREAMS)]
        if upset is not None:
            while len(flowing) < STREAMS * 0.6:
                await asyncio.sleep(0.002)
            await upset()
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(scope="module")
def want(town: Town) -> list[Any]:
    """What every stream says when nothing breaks."""
    found = asyncio.run(all_streams(town))
    assert not [one for one in found if isinstance(one, BaseException)]
    return found


async def test_kill_9_of_a_replica_loses_no_stream(town: Town, want: list[Any]) -> None:
    before = town.counters()["resumed_total"]

    async def upset() -> None:
        town.kill(0)

    got = await all_streams(town, upset)
    assert [one for one in got if isinstance(one, BaseException)] == []
    assert got == want
    after = town.counters()
    assert after["resumed_total"] - before >= 5
    assert after["failed_total"] == 0
    town.revive(0)


@pytest.mark.parametrize("kind", ["reset", "error"])
async def test_streams_that_an_engine_breaks_arrive_whole(town: Town, want: list[Any], kind: str) -> None:
    async def upset() -> None:
        async with httpx2.AsyncClient(trust_env=False) as http:
            await http.post(f"http://127.0.0.1:{town.ports[1]}/sim/fault", json={"kind": kind})

    got = await all_streams(town, upset)
    assert got == want
    assert town.counters()["failed_total"] == 0
    town.wait()
