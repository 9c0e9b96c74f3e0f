"""Pods find the nodes they were planned for: products, sizes, vendors; the loader can run where nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seawall.diagnose.fitting import fits_selector
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


def alternatives(pod: Object) -> list[Object]:
    rules = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    found: list[Object] = rules["nodeSelectorTerms"]
    return found


def required(pod: Object) -> list[tuple[str, str, str]]:
    """What the first alternative demands."""
    return [(e["key"], e["operator"], e["values"][0]) for e in alternatives(pod)[0]["matchExpressions"]]


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


@pytest.mark.parametrize(
    ("cloud", "labels", "fits"),
    [
        (
            "on-prem",
            {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "81920"},
            True,
        ),
        (
            "on-prem",
            {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "10240"},
            False,
        ),
        ("on-prem", {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}, True),
        ("on-prem", {"nvidia.com/gpu.memory": "81920"}, False),
        # Karpenter writes both of its labels, and would take a p4d for a node that does not say its memory.
        ("karpenter", {"karpenter.k8s.aws/instance-gpu-name": "a100"}, False),
    ],
)
def test_a_node_that_does_not_say_its_memory_is_taken_by_its_product(
    cloud: str, labels: dict[str, str], fits: bool, group: Callable[..., Group], llama: str
) -> None:
    pod = engine(group(llama.replace(PLAIN, f"  hardware: {{gpu: A100-80GB, cloud: {cloud}}}\n")))
    assert fits_selector({"spec": pod}, {"metadata": {"labels": labels}})[0] is fits
    assert len(alternatives(pod)) == (1 if cloud == "karpenter" else 2)


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
