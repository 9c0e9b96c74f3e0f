"""The Grafana dashboard of a fleet, as the JSON that Grafana's sidecar reads from a ConfigMap.

Rows: what clients feel, where requests are, what engines do, what GPUs do. Panels are made by small functions,
because the dashboard model is plain JSON and we use five kinds of it.
"""

from __future__ import annotations

import json

from seawall.domain.labels import (
    BATCH_COST_USD,
    BATCH_DEADLINE_SECONDS,
    BATCH_GPU_SECONDS,
    BATCH_LATE_SECONDS,
    BATCH_LINES,
    BATCH_LINES_AGAIN,
    BATCH_LINES_LEFT,
    BATCH_LINES_LIMIT,
    BATCH_LINES_PER_SECOND,
    BATCH_LINES_UNDER_WAY,
    BATCH_TOKENS,
    IN_FLIGHT_REQUESTS,
    QUEUE_WAIT_SECONDS,
    QUEUED_REQUESTS,
    REPLICA_UP,
    REQUEST_DURATION_SECONDS,
    REQUESTS_CANCELLED_TOTAL,
    REQUESTS_FAILED_TOTAL,
    REQUESTS_FINISHED_TOTAL,
    REQUESTS_REJECTED_TOTAL,
    RESUMED_STREAMS_TOTAL,
    RETRIES_TOTAL,
    TIME_TO_FIRST_TOKEN_SECONDS,
    TOKENS_TOTAL,
)
from seawall.engines.vllm import metrics as vllm
from seawall.render.demand import demand, engine_labels, gateway_labels, quoted
from seawall.render.inputs import Object, Wanted
from seawall.render.names import fleet_meta, short
from seawall.render.observe.rules import pods
from seawall.render.promql import parsed
from seawall.render.scaling import number, policy_of

HEIGHT, WIDTH, COLUMNS = 8, 8, 3
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def config_map(wanted: Wanted) -> Object:
    metadata = fleet_meta(wanted, short(wanted.name, "-dashboard"), "monitoring")
    metadata["labels"]["grafana_dashboard"] = "1"
    text = json.dumps(dashboard(wanted), indent=1) + "\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {f"seawall-{wanted.name}.json": text},
    }


def dashboard(wanted: Wanted) -> Object:
    panels: list[Object] = []
    y = 0
    for title, rows in _rows(wanted):
        panels.append(
            {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _at(0, y, 24, 1)}
        )
        y += 1
        for n, panel in enumerate(rows):
            column, line = n % COLUMNS, n // COLUMNS
            panel["gridPos"] = _at(column * WIDTH, y + line * HEIGHT, WIDTH, HEIGHT)
            panels.append(panel)
        y += HEIGHT * -(-len(rows) // COLUMNS)
    for n, panel in enumerate(panels, 1):
        panel["id"] = n
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "uid": f"seawall-{wanted.name}"[:40],
        "title": f"Seawall / {wanted.name}",
        "tags": ["seawall", "vllm"],
        "timezone": "browser",
        "schemaVersion": 41,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


def _at(x: int, y: int, w: int, h: int) -> Object:
    return {"x": x, "y": y, "w": w, "h": h}


def _lines(
    title: str, unit: str, queries: dict[str, str], says: str = "", limit: float | None = None
) -> Object:
    """A time series; `queries` maps legend to PromQL, `limit` draws a red line."""
    custom: Object = {"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": False}
    defaults: Object = {"unit": unit, "min": 0, "custom": custom}
    if limit is not None:
        custom["thresholdsStyle"] = {"mode": "line"}
        steps: list[Object] = [{"color": "green", "value": None}, {"color": "red", "value": limit}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    targets = [
        {"refId": chr(65 + n), "datasource": _SOURCE, "expr": parsed(query), "legendFormat": legend}
        for n, (legend, query) in enumerate(queries.items())
    ]
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return {
        "type": "timeseries",
        "title": title,
        "description": says,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": targets,
    }


def _quantiles(metric: str, tags: str) -> dict[str, str]:
    return {
        f"p{round(q * 100)}": f"histogram_quantile({q:g}, sum by (le) (rate({metric}_bucket{{{tags}}}[5m])))"
        for q in (0.5, 0.95, 0.99)
    }


def _rows(wanted: Wanted) -> list[tuple[str, list[Object]]]:
    out = [
        ("Clients", _clients(wanted)),
        ("Queue and replicas", _queue(wanted)),
        ("Engines", _engines(wanted)),
    ]
    if wanted.fleet.spec.gateway.batch is not None:
        out.append(("Batches", _batches(wanted)))
    if wanted.fleet.spec.monitoring.dcgm and wanted.plan.gpu != "cpu":
        out.append(("GPUs", _gpus(wanted)))
    return out


def _batches(wanted: Wanted) -> list[Object]:
    """Panels of the lane, which all fleets beside one gateway share: what has a fleet's name is this fleet's."""
    own, lane = gateway_labels(wanted), f"namespace={quoted(wanted.namespace)}"
    under = {
        "under way": f"sum({BATCH_LINES_UNDER_WAY}{{{own}}})",
        "may be": f"sum({BATCH_LINES_LIMIT}{{{own}}})",
    }
    rate = {
        "{{result}}": f"sum by (result) (rate({BATCH_LINES}_total{{{lane}}}[5m]))",
        "sent again": f"sum(rate({BATCH_LINES_AGAIN}_total{{{lane}}}[5m]))",
        "this fleet's pace": f"sum({BATCH_LINES_PER_SECOND}{{{own}}})",
    }
    left = {"{{tenant}}": f"sum by (tenant) ({BATCH_LINES_LEFT}{{{lane}}})"}
    window = {
        "window ends, {{tenant}}": f"min by (tenant) ({BATCH_DEADLINE_SECONDS}{{{lane}}})",
        "late by, {{tenant}}": f"max by (tenant) ({BATCH_LATE_SECONDS}{{{lane}}})",
    }
    tokens = {"{{tenant}}": f"sum by (tenant) (rate({BATCH_TOKENS}_total{{{lane}}}[5m]))"}
    gpus = {"{{tenant}}": f"sum by (tenant) (rate({BATCH_GPU_SECONDS}_total{{{lane}}}[5m]))"}
    cost = {"{{tenant}}": f"sum by (tenant) (increase({BATCH_COST_USD}_total{{{lane}}}[1d]))"}
    return [
        _lines("Lines at once", "short", under, "As many as interactive requests leave room for."),
        _lines(
            "Lines per second",
            "ops",
            rate,
            "Done, of all fleets, and what this one is reckoned to do. Sent again: gave way, or what ran them died.",
        ),
        _lines("Lines left", "short", left, "Of batches that run, by tenant."),
        _lines(
            "Windows",
            "s",
            window,
            "Until the next window ends, and by how much one is expected to be missed.",
        ),
        _lines("Tokens of lines", "short", tokens, "Asked and answered, per second, by tenant."),
        _lines("GPUs that lines take", "short", gpus, "Of replicas' time, lines' own share, by tenant."),
        _lines("Cost of lines", "currencyUSD", cost, "Of the last day at the lane's price, by tenant."),
    ]


def _clients(wanted: Wanted) -> list[Object]:
    g, slo = gateway_labels(wanted), wanted.fleet.spec.traffic.slo
    outcomes = {
        name: f"sum(rate({metric}{{{g}}}[5m]))"
        for name, metric in (
            ("finished", REQUESTS_FINISHED_TOTAL),
            ("failed", REQUESTS_FAILED_TOTAL),
            ("cancelled", REQUESTS_CANCELLED_TOTAL),
            ("rejected", REQUESTS_REJECTED_TOTAL),
        )
    }
    moved = {
        "resumed streams": f"sum(increase({RESUMED_STREAMS_TOTAL}{{{g}}}[5m]))",
        "retries, {{reason}}": f"sum by (reason) (increase({RETRIES_TOTAL}{{{g}}}[5m]))",
    }
    ttft = _quantiles(TIME_TO_FIRST_TOKEN_SECONDS, g)
    tpot = _quantiles(vllm.TPOT, engine_labels(wanted))
    tokens = {"{{kind}}": f"sum by (kind) (rate({TOKENS_TOTAL}{{{g}}}[5m]))"}
    duration = _quantiles(REQUEST_DURATION_SECONDS, g)
    return [
        _lines("Requests", "reqps", outcomes),
        _lines("Time to first token", "s", ttft, "From arrival at the gateway.", slo.ttft),
        _lines("Time per output token", "s", tpot, "As engines measure it.", slo.tpot),
        _lines("Saved from breaking", "short", moved, "In five minutes; clients saw no error."),
        _lines("Tokens", "short", tokens, "Per second."),
        _lines("Duration", "s", duration),
    ]


def _queue(wanted: Wanted) -> list[Object]:
    g = gateway_labels(wanted)
    where = {
        "queued in the gateway": f"sum({QUEUED_REQUESTS}{{{g}}})",
        "at replicas": f"sum({IN_FLIGHT_REQUESTS}{{{g}}})",
        "demand (the scaler's)": demand(wanted),
    }
    replicas = {
        "serving": f"max(sum by (pod) ({REPLICA_UP}{{{g}}}))",
        "capacity in use": f"({demand(wanted)}) / {number(policy_of(wanted).target)}",
    }
    waits = _quantiles(QUEUE_WAIT_SECONDS, g)
    return [
        _lines("Where requests are", "short", where),
        _lines(
            "Replicas", "short", replicas, "Capacity in use: demand divided by the target of one replica."
        ),
        _lines("Wait in the gateway's queue", "s", waits, "Of those that had to wait."),
    ]


def _engines(wanted: Wanted) -> list[Object]:
    e = engine_labels(wanted)
    load = {
        "running {{pod}}": f"sum by (pod) ({vllm.RUNNING}{{{e}}})",
        "waiting {{pod}}": f"sum by (pod) ({vllm.WAITING}{{{e}}})",
    }
    cache = {"{{pod}}": f"max by (pod) ({vllm.KV_USAGE}{{{e}}})"}
    hits = {
        "hit rate": f"sum(rate({vllm.PREFIX_HITS}{{{e}}}[5m])) / "
        f"(sum(rate({vllm.PREFIX_QUERIES}{{{e}}}[5m])) > 0)"
    }
    tokens = {"{{pod}}": f"sum by (pod) (rate({vllm.GENERATION_TOKENS}{{{e}}}[5m]))"}
    preempted = {"{{pod}}": f"sum by (pod) (rate({vllm.PREEMPTIONS}{{{e}}}[5m]))"}
    steps = {"{{pod}}": f"sum by (pod) (rate({vllm.STEPS}{{{e}}}[5m]))"}
    return [
        _lines("Running and waiting", "short", load),
        _lines("KV cache", "percentunit", cache, limit=0.95),
        _lines("Prefix cache", "percentunit", hits),
        _lines("Output tokens per second", "short", tokens),
        _lines("Preemptions per second", "short", preempted),
        _lines("Steps per second", "short", steps, "Zero with requests running is a hung engine."),
    ]


def _gpus(wanted: Wanted) -> list[Object]:
    tags = f"namespace={quoted(wanted.namespace)},pod=~{quoted(pods(wanted))}"
    legend = "{{pod}} {{gpu}}"
    return [
        _lines(
            "GPU busy",
            "percent",
            {legend: f"DCGM_FI_DEV_GPU_UTIL{{{tags}}}"},
            "Busy is not the same as full.",
        ),
        _lines("GPU memory used", "mbytes", {legend: f"DCGM_FI_DEV_FB_USED{{{tags}}}"}, "Flat by design."),
        _lines("Temperature", "celsius", {legend: f"DCGM_FI_DEV_GPU_TEMP{{{tags}}}"}, limit=87),
    ]
