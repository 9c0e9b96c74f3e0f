"""Two models, room for one: the second one's request is held by the gateway while the first makes room."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.e2e.local.up_process import Up, seawall_up

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: {name}}}
spec:
  model: {{source: "hf://example/tiny"}}
  engine: {{kind: sim, maxNumSeqs: 8, extraArgs: ["--sim-load", "0.5"]}}
  hardware: {{gpu: cpu, cloud: local}}
  traffic: {{maxContext: 2k}}
  scaling: {{min: 0, max: 1, target: 4, pollingInterval: 1s, idleAfter: 10m}}
  rollout: {{drain: 20s, preStop: 5s}}
  pool: {{name: shared, capacity: 1, residence: 2s, sleep: {sleep}, priority: {priority}}}
"""


def ask(up: Up, model: str, **more: Any) -> httpx2.Response:
    body = {"model": model, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0} | more
    return httpx2.post(f"{up.url}/v1/completions", json=body, timeout=90, trust_env=False)


def phases(up: Up) -> dict[str, str]:
    return {r["fleet"]: r["phase"] for r in up.status()["replicas"]}


@pytest.mark.parametrize("sleep", [False, True])
def test_two_fleets_take_turns_and_no_request_is_lost(tmp_path: Path, sleep: bool) -> None:
    specs = tmp_path / "two.yaml"
    specs.write_text("---".join(
        FLEET.format(name=n, sleep=str(sleep).lower(), priority=p) for n, p in (("one", 5), ("two", 5))
    ))  # fmt: skip
    worst = 0

    with seawall_up(tmp_path, str(specs)) as up:
        up.until(lambda s: s["gateway"]["phase"] == "ready")
        stop = threading.Event()

        def watch() -> None:
            nonlocal worst
            while not stop.wait(0.05):
                awake = [r for r in up.status()["replicas"] if r["phase"] not in ("asleep", "stopped")]
                worst = max(worst, len(awake))

        watcher = threading.Thread(target=watch)
        watcher.start()
        first = ask(up, "one").json()["choices"][0]["text"]
        assert ask(up, "two").json()["choices"][0]["finish_reason"] == "length"
        assert phases(up) == ({"one": "asleep", "two": "ready"} if sleep else {"two": "ready"})
        assert ask(up, "one").json()["choices"][0]["text"] == first
        long: list[httpx2.Response] = []
        stream = threading.Thread(target=lambda: long.append(ask(up, "one", max_tokens=300, ignore_eos=True)))
        stream.start()
        assert ask(up, "two").status_code == 200, "it has its turn although the other has work"
        stream.join(60)
        assert long[0].json()["choices"][0]["finish_reason"] == "length", "what ran was finished, not cut"
        stop.set()
        watcher.join()
        assert worst == 1, "never more than the pool holds"
        texts = [e["text"] for e in up.status()["events"]]
        assert any(t.startswith("pool shared: " + ("sleep" if sleep else "unload")) for t in texts), texts
        assert "sleep" not in "".join(texts) or sleep
        for path in ("/sleep", "/wake_up", "/is_sleeping"):
            assert httpx2.post(f"{up.url}{path}", trust_env=False).status_code == 404
    assert not up.survivors()
