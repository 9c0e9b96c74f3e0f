"""Faults that were diagnosed wrong once, each as a cluster shows it, and symptoms beside them that must not outrank them."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from typing import Any

import pytest

from seawall.diagnose.facts import Facts, parse_facts
from seawall.diagnose.run import diagnose

from .test_catalogue import LOADING, PROBE, RUNNING, SERVICE, SLICE, died, event, hpa, node, pod

Object = dict[str, Any]
KILLED = "Container vllm failed startup probe, will be restarted"
REFUSED = 'Startup probe failed: Get "http://10.1.2.3:8000/health": dial tcp 10.1.2.3:8000: connect: connection refused'
LOADS = (
    "INFO 11-30 03:12:44 [weight_utils.py:312] Loading safetensors checkpoint shards:  40% Completed | 12/30"
)


def first(facts: Facts) -> tuple[str, str]:
    causes = diagnose(facts)
    assert causes, "no cause"
    return causes[0].id, causes[0].certainty


@pytest.mark.parametrize(("exit_code", "lived_s"), [(137, 152), (137, 61), (143, 900), (0, 152), (1, 155)])
def test_a_startup_kill_is_the_events_word(exit_code: int, lived_s: int) -> None:
    reason = "Completed" if exit_code == 0 else "Error"
    facts = died(
        LOADS, exit_code, reason, lived_s, PROBE, event("Unhealthy", REFUSED), event("Killing", KILLED)
    )
    assert first(facts) == ("probe/startup-too-short", "certain")


def test_the_kubelets_word_of_the_kill_is_enough() -> None:
    """The probe's own event may have gone by then: the API server keeps events for an hour, and many of one are cut."""
    assert first(died(LOADS, 137, "Error", 61, PROBE, event("Killing", KILLED))) == (
        "probe/startup-too-short",
        "certain",
    )


def test_a_kill_of_a_sidecar_is_not_the_engines() -> None:
    killing = event("Killing", "Container proxy failed startup probe, will be restarted")
    facts = died("vllm: error: unrecognized arguments: --swap-space", 2, "Error", 20, PROBE, killing)
    assert first(facts)[0] == "engine/unknown-flag"


def test_an_old_kill_does_not_explain_a_new_death() -> None:
    old = {**event("Killing", KILLED), "lastTimestamp": "2026-11-23T12:00:00Z"}
    facts = died("torch.OutOfMemoryError: CUDA out of memory.", 1, "Error", 40, PROBE, old)
    assert first(facts)[0] == "gpu/out-of-memory"


def test_a_server_that_was_up_was_not_loading() -> None:
    log = "INFO 11-30 Starting vLLM API server 0 on http://0.0.0.0:8000\nINFO:     Application startup complete."
    asked = REFUSED.replace(":8000", ":9000")
    facts = died(log, 137, "Error", 152, PROBE, event("Unhealthy", asked), event("Killing", KILLED))
    assert first(facts)[0] == "probe/port-mismatch"
    lost = "Startup probe failed: HTTP probe failed with statuscode: 404"
    facts = died(log, 137, "Error", 152, PROBE, event("Unhealthy", lost), event("Killing", KILLED))
    assert first(facts)[0] == "probe/wrong-path"


def test_a_crash_loop_with_exit_0_has_a_cause() -> None:
    facts = died("usage: vllm [-h] [-v] {chat,complete,serve,bench} ...", 0, "Completed", 4)
    assert first(facts)[0] == "container/no-server"


def symptoms() -> Object:
    """What is seen beside every cause: nobody is ready, the rollout is late, the HPA reads nothing."""
    return {
        "services": [SERVICE],
        "endpointslices": [{**SLICE, "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}]}],
        "deployments": [{
            "kind": "Deployment", "metadata": {"name": "chat"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "chat"}}, "progressDeadlineSeconds": 600},
            "status": {"replicas": 2, "updatedReplicas": 2, "conditions": [
                {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]},
        }],
        "hpas": [hpa([{"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric",
                       "message": "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API"}])],
        "budgets": [{"metadata": {"name": "chat"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "chat"}}},
                     "status": {"disruptionsAllowed": 0, "expectedPods": 1, "currentHealthy": 0, "desiredHealthy": 1}}],
        "gateway": {"fleets": {"chat": {"queued": 12}}, "replicas": {"chat-7d9f-abcde": {"fleet": "chat", "state": "evicted", "reason": "connect refused"}}},
    }  # fmt: skip


@pytest.mark.parametrize(
    "log",
    [
        "",  # no log: a death that is only possible to explain
        "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:268, unhandled system error",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}",
    ],
)
def test_a_symptom_never_outranks_a_cause(log: str) -> None:
    from dataclasses import replace

    facts = died(log)
    bare = diagnose(facts)[0].id
    crowded = [c.id for c in diagnose(replace(facts, **symptoms()))]
    assert crowded[0] == bare, crowded
    assert "route/none-ready" in crowded[1:]


def driver(version: str, cuda: str) -> Object:
    major, minor = cuda.split(".")
    labels = {"nvidia.com/cuda.driver-version.full": version, "nvidia.com/cuda.runtime-version.full": cuda,
              "nvidia.com/cuda.runtime-version.major": major, "nvidia.com/cuda.runtime-version.minor": minor}  # fmt: skip
    return node(labels=labels)


def on(facts: Facts, it: Object, image: str = "vllm/vllm-openai:v0.32.0") -> Facts:
    from dataclasses import replace

    facts.pods[0]["spec"]["containers"][0]["image"] = image
    return replace(facts, nodes=[it])


def test_a_driver_that_is_too_old_is_named_with_its_node() -> None:
    log = "RuntimeError: The NVIDIA driver on your system is too old (found version 12020)."
    cause = diagnose(on(died(log), driver("535.183.01", "12.2"), "vllm/vllm-openai:v0.12.0-cu129"))[0]
    assert (cause.id, cause.certainty) == ("gpu/driver-too-old", "certain")
    assert "535.183.01" in cause.what
    assert "12.9" in cause.what


def test_a_driver_that_is_newer_than_the_images_own_library_is_the_other_direction() -> None:
    log = "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda driver combination"
    cause = diagnose(on(died(log), driver("580.95.05", "13.0"), "vllm/vllm-openai:v0.12.0-cu129"))[0]
    assert cause.id == "gpu/driver-mismatch"
    assert "580.95.05" in cause.what
    assert "LD_LIBRARY_PATH" in cause.do
    old = diagnose(on(died(log), driver("535.183.01", "12.2"), "vllm/vllm-openai:v0.12.0-cu129"))[0]
    assert old.id == "gpu/driver-too-old"


def test_a_driver_updated_under_a_running_node_is_known() -> None:
    log = "pynvml.NVMLError_LibRmVersionMismatch: Driver/library version mismatch\nRuntimeError: Failed to infer device type"
    assert first(died(log))[0] == "gpu/driver-mismatch"


def test_no_device_with_a_gpu_asked_for_is_the_runtime() -> None:
    log = "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG`"
    cause = diagnose(died(log))[0]
    assert cause.id == "gpu/not-visible"
    assert "runtimeClassName" in cause.do
    assert "LD_LIBRARY_PATH" in cause.do
    without = died(log)
    without.pods[0]["spec"]["containers"][0]["resources"] = {}
    assert "nvidia.com/gpu" in diagnose(without)[0].do


@pytest.mark.parametrize(
    "log",
    [
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine.",
        "INFO 11-30 [gpu_worker.py:241] Available KV cache memory: -2.71 GiB\nRuntimeError: Engine core initialization failed.",
    ],
)
def test_negative_kv_memory_names_batch_and_utilization_first(log: str) -> None:
    cause = diagnose(died(log))[0]
    assert cause.id == "engine/no-kv-memory"
    batch, share, more = (
        cause.do.find(w) for w in ("--max-num-batched-tokens", "--gpu-memory-utilization", "parallel")
    )
    assert 0 <= batch < more
    assert 0 <= share < more


NO_PROGRAM = 'failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "{0}": {1}: unknown'


@pytest.mark.parametrize(
    ("program", "why", "said"),
    [
        ("vllm", "executable file not found in $PATH", "vllm"),
        ("vllm serve /models/m --port 8000", "executable file not found in $PATH", "one string"),
        ("/start.sh", "stat /start.sh: no such file or directory", "/start.sh"),
        ("/start.sh", "permission denied", "/start.sh"),
    ],
)
@pytest.mark.parametrize("how", ["RunContainerError", "StartError"])
def test_a_missing_program_is_named(program: str, why: str, said: str, how: str) -> None:
    message = NO_PROGRAM.format(program, why)
    waiting = (
        {"reason": "RunContainerError", "message": message}
        if how == "RunContainerError"
        else {"reason": "CrashLoopBackOff"}
    )
    end = {
        "exitCode": 128,
        "reason": "StartError",
        "message": message,
        "startedAt": "1970-01-01T00:00:00Z",
        "finishedAt": "2026-11-23T14:00:00Z",
    }
    status = {
        "name": "vllm",
        "restartCount": 4,
        "state": {"waiting": waiting},
        "lastState": {"terminated": end},
    }
    facts = Facts(
        pods=[pod(status={"phase": "Running", "containerStatuses": [status]}, spec={"nodeName": "gpu-1"})]
    )
    cause = diagnose(facts)[0]
    assert (cause.id, cause.certainty) == ("container/no-program", "certain")
    assert said in cause.what + cause.do


@pytest.mark.parametrize(
    ("expected", "log", "code"),
    [
        (
            "engine/no-nvcc",
            "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist",
            1,
        ),
        (
            "engine/no-nvcc",
            "/bin/sh: 1: /usr/local/cuda/bin/nvcc: not found\nninja: build stopped: subcommand failed.\nRuntimeError: Ninja build failed.",
            1,
        ),
        (
            "engine/no-compiler",
            "torch._inductor.exc.InductorError: RuntimeError: Failed to find C compiler. Please specify via CC environment variable",
            1,
        ),
        (
            "engine/unknown-flag",
            "usage: vllm serve [model_tag] [options]\nvllm serve: error: unrecognized arguments: true --dtype auto",
            2,
        ),
        (
            "engine/unknown-flag",
            "(APIServer pid=1) usage: api_server.py [-h] [--host HOST]\n(APIServer pid=1) api_server.py: error: unrecognized arguments: serve Qwen/Qwen3-8B",
            2,
        ),
        (
            "engine/bad-argument",
            "(APIServer pid=1) usage: vllm serve [model_tag] [options]\n(APIServer pid=1) vllm: error: argument --enable-prefix-caching/--no-enable-prefix-caching: ignored explicit argument 'false'",
            2,
        ),
        (
            "engine/unknown-parser",
            "KeyError: 'invalid tool call parser: qwen25 (chose from { deepseek_v3,hermes,... })'",
            1,
        ),
        (
            "engine/unknown-parser",
            "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser",
            1,
        ),
        (
            "engine/bad-config",
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig\n  Value error, max_num_batched_tokens (128) must be greater than or equal to max_num_seqs (256).",
            1,
        ),
        (
            "engine/shm",
            '  File "/usr/lib/python3.12/multiprocessing/shared_memory.py", line 104, in __init__\nOSError: [Errno 28] No space left on device',
            1,
        ),
        ("engine/shm", "", 135),
    ],
)
def test_what_a_log_says_is_read(expected: str, log: str, code: int) -> None:
    assert first(died(log, code))[0] == expected


@pytest.mark.parametrize(
    "log",
    [
        "unable to retrieve container logs for containerd://0a1b2c3d4e",
        'failed to try resolving symlinks in path "/var/log/pods/llm_chat/vllm/3.log": lstat: no such file or directory',
    ],
)
def test_the_kubelets_excuse_is_no_log(log: str) -> None:
    facts = died(log, 2)
    assert facts.logs == {}
    facts = Facts(
        pods=facts.pods,
        logs={
            "chat-7d9f-abcde/vllm/previous": log,
            "chat-7d9f-abcde/vllm": "vllm: error: unrecognized arguments: --x",
        },
    )
    assert first(facts)[0] == "engine/unknown-flag"


@pytest.mark.parametrize("kind", ["External", "Pods", "Object"])
def test_an_hpa_that_reads_0_while_requests_wait(kind: str) -> None:
    block = kind.lower()
    current = {
        "type": kind,
        block: {
            "metric": {"name": "vllm:num_requests_waiting"},
            "current": {"averageValue": "0", "value": "0"},
        },
    }
    active = [{"type": "ScalingActive", "status": "True"}, {"type": "AbleToScale", "status": "True"}]
    it = hpa(active, currentReplicas=1, desiredReplicas=1, currentMetrics=[current])
    facts = Facts(hpas=[it], metrics={"vllm:num_requests_waiting": {"p": 40.0}})
    assert first(facts)[0] == "scale/hpa-reads-zero"
    assert not diagnose(Facts(hpas=[it], metrics={"vllm:num_requests_waiting": {"p": 0.0}}))


def told(state: str, reason: str = "") -> Object:
    return {
        "fleets": {"chat": {"queued": 3}},
        "replicas": {"chat-7d9f-abcde": {"fleet": "chat", "state": state, "reason": reason}},
    }


def ready_pod() -> Object:
    return pod(
        status={
            **RUNNING,
            "containerStatuses": [{"name": "vllm", "ready": True, "started": True, "state": {"running": {}}}],
        }
    )


def test_every_gateway_is_asked() -> None:
    facts = Facts(
        pods=[ready_pod()], gateways={"gw-a": told("ready"), "gw-b": told("evicted", "connect: timed out")}
    )
    cause = diagnose(facts)[0]
    assert cause.id == "route/gateway-cannot-reach"
    assert "gw-b" in cause.what
    assert "connect: timed out" in " ".join(cause.evidence)


def test_a_gateway_that_reaches_no_ready_engine() -> None:
    facts = Facts(pods=[ready_pod()], gateway=told("evicted", "no route to host"))
    assert first(facts)[0] == "route/gateway-cannot-reach"
    assert not diagnose(Facts(pods=[ready_pod()], gateways={"gw-a": told("ready")}))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("connection refused", "--host (not 127.0.0.1)"),
        ("answered 401", "the key that the gateway sends"),
        ("answered 403", "the key that the gateway sends"),
        ("TLS: CERTIFICATE_VERIFY_FAILED", "--ssl-certfile"),
        ("no connection within 2 s", "a NetworkPolicy between them"),
        ("no route to host", "a NetworkPolicy between them"),
        ("", "a NetworkPolicy between them"),
    ],
)
def test_what_the_gateway_was_told_decides_what_to_look_at(reason: str, words: str) -> None:
    cause = diagnose(Facts(pods=[ready_pod()], gateways={"gw-a": told("evicted", reason)}))[0]
    assert words in cause.do
    assert not reason or reason in " ".join(cause.evidence)


def test_a_gateway_without_a_replica_says_why() -> None:
    loading = pod(status={**LOADING, "containerStatuses": []})
    causes = diagnose(Facts(pods=[loading], gateway=told("evicted", "connection refused")))
    (symptom,) = (c for c in causes if c.id == "route/gateway-no-endpoints")
    assert "chat-7d9f-abcde: connection refused" in symptom.evidence


def test_replicas_that_load_are_not_unreachable() -> None:
    loading = pod(
        status={**LOADING, "containerStatuses": [{"name": "vllm", "ready": False, "state": {"running": {}}}]}
    )
    ids = [c.id for c in diagnose(Facts(pods=[loading], gateways={"gw-a": told("evicted", "refused")}))]
    assert "route/gateway-cannot-reach" not in ids


def test_recorded_gateways_are_read() -> None:
    text = '{"pods": [], "gateways": {"gw-a": {"fleets": {}, "replicas": {}}}, "logs": {"p/c": "unable to retrieve container logs for containerd://x"}}'
    facts = parse_facts(text)
    assert list(facts.gateways) == ["gw-a"]
    assert facts.logs == {}


def test_noise_at_info_level_is_no_error() -> None:
    log = (
        "WARNING 11-30 03:00:00 [utils.py:1] 404 Client Error: Entry Not Found for url: https://huggingface.co/x/resolve/main/adapter_config.json\n"
        "INFO 11-30 03:00:01 retrying after 429 Too Many Requests\n"
        "ERROR 11-30 03:00:09 [core.py:700] ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0."
    )
    assert first(died(log))[0] == "engine/unsupported-gpu"


def test_a_log_line_does_not_make_a_kill_certain() -> None:
    log = 'torch.distributed.DistBackendError: NCCL error in: x.cpp:1\nINFO: 10.0.0.1 - "POST /v1/chat/completions" 200 OK'
    assert (
        first(
            died("RuntimeError: 429 Client Error: Too Many Requests for url: https://huggingface.co/x", 137)
        )[1]
        != "certain"
    )
    assert first(died(log, 137))[1] != "certain"


@pytest.mark.parametrize(
    ("expected", "it"),
    [
        (
            "container/runtime-class",
            event(
                "FailedCreatePodSandBox",
                'Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "nvidia" is configured',
            ),
        ),
        (
            "container/runtime-class",
            event(
                "FailedCreate",
                'Error creating: pods "chat-" is forbidden: pod rejected: RuntimeClass "nvidia" not found',
                "chat-7d9f",
                "ReplicaSet",
            ),
        ),
        (
            "container/sandbox",
            event(
                "FailedCreatePodSandBox",
                'Failed to create pod sandbox: plugin type="aws-cni" name="aws-cni" failed (add): failed to assign an IP address to container',
            ),
        ),
    ],
)
def test_a_sandbox_that_is_never_made(expected: str, it: Object) -> None:
    assert first(Facts(pods=[pod()], events=[it]))[0] == expected


def test_a_device_that_the_kubelet_does_not_find() -> None:
    status = {
        "phase": "Failed",
        "reason": "UnexpectedAdmissionError",
        "message": "Pod was rejected: Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. Requested: 1, Available: 0, which is unexpected",
    }
    assert first(Facts(pods=[pod(status=status)])) == ("gpu/device-plugin", "certain")


@pytest.mark.parametrize(
    ("message", "cures"),
    [
        (
            'error looking up service account llm/chat-engine: serviceaccount "chat-engine" not found',
            ["kubectl get serviceaccounts -n llm", "seawall apply"],
        ),
        (
            'error looking up service account llm/seawall-gateways: serviceaccount "seawall-gateways" not found',
            ["seawall operator manifests -n llm | kubectl apply"],
        ),
        (
            "no PriorityClass with name serving was found",
            ["kubectl create priorityclass serving", "spec.hardware.priorityClass"],
        ),
        (
            'pod rejected: RuntimeClass "nvidia" not found',
            ["kubectl get runtimeclass", "spec.hardware.runtimeClass"],
        ),
        (
            "[maximum cpu usage per Container is 8, but limit is 16, minimum memory usage per Pod is 1Gi, but request is 0]",
            ["kubectl describe limitrange"],
        ),
    ],
)
def test_what_a_pod_names_and_the_cluster_lacks_has_its_own_cure(message: str, cures: list[str]) -> None:
    """As the API server words it; told once, though each try makes an event and the condition says it, too."""
    text = f'Error creating: pods "chat-7d9f-" is forbidden: {message}'
    tries = [event("FailedCreate", text, f"chat-{n}", "ReplicaSet") for n in range(3)]
    failed = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": text}
    sets = [{"metadata": {"name": "chat-0", "namespace": "llm"}, "status": {"conditions": [failed]}}]
    for facts in (Facts(events=tries, replicasets=sets), Facts(replicasets=sets)):
        found = [c for c in diagnose(facts) if c.weight == 96]
        assert len(found) == 1
        assert all(cure in found[0].do for cure in cures), found[0].do
