"""Every alert fires when it should and stays silent when it should: real promtool on our rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from seawall.batch.metrics import METRICS as LANE_METRICS
from seawall.engines.vllm.versions import find_metric
from seawall.gateway.process.metrics import METRICS
from seawall.gateway.tell.stats import FleetStats
from seawall.render.everything import render
from seawall.render.inputs import Group, Rendering
from seawall.render.observe import objectives
from seawall.render.observe.rules import alerts, prometheus_rule

NS = 'namespace="llm"'
G = f'{NS},fleet="llama-70b"'
E = f'{NS},model_name="llama-70b",pod="llama-70b-6c5d8f9b7d-x7abc"'
POD = f'{NS},pod="llama-70b-6c5d8f9b7d-x7abc"'
OTHER = f'{NS},pod="llama-70b-fp8-6c5d8f9b7d-x7abc"'
JOB = f'{NS},job_name="llama-70b-weights-0123abcd"'
HPA = f'{NS},horizontalpodautoscaler="llama-70b"'
TTFT = "seawall_time_to_first_token_seconds"
BAD = {f"seawall_requests_admitted_total{{{G}}}": "0+600x600"}
SLOW = {f"{TTFT}_count{{{G}}}": "0+600x600", f'{TTFT}_bucket{{{G},le="+Inf"}}': "0+600x600"}
QUEUED = f"seawall_queued_requests{{{G}}}"


def failed(per_minute: float) -> dict[str, str]:
    return {**BAD, f"seawall_requests_failed_total{{{G}}}": f"0+{per_minute}x600"}


def slow(in_time: int) -> dict[str, str]:
    return {**SLOW, f'{TTFT}_bucket{{{G},le="2.5"}}': f"0+{in_time}x600"}


def engine(running: str, steps: str) -> dict[str, str]:
    return {
        f"vllm:num_requests_running{{{E}}}": running,
        f"vllm:num_requests_waiting{{{E}}}": "0x60",
        f"vllm:iteration_tokens_total_count{{{E}}}": steps,
    }


def pair(first: str, a: str, second: str, b: str) -> dict[str, str]:
    return {first: a, second: b}


# alert -> (minutes, series that make it fire, series that must not)
STORIES: dict[str, tuple[int, list[dict[str, str]], list[dict[str, str]]]] = {
    "SeawallErrorBudgetBurnFast": (90, [failed(60)], [failed(6), failed(0)]),
    "SeawallErrorBudgetBurnMedium": (450, [failed(6)], [failed(3)]),
    "SeawallErrorBudgetBurnSlow": (450, [failed(3)], [failed(0.3)]),
    "SeawallTTFTBudgetBurnFast": (90, [slow(540)], [slow(594), slow(600)]),
    "SeawallTTFTBudgetBurnMedium": (450, [slow(594)], [slow(597)]),
    "SeawallTTFTBudgetBurnSlow": (450, [slow(597)], [slow(600)]),
    "SeawallQueueGrows": (30, [{QUEUED: "0+20x60"}], [{QUEUED: "100x60"}, {QUEUED: "900-10x60"}]),
    "SeawallRequestsRejected": (
        30,
        [
            {**BAD, f'seawall_requests_rejected_total{{{G},reason="queue_full"}}': "0+30x60"},
            pair(
                f"seawall_requests_admitted_total{{{G}}}",
                "7x60",
                f'seawall_requests_rejected_total{{{G},reason="queue_full"}}',
                "0+30x60",
            ),
        ],
        [{**BAD, f'seawall_requests_rejected_total{{{G},reason="queue_full"}}': "0+3x60"}],
    ),
    "SeawallStreamsBreak": (
        30,
        [{**BAD, f"seawall_resumed_streams_total{{{G}}}": "0+30x60"}],
        [{**BAD, f"seawall_resumed_streams_total{{{G}}}": "0+1x60"}],
    ),
    "SeawallEngineHung": (
        30,
        [engine("5x60", "100x60")],
        [engine("5x60", "0+10x60"), engine("0x60", "100x60")],
    ),
    "SeawallKvCachePressure": (
        30,
        [{f"vllm:kv_cache_usage_perc{{{E}}}": "0.97x60"}],
        [{f"vllm:kv_cache_usage_perc{{{E}}}": "0.9x60"}],
    ),
    "SeawallPreemptions": (
        40,
        [{f"vllm:num_preemptions_total{{{E}}}": "0+60x60"}],
        [{f"vllm:num_preemptions_total{{{E}}}": "0+3x60"}],
    ),
    "SeawallEngineRestarts": (
        50,
        [{f'kube_pod_container_status_restarts_total{{{POD},container="engine"}}': "0+1x60"}],
        [
            {f'kube_pod_container_status_restarts_total{{{POD},container="engine"}}': "0x20 1x60"},
            {f'kube_pod_container_status_restarts_total{{{OTHER},container="engine"}}': "0+1x60"},
        ],
    ),
    "SeawallReplicasMissing": (
        90,
        [
            pair(
                f'kube_deployment_status_replicas_available{{{NS},deployment="llama-70b"}}',
                "1x120",
                f'kube_deployment_spec_replicas{{{NS},deployment="llama-70b"}}',
                "2x120",
            )
        ],
        [
            pair(
                f'kube_deployment_status_replicas_available{{{NS},deployment="llama-70b"}}',
                "1x20 2x120",
                f'kube_deployment_spec_replicas{{{NS},deployment="llama-70b"}}',
                "2x120",
            )
        ],
    ),
    "SeawallNoReplica": (
        30,
        [
            pair(f'seawall_replica_up{{{G},replica="a",state="evicted"}}', "0x60", QUEUED, "5x60"),
            {QUEUED: "5x60"},
        ],
        [
            pair(f'seawall_replica_up{{{G},replica="a",state="ready"}}', "1x60", QUEUED, "5x60"),
            pair(f'seawall_replica_up{{{G},replica="a",state="evicted"}}', "0x60", QUEUED, "0x60"),
        ],
    ),
    "SeawallReplicaAnswersWrongly": (
        5,
        [{f'seawall_replica_answers_wrongly{{{G},replica="a",state="wrong",kind="weights"}}': "1x60"}],
        [{f'seawall_truth_asks_total{{{G},result="same"}}': "5x60"}],
    ),
    "SeawallReplicasDisagree": (
        30,
        [{f"seawall_truth_disagree{{{G}}}": "1x60"}],
        [{f"seawall_truth_disagree{{{G}}}": "0x60"}],
    ),
    "SeawallScalerBlind": (
        30,
        [
            {},
            {
                QUEUED: "0x60",
                'keda_scaler_detail_errors_total{exported_namespace="llm",scaledObject="llama-70b"}': "0+4x60",
            },
        ],
        [{QUEUED: "0x60"}],
    ),
    "SeawallAtMaximum": (
        60,
        [
            {
                f"kube_horizontalpodautoscaler_status_desired_replicas{{{HPA}}}": "6x90",
                f"kube_horizontalpodautoscaler_spec_max_replicas{{{HPA}}}": "6x90",
                f"seawall_in_flight_requests{{{G}}}": "9x90",
            }
        ],
        [
            {
                f"kube_horizontalpodautoscaler_status_desired_replicas{{{HPA}}}": "5x90",
                f"kube_horizontalpodautoscaler_spec_max_replicas{{{HPA}}}": "6x90",
                f"seawall_in_flight_requests{{{G}}}": "9x90",
            }
        ],
    ),
    "SeawallWeightsFailed": (
        20,
        [{f"kube_job_status_failed{{{JOB}}}": "1x60"}],
        [pair(f"kube_job_status_failed{{{JOB}}}", "1x60", f"kube_job_status_succeeded{{{JOB}}}", "1x60")],
    ),
    "SeawallGpuXid": (
        10,
        [{f'DCGM_FI_DEV_XID_ERRORS{{{POD},gpu="0"}}': "79x60"}],
        [
            {f'DCGM_FI_DEV_XID_ERRORS{{{POD},gpu="0"}}': "0x60"},
            {f'DCGM_FI_DEV_XID_ERRORS{{{OTHER},gpu="0"}}': "79x60"},
        ],
    ),
    "SeawallGpuHot": (
        20,
        [{f'DCGM_FI_DEV_GPU_TEMP{{{POD},gpu="0"}}': "90x60"}],
        [{f'DCGM_FI_DEV_GPU_TEMP{{{POD},gpu="0"}}': "80x60"}],
    ),
    "SeawallGpuMemoryFaults": (
        10,
        [
            {f"DCGM_FI_DEV_ROW_REMAP_FAILURE{{{POD}}}": "1x60"},
            {f"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{POD}}}": "2x60"},
        ],
        [{f"DCGM_FI_DEV_ROW_REMAP_FAILURE{{{POD}}}": "0x60"}],
    ),
    "SeawallGpuMemoryFull": (
        20,
        [{f"DCGM_FI_DEV_FB_FREE{{{POD}}}": "100x60"}],
        [{f"DCGM_FI_DEV_FB_FREE{{{POD}}}": "6000x60"}],
    ),
}


def story(alert: str, minutes: int, series: dict[str, str], fires: bool) -> dict[str, Any]:
    expected = [{"labels": "{}", "value": 1}] if fires else []
    return {
        "name": f"{alert} {'fires' if fires else 'is silent'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}}))',
                "eval_time": f"{minutes}m",
                "exp_samples": expected,
            }
        ],
    }


def rules_of(alert: str, groups: list[Any]) -> dict[str, Any]:
    """The alert alone with the recording rules that it reads: promtool evaluates every rule at every step."""
    rule = next(r for g in groups for r in g["rules"] if r.get("alert") == alert)
    needed = [r for g in groups for r in g["rules"] if r.get("record") and r["record"] in rule["expr"]]
    return {"groups": [{"name": "g", "rules": [*needed, rule]}]}


@pytest.mark.parametrize("alert", STORIES)
def test_an_alert_fires_when_it_should_and_only_then(
    alert: str, tmp_path: Path, run: Callable[..., str], group: Callable[..., Group], llama: str
) -> None:
    (wanted,) = group(llama).members
    rules = rules_of(alert, prometheus_rule(wanted)["spec"]["groups"])
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    minutes, fire, silent = STORIES[alert]
    tests = [story(alert, minutes, series, True) for series in fire]
    tests += [story(alert, minutes, series, False) for series in silent]
    body = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(body))
    assert "SUCCESS" in run("promtool", "test", "rules", str(tmp_path / "tests.yaml"))


def test_every_alert_has_its_story(group: Callable[..., Group], llama: str) -> None:
    (wanted,) = group(llama).members
    assert {a.name for a in alerts(wanted)} == set(STORIES)


def test_promtool_accepts_the_rules_of_every_example(
    rendering: Rendering, tmp_path: Path, run: Callable[..., str]
) -> None:
    for n, obj in enumerate(o for o in rendering.objects if o["kind"] == "PrometheusRule"):
        path = tmp_path / f"{n}.yaml"
        path.write_text(yaml.safe_dump(obj["spec"]))
        assert "SUCCESS" in run("promtool", "check", "rules", str(path))


def expressions(value: Any) -> list[str]:
    """Every PromQL text of an object: rules, triggers, dashboard targets."""
    if isinstance(value, dict):
        own = [
            value[k] for k in ("expr", "query") if isinstance(value.get(k), str) and value[k] != "prometheus"
        ]
        return own + [e for v in value.values() for e in expressions(v)]
    if isinstance(value, list):
        return [e for v in value for e in expressions(v)]
    return []


def selectors(node: Any) -> list[str]:
    import re

    return re.findall(r"\b((?:vllm:|seawall_)[a-z_:]+)", str(node))


def test_every_metric_that_we_ask_for_exists(rendering: Rendering) -> None:
    """The engine's metrics in its version, the gateway's in its own table."""
    import json

    seen = set()
    for obj in rendering.objects:
        texts = expressions(obj)
        if "grafana_dashboard" in obj["metadata"].get("labels", {}):
            texts += [e for text in obj["data"].values() for e in expressions(json.loads(text))]
        for text in texts:
            for name in selectors(promql_parser.parse(text)):
                seen.add(name)
                if name.startswith("vllm:"):
                    metric = find_metric(name)
                    assert metric, name
                    assert metric.known_to((0, 32)), name
                else:
                    stem = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
                    lane = name.removesuffix("_total")
                    assert name in METRICS or stem in METRICS or lane in LANE_METRICS, name
    if any(w.fleet.spec.monitoring.enabled for w in rendering.group.members):
        assert seen


def test_the_histogram_bucket_of_an_objective_is_one_that_the_gateway_has() -> None:
    bounds = FleetStats().ttft.bounds
    assert objectives.bucket_for(2.0) == 2.5
    assert 2.5 in bounds
    assert objectives.bucket_for(1e9) == bounds[-1]


def test_every_alert_has_a_runbook_that_names_a_next_step(group: Callable[..., Group], llama: str) -> None:
    (wanted,) = group(llama).members
    for alert in alerts(wanted):
        rule = alert.rule(wanted)
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert len(rule["annotations"]["runbook"]) > 40, alert.name


def test_without_monitoring_nothing_watches(group: Callable[..., Group], llama: str) -> None:
    kinds = {o["kind"] for o in render(group(llama + "  monitoring: {enabled: false}\n")).objects}
    assert not kinds & {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
