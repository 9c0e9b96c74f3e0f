"""LoRA adapters that `seawall up` loads into its replicas while they run."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import yaml
from tests.e2e.local.up_process import Up, seawall_up

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: tiny}
spec:
  model: {source: "hf://example/tiny"}
  engine: {kind: sim, maxNumSeqs: 8}
  hardware: {gpu: cpu, cloud: local}
  scaling: {min: 1, max: 1, pollingInterval: 1s}
  gateway: {queueTimeout: 1s}
"""


def spec(folder: Path, adapters: dict[str, str], slots: int) -> str:
    made = yaml.safe_load(FLEET)
    named = [{"name": n, "source": s} for n, s in adapters.items()]
    made["spec"]["model"] |= {"adapters": named, "adapterSlots": slots}
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(made))
    return str(path)


def ask(up: Up, model: str, **more: Any) -> httpx2.Response:
    body = {"model": model, "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0} | more
    return httpx2.post(f"{up.url}/v1/completions", json=body, timeout=90, trust_env=False)


def told(s: dict[str, Any], text: str) -> bool:
    return any(text in e["text"] for e in s["events"])


def test_adapters_are_loaded_while_it_runs_and_again_after_a_crash(tmp_path: Path) -> None:
    wanted = {"poet": "hf://example/poet", "broken": "missing://none"}
    with seawall_up(tmp_path, spec(tmp_path, wanted, 4)) as up:
        up.settled()
        assert ask(up, "poet").json()["model"] == "poet"
        up.until(lambda s: told(s, "adapters: broken: it answered 404"))
        assert ask(up, "tiny").status_code == 200, "the model serves without it"
        assert ask(up, "broken").status_code == 429, "it is nowhere; the gateway waits for queueTimeout"
        before = up.replica(0)["pid"]
        os.kill(before, signal.SIGKILL)
        up.until(
            lambda s: any(r["pid"] not in (None, before) and r["phase"] == "ready" for r in s["replicas"])
        )
        assert ask(up, "poet").json()["model"] == "poet"
