"""An own model's folder, a Fleet of six lines, real vLLM on this machine's CPU: what `plan` says fits, starts.

It compiles, as such a fleet does: minutes where nothing is cached.
"""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest
from tests.e2e.local.up_process import seawall_up

from seawall.config.load import load_fleet
from seawall.drivers import cache
from seawall.local.model import model_folder
from seawall.local.prepare import planned

START_S = 1500.0
SIX_LINES = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: mine}
spec:
  model: {source: "file://%s"}
  hardware: {gpu: cpu, cloud: local}
"""


@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_six_lines_start_as_they_were_planned(tmp_path: Path) -> None:
    folder = model_folder(load_fleet("examples/smollm2.yaml").spec.model, cache.root(), print)
    spec = tmp_path / "mine.yaml"
    spec.write_text(SIX_LINES % folder)
    made = planned(load_fleet(spec))
    assert made is not None and made.fits

    with seawall_up(tmp_path, str(spec), "--startup-budget", f"{START_S:g}") as up:
        status = up.until(lambda s: s if any(r["phase"] == "ready" for r in s["replicas"]) else None, START_S)
        (replica,) = status["replicas"]
        assert replica["failures"] == 0, "it has started the first time"
        log = Path(replica["log"]).read_text()
        told = re.search(r"KV cache size: ([\d,]+) tokens", log)
        assert told is not None and int(told[1].replace(",", "")) == made.kv_cache_tokens
        models = httpx2.get(f"{replica['url']}/v1/models", trust_env=False, timeout=30).json()["data"]
        assert [m["max_model_len"] for m in models] == [made.max_model_len]
        answer = up.chat(max_tokens=4).json()
        assert answer["usage"]["completion_tokens"] == 4
    assert not up.survivors()
