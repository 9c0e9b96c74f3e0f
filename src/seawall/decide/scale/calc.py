"""One metric's view of how many replicas there should be: Kubernetes 1.36's replica calculator.

Why: this arithmetic decides every scale-up on a cluster, and its corners (milli-units, truncation, which pods
count, what a missing sample stands for) change the answer. Source:
pkg/controller/podautoscaler/replica_calculator.go and metrics/utilization.go; each docstring names its
function. Forbidden: limits, windows, rates: they are `behavior.py`'s.

Values are integers in milli-units (`_m`); ratios are IEEE doubles, as upstream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from seawall.decide.scale.behavior import MAX_INT32, within

MAX_INT64 = 2**63 - 1

Refit = Callable[[Mapping[str, int]], float]
Fill = Callable[[str], int]


class MetricError(Exception):
    """A metric that cannot be turned into replicas. `code` is short and stable, `args[0]` upstream's words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Tolerance:
    down: float = 0.1
    up: float = 0.1

    def holds(self, ratio: float) -> bool:
        return within(ratio, self.down, self.up)


@dataclass(frozen=True, slots=True)
class Ready:
    """The pod's Ready condition."""

    status: bool
    since_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedPod:
    name: str
    phase: Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"] = "Running"
    deleted: bool = False
    start_s: float | None = None
    ready: Ready | None = None
    request_m: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One pod's metric: the mean over the `window_s` that ended at `at_s`."""

    value_m: int
    at_s: float = 0.0
    window_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Grouped:
    ready_count: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Calculated:
    """`usage_m`: what `status.currentMetrics` shows; `utilization_pct` only for Resource metrics."""

    replicas: int
    usage_m: int
    utilization_pct: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Readiness:
    """The controller's flags on young pods, and the time."""

    now: float = 0.0
    cpu_initialization_s: float = 300.0
    initial_readiness_delay_s: float = 30.0


def group_pods(
    pods: Sequence[CountedPod], samples: Mapping[str, Sample], resource: str, readiness: Readiness
) -> Grouped:
    """`groupPods`: whose samples count. Only for CPU does a young or unready pod's sample not count."""
    ready_count = 0
    unready, missing, ignored = set(), set(), set()
    for pod in pods:
        if pod.deleted or pod.phase == "Failed":
            ignored.add(pod.name)
        elif pod.phase == "Pending":
            unready.add(pod.name)
        elif pod.name not in samples:
            missing.add(pod.name)
        elif resource == "cpu" and _cpu_unready(pod, samples[pod.name], readiness):
            unready.add(pod.name)
        else:
            ready_count += 1
    return Grouped(ready_count, frozenset(unready), frozenset(missing), frozenset(ignored))


def _cpu_unready(pod: CountedPod, sample: Sample, readiness: Readiness) -> bool:
    if pod.ready is None or pod.start_s is None:
        return True
    if pod.start_s + readiness.cpu_initialization_s > readiness.now:
        return not pod.ready.status or sample.at_s < pod.ready.since_s + sample.window_s
    return not pod.ready.status and pod.start_s + readiness.initial_readiness_delay_s > pod.ready.since_s


def ceil32(value: float) -> int:
    """Ceiling, saturating at int32; NaN gives 0 (Go's conversion of NaN is undefined: no pods are wanted)."""
    if math.isnan(value):
        return 0
    return MAX_INT32 if value >= MAX_INT32 else math.ceil(value)


def ceil64(value: float) -> int:
    if math.isnan(value):
        return 0
    return MAX_INT64 if value >= MAX_INT64 else math.ceil(value)


def quotient(top: float, bottom: float) -> float:
    """Division as Go's floats do it: by zero gives an infinity or NaN, never an exception."""
    if bottom:
        return top / bottom
    return math.nan if top == 0 else math.copysign(math.inf, top)


def _truncated(top: int, bottom: int) -> int:
    """Integer division that truncates towards zero, as Go's."""
    whole = abs(top) // abs(bottom)
    return whole if (top < 0) == (bottom < 0) else -whole


def summed(values_m: Sequence[int]) -> int:
    """An external metric's values for a *Value* target (`GetExternalMetricReplicas`): the sum ends at int64's end."""
    total = 0
    for value in values_m:
        if value > 0 and total > MAX_INT64 - value:
            return MAX_INT64
        total += value
    return total


def summed_per_pod(values_m: Sequence[int]) -> int:
    """Sum for an *AverageValue* target (`GetExternalPerPodMetricReplicas`); one below zero overflows too."""
    total = 0
    for value in values_m:
        total += value
        if not 0 <= total <= MAX_INT64:
            return MAX_INT64
    return total


def per_pod(status_replicas: int, target_m: int, total_m: int, tolerance: Tolerance) -> Calculated:
    """External and Object metrics against an *AverageValue* (`GetExternalPerPodMetricReplicas`): readiness ignored."""
    ratio = quotient(float(total_m), float(target_m) * float(status_replicas))
    replicas = (
        status_replicas if tolerance.holds(ratio) else ceil32(quotient(float(total_m), float(target_m)))
    )
    if float(total_m) >= float(MAX_INT64):
        return Calculated(replicas=replicas, usage_m=MAX_INT64)
    return Calculated(replicas=replicas, usage_m=ceil64(quotient(float(total_m), float(status_replicas))))


def by_value(
    current: int, target_m: int, total_m: int, pods: Sequence[CountedPod], tolerance: Tolerance
) -> Calculated:
    """External and Object metrics against a *Value* (`getUsageRatioReplicaCount`): multiplies the READY pods."""
    ratio = quotient(float(total_m), float(target_m))
    if current == 0:
        return Calculated(replicas=ceil32(ratio), usage_m=total_m)
    if tolerance.holds(ratio):
        return Calculated(replicas=current, usage_m=total_m)
    if not pods:
        raise MetricError("no_pods", "no pods returned by selector while calculating replica count")
    ready = sum(p.phase == "Running" and p.ready is not None and p.ready.status for p in pods)
    return Calculated(replicas=ceil32(ratio * ready), usage_m=total_m)


def by_pods(
    current: int,
    target_m: int,
    pods: Sequence[CountedPod],
    samples: Mapping[str, Sample] | None,
    tolerance: Tolerance,
    readiness: Readiness,
    resource: str = "",
) -> Calculated:
    """A per-pod metric against an AverageValue (`calcPlainMetricReplicas`), Pods or raw Resource."""
    samples = _required(pods, samples)
    groups = group_pods(pods, samples, resource, readiness)
    counted = _counted(samples, groups)
    usage = _truncated(sum(counted.values()), len(counted))
    ratio = usage / target_m

    def again(filled: Mapping[str, int]) -> float:
        return _truncated(sum(filled.values()), len(filled)) / target_m

    replicas = _rebalanced(current, ratio, counted, groups, tolerance, again, lambda _: target_m)
    return Calculated(replicas=replicas, usage_m=usage)


def by_utilization(
    current: int,
    target_pct: int,
    resource: str,
    pods: Sequence[CountedPod],
    samples: Mapping[str, Sample] | None,
    tolerance: Tolerance,
    readiness: Readiness,
    container: str = "",
) -> Calculated:
    """Resource (and ContainerResource) utilization of requests (`GetResourceReplicas`)."""
    samples = _required(pods, samples)
    groups = group_pods(pods, samples, resource, readiness)
    counted = _counted(samples, groups)
    requests: dict[str, int] = {}
    for pod in pods:
        if pod.request_m is None:
            where = f" in container {container}" if container else ""
            raise MetricError("missing_request", f"missing request for {resource}{where} of Pod {pod.name}")
        requests[pod.name] = pod.request_m
    pct, mean = _utilization(counted, requests)
    ratio = pct / target_pct

    def again(filled: Mapping[str, int]) -> float:
        return _utilization(filled, requests)[0] / target_pct

    full = max(100, target_pct)

    def when_missing(name: str) -> int:
        return _truncated(requests[name] * full, 100)

    replicas = _rebalanced(current, ratio, counted, groups, tolerance, again, when_missing)
    return Calculated(replicas=replicas, usage_m=mean, utilization_pct=pct)


def _required(pods: Sequence[CountedPod], samples: Mapping[str, Sample] | None) -> Mapping[str, Sample]:
    """None: the metrics API had nothing to say, which upstream finds out before it lists the pods."""
    if samples is None:
        raise MetricError("no_metrics", "no metrics returned from the metrics API")
    if not pods:
        raise MetricError("no_pods", "no pods returned by selector while calculating replica count")
    return samples


def _counted(samples: Mapping[str, Sample], groups: Grouped) -> dict[str, int]:
    out = groups.ignored | groups.unready
    counted = {name: s.value_m for name, s in samples.items() if name not in out}
    if not counted:
        raise MetricError(
            "no_ready_metrics", "did not receive metrics for targeted pods (pods might be unready)"
        )
    return counted


def _utilization(usage: Mapping[str, int], requests: Mapping[str, int]) -> tuple[int, int]:
    """-> (percent of requests, mean usage), both truncated; samples of unknown pods are left out."""
    known = [name for name in usage if name in requests]
    total, requested = sum(usage[n] for n in known), sum(requests[n] for n in known)
    if requested == 0:
        raise MetricError("no_matching_metrics", "no metrics returned matched known pods")
    return _truncated(total * 100, requested), _truncated(total, len(known))


def _rebalanced(
    current: int,
    ratio: float,
    counted: Mapping[str, int],
    groups: Grouped,
    tolerance: Tolerance,
    again: Refit,
    when_missing: Fill,
) -> int:
    """The second look: fill in the samples that lack, in the direction that damps, and refuse to turn round."""
    growing_unready = bool(groups.unready) and ratio > 1.0
    if not growing_unready and not groups.missing:
        return current if tolerance.holds(ratio) else ceil32(ratio * groups.ready_count)
    filled = dict(counted)
    if ratio < 1.0:
        filled |= {name: when_missing(name) for name in groups.missing}
    elif ratio > 1.0:
        filled |= dict.fromkeys(groups.missing, 0)
    if growing_unready:
        filled |= dict.fromkeys(groups.unready, 0)
    refit = again(filled)
    if tolerance.holds(refit) or (ratio < 1.0 < refit) or (refit < 1.0 < ratio):
        return current
    replicas = ceil32(refit * len(filled))
    if (refit < 1.0 and replicas > current) or (refit > 1.0 and replicas < current):
        return current
    return replicas


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerRequests:
    name: str
    request_m: int | None = None
    always: bool = False
    """An init container that is a sidecar (restartPolicy Always)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PodResources:
    name: str
    pod_level_m: int | None = None
    containers: Sequence[ContainerRequests] = ()
    init_containers: Sequence[ContainerRequests] = ()


def requests_of(
    pods: Sequence[PodResources], resource: str, container: str = "", pod_level: bool = True
) -> dict[str, int]:
    """`calculateRequests` -> {pod: milli}. Only sidecars among the init containers count."""
    found = {}
    for pod in pods:
        if pod_level and pod.pod_level_m is not None and not container:
            found[pod.name] = pod.pod_level_m
            continue
        counted = [*pod.containers, *(c for c in pod.init_containers if c.always)]
        wanted = [c for c in counted if container in ("", c.name)]
        if container and not wanted:
            raise MetricError("container_not_found", f"container {container} not found in Pod {pod.name}")
        total = 0
        for c in wanted[:1] if container else wanted:
            if c.request_m is None:
                text = f"missing request for {resource} in container {c.name} of Pod {pod.name}"
                raise MetricError("missing_request", text)
            total += c.request_m
        found[pod.name] = total
    return found
