"""A spec that cannot work is refused with path, value and cure, all problems at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from seawall.errors import InputError
from seawall.render.everything import render
from seawall.render.inputs import Group
from seawall.render.refusals import refusals

# what is added to the spec -> what the refusal says, with its cure
WRONG: dict[str, tuple[str, str]] = {
    "rox without a source": (
        "  cache: {accessMode: ReadOnlyMany}\n",
        r"spec.cache.accessMode: .*dataSource: snapshot",
    ),
    "rwx on a block class": (
        "  cache: {storageClass: premium-rwo}\n",
        r"spec.cache.storageClass: premium-rwo is a block device.*kind: oci",
    ),
    "rwo with many replicas": (
        "  cache: {accessMode: ReadWriteOnce}\n",
        r"spec.cache.accessMode: .*scaling.max is 6; use ReadWriteMany",
    ),
    "oci by tag": ("  cache: {kind: oci, image: 'models/x:1'}\n", r"spec.cache.image: 'models/x:1'.*sha256"),
    "stream from a hub": ("  cache: {kind: stream}\n", r"spec.model.source: .*cannot be streamed; use s3://"),
    "relative path": ("  cache: {path: ../models}\n", r"spec.cache.path: .*write /models"),
    "latest": (
        "  engine: {image: 'vllm/vllm-openai:latest'}\n",
        r"spec.engine.image: .*not pinned; name a tag",
    ),
    "no tag": ("  engine: {image: 'registry:5000/vllm'}\n", r"spec.engine.image: .*not pinned"),
    "removed flag": (
        "  engine: {extraArgs: [--disable-log-requests]}\n",
        r"spec.engine.extraArgs\[0\]: --disable-log-requests was removed.*",
    ),
    "unknown flag": (
        "  engine: {extraArgs: [--max-nun-seqs, '8']}\n",
        r"spec.engine.extraArgs\[0\]: vLLM 0.32 knows no option --max-nun-seqs; use --max-num-seqs",
    ),
    "api key": (
        "  engine: {extraArgs: [--api-key, x]}\n",
        r"spec.engine.extraArgs\[0\]: .*gateway.keysSecret",
    ),
    "no stats": (
        "  engine: {extraArgs: [--disable-log-stats]}\n",
        r"extraArgs\[0\]: .*switches off the metrics",
    ),
    "owned flag": ("  engine: {extraArgs: [--port, '1']}\n", r"extraArgs\[0\]: --port is set from the spec"),
    "too old": (
        "  engine: {version: 0.9.0}\n",
        r"spec.engine.version: 0.9.0: .*--shutdown-timeout.*use 0.32.0",
    ),
    "secret in env": ("  engine: {env: {VLLM_API_KEY: x}}\n", r"spec.engine.env.VLLM_API_KEY: a secret"),
    "vllm port": ("  engine: {env: {VLLM_PORT: '1'}}\n", r"spec.engine.env.VLLM_PORT: .*leave it out"),
    "zero without scaler": ("  scaling: {min: 0, max: 2, by: none}\n", r"spec.scaling.min: .*min: 1"),
    "forecasts on a cluster": (
        "  scaling: {min: 1, max: 2, policy: slo}\n",
        r"spec.scaling.policy: slo .*scaling.by: seawall.*policy: hpa",
    ),
    "a schedule that nobody follows": (
        "  scaling: {min: 1, max: 4, by: hpa, schedule: [{start: 0 8 * * *, end: 0 18 * * *, min: 3}]}\n",
        r"spec.scaling.schedule: nobody follows it with by: hpa; write by: seawall",
    ),
    "a schedule without a scaler": (
        "  scaling: {min: 1, max: 4, by: none, schedule: [{start: 0 8 * * *, end: 0 18 * * *, min: 3}]}\n",
        r"spec.scaling.schedule: nobody follows it with by: none",
    ),
    "a scheduled maximum for KEDA": (
        "  scaling: {min: 1, max: 4, schedule: [{start: 0 8 * * *, end: 0 18 * * *, max: 3}]}\n",
        r"spec.scaling.schedule\[0\].max: KEDA has no such bound; write scaling.by: seawall",
    ),
    "a budget for KEDA": (
        "  scaling: {min: 1, max: 4, by: keda-gateway, gpuHoursPerDay: 400}\n",
        r"spec.scaling.gpuHoursPerDay: KEDA has no such bound; write scaling.by: seawall",
    ),
    "a budget below the minimum": (
        "  scaling: {min: 3, max: 4, by: seawall, gpuHoursPerDay: 47}\n",
        r"spec.scaling.gpuHoursPerDay: 47 is less than the \d+ that the minimum alone costs .*lower min",
    ),
    "a schedule in a pool": (
        "  scaling: {min: 0, max: 1, schedule: [{start: 0 8 * * *, end: 0 18 * * *, min: 1}]}\n"
        "  pool: {name: p, capacity: 8}\n",
        r"spec.scaling.schedule: a pool's fleets take turns",
    ),
    "forecasts in a pool": (
        "  scaling: {min: 0, max: 1, policy: slo}\n  pool: {name: p, capacity: 8}\n",
        r"spec.scaling.policy: slo",
    ),
    "zero with hpa": ("  scaling: {min: 0, max: 2, by: hpa}\n", r"spec.scaling.min: .*keda-prometheus"),
    "prometheus": ("  scaling: {prometheus: prom}\n", r"spec.scaling.prometheus: 'prom' is no URL"),
    "route without gateway": (
        "  gateway: {route: gateway-api}\n",
        r"spec.gateway.parentGateway: .*name it as namespace/name",
    ),
    "tenants without keys": (
        "  gateway: {tenants: [{name: a}]}\n",
        r"spec.gateway.keysSecret: tenants need keys",
    ),
    "host": ("  gateway: {hosts: ['LLM example']}\n", r"spec.gateway.hosts: 'LLM example' is no host name"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_work_is_refused(what: str, group: Callable[..., Group], llama: str) -> None:
    added, says = WRONG[what]
    text = llama.replace("  scaling: {min: 2, max: 6}\n", "") if "scaling:" in added else llama
    with pytest.raises(InputError) as refused:
        render(group(text + added))
    assert re.search(says, refused.value.message), refused.value.message
    assert refused.value.message.startswith("llama-70b: ") or "hosts" in says


def test_tensor_parallelism_must_divide_the_heads(group: Callable[..., Group], llama: str) -> None:
    text = llama.replace("revision: abc123", "revision: abc123, config: {num_attention_heads: 64}")
    found = refusals(group(text, tensor_parallel=3, gpus_per_replica=3))
    assert found == [
        "llama-70b: spec.hardware.tensorParallel: 3 does not divide 64 attention heads; use 1, 2, 4, 8, 16"
    ]


def test_a_plan_that_does_not_fit_is_refused_with_its_reason(group: Callable[..., Group], llama: str) -> None:
    (found,) = refusals(group(llama, fits=False, reason="needs 2 GPUs; use gpusPerReplica: 2"))
    assert found == "llama-70b: spec.hardware: needs 2 GPUs; use gpusPerReplica: 2"


SPOT = "  hardware: {gpu: H100-80GB, cloud: gke, spot: {}}\n"


def test_spot_with_a_long_drain_needs_resume(group: Callable[..., Group], llama: str) -> None:
    text = llama.replace("  hardware: {gpu: H100-80GB, cloud: gke}\n", SPOT)
    assert refusals(group(text)) == []
    (found,) = refusals(group(text + "  gateway: {resume: 'off'}\n"))
    assert "the spot notice is 15 s and resume is off" in found
    assert "gateway.resume: exact" in found


def test_a_schedule_has_no_place_where_keda_computes_one_number(
    group: Callable[..., Group], llama: str
) -> None:
    text = llama.replace("  hardware: {gpu: H100-80GB, cloud: gke}\n", SPOT)
    window = "by: keda-gateway, schedule: [{start: 0 8 * * *, end: 0 18 * * *, min: 3}], "
    (found,) = refusals(group(text.replace("scaling: {", f"scaling: {{{window}")))
    assert "spec.scaling.schedule: beside an on-demand floor" in found
    assert "by: keda-prometheus" in found


def test_spot_on_a_cloud_without_spot_is_refused(group: Callable[..., Group], llama: str) -> None:
    text = llama.replace("cloud: gke", "cloud: on-prem, spot: {}")
    (found,) = refusals(group(text))
    assert "no spot nodes that we know" in found


def test_all_problems_are_told_at_once(group: Callable[..., Group], llama: str) -> None:
    text = (
        llama
        + "  engine: {image: 'a:latest', extraArgs: [--swap-space, '4']}\n  cache: {accessMode: ReadOnlyMany}\n"
    )
    assert len(refusals(group(text))) == 3


def test_an_unpinned_hub_model_is_refused_unless_a_lockfile_pins_it(
    group: Callable[..., Group], llama: str
) -> None:
    text = llama.replace(", revision: abc123", "")
    (found,) = refusals(group(text))
    assert "nothing pins the weights" in found
    assert refusals(group(text, lock='{"version": 1}')) == []
    (found,) = refusals(group(text, lock="x" * 10**6))
    assert "too large for a ConfigMap" in found


def test_fleets_of_one_gateway_must_agree(group: Callable[..., Group], llama: str) -> None:
    other = llama.replace("llama-70b", "b").replace("namespace: llm", "namespace: x")
    two = llama + "  gateway: {route: service}\n---\n" + other + "  gateway: {route: istio}\n"
    found = "\n".join(refusals(group(two)))
    assert "disagree (istio, service)" in found
    assert "one gateway serves one namespace" in found


@pytest.mark.parametrize("name", ["1llama", "l" * 60])
def test_a_name_that_is_no_service_name_is_refused(
    name: str, group: Callable[..., Group], llama: str
) -> None:
    (found,) = refusals(group(llama.replace("llama-70b", name)))
    assert "metadata.name" in found


def test_hostile_names_do_not_reach_a_command_line(group: Callable[..., Group], llama: str) -> None:
    bad: Any = llama.replace("  hardware:", "    servedNames: ['a\"}) or vector(9)']\n  hardware:").replace(
        'model: {source: "hf://meta-llama/Llama-3.1-70B-Instruct", revision: abc123}',
        'model:\n    source: "hf://meta-llama/Llama-3.1-70B-Instruct"\n    revision: abc123',
    )
    assert any("servedNames" in text for text in refusals(group(bad)))
