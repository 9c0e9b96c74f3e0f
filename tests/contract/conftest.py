"""One suite, two servers: the simulated engine and real vLLM answer the same requests in the same shapes.

The real server is started once for all of these tests (it takes about a minute) and stopped by the last of them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from seawall.config.load import load_fleets
from seawall.drivers import cache
from seawall.drivers.process import free_port

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--max-num-queued-reqs",
    "24",
    "--shutdown-timeout",
    "30",
    "--max-model-len",
    "2048",
    "--max-num-seqs",
    "16",
    "--max-num-batched-tokens",
    "256",
    "--enable-lora",
    "--max-loras",
    "2",
]
OPENED = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
JSON = {"content-type": "application/json"}
ANSWER_S = 300
"""Longest that an answer may take: 300 tokens, of an engine that shares its core with a dozen others."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of each server-sent event; the last one is `[DONE]`."""
        found = [e[6:] for e in self.body.decode().split("\n\n") if e.startswith("data: ")]
        return [e if e == "[DONE]" else json.loads(e) for e in found]


@dataclass
class Server:
    kind: str
    model: str
    port: int
    process: Any
    open: list[http.client.HTTPConnection] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        data = body if isinstance(body, str | bytes | None) else json.dumps(body)
        connection.request(method, path, data, JSON if headers is None else headers)
        response = connection.getresponse()
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        connection.close()
        return answer

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.ask("POST", path, body, {**JSON, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def chat(self, text: str = "Tell me about the sea.", **fields: Any) -> Answer:
        messages = [{"role": "user", "content": text}]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 8, **fields}
        return self.post("/v1/chat/completions", body)

    def complete(self, prompt: Any = "Once upon a time", **fields: Any) -> Answer:
        body = {"model": self.model, "prompt": prompt, "temperature": 0, "max_tokens": 8, **fields}
        return self.post("/v1/completions", body)

    def typed(self, path: str, **fields: Any) -> list[Any]:
        """The events of a stream of /v1/messages or /v1/responses; each names itself twice."""
        body = {"model": self.model, "temperature": 0, "stream": True, **fields}
        events = []
        for event in self.post(path, body).body.decode().split("\n\n")[:-1]:
            name, _, data = event.partition("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
        return events

    def begin(self, **fields: Any) -> http.client.HTTPResponse:
        """A stream that stays open: its head is read, its body is not."""
        body = {"model": self.model, "prompt": "Once", "temperature": 0, "max_tokens": 1500, "ignore_eos": True,
                "stream": True, **fields}  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps(body), JSON)
        self.open.append(connection)
        return connection.getresponse()

    def hang_up(self) -> None:
        while self.open:
            connection = self.open.pop()
            if connection.sock is not None:
                connection.sock.close()
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Every series of /metrics: name{labels} -> value."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return {k: float(v) for k, _, v in (x.rpartition(" ") for x in lines if x and not x.startswith("#"))}

    def gauge(self, name: str) -> float:
        return sum(v for k, v in self.metrics().items() if k.startswith(f"vllm:{name}{{"))


def start_sim(*flags: str) -> Server:
    port = free_port("127.0.0.1")
    argv = [sys.executable, "-m", "seawall", "engine", "sim", "smollm2", "--served-model-name", "smollm2"]
    process = subprocess.Popen([*argv, "--port", str(port), *FLAGS, *flags], env=os.environ | OPENED)
    return Server("sim", "smollm2", port, process)


def start_vllm() -> Server:
    from seawall.local.engine_env import install
    from seawall.local.launch import vllm_recipe
    from seawall.local.model import model_folder

    root = cache.root()
    fleet = load_fleets(ROOT / "examples/smollm2.yaml")[0]
    recipe = vllm_recipe(fleet, install(root, print).vllm, model_folder(fleet.spec.model, root, print), root)
    port = free_port("127.0.0.1")
    _, env = recipe.command(port)
    argv = [
        *recipe.program,
        recipe.model,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--served-model-name",
        "smollm2",
        *FLAGS,
    ]
    argv += ["--kv-cache-memory-bytes", "128M", "--enforce-eager"]
    with Path(os.environ.get("SEAWALL_CONTRACT_LOG", os.devnull)).open("wb") as log:
        process = subprocess.Popen(
            argv,
            env={**env, **OPENED, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return Server("vllm", "smollm2", port, process)


def wait_up(server: Server, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.process.poll() is None, f"{server.kind} ended with {server.process.returncode}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.ask("GET", "/health").status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{server.kind} did not come up within {seconds} s")


def stop(server: Server) -> None:
    server.hang_up()
    if server.process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            if server.kind == "vllm":
                os.killpg(server.process.pid, signal.SIGKILL)
            else:
                server.process.kill()
        server.process.wait()


class Attached(psutil.Process):
    """A server that was started by hand, as a Popen: SEAWALL_CONTRACT_VLLM=PORT:PID spares the minute it takes."""

    returncode = None

    def poll(self) -> int | None:
        return None if self.is_running() else 0

    def wait(self, timeout: float | None = None) -> int:
        psutil.wait_procs([self], timeout)
        assert not self.is_running()
        return 0


def attached(text: str) -> Server:
    port, pid = text.split(":")
    return Server("attached", "smollm2", int(port), Attached(int(pid)))


@pytest.fixture(scope="session", params=["sim", pytest.param("vllm", marks=pytest.mark.engine)])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    running = os.environ.get("SEAWALL_CONTRACT_VLLM")
    if request.param == "sim":
        made = start_sim()
    else:
        made = attached(running) if running else start_vllm()
    try:
        wait_up(made, 30 if request.param == "sim" else 900)
        made.complete()
        yield made
    finally:
        if made.kind != "attached":
            stop(made)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test that ends the shared server comes last, whatever its file is called beside."""
    items.sort(key=lambda item: item.path == Path(__file__).with_name("test_shutdown.py"))
