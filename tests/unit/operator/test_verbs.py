"""The cluster verbs as a person types them, for every example, against the API double."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.errors import SeawallError
from seawall.testing.kube_api import KubeApi

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def seawall(kubeconfig: str, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "seawall", *args, "--kubeconfig", kubeconfig]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def in_process(kubeconfig: str, verb: str, *args: str) -> tuple[int, str]:
    """(exit code, stdout and the error's message) of a verb without the cost of a process."""
    from click.testing import CliRunner

    from seawall.cli.group import seawall as group

    result = CliRunner().invoke(group, [verb, *args, "--kubeconfig", kubeconfig])
    if isinstance(result.exception, SeawallError):
        return result.exception.exit_code, result.output + str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_apply_then_diff_is_empty_then_delete_leaves_what_was_there(
    api: KubeApi, tmp_path: Path, example: Path
) -> None:
    config, spec = api.kubeconfig(tmp_path), str(example)
    code, said = in_process(config, "diff", spec)
    assert code == 1
    assert "create" in said
    assert "nobody is here" in in_process(config, "apply", spec)[1]
    code, said = in_process(config, "apply", spec, "--yes", "--no-wait")
    assert code == 0, said
    code, said = in_process(config, "diff", spec)
    assert code == 0, said
    assert in_process(config, "delete", spec, "--yes", "--all")[0] == 0
    stores = [
        f"{version}/{p.partition(':')[0]}" for version, plurals in api.served.items() for p in plurals.split()
    ]
    left = [s for s in stores if api.objects(*s.rsplit("/", 1))]
    assert left in ([], ["v1/namespaces"]), left


def test_doctor_says_what_fails_and_exits_1(api: KubeApi, tmp_path: Path) -> None:
    config = api.kubeconfig(tmp_path)
    told = seawall(config, "doctor", str(ROOT / "examples" / "llama-70b-4xh100.yaml"))
    assert told.returncode == 1
    assert "FAIL  GPU nodes" in told.stdout
    as_json = seawall(config, "doctor", str(ROOT / "examples" / "smollm2.yaml"), "--output", "json")
    assert json.loads(as_json.stdout)["healthy"] is False


def test_a_cluster_that_is_away_is_one_line_and_exit_3(tmp_path: Path, api: KubeApi) -> None:
    config = api.kubeconfig(tmp_path)
    api.faults.down = True
    told = seawall(config, "diff", str(ROOT / "examples" / "smollm2.yaml"))
    assert told.returncode == 3
    assert told.stderr.startswith("seawall: the Kubernetes API does not answer")
    assert "Traceback" not in told.stderr


def test_status_of_a_cluster_shows_what_needs_attention(api: KubeApi, tmp_path: Path) -> None:
    config = api.kubeconfig(tmp_path)
    spec = str(ROOT / "examples" / "llama-70b-4xh100.yaml")
    assert in_process(config, "apply", spec, "--yes", "--no-wait")[0] == 0
    why = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "message": why}
    labels = {"seawall.dev/fleet": "llama-70b", "seawall.dev/role": "engine"}
    meta = {"name": "llama-70b-x", "namespace": "llm", "labels": labels}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "status": {"phase": "Pending", "conditions": [condition]},
    }
    api.put(pod)
    code, said = in_process(config, "status", "--namespace", "llm")
    assert code == 0
    assert f"pending  llama-70b-x: {why}" in said
    code, said = in_process(config, "status", "-A", "--output", "json")
    assert json.loads(said)["fleets"][0]["phases"] == {"pending": 1}
    code, said = in_process(config, "status", "nobody", "--namespace", "llm")
    assert code == 2


def test_what_is_asked_of_a_rollout_is_data_for_programs_and_its_next_command_for_people(
    api: KubeApi, tmp_path: Path
) -> None:
    config = api.kubeconfig(tmp_path)
    spec, name = str(ROOT / "examples" / "canary.yaml"), "llama-8b"
    where = ("--namespace", "llm")
    code, said = in_process(config, "rollout", "start", spec, "--detach", "-o", "json", *where)
    assert code == 0, said
    assert json.loads(said) == {"fleet": name, "namespace": "llm", "asked": "start"}
    for what in ("pause", "resume", "abort", "undo"):
        told = seawall(config, "rollout", what, name, "-o", "json", *where)
        assert json.loads(told.stdout) == {"fleet": name, "namespace": "llm", "asked": what}, told.stderr
        code, said = in_process(config, "rollout", what, name, *where)
        assert code == 0 and f"seawall rollout follow {name} -n llm" in said
