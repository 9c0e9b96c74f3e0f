"""/metrics: the names, labels and kinds that scalers, dashboards and our own code read."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent import futures

import pytest
from tests.contract.conftest import Server

from seawall.engines.sim.metrics import HISTOGRAMS

pytestmark = pytest.mark.timeout(1000)
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
COUNTERS = ("prefix_cache_queries_total", "prefix_cache_hits_total", "num_preemptions_total", "prompt_tokens_total",
            "prompt_tokens_cached_total", "generation_tokens_total")  # fmt: skip


def test_every_series_that_is_read_is_there(server: Server) -> None:
    series = server.metrics()
    labels = f'{{engine="0",model_name="{server.model}"}}'
    for name in (*GAUGES, *COUNTERS):
        assert f"vllm:{name}{labels}" in series, name
    for reason in ("capacity", "deferred"):
        key = (
            f'vllm:num_requests_waiting_by_reason{{engine="0",model_name="{server.model}",reason="{reason}"}}'
        )
        assert key in series
    for reason in ("stop", "length", "abort", "error", "repetition"):
        key = (
            f'vllm:request_success_total{{engine="0",finished_reason="{reason}",model_name="{server.model}"}}'
        )
        assert key in series
    for reason in ("max_num_queued_reqs", "max_num_queued_tokens"):
        assert f'vllm:admission_rejections_total{{model_name="{server.model}",reason="{reason}"}}' in series
    assert any(k.startswith("vllm:cache_config_info{") and "num_gpu_blocks=" in k for k in series)


def test_histograms_have_the_same_buckets(server: Server) -> None:
    series = server.metrics()
    for name, bounds in HISTOGRAMS.items():
        for bound in bounds:
            key = f'vllm:{name}_bucket{{engine="0",le="{float(bound)}",model_name="{server.model}"}}'
            if name == "request_params_n" or name.startswith("request_params_max"):
                continue
            assert key in series, key
        assert f'vllm:{name}_count{{engine="0",model_name="{server.model}"}}' in series


def test_counters_count(server: Server) -> None:
    before = {name: server.gauge(name) for name in COUNTERS}
    usage = server.complete("A prompt that nobody has asked yet", max_tokens=9, ignore_eos=True).json["usage"]
    after = {name: server.gauge(name) for name in COUNTERS}
    assert after["prompt_tokens_total"] - before["prompt_tokens_total"] == usage["prompt_tokens"]
    assert after["generation_tokens_total"] - before["generation_tokens_total"] == 9


def test_http_requests_are_counted_by_class(server: Server) -> None:
    key = 'http_requests_total{handler="/v1/completions",method="POST",status="4xx"}'
    before = server.metrics().get(key, 0.0)
    server.complete(max_tokens=0)
    assert server.metrics()[key] == before + 1


def test_what_a_client_abandons_is_counted_as_nothing(server: Server) -> None:
    """Else a watcher that gives up its own ask would take that for a sign of life."""
    key = 'vllm:request_success_total{{engine="0",finished_reason="{}",model_name="{}"}}'
    keys = [key.format(reason, server.model) for reason in ("abort", "stop", "length", "error")]
    before = server.metrics()
    server.begin()
    wait_until(lambda: server.gauge("num_requests_running") == 1)
    server.hang_up()
    wait_until(lambda: server.gauge("num_requests_running") == 0)
    after = server.metrics()
    assert [after[k] for k in keys] == [before[k] for k in keys]


def test_a_prefill_moves_the_use_of_the_cache_and_no_counter(server: Server) -> None:
    """All that a watcher sees of a long prompt before its first token, one step after another."""
    of = f'{{engine="0",model_name="{server.model}"}}'
    counters = [f"vllm:{n}{of}" for n in ("generation_tokens_total", "prompt_tokens_total")]
    counters.append(f"vllm:iteration_tokens_total_count{of}")
    before = server.metrics()
    seen = set()
    with futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.complete, [n % 900 + 50 for n in range(1900)], max_tokens=1)
        while not asked.done():
            now = server.metrics()
            if all(now[name] == before[name] for name in counters):
                seen.add(now[f"vllm:kv_cache_usage_perc{of}"])
        assert asked.result().status == 200
    assert len(seen) >= 3, "nothing, then more with each step"


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
