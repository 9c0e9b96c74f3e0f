"""The questions to Prometheus about a fleet's past. Text only: `drivers/prometheus.py` asks them.

Every query is pinned by namespace and model name: without them a second fleet's numbers would be counted as this
one's. Metrics of GPUs are those of NVIDIA's DCGM exporter.
"""

from __future__ import annotations

import json
import re

from seawall.engines.vllm import metrics as vllm

RATE = "5m"
"""Window of every rate(): over four scrapes of the usual 15-60 s."""


def queries(namespace: str, model_name: str, fleet: str) -> dict[str, str]:
    """PromQL for every field of `decide.history.History`; each query answers with one series."""
    who = f"namespace={_quoted(namespace)},model_name={_quoted(model_name)}"
    pods = f"namespace={_quoted(namespace)},pod=~{_quoted(re.escape(fleet) + '-.+')}"

    def total(metric: str) -> str:
        return f"sum({metric}{{{who}}})"

    def rate(metric: str) -> str:
        return f"sum(rate({metric}{{{who}}}[{RATE}]))"

    def p95(metric: str) -> str:
        return f"histogram_quantile(0.95, sum by (le) (rate({metric}_bucket{{{who}}}[{RATE}])))"

    return {
        "replicas": f"count(count by (pod, instance) ({vllm.RUNNING}{{{who}}}))",
        "demand": f"{total(vllm.RUNNING)} + {total(vllm.WAITING)}",
        "running": total(vllm.RUNNING),
        "waiting": total(vllm.WAITING),
        "waiting_for_capacity": f'sum({vllm.WAITING_BY_REASON}{{{who},reason="capacity"}})',
        "kv_usage": f"avg({vllm.KV_USAGE}{{{who}}})",
        "kv_usage_worst": f"max({vllm.KV_USAGE}{{{who}}})",
        "preemptions": rate(vllm.PREEMPTIONS),
        "rejections": rate(vllm.REJECTIONS),
        "ttft_p95": p95(vllm.TTFT),
        "tpot_p95": p95(vllm.TPOT),
        "requests": rate(vllm.FINISHED),
        "prompt_tokens": rate(vllm.PROMPT_TOKENS),
        "generation_tokens": rate(vllm.GENERATION_TOKENS),
        "gpu_util": f"avg(DCGM_FI_DEV_GPU_UTIL{{{pods}}})",
        "gpu_memory_mib": f"avg(DCGM_FI_DEV_FB_USED{{{pods}}})",
        "gpu_power_w": f"sum(DCGM_FI_DEV_POWER_USAGE{{{pods}}})",
        "dram_active": f"avg(DCGM_FI_PROF_DRAM_ACTIVE{{{pods}}})",
    }


def _quoted(text: str) -> str:
    """A PromQL string: the escapes are Go's, which JSON's are a part of."""
    return json.dumps(text)
