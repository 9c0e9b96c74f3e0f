"""All judged cases together: how often the first cause is right, and how often a cause that is called certain is.

Each case stands alone and in a crowd: with the symptoms that every outage shows, and with other fleets that are well.
"""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from dataclasses import replace
from typing import Any

from seawall.diagnose.facts import Facts
from seawall.diagnose.run import diagnose

from .shapes import NOISE, TAIL, TRACE
from .test_catalogue import (
    CATALOGUE,
    NO,
    PROBE,
    RUNNING,
    SERVICE,
    SLICE,
    died,
    event,
    hpa,
    node,
    pod,
    unplaced,
    waiting,
)
from .test_faults import symptoms
from .test_variants import LOGS, PLACES
from .threads import TABLES

Object = dict[str, Any]


def neighbour() -> Object:
    """A Pod of another fleet that is well, with an old restart of its own."""
    status = {"name": "vllm", "ready": True, "started": True, "restartCount": 1, "state": {"running": {"startedAt": "2026-11-20T00:00:00Z"}},
              "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": "2026-11-20T00:00:00Z", "finishedAt": "2026-11-20T00:01:00Z"}}}  # fmt: skip
    return pod(
        "other-1",
        metadata={"name": "other-1", "uid": "other-1", "labels": {"app": "other"}},
        status={**RUNNING, "containerStatuses": [status]},
    )


MIXED: list[tuple[str, Facts]] = [
    ("engine/bad-config", died("ValueError: Chunked MM input disabled but max_tokens_per_mm_item (16384) is larger than max_num_batched_tokens (8192). Please increase max_num_batched_tokens.")),
    ("engine/bad-config", died("ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (212). Please lower max_num_seqs to at most 212 or increase gpu_memory_utilization.")),
    ("engine/bad-config", died("ValueError: Selected backend FLASH_ATTN is not valid for this configuration. Reason: ['kv_cache_dtype not supported']")),
    ("engine/exception", died("ValueError: base_model.model.layers.0.mlp.experts is unsupported LoRA weight")),
    ("weights/unauthorized", Facts(
        pods=[pod(status={"initContainerStatuses": [{"name": "download", "restartCount": 5, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}],
                          "containerStatuses": [{"name": "vllm", "state": {"waiting": {"reason": "PodInitializing"}}}]})],
        logs={"chat-7d9f-abcde/download/previous": "huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo"})),
    ("memory/oom-killed", replace(died("INFO Loading weights", 137, "OOMKilled"), events=[event("BackOff", "Back-off restarting failed container vllm")])),
    ("engine/unknown-flag", replace(died("usage: vllm serve [model_tag] [options]\nvllm serve: error: unrecognized arguments: --max-model-len 8192", 2), events=[event("BackOff", "Back-off restarting failed container"), event("Unhealthy", "Readiness probe failed: connection refused")])),
    ("probe/liveness-while-loading", replace(
        died("INFO Loading safetensors checkpoint shards: 20%", 137, "Error", 62),
        pods=[{**p, "spec": {**p["spec"], "containers": [{**p["spec"]["containers"][0], "livenessProbe": {"initialDelaySeconds": 30, "periodSeconds": 10, "failureThreshold": 3}}]}} for p in died("", 137, "Error", 62).pods],
        events=[event("Unhealthy", 'Liveness probe failed: Get "http://10.1.2.3:8000/health": dial tcp 10.1.2.3:8000: connect: connection refused'), event("Killing", "Container vllm failed liveness probe, will be restarted")])),
    ("probe/startup-too-short", replace(died("KeyboardInterrupt: terminated", 0, "Completed", 300, {**PROBE, "failureThreshold": 60}), events=[event("Unhealthy", "Startup probe failed: connection refused"), event("Killing", "Container vllm failed startup probe, will be restarted")])),
    ("gpu/not-visible", died("ERROR libcuda.so.1: cannot open shared object file: No such file or directory\nRuntimeError: Failed to infer device type")),
    ("scheduling/no-gpu-nodes", unplaced(NO + "3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.", [node(gpus=0), node("b", gpus=0)])),
    ("image/disk-full", waiting("ErrImagePull", "failed to extract layer: write /usr/lib/x: no space left on device")),
    ("image/platform", waiting("ErrImagePull", "no match for platform in manifest: linux/arm64")),
    ("container/missing-config", waiting("CreateContainerConfigError", 'couldn\'t find key token in Secret llm/hf-token')),
    ("engine/permission", died("PermissionError: [Errno 13] Permission denied: '/.cache'")),
    ("engine/permission", died("OSError: [Errno 30] Read-only file system: '/root/.cache/vllm'")),
    ("engine/kv-too-small", died("ValueError: To serve at least one request with the models's max seq len (262144), (24.0 GiB KV cache is needed, which is larger than the available KV cache memory (6.1 GiB).")),
    ("route/gateway-cannot-reach", Facts(
        pods=[pod(status={**RUNNING, "containerStatuses": [{"name": "vllm", "ready": True, "state": {"running": {}}}]})],
        services=[SERVICE], endpointslices=[{**SLICE, "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]}],
        gateways={"gw-1": {"fleets": {"chat": {"queued": 9}}, "replicas": {"chat-7d9f-abcde": {"fleet": "chat", "state": "evicted", "reason": "connect timed out"}}}})),
    ("scale/hpa-reads-zero", Facts(
        hpas=[hpa([{"type": "ScalingActive", "status": "True"}], currentReplicas=1, currentMetrics=[{"type": "Pods", "pods": {"metric": {"name": "vllm_num_requests_waiting"}, "current": {"averageValue": "0"}}}])],
        metrics={"vllm:num_requests_waiting": {"chat-7d9f-abcde": 80.0}, "vllm:num_requests_running": {"chat-7d9f-abcde": 64.0}})),
]  # fmt: skip


def cases() -> list[tuple[str, str, Facts]]:
    """(name, the right first cause, facts) of every judged case."""
    found = [(name, expected, facts) for name, (expected, facts) in CATALOGUE.items()]
    found += [
        (f"log: {text[:50]}", expected, died(NOISE + TRACE + text + TAIL, 2 if "argument" in text else 1))
        for expected, text in LOGS
    ]
    found += [(f"place {i}", expected, facts) for i, (expected, facts) in enumerate(PLACES)]
    found += [(f"mixed {i}", expected, facts) for i, (expected, facts) in enumerate(MIXED)]
    for table, threads in TABLES.items():
        found += [(f"{table} {i}", ids[0], facts) for i, (ids, _, facts) in enumerate(threads)]
    return found


OF_A_POD = ("container/", "engine/", "gpu/", "image/", "init/", "memory/", "probe/", "weights/")


def crowded(expected: str, facts: Facts) -> Facts:
    """The same case with what else is seen: neighbours always, and for a Pod's own fault the symptoms it brings."""
    more = replace(facts, pods=[*facts.pods, neighbour()], taken_at="2026-11-23T14:20:00Z")
    if expected.startswith(OF_A_POD) and len(facts.pods) == 1 and not facts.gateways:
        more = replace(more, **symptoms())
    return more


def test_the_first_cause_is_right_and_certain_means_it() -> None:
    judged = [(n, e, f) for n, e, f in cases()] + [(f"{n}, crowded", e, crowded(e, f)) for n, e, f in cases()]
    assert len(judged) >= 120
    wrong, certain, certain_wrong = [], 0, []
    for name, expected, facts in judged:
        causes = diagnose(facts)
        got = causes[0].id if causes else "none"
        if got != expected:
            wrong.append(f"{name}: {got}, not {expected}")
        if causes and causes[0].certainty == "certain":
            certain += 1
            if got != expected:
                certain_wrong.append(wrong[-1])
    assert len(wrong) <= 0.02 * len(judged), wrong
    assert len(certain_wrong) <= 0.01 * certain, certain_wrong
