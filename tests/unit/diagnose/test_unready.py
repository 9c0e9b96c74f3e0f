"""Pods that run and serve nobody, and deaths that leave few words: what a probe, the runtime or a signal says of them."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from seawall.diagnose.cause import Cause
from seawall.diagnose.facts import Facts
from seawall.diagnose.run import diagnose
from seawall.engines.vllm.raised import last_error, raised

from .test_catalogue import Object, died, event, hpa, node, pod, unplaced

UP = "INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)\nINFO:     Application startup complete."
REFUSED = 'Get "http://10.1.2.3:8000/health": dial tcp 10.1.2.3:8000: connect: connection refused'


def alone(facts: Facts) -> Cause:
    """The only cause."""
    causes = diagnose(facts)
    assert len(causes) == 1, [(c.id, c.what) for c in causes]
    return causes[0]


def unready(said: str, log: str = "", minutes: int = 30, **status: Any) -> Facts:
    """A container that has run for some minutes and fails its readiness probe with these words."""
    state = {
        "name": "vllm", "ready": False, "started": True, "restartCount": 0,
        "state": {"running": {"startedAt": f"2026-11-23T13:{60 - minutes:02}:00Z"}}, **status,
    }  # fmt: skip
    it = pod(
        status={
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [state],
        },
        spec={"nodeName": "gpu-1"},
    )
    return Facts(
        taken_at="2026-11-23T14:00:00Z",
        pods=[it],
        events=[event("Unhealthy", f"Readiness probe failed: {said}")],
        logs={"chat-7d9f-abcde/vllm": log} if log else {},
    )


def waiting_for(name: str, image: str, log: str = "", minutes: int = 50, **spec: Any) -> Facts:
    """A Pod whose first init container runs for some minutes."""
    status = {
        "initContainerStatuses": [
            {"name": name, "state": {"running": {"startedAt": f"2026-11-23T13:{60 - minutes:02}:00Z"}}}
        ],
        "containerStatuses": [{"name": "vllm", "state": {"waiting": {"reason": "PodInitializing"}}}],
    }
    it = pod(
        status=status, spec={"nodeName": "gpu-1", "initContainers": [{"name": name, "image": image, **spec}]}
    )
    return Facts(
        taken_at="2026-11-23T14:00:00Z", pods=[it], logs={f"chat-7d9f-abcde/{name}": log} if log else {}
    )


WORDS: list[tuple[str, str, str]] = [
    ("probe/command-missing", "/bin/sh: 1: jq: not found", UP),
    ("probe/command-missing", "bash: line 1: curl: command not found", ""),
    ("probe/command-missing", 'OCI runtime exec failed: exec failed: unable to start container process: exec: "grpc_health_probe": executable file not found in $PATH: unknown', UP),
    ("probe/wrong-path", "HTTP probe failed with statuscode: 404", UP),
    ("probe/unauthorized", "HTTP probe failed with statuscode: 401", UP),
    ("probe/scheme", 'Get "https://10.1.2.3:8000/health": http: server gave HTTP response to HTTPS client', UP),
    ("probe/scheme", 'Get "http://10.1.2.3:8000/health": net/http: HTTP/1.x transport connection broken: malformed HTTP response "\\x15\\x03\\x01"', UP),
    ("probe/unreachable", 'Get "http://10.1.2.3:8000/health": dial tcp 10.1.2.3:8000: i/o timeout', UP),
    ("probe/slow", 'Get "http://10.1.2.3:8000/health": context deadline exceeded (Client.Timeout exceeded while awaiting headers)', UP),
    ("probe/slow", "command \"python3 probe.py readiness\" timed out", UP),
    ("probe/localhost", REFUSED, "(APIServer pid=1) INFO 11-23 [api_server.py:1971] Starting vLLM API server 0 on http://127.0.0.1:8000"),
    ("probe/not-ready", REFUSED, "INFO Loading safetensors checkpoint shards:  10% Completed"),
    ("probe/not-ready", "no token for 130 s, 12 requests run", UP),
    ("probe/not-ready", "HTTP probe failed with statuscode: 503", UP),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "said", "log"), WORDS)
def test_the_probe_that_fails_says_why(expected: str, said: str, log: str) -> None:
    cause = alone(unready(said, log))
    assert cause.id == expected
    assert cause.kind == ("symptom" if expected == "probe/not-ready" else "cause")
    assert cause.evidence[0].startswith("Unhealthy")


def test_a_model_that_loads_is_no_fault_until_it_takes_long() -> None:
    assert diagnose(unready(REFUSED, minutes=2)) == []
    assert "30 min" in alone(unready(REFUSED, minutes=30)).what


def test_a_container_that_died_is_not_judged_by_its_probe_too() -> None:
    end = {
        "terminated": {
            "exitCode": 1,
            "reason": "Error",
            "startedAt": "2026-11-23T13:00:00Z",
            "finishedAt": "2026-11-23T13:20:00Z",
        }
    }
    facts = unready("/bin/sh: 1: jq: not found", lastState=end)
    assert "probe/command-missing" not in {c.id for c in diagnose(facts)}


def test_the_name_of_the_missing_program_is_told() -> None:
    assert "calls jq," in alone(unready("/bin/sh: 1: jq: not found")).what
    assert "timeoutSeconds (1)" in alone(unready("context deadline exceeded")).what


def test_a_server_among_the_init_containers_never_ends() -> None:
    cause = alone(waiting_for("routing-proxy", "registry.example/routing-sidecar:0.3"))
    assert (cause.id, cause.certainty) == ("init/never-ends", "likely")
    assert "restartPolicy: Always" in cause.do
    assert diagnose(waiting_for("routing-proxy", "x", restartPolicy="Always")) == []
    assert diagnose(waiting_for("routing-proxy", "x", minutes=3)) == []
    assert alone(waiting_for("fetch", "python:3.12")).certainty == "possible"


def test_waiting_for_the_weights_is_a_cause_from_the_first_word_on() -> None:
    cause = alone(waiting_for("weights", "vllm/vllm-openai:v0.32.0", "waiting for the weights: seawall.lock\nwaiting for the weights: model-00004-of-00030.safetensors\n", minutes=1))  # fmt: skip
    assert (cause.id, cause.certainty, cause.kind) == ("weights/waiting", "certain", "cause")
    assert "model-00004" in cause.evidence[0]
    assert "kubectl get jobs" in cause.do


RUNC = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running prestart hook #0: exit status 1, stderr: Auto-detected mode as 'legacy'\n"


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("gpu/driver-too-old", RUNC + "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9, please update your driver: unknown"),
        ("gpu/not-visible", RUNC + "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file: no such file or directory: unknown"),
        ("gpu/not-visible", RUNC + "nvidia-container-cli: device error: 3: unknown device: unknown"),
    ],
)  # fmt: skip
def test_what_the_runtime_says_of_a_container_that_never_started_is_read(expected: str, message: str) -> None:
    facts = died("", 128, "StartError")
    status = facts.pods[0]["status"]["containerStatuses"][0]
    status["lastState"]["terminated"]["message"] = message
    assert alone(facts).id == expected


@pytest.mark.parametrize(("code", "signal"), [(139, "SIGSEGV"), (132, "SIGILL"), (134, "SIGABRT")])
def test_deaths_in_native_code_are_told_by_their_signal(code: int, signal: str) -> None:
    cause = alone(died("INFO 11-23 [gpu_model_runner.py:1146] Model loading took 1.91 GiB", code))
    assert (cause.id, cause.certainty) == ("container/segfault", "likely")
    assert signal in cause.what


ECHO = "\n(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("(EngineCore_DP0 pid=90) ERROR 11-20 08:00:00 [core.py:842] AssertionError: blocks must be whole" + ECHO, "AssertionError: blocks must be whole"),
        ("WARNING ValueError: a handled one\nvllm.v1.odd.StrangeError: what nobody has seen\nRuntimeError: Worker failed with error 'x', please check the stack trace" + ECHO, "StrangeError: what nobody has seen"),
        ("[rank0]: ray.exceptions.RayTaskError(KeyError): 'n_heads'" + ECHO, "RayTaskError(KeyError): 'n_heads'"),
    ],
)  # fmt: skip
def test_an_exception_that_no_sign_knows_is_quoted_in_its_own_words(log: str, said: str) -> None:
    assert raised(log) == said
    cause = alone(died(log))
    assert (cause.id, cause.certainty) == ("engine/exception", "likely")
    assert said in cause.what


def test_a_known_sign_goes_before_the_exception_that_carries_it() -> None:
    assert (
        alone(died("ValueError: No available memory for the cache blocks." + ECHO)).id
        == "engine/no-kv-memory"
    )


def test_only_echoes_are_no_exception() -> None:
    assert raised(ECHO) == ""
    assert alone(died(ECHO)).id == "engine/died"


def test_the_last_line_that_calls_itself_an_error_is_shown_of_programs_without_tracebacks() -> None:
    text = "INFO start\n2026-11-23 07:28:04 server ERROR [main.py:254] Failed to start: integer division by zero\nbye\n"
    assert last_error(text).endswith("integer division by zero")
    cause = alone(died(text))
    assert cause.id == "container/crash"
    assert "integer division" in cause.evidence[1]


def test_tokens_are_not_quoted() -> None:
    assert "hf_abc" not in raised("ValueError: bad header Bearer abcdefghijkl hf_abcdefgh")


def test_without_nodes_in_sight_no_gpu_is_only_likely_taken() -> None:
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    cause = alone(unplaced(message))
    assert (cause.id, cause.certainty) == ("scheduling/no-free-gpu", "likely")
    assert "or no node offers any" in cause.what
    assert alone(unplaced(message, [node()])).certainty == "certain"


def test_another_scheduler_s_words_are_understood() -> None:
    event_ = event(
        "Unschedulable",
        "No nodes with enough resources were found: 2 node(s) didn't have enough resources: GPUs.",
    )
    facts = replace(unplaced("x", [node()]), events=[event_])
    assert alone(facts).id == "scheduling/no-free-gpu"


def test_a_target_without_a_selector_is_no_missing_metric() -> None:
    conditions = [{"type": "ScalingActive", "status": "False", "reason": "InvalidSelector", "message": "the HPA target's scale is missing a selector"}]  # fmt: skip
    assert alone(Facts(hpas=[hpa(conditions)])).id == "scale/hpa-target"


def budget(**spec: Any) -> Object:
    return {
        "metadata": {"name": "chat"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "chat"}}, **spec},
        "status": {"disruptionsAllowed": 0, "expectedPods": 3, "currentHealthy": 2, "desiredHealthy": 2},
    }


def test_a_budget_that_lets_unready_pods_go_is_not_blamed_for_them() -> None:
    sick = pod(
        status={"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]},
        spec={"nodeName": "gpu-1"},
    )
    facts = Facts(pods=[sick], nodes=[node(spec={"unschedulable": True})], budgets=[budget()])
    assert alone(facts).id == "disruption/pdb-blocks-drain"
    freed = replace(facts, budgets=[budget(unhealthyPodEvictionPolicy="AlwaysAllow")])
    assert diagnose(freed) == []
