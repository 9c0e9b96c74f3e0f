"""On this machine a cause is told in this machine's words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from seawall.diagnose.cause import Cause
from seawall.diagnose.here import here


def cause(do: str, subject: str = "Pod/mine-0", id: str = "engine/oom") -> Cause:
    return Cause(id=id, certainty="certain", subject=subject, what="w", evidence=(), do=do)


def test_what_names_clusters_is_said_otherwise_and_the_rest_stays() -> None:
    kept, changed, flag, fleet = here(
        [cause("lower spec.engine.gpuMemoryUtilization"), cause("kubectl describe pod mine-0"),
         cause("pin the image that has it", id="engine/unknown-flag"), cause("kubectl get nodes", "Fleet/mine")]
    )  # fmt: skip
    assert kept.do == "lower spec.engine.gpuMemoryUtilization"
    assert kept.subject == "replica mine-0"
    assert changed.do.startswith("seawall logs mine-0")
    assert "extraArgs" in flag.do
    assert fleet.subject == "Fleet/mine"
    assert not any(w in c.do for c in (kept, changed, flag, fleet) for w in ("kubectl", "image", "Pod"))


def test_diagnose_of_a_state_folder_speaks_of_this_machine(tmp_path: Path) -> None:
    log = tmp_path / "mine-0.log"
    log.write_text("vllm serve: error: unrecognized arguments: --no-such-flag x\n")
    replica = {
        "name": "mine-0", "fleet": "mine", "phase": "failed", "for_s": 3.0, "failures": 3, "pid": None,
        "reason": "exited with code 2: unrecognized arguments", "log": str(log), "url": "http://127.0.0.1:1",
        "generation": 0, "port": 1, "routed": None, "in_flight": None,
    }  # fmt: skip
    fleet = {
        "name": "mine",
        "models": ["mine"],
        "wanted": 1,
        "ready": 0,
        "min": 1,
        "max": 1,
        "scale_reason": "",
    }
    gateway = {
        "name": "gateway",
        "phase": "ready",
        "url": "http://127.0.0.1:1",
        "admin_url": "",
        "log": str(log),
    }
    state = {
        "pid": 1,
        "engine": "vllm",
        "gateway": gateway,
        "fleets": [fleet],
        "replicas": [replica],
        "events": [],
    }
    (tmp_path / "state.json").write_text(json.dumps(state))
    argv = [sys.executable, "-m", "seawall", "diagnose", "--state-dir", str(tmp_path)]
    said = subprocess.run(argv, capture_output=True, text=True).stdout
    assert "replica mine-0" in said
    assert not any(word in said for word in ("Pod", "kubectl", "manifest"))
