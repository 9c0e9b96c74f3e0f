"""Every wrong line of the manifests that people copy around is found, each by a rule of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seawall.lint.run import Report

# what is wrong -> (rule, a text on the line that it points at)
AUDIT = {
    "70B in bf16 on one GPU": ("fit/does-not-fit", "Meta-Llama-3.1-70B"),
    "a metric that does not exist": ("promql/unknown-metric", "vllm_pending_requests_total"),
    "the rate of a backlog": ("promql/rate-of-gauge", "rate("),
    "--disable-log-requests": ("engine/removed-flag", "--disable-log-requests"),
    "the init container exits 1": ("weights/init-never-succeeds", "exit 1"),
    "model.safetensors of a sharded model": ("weights/single-file", "model.safetensors"),
    "written to /models, read from the hub cache": ("weights/wrong-place", "mountPath: /root/.cache"),
    "ReadOnlyMany with an init writer": ("storage/rox-unfilled", "ReadOnlyMany"),
    "a hard disk for 141 GB": ("storage/slow-class", "storageClassName: standard"),
    "150 s to load": ("probes/startup-budget", "failureThreshold: 30"),
    "the engine's own 600 s": ("probes/engine-gives-up", "- name: vllm-server"),
    "streams aborted on SIGTERM": ("shutdown/aborts-streams", "args:"),
    "no preStop delay": ("shutdown/no-prestop", "- name: vllm-server"),
    "a budget of 0": ("disruption/pdb-blocks-drain", "minAvailable: 1"),
    "unready Pods block drains": ("disruption/unhealthy-stay", "spec:"),
    "Burstable by CPU": ("resources/not-guaranteed", 'cpu: "2"'),
    "taints of nobody": ("spot/unknown-taint", "node.kubernetes.io/spot"),
    "initialDelaySeconds beside a startup probe": ("probes/initial-delay-dead", "initialDelaySeconds"),
    "no liveness probe": ("probes/no-liveness", ""),
    "metricName": ("scale/keda-metric-name", "metricName"),
    "cooldown with a minimum of 1": ("scale/keda-dead-setting", "cooldownPeriod"),
    ":latest": ("engine/image-not-pinned", "vllm/vllm-openai:latest"),
    "root": ("security/root", ""),
    "gated, no token": ("weights/gated-no-token", "Meta-Llama"),
    "no NetworkPolicy": ("network/no-policy", "name: vllm-inference"),
    "no GPU toleration": ("scheduling/no-gpu-toleration", ""),
    "averaged twice": ("scale/averaged-twice", "query: |"),
    "null counts as zero": ("scale/null-is-zero", ""),
    "no fallback": ("scale/no-fallback", ""),
    "no Service": ("network/no-service", "name: vllm-inference"),
    "no monitor": ("network/no-monitor", "name: vllm-inference"),
    "unnamed port": ("network/unnamed-port", "containerPort: 8000"),
    "namespace not created": ("network/namespace-missing", "namespace: llm"),
    "replicas beside a scaler": ("scale/replicas-owned", "replicas: 1"),
    "the old module": ("engine/deprecated-entrypoint", "api_server"),
    "--load-format safetensors is no place": ("weights/not-local", "--load-format"),
    "renamed repository": ("weights/renamed-repo", "Meta-Llama"),
    "no revision": ("weights/no-revision", "Meta-Llama"),
    "a label set by hand": ("scheduling/hand-label", "key: hardware-type"),
    "surge without a spare GPU": ("rollout/surge-needs-gpu", "maxSurge: 1"),
    "progress deadline below the load": ("probes/progress-deadline", ""),
    "no behavior": ("scale/no-behavior", ""),
    "an unbounded queue": ("engine/unbounded-queue", ""),
    "140Gi of host memory": ("resources/host-memory", 'memory: "140Gi"'),
    "no topology spread": ("scheduling/no-spread", ""),
    "no ephemeral storage": ("resources/no-ephemeral-storage", "resources:"),
    "no seccomp": ("security/seccomp", ""),
    "a Kubernetes token": ("security/service-account-token", ""),
    "no compile cache": ("engine/no-compile-cache", ""),
    "privilege escalation": ("security/privileges", ""),
    "service links": ("network/service-links", ""),
    "any namespace, any model": ("promql/unpinned", "query: |"),
}


@pytest.mark.parametrize("wrong", AUDIT)
def test_each_wrong_line_is_found_where_it_stands(
    wrong: str, popular: str, lint: Callable[[str], Report]
) -> None:
    rule, at = AUDIT[wrong]
    lines = popular.splitlines()
    places = [lines[f.line - 1] for f in lint(popular).findings if f.rule == rule]
    assert places, f"{rule} says nothing"
    assert any(at in line for line in places), places


def test_nothing_else_is_said(popular: str, lint: Callable[[str], Report]) -> None:
    assert {f.rule for f in lint(popular).findings} == {rule for rule, _ in AUDIT.values()}


def test_the_worst_finding_teaches(popular: str, lint: Callable[[str], Report]) -> None:
    finding = next(f for f in lint(popular).findings if f.rule == "scale/averaged-twice")
    assert finding.object == "ScaledObject/vllm-request-scaler"
    assert finding.path == "spec.triggers[0].metadata.query"
    assert "10 replicas with 20 waiting each ask for 4" in finding.message
    assert "DOWN under overload" in finding.message
    assert "sum(" in finding.cure
