"""HPAs and ScaledObjects as their API servers take them, and as they do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seawall.lint.run import Report

Lint = Callable[[str], Report]

HPA = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: x, namespace: lab}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: x}}
  minReplicas: 1
  maxReplicas: 4
  metrics: [{metric}]
"""
KEDA = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: x, namespace: lab}}
spec:
  scaleTargetRef: {{name: x}}
  maxReplicaCount: 4
  triggers: [{trigger}]
"""


def said(report: Report, rule: str) -> list[str]:
    return [f.message for f in report.findings if f.rule == rule]


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("{type: Pods, pods: {metric: {name: w}, target: {type: AverageValue, averageValue: 5}}}", None),
        ("{type: External, external: {metric: {name: w}, target: {type: Value, value: 5}}}", None),
        (
            "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}",
            None,
        ),
        ("{type: '{{ .Values.type }}', pods: {}}", None),
        (
            "{type: Pods, pods: {metric: {name: w}, target: {type: Value, value: 5}}}",
            "a Pods metric takes AverageValue, not Value.",
        ),
        (
            "{type: Pods, pods: {metric: {name: w}, target: {averageValue: 5}}}",
            "a Pods metric takes AverageValue, not no type.",
        ),
        (
            "{type: External, external: {metric: {name: w}, target: {type: Utilization, averageUtilization: 5}}}",
            "a External metric takes Value or AverageValue, not Utilization.",
        ),
        (
            "{type: External, external: {metric: {name: w}, target: {type: AverageValue, value: 5}}}",
            "a target of type AverageValue needs averageValue: the API server refuses the object.",
        ),
        ("{type: Pods, pods: {metric: {name: w}}}", "the Pods metric has no target."),
        ("{type: Pods}", "a metric of type Pods needs its block `pods`."),
        ("{type: Prometheus, prometheus: {}}", "there is no metric of type Prometheus."),
        (
            "{type: Pods, pods: {metricName: w, targetAverageValue: 5}}",
            "targetAverageValue is a field of autoscaling/v2beta1: unknown here.",
        ),
        (
            "{type: Resource, resource: {name: cpu, targetAverageUtilization: 80}}",
            "targetAverageUtilization is a field of autoscaling/v2beta1: unknown here.",
        ),
    ],
)
def test_targets_of_metrics(metric: str, words: str | None, lint: Lint) -> None:
    assert said(lint(HPA.format(metric=metric)), "autoscale/hpa-target") == ([words] if words else [])


ASK = "serverAddress: http://p:9090, query: 'sum(vllm:num_requests_waiting)'"


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (f"{{type: prometheus, metadata: {{{ASK}, threshold: '5'}}}}", []),
        (
            f"{{type: prometheus, metadata: {{{ASK}, threshold: 5}}}}",
            ["threshold: 5 without quotes is no string"],
        ),
        (f"{{type: prometheus, metadata: {{{ASK}}}}}", ["the prometheus trigger has no threshold"]),
        (
            "{type: prometheus, metadata: {url: http://p:9090, query: up, threshold: '5'}}",
            ["the prometheus trigger has no serverAddress", "knows no url and ignores it"],
        ),
        ("{type: prometheus, authenticationRef: {name: a}, metadata: {query: up, threshold: '5'}}", []),
        (f"{{type: prometheus, metadata: {{{ASK}, threshold: '5', azureTenant: a, gcpProject: b}}}}", []),
        (
            f"{{type: prometheus, metricType: Utilization, metadata: {{{ASK}, threshold: '5'}}}}",
            ["Utilization is for cpu and memory triggers only"],
        ),
        (
            "{type: cron, metadata: {timezone: UTC, start: 0 8 * * *, end: 0 18 * * *, desiredReplicas: '4'}}",
            [],
        ),
        ("{type: cron, metadata: {desiredReplicas: 4}}", ["desiredReplicas: 4 without quotes is no string"]),
    ],
)
def test_metadata_of_triggers(trigger: str, words: list[str], lint: Lint) -> None:
    found = said(lint(KEDA.format(trigger=trigger)), "autoscale/trigger-metadata")
    assert len(found) == len(words)
    assert all(any(word in f for f in found) for word in words)


@pytest.mark.parametrize(
    ("expressions", "selected"),
    [
        ("{key: app, operator: In, values: [x, y]}", True),
        ("{key: app, operator: In, values: [y]}", False),
        ("{key: app, operator: NotIn, values: [y]}", True),
        ("{key: app, operator: NotIn, values: [x]}", False),
        ("{key: app, operator: Exists}", True),
        ("{key: tier, operator: Exists}", False),
        ("{key: tier, operator: DoesNotExist}", True),
        ("{key: app, operator: DoesNotExist}", False),
        ("{key: app, operator: Exists}, {key: app, operator: NotIn, values: [x]}", False),
    ],
)
def test_a_budget_chooses_pods_by_expressions(
    expressions: str, selected: bool, good: str, lint: Lint
) -> None:
    """A budget that chooses the fleet stands for it; one that does not leaves it without any."""
    mine = expressions.replace("[x", "[chat")
    old = "AlwaysAllow\n  selector: {matchLabels: {app: chat}}"
    assert old in good
    text = good.replace(old, f"AlwaysAllow\n  selector: {{matchExpressions: [{mine}]}}")
    assert ("disruption/no-pdb" not in {f.rule for f in lint(text).findings}) is selected
