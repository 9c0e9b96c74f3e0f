"""`seawall init MODEL --cluster`: a Fleet for the GPUs that a cluster has, read from its nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from seawall.cli.group import seawall
from seawall.config.load import load_fleet
from seawall.diagnose.doctor import NodeFacts
from seawall.diagnose.gpu_nodes import GpuNodes, gpu_nodes
from seawall.errors import InputError
from seawall.testing.kube_api import KubeApi


def node(
    name: str,
    labels: dict[str, str],
    gpus: int,
    taints: list[dict[str, str]] | None = None,
    resource: str = "nvidia.com/gpu",
) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints or []},
        "status": {
            "allocatable": {resource: str(gpus)}, "conditions": [{"type": "Ready", "status": "True"}],
        },
    }  # fmt: skip


T4 = {"nvidia.com/gpu.product": "Tesla-T4", "nvidia.com/gpu.memory": "15360"}
L4 = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}
H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi() as double:
        yield double


def init(api: KubeApi, tmp_path: Path, *args: str) -> Result:
    argv = ["init", *args, "--cluster", "current", "--kubeconfig", api.kubeconfig(tmp_path)]
    return CliRunner().invoke(seawall, [*argv, "-w", str(tmp_path / "new.yaml")])


def test_the_smallest_gpu_that_holds_the_model_is_chosen_with_what_its_nodes_carry(
    api: KubeApi, tmp_path: Path
) -> None:
    team = {"key": "team", "value": "true", "effect": "NoSchedule"}
    usual = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    for i in range(3):
        api.put(node(f"t4-{i}", T4, 1))
    api.put(node("l4-0", L4, 4, [team, usual]))
    api.put(node("h100-0", H100, 8))
    api.put(node("cpu-0", {}, 0))
    done = init(api, tmp_path, "Qwen/Qwen3-8B")
    assert done.exit_code == 0, done.output
    for words in ("3 nodes of 1 x T4", "1 node of 4 x L4, 4 GPUs free", "1 node of 8 x H100-80GB"):
        assert words in done.output
    fleet = load_fleet(tmp_path / "new.yaml")
    hardware = fleet.spec.hardware
    assert (hardware.gpu, hardware.cloud, hardware.gpus_per_node) == ("L4", "on-prem", 4)
    (toleration,) = hardware.tolerations
    assert (toleration.key, toleration.value, toleration.effect) == ("team", "true", "NoSchedule")


def test_a_large_model_gets_the_gpu_that_alone_can_hold_it(api: KubeApi, tmp_path: Path) -> None:
    api.put(node("l4-0", L4, 1))
    api.put(node("h100-0", H100, 8))
    assert init(api, tmp_path, "meta-llama/Llama-3.1-70B-Instruct").exit_code == 0
    assert load_fleet(tmp_path / "new.yaml").spec.hardware.gpu == "H100-80GB"


@pytest.mark.parametrize(
    ("labels", "gpu", "cloud"),
    [
        ({"cloud.google.com/gke-accelerator": "nvidia-l4"}, "L4", "gke"),
        ({"eks.amazonaws.com/nodegroup": "g", **H100}, "H100-80GB", "eks"),
        ({"karpenter.sh/nodepool": "g", "karpenter.k8s.aws/instance-gpu-name": "a100",
          "karpenter.k8s.aws/instance-gpu-memory": "81920"}, "A100-80GB", "karpenter"),
        ({"karpenter.sh/nodepool": "g", "karpenter.k8s.aws/instance-gpu-name": "a100",
          "karpenter.k8s.aws/instance-gpu-memory": "40960"}, "A100-40GB", "karpenter"),
        ({"kubernetes.azure.com/agentpool": "g", **T4}, "T4", "aks"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_each_cloud_is_told_by_its_labels(labels: dict[str, str], gpu: str, cloud: str) -> None:
    nodes = [NodeFacts("n", labels, (), True, 8, 3)]
    (group,) = gpu_nodes(nodes, "nvidia.com/gpu")
    assert (group.gpu, group.cloud, group.per_node, group.free) == (gpu, cloud, 8, 5)


def test_amds_nodes_are_asked_for_by_their_own_resource(api: KubeApi, tmp_path: Path) -> None:
    labels = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}
    api.put(node("mi300-0", labels, 8, resource="amd.com/gpu"))
    assert init(api, tmp_path, "Qwen/Qwen3-8B").exit_code == 0
    hardware = load_fleet(tmp_path / "new.yaml").spec.hardware
    assert (hardware.gpu, hardware.resource) == ("MI300X", "amd.com/gpu")


def test_a_node_that_is_away_has_no_free_gpus_and_states_are_no_taints_of_its_kind() -> None:
    away = (("node.kubernetes.io/unreachable", "", "NoExecute"),)
    groups = gpu_nodes([NodeFacts("n", L4, away, False, 8, 0)], "nvidia.com/gpu")
    assert [(g.free, g.taints) for g in groups] == [(0, ())]


def test_a_gpu_that_the_catalogue_does_not_know_keeps_its_name() -> None:
    (group,) = gpu_nodes(
        [NodeFacts("n", {"nvidia.com/gpu.product": "NVIDIA-X9000"}, (), True, 2, 0)], "nvidia.com/gpu"
    )
    assert isinstance(group, GpuNodes)
    assert (group.gpu, group.known) == ("NVIDIA-X9000", False)


def test_a_cluster_without_gpus_and_two_places_at_once_are_told(api: KubeApi, tmp_path: Path) -> None:
    api.put(node("cpu-0", {}, 0))
    none = init(api, tmp_path, "Qwen/Qwen3-8B")
    assert isinstance(none.exception, InputError)
    assert "no node of this cluster offers GPUs" in none.exception.message
    both = init(api, tmp_path, "Qwen/Qwen3-8B", "--here")
    assert isinstance(both.exception, InputError)
    named = init(api, tmp_path, "Qwen/Qwen3-8B", "--gpu", "L4")
    assert isinstance(named.exception, InputError)
    assert not (tmp_path / "new.yaml").exists()


def test_this_machines_gpu_is_written_where_it_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text('#!/bin/sh\ncase "$1" in *name*) echo "NVIDIA L4";; *) echo GPU-1;; esac\n')
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    path = tmp_path / "here.yaml"
    done = CliRunner().invoke(seawall, ["init", "Qwen/Qwen3-8B", "--here", "-w", str(path)])
    assert done.exit_code == 0, done.output
    hardware = load_fleet(path).spec.hardware
    assert (hardware.gpu, hardware.cloud, hardware.gpus_per_node) == ("L4", "local", 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = CliRunner().invoke(seawall, ["init", "Qwen/Qwen3-8B", "--here", "-w", str(path), "--force"])
    assert load_fleet(path).spec.hardware.gpu == "cpu"
