"""A `seawall up` as a child process of a test, and what its stories ask of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
from tests.processes import survivors

from seawall.errors import SeawallError
from seawall.local import control

SIM_FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: {name}}}
spec:
  model: {{source: "hf://example/tiny"}}
  engine: {{kind: sim, maxNumSeqs: 8, extraArgs: ["--sim-load", "{load}"]}}
  hardware: {{gpu: cpu, cloud: local}}
  traffic: {{maxContext: 2k}}
  scaling: {{min: {low}, max: {high}, target: 2, pollingInterval: 1s}}
  rollout: {{drain: 20s, preStop: 5s}}
"""


class Up:
    """A running `seawall up`."""

    def __init__(self, state_dir: Path, process: subprocess.Popen[str], output: Path) -> None:
        self.state_dir, self.process, self.output = state_dir, process, output
        self.family: set[psutil.Process] = set()
        """Every process it was ever seen to have."""

    @property
    def url(self) -> str:
        return str(self.status()["gateway"]["url"])

    def status(self) -> dict[str, Any]:
        """`status` by the control socket."""
        self.note_family()
        return control.ask(self.state_dir, do="status")

    def ask(self, **request: Any) -> dict[str, Any]:
        return control.ask(self.state_dir, **request)

    def note_family(self) -> None:
        with contextlib.suppress(psutil.Error):
            self.family |= set(psutil.Process(self.process.pid).children(recursive=True))

    def until(self, what: Callable[[dict[str, Any]], Any], seconds: float = 60.0) -> Any:
        """Waits until `what(status)` is true, and returns it."""
        end, last = time.monotonic() + seconds, None
        while time.monotonic() < end:
            with contextlib.suppress(SeawallError):
                last = self.status()
                if found := what(last):
                    return found
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.1)
        raise AssertionError(
            f"not within {seconds} s: {json.dumps(last, indent=1)}\n{self.output.read_text()}"
        )

    def settled(self, seconds: float = 60.0) -> dict[str, Any]:
        """Waits until the gateway serves and every fleet has what it wants; the status."""

        def ready(s: dict[str, Any]) -> dict[str, Any] | None:
            routed = {r["name"] for r in s["replicas"] if r["routed"] == "ready"}
            good = s["gateway"]["phase"] == "ready" and all(f["settled"] for f in s["fleets"])
            return s if good and routed == {r["name"] for r in s["replicas"]} else None

        found: dict[str, Any] = self.until(ready, seconds)
        return found

    def replica(self, index: int) -> dict[str, Any]:
        found: dict[str, Any] = sorted(self.status()["replicas"], key=lambda r: r["name"])[index]
        return found

    def chat(self, **more: Any) -> httpx2.Response:
        body = {"model": self.status()["fleets"][0]["models"][0], "max_tokens": 8, "temperature": 0}
        body |= {"messages": [{"role": "user", "content": "What is the capital of France?"}]} | more
        return httpx2.post(f"{self.url}/v1/chat/completions", json=body, timeout=60, trust_env=False)

    def survivors(self, seconds: float = 20.0) -> list[psutil.Process]:
        """Processes of the family that still live, after waiting for them to go."""
        return survivors(self.family, seconds)


@contextlib.contextmanager
def seawall_up(folder: Path, *args: str, env: dict[str, str] | None = None) -> Iterator[Up]:
    """Starts `seawall up ARGS --state-dir FOLDER/state --port 0 --plain`; stops it at the end, whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state"
    output = folder / "output.txt"
    with output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "seawall", "up", *args, "--state-dir", str(state), "--port", "0", "--plain"],
            stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=os.environ | (env or {}), text=True,
        )  # fmt: skip
    up = Up(state, process, output)
    try:
        yield up
    finally:
        for sig, patience in ((signal.SIGINT, 40), (signal.SIGINT, 10), (signal.SIGKILL, 10)):
            if process.poll() is None:
                up.note_family()
                process.send_signal(sig)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)


class Load:
    """Light load from two threads; remembers every answer that was not a whole one."""

    def __init__(self, up: Up, pause_s: float = 0.05) -> None:
        self.bad: list[str] = []
        self.good = 0
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._url, self._model = up.url, up.status()["fleets"][0]["models"][0]
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]

    def __enter__(self) -> Load:
        for t in self._threads:
            t.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for t in self._threads:
            t.join(60)

    def _run(self) -> None:
        client = openai.OpenAI(
            base_url=f"{self._url}/v1",
            api_key="none",
            max_retries=0,
            http_client=httpx2.Client(trust_env=False),
        )
        while not self._stop.is_set():
            try:
                chunks = list(
                    client.chat.completions.create(
                        model=self._model,
                        messages=[{"role": "user", "content": "Count."}],
                        max_tokens=12,
                        stream=True,
                    )
                )
                if chunks[-1].choices[0].finish_reason in ("stop", "length"):
                    self.good += 1
                else:
                    self.bad.append(f"ended with {chunks[-1]}")
            except (openai.OpenAIError, httpx2.HTTPError, IndexError) as e:
                self.bad.append(repr(e))
            time.sleep(self._pause_s)


def fleet_file(folder: Path, name: str = "tiny", low: int = 1, high: int = 1, load: float = 0.0) -> str:
    path = folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(SIM_FLEET.format(name=name, low=low, high=high, load=load))
    return str(path)
