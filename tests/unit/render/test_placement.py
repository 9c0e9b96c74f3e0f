"""Pods find the nodes they were planned for: products, sizes, vendors; the loader can run where nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seawall.errors import InputError
from seawall.render.everything import render
from seawall.render.inputs import Group, Object

PLAIN = "  hardware: {gpu: H100-80GB, cloud: gke}\n"


def engine(group: Group) -> Object:
    found = {o["metadata"]["name"]: o for o in render(group).objects if o["kind"] == "Deployment"}
    spec: Object = found["llama-70b"]["spec"]["template"]["spec"]
    return spec


def loader(group: Group) -> Object:
    spec: Object = next(o for o in render(group).objects if o["kind"] == "Job")["spec"]["template"]["spec"]
    return spec


def required(pod: Object) -> list[tuple[str, str, str]]:
    rules = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = rules["nodeSelectorTerms"]
    return [(e["key"], e["operator"], e["values"][0]) for e in term["matchExpressions"]]


@pytest.mark.parametrize(
    ("gpu", "cloud", "label", "smaller", "right"),
    [
        # What GPU feature discovery and Karpenter write on nodes, in MiB.
        ("A100-80GB", "on-prem", "nvidia.com/gpu.memory", 40960, 81920),
        ("H100-80GB", "eks", "nvidia.com/gpu.memory", 40960, 81559),
        ("RTX-4060-Ti-16GB", "on-prem", "nvidia.com/gpu.memory", 8188, 16380),
        ("A100-80GB", "karpenter", "karpenter.k8s.aws/instance-gpu-memory", 40960, 81920),
        ("T4", "karpenter", "karpenter.k8s.aws/instance-gpu-memory", 8192, 15360),
    ],
)
def test_a_product_that_comes_in_two_sizes_is_chosen_by_its_memory(
    gpu: str, cloud: str, label: str, smaller: int, right: int, group: Callable[..., Group], llama: str
) -> None:
    text = llama.replace(PLAIN, f"  hardware: {{gpu: {gpu}, cloud: {cloud}}}\n")
    (_, product, _), (key, operator, least) = required(engine(group(text)))
    assert (product, key, operator) == ("In", label, "Gt")
    assert smaller <= int(least) < right


def test_gke_names_sizes_in_its_own_label(group: Callable[..., Group], llama: str) -> None:
    assert [key for key, _, _ in required(engine(group(llama)))] == ["cloud.google.com/gke-accelerator"]


def test_an_amd_gpu_is_found_by_amds_labels_and_needs_its_own_resource_and_image(
    group: Callable[..., Group], llama: str
) -> None:
    wrong = llama.replace(PLAIN, "  hardware: {gpu: MI300X, cloud: on-prem}\n")
    with pytest.raises(InputError, match=r"write amd\.com/gpu") as e:
        render(group(wrong))
    assert "needs ROCm" in e.value.message
    right = llama.replace(PLAIN, "  hardware: {gpu: MI300X, cloud: on-prem, resource: amd.com/gpu}\n")
    right += "  engine: {image: 'example.com/vllm-rocm:v0.32.0'}\n"
    assert required(engine(group(right)))[0][0] == "amd.com/gpu.product-name"


def test_the_loader_prefers_other_nodes_and_runs_on_gpu_nodes_where_there_are_no_others(
    group: Callable[..., Group], llama: str
) -> None:
    pod = loader(group(llama))
    rules: Any = pod["affinity"]["nodeAffinity"]
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in rules
    assert rules["preferredDuringSchedulingIgnoredDuringExecution"][0]["weight"] == 100
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]


def test_a_volume_of_one_zone_is_made_where_engines_can_run(group: Callable[..., Group], llama: str) -> None:
    """A ReadWriteOnce volume binds to the zone of the loader; GPUs may be in another."""
    text = llama.replace("{min: 2, max: 6}", "{min: 1, max: 1}") + "  cache: {accessMode: ReadWriteOnce}\n"
    found = group(text)
    assert required(loader(found)) == required(engine(found))
