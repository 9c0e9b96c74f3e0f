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


def diagnosed(
    folder: Path, *args: str, log: str = "", **replica_is: object
) -> subprocess.CompletedProcess[str]:
    """What `seawall diagnose` says of a fleet with one replica."""
    log_file = folder / "mine-0.log"
    log_file.write_text(log)
    replica = {
        "name": "mine-0", "fleet": "mine", "phase": "failed", "for_s": 3.0, "failures": 3, "pid": None,
        "reason": "", "log": str(log_file), "url": "http://127.0.0.1:1",
        "generation": 0, "port": 1, "routed": None, "in_flight": None,
    } | replica_is  # fmt: skip
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
        "log": str(log_file),
    }
    state = {
        "pid": 1,
        "engine": "vllm",
        "gateway": gateway,
        "fleets": [fleet],
        "replicas": [replica],
        "events": [],
    }
    (folder / "state.json").write_text(json.dumps(state))
    argv = [sys.executable, "-m", "seawall", "diagnose", *args, "--state-dir", str(folder)]
    return subprocess.run(argv, capture_output=True, text=True)


CLUSTERS = ("Pod", "kubectl", "manifest", "node", "grace period")


def test_diagnose_of_a_state_folder_speaks_of_this_machine(tmp_path: Path) -> None:
    log = "vllm serve: error: unrecognized arguments: --no-such-flag x\n"
    said = diagnosed(tmp_path, log=log, reason="exited with code 2: unrecognized arguments").stdout
    assert "replica mine-0" in said
    assert not any(word in said for word in CLUSTERS)


def test_a_kill_here_was_of_somebody_or_of_this_machines_memory(tmp_path: Path) -> None:
    said = diagnosed(tmp_path, reason="killed by signal 9", failures=1).stdout
    assert "killed with SIGKILL: by somebody (kill -9), or because this machine's memory ran out" in " ".join(
        said.split()
    )
    assert "restarted 1 time\n" in said
    assert not any(word in said for word in CLUSTERS)


def test_a_replica_that_starts_says_how_far_it_is(tmp_path: Path) -> None:
    said = " ".join(diagnosed(tmp_path, phase="starting", stage="compiling", failures=0).stdout.split())
    assert "routes to no replica of mine (mine-0 starting)" in said
    assert "mine-0: compiling" in said
    assert "seawall status -w shows how far" in said


def test_a_name_that_nothing_has_is_no_good_news(tmp_path: Path) -> None:
    done = diagnosed(tmp_path, "mime", phase="ready", routed="ready", failures=0)
    assert done.returncode == 2
    assert "nothing here is named 'mime'" in done.stderr
    assert "There are: mine, mine-0" in done.stderr
    well = diagnosed(tmp_path, "mine", phase="ready", routed="ready", failures=0)
    assert well.returncode == 0
    assert well.stdout.endswith("Next: seawall status\n")
