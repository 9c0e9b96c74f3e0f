"""Facts of a `seawall up` on this machine, in the shape of a cluster's: the same rules read both.

Reads `state.json` and the ends of the logs that it names (only below the state directory); asks nobody.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from seawall.diagnose.facts import Facts, Object
from seawall.domain.labels import FLEET
from seawall.engines.vllm import metrics as vllm
from seawall.errors import InputError

TAIL = 64 * 1024


def facts_of_state(folder: Path) -> Facts:
    """The facts of the last snapshot. InputError when there is none."""
    path = folder / "state.json"
    try:
        state = json.loads(path.read_text("utf-8"))
    except OSError:
        raise InputError(f"{path}: there is no state of a `seawall up`.", "Start one: seawall up") from None
    except ValueError:
        raise InputError(f"{path}: is not JSON.", "Look again in a second; it is replaced whole.") from None
    replicas = [r for r in state.get("replicas") or [] if isinstance(r, dict) and r.get("name")]
    fleets = {str(f.get("name")): f for f in state.get("fleets") or [] if isinstance(f, dict)}
    kept = [*replicas, *([state["gateway"]] if (state.get("gateway") or {}).get("name") else [])]
    logs = {f"{r['name']}/engine/previous": _tail(folder, str(r.get("log") or "")) for r in kept}
    measured = {
        vllm.RUNNING: "running",
        vllm.WAITING: "waiting",
        vllm.KV_USAGE: "kv_usage",
    }
    return Facts(
        taken_at=str(state.get("at") or ""),
        namespace="this machine",
        pods=[_pod(r, logs) for r in kept],
        logs={k: v for k, v in logs.items() if v},
        metrics={
            series: {str(r["name"]): float(r[key]) for r in replicas if isinstance(r.get(key), (int, float))}
            for series, key in measured.items()
        },
        gateway={
            "fleets": fleets,
            "replicas": {
                str(r["name"]): {
                    "fleet": r.get("fleet"),
                    "state": r.get("routed") or r.get("phase"),
                    "reason": str(r.get("routed_why") or r.get("stage") or ""),
                }
                for r in replicas
            },
        },
    )


def _pod(r: dict[str, Any], logs: dict[str, str]) -> Object:
    """A kept process as a Pod: what its supervisor says stands where the kubelet would say it."""
    failed = r.get("phase") == "failed"
    reason = str(r.get("reason") or "")
    status: Object = {"name": "engine", "restartCount": r.get("failures") or 0, "state": {"running": {}}}
    if failed:
        code = re.search(r"exited with code (\d+)|signal (\d+)", reason)
        exit_code = int(code[1]) if code and code[1] else 128 + int(code[2]) if code else 1
        status["state"] = {"terminated": {"reason": reason or "Error", "exitCode": exit_code}}
    else:
        logs.pop(f"{r['name']}/engine/previous", None)
    return {
        "kind": "Pod",
        "metadata": {"name": r["name"], "labels": {FLEET: r.get("fleet")}},
        "spec": {"containers": [{"name": "engine"}], "nodeName": "this machine"},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if r.get("phase") == "ready" else "False"}],
            "containerStatuses": [status],
        },
    }


def _tail(folder: Path, name: str) -> str:
    path = Path(name)
    if not name or not path.resolve().is_relative_to(folder.resolve()):
        return ""
    try:
        with path.open("rb") as f:
            f.seek(0, 2)
            f.seek(max(0, f.tell() - TAIL))
            return f.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return ""
