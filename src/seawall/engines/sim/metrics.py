"""vLLM's Prometheus metrics, by hand: the names, labels and buckets of 0.32, live values, no client library.

Names and buckets as printed by a real server (`tests/contract/test_metrics.py` compares the two).
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterable, Sequence

from seawall.engines.vllm import metrics as vllm

TTFT = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
ITERATION = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
COUNT_N = (1, 2, 5, 10, 20)
PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)
HISTOGRAMS: dict[str, Sequence[float]] = {
    "request_prompt_tokens": TOKENS,
    "request_generation_tokens": TOKENS,
    "iteration_tokens_total": ITERATION,
    "request_max_num_generation_tokens": TOKENS,
    "request_params_n": COUNT_N,
    "request_params_max_tokens": TOKENS,
    "time_to_first_token_seconds": TTFT,
    "inter_token_latency_seconds": PER_TOKEN,
    "request_time_per_output_token_seconds": PER_TOKEN,
    "e2e_request_latency_seconds": LATENCY,
    "request_queue_time_seconds": LATENCY,
    "request_inference_time_seconds": LATENCY,
    "request_prefill_time_seconds": LATENCY,
    "request_decode_time_seconds": LATENCY,
    "request_num_preemptions": PREEMPTIONS,
    "request_prefill_kv_computed_tokens": TOKENS,
}


class SimHistogram:
    """Cumulative on printing only: an observation is one bisect and two additions."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += times
        self.total += value * times

    def lines(self, name: str, labels: str) -> Iterable[str]:
        engine, model = labels.split(",", 1)
        seen = 0
        for bound, count in zip((*self.bounds, None), self.counts, strict=True):
            seen += count
            le = "+Inf" if bound is None else repr(float(bound))
            yield f'{name}_bucket{{{engine},le="{le}",{model}}} {float(seen)}'
        yield f"{name}_count{{{labels}}} {float(seen)}"
        yield f"{name}_sum{{{labels}}} {self.total}"


class Metrics:
    """All series of one engine."""

    def __init__(self, model: str) -> None:
        self.labels = f'engine="0",model_name="{model}"'
        self.model = f'model_name="{model}"'
        self.started = time.time()
        self.histograms = {name: SimHistogram(bounds) for name, bounds in HISTOGRAMS.items()}
        self.http: dict[tuple[str, str, str], int] = {}
        self.rejected = {"max_num_queued_reqs": 0, "max_num_queued_tokens": 0}

    def observe(self, name: str, value: float, times: int = 1) -> None:
        self.histograms[name].observe(value, times)

    def answered(self, handler: str, method: str, status: int) -> None:
        key = (handler, method, f"{status // 100}xx")
        self.http[key] = self.http.get(key, 0) + 1

    def text(
        self,
        gauges: dict[str, float],
        counters: dict[str, float],
        finished: dict[str, int],
        cache: str,
        asleep: str = "awake",
    ) -> str:
        """The exposition. `gauges` and `counters` are unlabelled vLLM names without the `vllm:` prefix."""
        out: list[str] = []

        def series(name: str, kind: str, rows: Iterable[tuple[str, float]]) -> None:
            out.append(f"# HELP {name} Simulated vLLM.")
            out.append(f"# TYPE {name} {kind}")
            out.extend(f"{name}{{{labels}}} {float(value)}" for labels, value in rows)

        for name, value in gauges.items():
            series(f"vllm:{name}", "gauge", [(self.labels, value)])
        waiting = gauges.get("num_requests_waiting", 0.0)
        reasons = [("capacity", waiting), ("deferred", 0.0)]
        series(
            vllm.WAITING_BY_REASON,
            "gauge",
            [(f'{self.labels},reason="{reason}"', v) for reason, v in reasons],
        )
        states = [(s, float(s == asleep)) for s in ("awake", "weights_offloaded", "discard_all")]
        series(
            vllm.SLEEP_STATE,
            "gauge",
            [(f'{self.labels},sleep_state="{state}"', v) for state, v in states],
        )
        for name, value in counters.items():
            series(f"vllm:{name}", "counter", [(self.labels, value)])
        rows = [(f'engine="0",finished_reason="{r}",{self.model}', float(n)) for r, n in finished.items()]
        series(vllm.FINISHED, "counter", rows)
        rejected = [(f'{self.model},reason="{reason}"', float(n)) for reason, n in self.rejected.items()]
        series(vllm.REJECTIONS, "counter", rejected)
        for name, histogram in self.histograms.items():
            out.append(f"# HELP vllm:{name} Simulated vLLM.")
            out.append(f"# TYPE vllm:{name} histogram")
            out.extend(histogram.lines(f"vllm:{name}", self.labels))
        series(vllm.CACHE_CONFIG, "gauge", [(cache, 1.0)])
        http = [(f'handler="{h}",method="{m}",status="{s}"', float(n)) for (h, m, s), n in self.http.items()]
        series("http_requests_total", "counter", http)
        series("process_start_time_seconds", "gauge", [])
        out[-2:] = ["# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {self.started}"]
        return "\n".join(out) + "\n"
