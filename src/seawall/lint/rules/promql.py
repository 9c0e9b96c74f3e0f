"""Rules about PromQL: parsed, not grepped. Metrics are looked up in the catalogue of the vLLM that is served."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from seawall.engines.vllm import metrics as vllm
from seawall.engines.vllm.versions import Metric, Version, find_metric, metrics, nearest, of_connector
from seawall.lint.command import default_version
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import Span, YamlNode
from seawall.lint.patch import Patcher
from seawall.lint.queries import Query, Use, queries
from seawall.lint.world import Manifests

_RATES = {"rate", "irate", "increase"}
_BACKLOG = re.compile(r"pending|waiting|queue[d_]|running|in_?flight|backlog|cache_usage|usage_perc")
# What the production-stack router exports under the same prefix.
_ROUTER = {
    "current_qps",
    "avg_decoding_length",
    "num_prefill_requests",
    "num_decoding_requests",
    "healthy_pods_total",
    "avg_latency",
    "avg_itl",
    "num_requests_swapped",
    "router_queueing_delay_seconds",
    "num_incoming_requests_total",
}
_GPU_MEMORY = re.compile(
    r"DCGM_FI_DEV_FB_(USED|FREE)|DCGM_FI_DEV_MEM_COPY_UTIL|nvidia_smi_memory|nvidia_gpu_memory|gpu_memory_us"
)


def _version(world: Manifests) -> Version:
    found = [e.version for w in world.workloads for e in w.engines if e.pinned]
    return nearest(world.engine_version or (max(found) if found else default_version()))


def _recorded(world: Manifests) -> set[str]:
    return {
        r["record"].text()
        for o in world.kinds("PrometheusRule")
        for g in o.spec["groups"]
        for r in g["rules"]
        if r["record"]
    }


def _vllm_uses(world: Manifests) -> Iterator[tuple[Query, Use]]:
    recorded = _recorded(world)
    for query in queries(world):
        for use in query.uses:
            if re.match(r"vllm[:_]", use.name) and use.name not in recorded and use.name.count(":") < 2:
                yield query, use


def place_of(world: Manifests, query: Query, needle: str) -> YamlNode:
    """The line inside a query on which `needle` stands."""
    node = query.node
    text = world.texts.get(node.file, "")[node.span.start : node.span.end]
    at = text.find(needle)
    if at < 0:
        return node
    line = node.span.line + text.count("\n", 0, at)
    span = Span(line, node.span.column, node.span.start, node.span.end, node.span.end_line)
    return YamlNode(node.path, span, node.file, value=node.value, style=node.style)


def _nearest_metric(name: str, version: Version) -> str:
    bare = re.sub(r"^vllm[:_]|_total$", "", name)
    if re.search(r"pending|queue|backlog|waiting", bare) and not bare.endswith(("seconds", "time")):
        return vllm.WAITING
    known = {m.name: m for m in metrics().values() if m.known_to(version)}
    near = difflib.get_close_matches("vllm:" + bare, known, 1, 0.6) or difflib.get_close_matches(
        f"vllm:{bare}_total", known, 1, 0.6
    )
    return near[0] if near else ""


def _types(metric: Metric | None, name: str) -> str:
    if metric is None:
        return "gauge" if _BACKLOG.search(name) else ""
    return metric.type


@rule(
    "promql/syntax",
    "error",
    "A query that does not parse",
    story="""Prometheus answers HTTP 400; KEDA logs an error at every poll and scales nothing; a
    PrometheusRule is refused by the operator's webhook, or the whole group is dropped.""",
    cure="Correct the query.",
)
def syntax(world: Manifests, say: Say) -> Iterator[Finding]:
    for query in queries(world):
        if query.error:
            yield say(query.obj, query.node, f"Prometheus refuses this query: {query.error}.")


@rule(
    "promql/unknown-metric",
    "error",
    "A metric that vLLM does not have",
    story="""vLLM's metrics begin with `vllm:`, with a colon; none is called pending_requests. A query on a
    series that does not exist is no error: it returns nothing, KEDA makes 0 of it, and the fleet sits at
    its minimum for ever, the alert never fires. The catalogue holds the metrics of vLLM 0.8 to 0.33, read
    off their sources.""",
    cure="Use a metric of this vLLM: vllm:num_requests_waiting, vllm:num_requests_running, "
    "vllm:kv_cache_usage_perc.",
    fixable=False,
)
def unknown_metric(world: Manifests, say: Say) -> Iterator[Finding]:
    yield from _of_autoscalers(world, say)
    version = _version(world)
    for query, use in _vllm_uses(world):
        bare = use.name.removeprefix("vllm:")
        if find_metric(use.name) is not None or of_connector(use.name) or bare in _ROUTER:
            continue
        better = _nearest_metric(use.name, version)
        colon = re.sub(r"^vllm_", "vllm:", use.name)
        if colon != use.name and find_metric(colon) is not None:
            yield say(
                query.obj,
                place_of(world, query, use.name),
                f"vLLM's own name is {colon}: unless something renames it on the way, the query returns nothing.",
                f"Use {colon}.",
                severity="warning",
            )
            continue
        yield say(
            query.obj,
            place_of(world, query, use.name),
            f"{use.name} does not exist: the query returns nothing, without an error"
            + (", and the fleet stays at its minimum." if query.trigger else "."),
            f"Use {better}." if better else None,
        )


def _of_autoscalers(world: Manifests, say: Say) -> Iterator[Finding]:
    """Metrics that an HPA asks an adapter for, under names which no metric of vLLM has."""
    for obj in world.kinds("HorizontalPodAutoscaler"):
        for metric in obj.spec["metrics"]:
            for block in ("pods", "object", "external"):
                node = metric.at(block, "metric", "name")
                name = node.text()
                colon = re.sub(r"^vllm[_:]", "vllm:", name)
                if not name.startswith(("vllm_", "vllm:")) or find_metric(colon) is not None:
                    continue
                if sum(text.count(name) for text in world.texts.values()) > 1:
                    continue  # another object in sight, perhaps an adapter's rules, knows it
                better = _nearest_metric(name, _version(world))
                yield say(
                    obj,
                    node,
                    f"vLLM has no metric {name}: unless an adapter's rule makes one of that name, the HPA shows "
                    "<unknown> and scales nothing.",
                    f"Use {better}, under the name that the adapter gives it." if better else None,
                    severity="warning",
                )


@rule(
    "promql/gone-metric",
    "error",
    "A metric that this vLLM no longer has",
    story="""Metrics are renamed and dropped: vllm:gpu_cache_usage_perc went with 0.12 (now
    vllm:kv_cache_usage_perc), vllm:time_per_output_token_seconds with 0.15 (now
    vllm:inter_token_latency_seconds). The query returns nothing, without an error.""",
    cure="Use what replaced it.",
    fixable=True,
)
def gone_metric(world: Manifests, say: Say) -> Iterator[Finding]:
    version, patch = _version(world), Patcher(world.texts)
    sure = world.engine_version is not None or any(e.pinned for w in world.workloads for e in w.engines)
    shown = f"{version[0]}.{version[1]}"
    this = f"this is {shown}" if sure else f"and no image here names its version (judged as {shown})"
    for query, use in _vllm_uses(world):
        metric = find_metric(use.name)
        if metric is None or metric.known_to(version):
            continue
        if metric.removed is not None and version >= metric.removed:
            when = f"went with vLLM {metric.removed[0]}.{metric.removed[1]}"
        else:
            when = f"came with vLLM {metric.since[0]}.{metric.since[1]}"
        suffix = use.name.removeprefix(metric.name)
        edits = patch.substitute(query.node, use.name, metric.instead + suffix) if metric.instead else ()
        yield say(
            query.obj,
            place_of(world, query, use.name),
            f"{use.name} {when}, {this}: the query returns nothing, without an error.",
            f"Use {metric.instead}{suffix}." if metric.instead else None,
            severity=None if sure else "warning",
            edits=edits if sure else (),
        )


@rule(
    "promql/rate-of-gauge",
    "error",
    "The rate of a backlog",
    story="""rate() and increase() are for counters. Of a gauge such as a queue length they give the sum of
    its rises only, and 0 for a queue that stands still at 500. A backlog is read as it is; to smooth it use
    avg_over_time.""",
    cure="Read the gauge itself, or avg_over_time(...[1m]).",
)
def rate_of_gauge(world: Manifests, say: Say) -> Iterator[Finding]:
    for query, use in _vllm_uses(world):
        if use.function in _RATES and _types(find_metric(use.name), use.name) == "gauge":
            yield say(
                query.obj,
                place_of(world, query, use.name),
                f"{use.function}() of a backlog: a queue that stands still at 500 gives 0.",
            )


@rule(
    "promql/counter-as-gauge",
    "warning",
    "A counter read as it is",
    story="""A counter only grows until its process restarts. Compared with a threshold it scales out for
    ever, and averages of it say how old the Pods are.""",
    cure="Take rate(...[2m]) of it.",
)
def counter_as_gauge(world: Manifests, say: Say) -> Iterator[Finding]:
    ranged = _RATES | {
        "resets",
        "changes",
        "absent",
        "absent_over_time",
        "delta",
        "timestamp",
        "count_over_time",
        "present_over_time",
    }
    for query, use in _vllm_uses(world):
        metric = find_metric(use.name)
        counted = metric is not None and (
            metric.type == "counter" or (metric.type == "histogram" and use.name != metric.name)
        )
        if (
            counted
            and not (set(use.inside) | {use.function}) & ranged
            and "count" not in use.inside
            and not use.name.endswith("_created")
        ):
            yield say(
                query.obj,
                place_of(world, query, use.name),
                f"{use.name} only grows: without rate() it says how old the Pods are.",
            )


@rule(
    "promql/label",
    "error",
    "A label that the metric does not carry",
    story="""vLLM's metrics carry `model_name` and `engine`; a matcher on `model` fits nothing
    (production-stack's own chart has this mistake), and a query that fits nothing is 0 to KEDA.""",
    cure="Match on model_name.",
    fixable=True,
)
def label(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for query, use in _vllm_uses(world):
        for name in ("model", "served_model_name", "model_id"):
            op, value = use.labels.get(name, ("", ""))
            if op in ("Equal", "Re") and value not in ("", ".*") and find_metric(use.name):
                m = re.search(rf"\b{name}\s*(=~?)", query.text)
                edits = patch.substitute(query.node, m[0], f"model_name{m[1]}") if m else ()
                yield say(
                    query.obj,
                    place_of(world, query, f"{name}="),
                    f"{use.name} has no label {name}: the query returns nothing, without an error.",
                    edits=edits,
                )


@rule(
    "promql/unpinned",
    "warning",
    "Counts other fleets too",
    story="""Without a matcher on the namespace and on the model, a scaling query adds up every vLLM that
    this Prometheus scrapes: another team's load scales your fleet. A matcher on the job helps as long as
    its name is nobody else's: a note then.""",
    cure='Add {namespace="...", model_name="..."}.',
)
def unpinned(world: Manifests, say: Say) -> Iterator[Finding]:
    for query in queries(world):
        uses = [u for u in query.uses if u.name.startswith(("vllm:", "vllm_"))]
        if query.trigger is None or not uses:
            continue
        lacks = [n for n in ("namespace", "model_name") if not all(_pinned(u, n) for u in uses)]
        if lacks:
            job = all(_pinned(u, "job") for u in uses)
            what = "what else has that job's name counts too" if job else "other fleets' load scales this one"
            text = f"no matcher on {' and '.join(lacks)}: {what}."
            yield say(query.obj, query.node, text, severity="note" if job else None)


def _pinned(use: Use, name: str) -> bool:
    others = {
        "namespace": ("namespace", "kubernetes_namespace", "exported_namespace"),
        "model_name": ("model_name", "pod", "service", "container"),
        "job": ("job", "scrape_job", "deployment", "app"),
    }
    return any(use.labels.get(n, ("", ""))[0] in ("Equal", "Re") and use.labels[n][1] for n in others[name])


@rule(
    "promql/gpu-memory",
    "warning",
    "Scales or alerts on GPU memory",
    story="""vLLM takes its share of GPU memory at start (--gpu-memory-utilization) and keeps it: the number
    is constant by design and says nothing about load. What fills up is the KV cache.""",
    cure="Use vllm:kv_cache_usage_perc (1 = full) and vllm:num_requests_waiting.",
)
def gpu_memory(world: Manifests, say: Say) -> Iterator[Finding]:
    for query in queries(world):
        for use in query.uses:
            if query.trigger is not None and _GPU_MEMORY.search(use.name):
                yield say(
                    query.obj,
                    place_of(world, query, use.name),
                    f"{use.name} is constant by design (vLLM takes its memory at start): it never scales, "
                    "or always.",
                )
