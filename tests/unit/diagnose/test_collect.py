"""Facts collected from a cluster lead to the same causes as recorded ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from seawall.cli.diagnose import command
from seawall.diagnose.collect import collect
from seawall.drivers.kube import connect
from seawall.testing.kube_api import KubeApi


def pod(name: str, **status: Any) -> dict[str, Any]:
    labels = {"seawall.dev/fleet": "chat", "seawall.dev/role": "engine", "app.kubernetes.io/name": "vllm"}
    meta = {"name": name, "namespace": "llm", "labels": labels, "uid": f"uid-{name}"}
    spec = {
        "containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "8Gi"}}}]
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def crashed(reason: str, code: int) -> dict[str, Any]:
    died = {"terminated": {"reason": reason, "exitCode": code}}
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    status = {"name": "vllm", "restartCount": 4, "state": state, "lastState": died}
    return {"phase": "Running", "containerStatuses": [status]}


def test_an_unknown_flag_is_found_in_the_previous_log(api: KubeApi, tmp_path: Path) -> None:
    api.put(pod("chat-1", **crashed("Error", 2)))
    api.logs["llm/chat-1/vllm/previous"] = (
        "vllm serve: error: unrecognized arguments: --disable-log-requests\n"
    )
    config, record = api.kubeconfig(tmp_path, "llm"), tmp_path / "facts.json"
    argv = ["chat", "--namespace", "llm", "--kubeconfig", config]
    done = CliRunner().invoke(command, [*argv, "--record", str(record)])
    assert done.exit_code == 1
    assert "--disable-log-requests" in done.output
    again = CliRunner().invoke(command, ["chat", "--facts", str(record)])
    assert again.output == done.output, "what was recorded gives the same answer"


def test_a_healthy_namespace_has_no_cause(api: KubeApi, tmp_path: Path) -> None:
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    api.put(
        pod(
            "chat-1",
            **ready,
            containerStatuses=[{"name": "vllm", "ready": True, "started": True, "restartCount": 0}],
        )
    )
    done = CliRunner().invoke(
        command, ["--namespace", "llm", "--kubeconfig", api.kubeconfig(tmp_path, "llm")]
    )
    assert done.exit_code == 0, done.output


async def test_what_may_not_be_read_is_left_out_and_the_rest_is_lean(api: KubeApi, tmp_path: Path) -> None:
    api.served["keda.sh/v1alpha1"] = ""
    noisy = pod("chat-1", phase="Running")
    noisy["metadata"]["managedFields"] = [{"manager": "x" * 1000}]
    api.put(noisy)
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n"},
        "status": {"images": [{"names": ["y" * 999]}]},
    }
    api.put(node)
    async with connect(kubeconfig=api.kubeconfig(tmp_path)) as kube:
        facts = await collect(kube, "llm", pause_s=0.0)
    assert facts["scaledobjects"] is None
    text = json.dumps(facts)
    assert "managedFields" not in text
    assert "yyy" not in text
    assert facts["pods"][0]["metadata"]["name"] == "chat-1"


def test_one_place_to_look_at(tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text("{}")
    done = CliRunner().invoke(command, ["--facts", str(facts), "--namespace", "llm"])
    assert "more than one place" in str(done.exception)


def test_machines_that_an_autoscaler_asks_for_are_read_where_their_events_lie(
    api: KubeApi, tmp_path: Path
) -> None:
    api.put(pod("chat-1", phase="Pending", conditions=[{"type": "PodScheduled", "status": "False"}]))
    said = "creating instance, insufficient capacity, all requested instance types were unavailable"
    about = {"kind": "NodeClaim", "name": "gpu-x7", "uid": "c1"}
    for name, where, involved, message in (
        ("a", "default", about, said),
        ("b", "default", {"kind": "Pod", "name": "of-somebody-else"}, "no matter"),
        (
            "c",
            "llm",
            {"kind": "Pod", "name": "chat-1"},
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        ),
    ):
        reason = "FailedScheduling" if where == "llm" else "LaunchFailed"
        api.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": where},
                "involvedObject": involved,
                "reason": reason,
                "message": message,
                "type": "Warning",
            }
        )
    record = tmp_path / "facts.json"
    argv = ["chat", "--namespace", "llm", "--kubeconfig", api.kubeconfig(tmp_path, "llm")]
    done = CliRunner().invoke(command, [*argv, "--record", str(record)])
    assert "the cloud gives none" in done.output
    events = json.loads(record.read_text())["events"]
    assert {e["involvedObject"]["name"] for e in events} == {"gpu-x7", "chat-1"}
