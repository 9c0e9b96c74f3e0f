"""A second model of one's own on real vLLM: a GGUF of another architecture, made small, in one command.

No package that could be found carries one besides the SmolLM2 of `seawall up`, so this one has random weights: what it
says is nonsense, that it is served is not.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.local.up_process import seawall_up
from tests.unit.weights.gguf_writer import BYTES, Size, write_gguf

START_S = 600.0
PHI = Size(hidden=128, heads=2, kv_heads=1, head_dim=64, ffn=256, context=512, spread=0.05, pieces=BYTES)
TEMPLATE = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"


@pytest.mark.engine
@pytest.mark.timeout(900)
def test_a_gguf_of_phi_is_converted_planned_and_served_in_one_command(tmp_path: Path) -> None:
    write_gguf(tmp_path / "Tiny-Phi.gguf", "phi3", PHI, template=TEMPLATE)
    with seawall_up(tmp_path, str(tmp_path / "Tiny-Phi.gguf"), "--startup-budget", f"{START_S:g}") as up:
        status = up.until(lambda s: s if any(r["phase"] == "ready" for r in s["replicas"]) else None, START_S)
        (replica,) = status["replicas"]
        assert replica["failures"] == 0, "it has started the first time"
        first, second = (up.chat(model="tiny-phi", max_tokens=6, temperature=0).json() for _ in range(2))
        assert 1 <= first["usage"]["completion_tokens"] <= 6
        assert first["choices"][0]["message"] == second["choices"][0]["message"]
    assert not up.survivors()
