"""The catalogue: each failure as a cluster shows it, with the true messages, gives its cause first."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from typing import Any

import pytest

from seawall.diagnose.facts import Facts
from seawall.diagnose.run import diagnose

Object = dict[str, Any]
T0 = "2026-11-23T14:00:00Z"


def pod(name: str = "chat-7d9f-abcde", **more: Any) -> Object:
    spec: Object = {
        "containers": [{"name": "vllm", "image": "vllm/vllm-openai:v0.32.0", "resources": {"limits": {"nvidia.com/gpu": "4", "memory": "64Gi"}}}],
        **more.pop("spec", {}),
    }  # fmt: skip
    status = {"phase": "Pending", **more.pop("status", {})}
    meta = {"name": name, "uid": name, "labels": {"app": "chat"}, **more.pop("metadata", {})}
    return {"kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def event(
    reason: str, message: str, about: str = "chat-7d9f-abcde", kind: str = "Pod", count: int = 37
) -> Object:
    ref = {"kind": kind, "name": about, "uid": about}
    return {
        "reason": reason,
        "message": message,
        "involvedObject": ref,
        "lastTimestamp": "2026-11-23T14:02:11Z",
        "count": count,
    }


def node(name: str = "gpu-1", gpus: int = 8, **more: Any) -> Object:
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "kubernetes.io/hostname": name,
        **more.pop("labels", {}),
    }
    allocatable = {"nvidia.com/gpu": str(gpus)} if gpus else {"cpu": "16"}
    return {
        "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": more.pop("spec", {}),
        "status": {"allocatable": allocatable, "conditions": more.pop("conditions", [{"type": "Ready", "status": "True"}])},
    }  # fmt: skip


def unplaced(message: str, nodes: list[Object] | None = None, **spec: Any) -> Facts:
    return Facts(pods=[pod(spec=spec)], nodes=nodes or [], events=[event("FailedScheduling", message)])


def waiting(reason: str, message: str, *events: Object) -> Facts:
    status = {
        "containerStatuses": [{"name": "vllm", "state": {"waiting": {"reason": reason, "message": message}}}]
    }
    return Facts(pods=[pod(status=status, spec={"nodeName": "gpu-1"})], events=list(events))


def died(
    log: str,
    exit_code: int = 1,
    reason: str = "Error",
    lived_s: int = 40,
    probe: Object | None = None,
    *events: Object,
) -> Facts:
    end = {
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": T0,
        "finishedAt": f"2026-11-23T14:{lived_s // 60:02}:{lived_s % 60:02}Z",
    }
    status = {
        "phase": "Running",
        "containerStatuses": [{"name": "vllm", "restartCount": 6, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": end}}],
    }  # fmt: skip
    it = pod(status=status, spec={"nodeName": "gpu-1"})
    if probe:
        it["spec"]["containers"][0]["startupProbe"] = probe
    return Facts(pods=[it], logs={"chat-7d9f-abcde/vllm/previous": log}, events=list(events))


def scaled(
    conditions: list[Object], *events: Object, query: str = "sum(vllm:num_requests_waiting)"
) -> Object:
    trigger = {"type": "prometheus", "metadata": {"query": query}}
    return {
        "kind": "ScaledObject", "metadata": {"name": "chat", "uid": "chat"}, "spec": {"triggers": [trigger]},
        "status": {"conditions": conditions, "hpaName": "keda-hpa-chat"},
    }  # fmt: skip


def hpa(conditions: list[Object], **status: Any) -> Object:
    return {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "keda-hpa-chat", "uid": "h"}, "spec": {"maxReplicas": 4},
            "status": {"conditions": conditions, **status}}  # fmt: skip


def claim(message: str, klass: str | None = "gp3", modes: tuple[str, ...] = ("ReadWriteMany",)) -> Facts:
    spec: Object = {"accessModes": list(modes)}
    if klass:
        spec["storageClassName"] = klass
    it = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "weights", "uid": "weights"},
        "spec": spec,
        "status": {"phase": "Pending"},
    }
    return Facts(
        claims=[it], events=[event("ProvisioningFailed", message, "weights", "PersistentVolumeClaim")]
    )


NO = "0/3 nodes are available: "
TAINTED = node(spec={"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]})
SURGE = {
    "kind": "Deployment", "metadata": {"name": "chat"},
    "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "chat"}}, "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}},
    "status": {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 2},
}  # fmt: skip
RUNNING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
LOADING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
PROBE = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5, "failureThreshold": 30}
SERVICE = {
    "kind": "Service",
    "metadata": {"name": "chat"},
    "spec": {"selector": {"app": "chat"}, "ports": [{"port": 80}]},
}
SLICE = {"metadata": {"name": "chat-x", "labels": {"kubernetes.io/service-name": "chat"}}, "endpoints": []}

CATALOGUE: dict[str, tuple[str, Facts]] = {
    "no GPU is free": ("scheduling/no-free-gpu", unplaced(NO + "3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.", [node()])),
    "no node has GPUs at all": ("scheduling/no-gpu-nodes", unplaced(NO + "3 Insufficient nvidia.com/gpu.", [node(gpus=0)])),
    "every node is too small": ("scheduling/node-too-small", unplaced(NO + "1 Insufficient nvidia.com/gpu.", [node(gpus=2)])),
    "a label is missing": ("scheduling/label", unplaced(NO + "3 node(s) didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.", [node()], nodeSelector={"hardware-type": "nvidia-gpu"})),
    "a taint is not tolerated": ("scheduling/taint", unplaced(NO + "1 node(s) had untolerated taint {nvidia.com/gpu: present}, 2 Insufficient nvidia.com/gpu.", [TAINTED], tolerations=[{"key": "cloud.google.com/gke-spot", "operator": "Exists"}])),
    "the node is unreachable": ("scheduling/node-condition", unplaced(NO + "1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }.", [node(spec={"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]})])),
    "too little host memory": ("scheduling/no-host-resources", unplaced(NO + "1 Insufficient memory, 2 node(s) didn't match Pod's node affinity/selector.", [node()])),
    "the volume is in another zone": ("scheduling/volume-zone", unplaced(NO + "1 node(s) had volume node affinity conflict, 2 Insufficient nvidia.com/gpu.")),
    "the claim is not bound": ("storage/claim-unbound", unplaced("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.")),
    "the quota is used up": ("scheduling/quota", Facts(events=[event("FailedCreate", 'Error creating: pods "chat-7d9f-xyz" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=4, used: requests.nvidia.com/gpu=8, limited: requests.nvidia.com/gpu=8', "chat-7d9f", "ReplicaSet")])),
    "Pod Security refuses": ("scheduling/pod-security", Facts(events=[event("FailedCreate", 'Error creating: pods "chat" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false', "chat-7d9f", "ReplicaSet")])),
    "the account is not there": ("scheduling/no-service-account", Facts(events=[event("FailedCreate", 'Error creating: pods "chat-7d9f-" is forbidden: error looking up service account llm/chat-engine: serviceaccount "chat-engine" not found', "chat-7d9f", "ReplicaSet")])),
    "the account is not there, and the events are gone": ("scheduling/no-service-account", Facts(deployments=[{"metadata": {"name": "chat", "namespace": "llm"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "chat"}}}, "status": {"observedGeneration": 1, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": 'pods "chat-7d9f-" is forbidden: error looking up service account llm/seawall-gateways: serviceaccount "seawall-gateways" not found'}]}}])),
    "the priority is not there": ("scheduling/no-priority-class", Facts(events=[event("FailedCreate", 'Error creating: pods "chat-7d9f-" is forbidden: no PriorityClass with name serving was found', "chat-7d9f", "ReplicaSet")])),
    "a LimitRange refuses": ("scheduling/limit-range", Facts(events=[event("FailedCreate", 'Error creating: pods "chat-7d9f-x" is forbidden: maximum memory usage per Container is 32Gi, but limit is 200Gi', "chat-7d9f", "ReplicaSet")])),
    "a webhook is down": ("cluster/webhook", Facts(events=[event("FailedCreate", 'Error creating: Internal error occurred: failed calling webhook "keda.sh": failed to call webhook: Post "https://x.svc:443": no endpoints available for service', "chat-7d9f", "ReplicaSet")])),
    "preempted": ("scheduling/preempted", Facts(events=[event("Preempted", "Preempted by pod 8f3c on node gpu-1")])),
    "image: no such tag": ("image/not-found", waiting("ImagePullBackOff", 'Back-off pulling image "vllm/vllm-openai:0.32"', event("Failed", 'Failed to pull image "vllm/vllm-openai:0.32": rpc error: code = NotFound desc = failed to pull and unpack image: docker.io/vllm/vllm-openai:0.32: not found'))),
    "image: no login": ("image/unauthorized", waiting("ErrImagePull", "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized")),
    "image: rate limit": ("image/rate-limited", waiting("ErrImagePull", "429 Too Many Requests - Server message: toomanyrequests: You have reached your unauthenticated pull rate limit.")),
    "image: no network": ("image/network", waiting("ErrImagePull", 'failed to do request: Head "https://registry/v2/": dial tcp: lookup registry: no such host')),
    "image: wrong CPU": ("image/platform", waiting("ErrImagePull", "no match for platform in manifest: not found".replace(": not found", ""))),
    "a Secret is missing": ("container/missing-config", waiting("CreateContainerConfigError", 'secret "hf-token" not found')),
    "killed by the kernel": ("memory/oom-killed", died("", 137, "OOMKilled")),
    "CUDA out of memory": ("gpu/out-of-memory", died("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total capacity of 79.19 GiB of which 1.2 GiB is free.\nRuntimeError: Engine core initialization failed. See root cause above.")),
    "KV cache too small": ("engine/kv-too-small", died("ValueError: To serve at least one request with the models's max seq len (131072), (40.0 GiB KV cache is needed, which is larger than the available KV cache memory (12.31 GiB). Based on the available memory, the estimated maximum model length is 40320.")),
    "no memory for KV": ("engine/no-kv-memory", died("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine.")),
    "GPU memory is taken": ("gpu/memory-taken", died("ValueError: Free memory on device cuda:0 (12.3/79.19 GiB) on startup is less than desired GPU memory utilization (0.92, 72.85 GiB).")),
    "unknown flag": ("engine/unknown-flag", died("usage: vllm [-h] ...\nvllm: error: unrecognized arguments: --disable-log-requests", 2)),
    "a Service named vllm": ("engine/service-links", died("ValueError: VLLM_PORT 'tcp://10.0.0.1:80' appears to be a URI. This may be caused by a Kubernetes service discovery issue")),
    "driver too old": ("gpu/driver-too-old", died("RuntimeError: The NVIDIA driver on your system is too old (found version 12020).")),
    "no GPU in the container": ("gpu/not-visible", died("RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG`")),
    "NCCL and /dev/shm": ("engine/shm", died("include/shm.h:28 NCCL WARN Call to posix_fallocate failed : No space left on device\nNCCL WARN Error while creating shared memory segment /dev/shm/nccl-a (size 9637888)\ntorch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:268, unhandled system error")),
    "NCCL otherwise": ("engine/nccl", died("torch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:268, unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27")),
    "hub 401, gated": ("weights/unauthorized", died("huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo for url https://huggingface.co/meta-llama/Llama-3.1-70B-Instruct/resolve/main/config.json.")),
    "hub 403": ("weights/forbidden", died("huggingface_hub.errors.HfHubHTTPError: 403 Forbidden: Please enable access to public gated repositories in your fine-grained token settings")),
    "hub 404": ("weights/not-found", died("huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error. Repository Not Found for url: https://huggingface.co/api/models/x/y.")),
    "hub 429": ("weights/rate-limited", died("huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/api/models/x")),
    "hub times out": ("weights/hub-unreachable", died("requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api/models/x")),
    "offline and not there": ("weights/offline", died("huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and outgoing traffic has been disabled.")),
    "disk full": ("weights/disk-full", died("OSError: [Errno 28] No space left on device: '/models/hub/tmp'")),
    "half a weight file": ("weights/corrupt", died("safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer")),
    "the engine's own 600 s": ("engine/ready-timeout", died("TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow weight loading for large models.")),
    "GPU too old for the format": ("engine/unsupported-gpu", died("ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5.")),
    "the GPU fell off the bus": ("gpu/xid", Facts(events=[event("XIDError", "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.", "gpu-1", "Node")])),
    "startup probe too short": ("probe/startup-too-short", died("Loading safetensors checkpoint shards:  40% Completed", 137, "Error", 152, PROBE, event("Unhealthy", 'Startup probe failed: Get "http://10.1.2.3:8000/health": dial tcp 10.1.2.3:8000: connect: connection refused'), event("Killing", "Container vllm failed startup probe, will be restarted"))),
    "liveness kills": ("probe/liveness", died("INFO: 10.0.0.1 - POST /v1/chat/completions 200 OK", 137, "Error", 1800, None, event("Unhealthy", 'Liveness probe failed: Get "http://10.1.2.3:8000/health": context deadline exceeded'))),
    "the probe asks another port": ("probe/port-mismatch", Facts(pods=[pod(status={**LOADING, "containerStatuses": [{"name": "vllm", "state": {"running": {}}}]})], events=[event("Unhealthy", 'Readiness probe failed: Get "http://10.1.2.3:8080/health": dial tcp 10.1.2.3:8080: connect: connection refused')], logs={"chat-7d9f-abcde/vllm": "INFO: Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)"})),
    "the init container fails": ("init/crash", Facts(pods=[pod(status={"initContainerStatuses": [{"name": "model-downloader", "restartCount": 9, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]})])),
    "evicted for disk": ("node/evicted", Facts(pods=[pod(status={"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 8Gi."})])),
    "node pressure": ("node/pressure", Facts(nodes=[node(conditions=[{"type": "DiskPressure", "status": "True", "message": "kubelet has disk pressure"}])])),
    "Multi-Attach": ("storage/multi-attach", Facts(events=[event("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) chat-old')])),
    "no such StorageClass": ("storage/claim-pending", claim('storageclass.storage.k8s.io "standard" not found', "standard")),
    "no default class": ("storage/claim-pending", claim("no persistent volumes available for this claim and no storage class is set", None)),
    "the class has no such mode": ("storage/claim-pending", claim("failed to provision volume: rpc error: code = InvalidArgument desc = Volume capabilities MULTI_NODE_MULTI_WRITER not supported. Only AccessModes[ReadWriteOnce] supported.")),
    "the loader Job failed": ("weights/unauthorized", Facts(jobs=[{"kind": "Job", "metadata": {"name": "load"}, "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}]}}], pods=[pod("load-x", metadata={"name": "load-x", "ownerReferences": [{"kind": "Job", "name": "load"}]})], logs={"load-x/pull": "401 Client Error: Unauthorized for url"})),
    "PDB blocks a drain": ("disruption/pdb-blocks-drain", Facts(pods=[pod(status=RUNNING, spec={"nodeName": "gpu-1"})], nodes=[node(spec={"unschedulable": True})], budgets=[{"metadata": {"name": "chat"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "chat"}}}, "status": {"disruptionsAllowed": 0, "expectedPods": 1, "currentHealthy": 1, "desiredHealthy": 1}}])),
    "the rollout waits for a surge GPU": ("rollout/no-surge-gpu", Facts(pods=[pod("chat-new-1", status={"phase": "Pending"}, metadata={"name": "chat-new-1", "ownerReferences": [{"kind": "ReplicaSet", "name": "chat-new"}]}), pod("chat-old-1", status=RUNNING)], deployments=[SURGE], nodes=[node()], replicasets=[{"metadata": {"name": "chat-new", "ownerReferences": [{"name": "chat"}]}, "status": {"replicas": 1}}, {"metadata": {"name": "chat-old", "ownerReferences": [{"name": "chat"}]}, "status": {"replicas": 2}}], events=[event("FailedScheduling", NO + "3 Insufficient nvidia.com/gpu.", "chat-new-1")])),
    "the rollout's deadline": ("rollout/deadline", Facts(deployments=[{**SURGE, "status": {"replicas": 2, "updatedReplicas": 1, "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": 'ReplicaSet "chat-7d9f" has timed out progressing.'}]}}])),
    "the ScaledObject's target is missing": ("scale/not-ready", Facts(scaledobjects=[scaled([{"type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed", "message": 'ScaledObject doesn\'t have correct scaleTargetRef specification'}])])),
    "KEDA is Ready and its trigger fails": ("scale/trigger-fails", Facts(scaledobjects=[scaled([{"type": "Ready", "status": "True"}])], events=[event("KEDAScalerFailed", 'error requesting metrics endpoint: Get "http://prometheus/api/v1/query": dial tcp: lookup prometheus: no such host', "chat", "ScaledObject")])),
    "the query gives many series": ("scale/trigger-fails", Facts(scaledobjects=[scaled([{"type": "Ready", "status": "True"}])], events=[event("KEDAScalerFailed", "prometheus query vllm:num_requests_waiting returned multiple elements", "chat", "ScaledObject")])),
    "the fallback holds": ("scale/fallback", Facts(scaledobjects=[scaled([{"type": "Fallback", "status": "True", "message": "At least one trigger is falling back on this scaled object"}])])),
    "the scaler is blind": ("scale/blind", Facts(scaledobjects=[scaled([{"type": "Ready", "status": "True"}], query="sum(vllm_pending_requests_total)")], metrics={"vllm:num_requests_waiting": {"chat-7d9f-abcde": 400.0}})),
    "HPA shows <unknown>": ("scale/hpa-no-metric", Facts(hpas=[hpa([{"type": "ScalingActive", "status": "False", "reason": "FailedGetExternalMetric", "message": "the HPA was unable to compute the replica count: unable to get external metric llm/s0-prometheus: unable to fetch metrics from external metrics API: the server is currently unable to handle the request (get s0-prometheus.external.metrics.k8s.io)"}])])),
    "at the maximum": ("scale/at-max", Facts(hpas=[hpa([{"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas", "message": "the desired replica count is more than the maximum replica count"}], currentReplicas=4)])),
    "the engine hangs": ("engine/hung", Facts(metrics={"vllm:num_requests_running": {"p": 12.0}, "vllm:generation_tokens_total": {"p": 900.0}}, metrics_before={"vllm:generation_tokens_total": {"p": 900.0}})),
    "the KV cache is full": ("load/kv-full", Facts(metrics={"vllm:kv_cache_usage_perc": {"p": 0.99}, "vllm:num_requests_waiting": {"p": 40.0}})),
    "the Service selects nothing": ("route/selects-nothing", Facts(services=[{**SERVICE, "spec": {"selector": {"app": "vllm"}}}], endpointslices=[SLICE], pods=[pod(status=RUNNING)])),
    "the gateway sees no replica": ("route/gateway-no-endpoints", Facts(pods=[pod(status=RUNNING)], gateway={"fleets": {"chat": {"queued": 12}}, "replicas": {}})),
    "the gateway routes to the dead": ("route/dead-replica", Facts(pods=[pod(status=RUNNING)], gateway={"fleets": {"chat": {}}, "replicas": {"chat-gone": {"fleet": "chat", "state": "ready"}}})),
}  # fmt: skip


@pytest.mark.parametrize("failure", CATALOGUE)
def test_each_failure_gives_its_cause_first(failure: str) -> None:
    expected, facts = CATALOGUE[failure]
    causes = diagnose(facts)
    assert causes, "no cause at all"
    assert causes[0].id == expected, [(c.id, c.what) for c in causes]
    assert causes[0].evidence
    assert causes[0].do
    assert len(causes) <= 2, [c.id for c in causes]


def test_the_catalogue_is_large() -> None:
    assert len({cause for cause, _ in CATALOGUE.values()}) >= 50


def test_a_healthy_fleet_has_no_cause() -> None:
    status = {
        **RUNNING,
        "containerStatuses": [
            {"name": "vllm", "restartCount": 0, "started": True, "state": {"running": {"startedAt": T0}}}
        ],
    }
    one = {**SLICE, "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]}
    facts = Facts(
        taken_at="2026-11-23T14:10:00Z",
        pods=[pod(status=status, spec={"nodeName": "gpu-1"})],
        nodes=[node()],
        deployments=[{**SURGE, "status": {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}}],
        budgets=[{"metadata": {"name": "chat"}, "spec": {"maxUnavailable": 1}, "status": {"disruptionsAllowed": 1, "expectedPods": 2, "currentHealthy": 2, "desiredHealthy": 1}}],
        services=[SERVICE],
        endpointslices=[one],
        scaledobjects=[scaled([{"type": "Ready", "status": "True"}, {"type": "Fallback", "status": "False"}])],
        hpas=[hpa([{"type": "ScalingActive", "status": "True"}, {"type": "AbleToScale", "status": "True"}])],
        metrics={"vllm:num_requests_running": {"p": 3.0}, "vllm:generation_tokens_total": {"p": 900.0}},
        metrics_before={"vllm:generation_tokens_total": {"p": 400.0}},
        gateway={"fleets": {"chat": {"queued": 0}}, "replicas": {"chat-7d9f-abcde": {"fleet": "chat", "state": "ready"}}},
        logs={"chat-7d9f-abcde/vllm": "INFO: started\nOSError: an old line that killed nobody"},
    )  # fmt: skip
    assert diagnose(facts) == []


def test_the_pieces_of_the_message_are_told_apart() -> None:
    taint = diagnose(CATALOGUE["a taint is not tolerated"][1])[0]
    assert taint.certainty == "certain"
    assert "nvidia.com/gpu=present" in taint.what
    assert "cloud.google.com/gke-spot" in taint.what
    label = diagnose(CATALOGUE["a label is missing"][1])[0]
    assert "hardware-type=nvidia-gpu" in label.what
    probe = diagnose(CATALOGUE["startup probe too short"][1])[0]
    assert "its budget of 150 s" in probe.what
