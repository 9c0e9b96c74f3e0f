"""`seawall advise` as a person types it: recorded history, a small Prometheus over HTTP, the API server's proxy, and a
real Prometheus whose past was written by promtool."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from seawall.cli.group import seawall
from seawall.engines.vllm.history import queries
from seawall.errors import SeawallError
from seawall.testing.kube_api import KubeApi

ROOT = Path(__file__).parents[3]
SPEC = str(ROOT / "examples" / "llama-70b-fp8-h200.yaml")
STEP, COUNT = 60.0, 60
CALM = {
    "replicas": 4,
    "running": 40,
    "waiting": 0,
    "demand": 40,
    "kv_usage": 0.5,
    "ttft_p95": 0.4,
    "tpot_p95": 0.03,
}
CALM |= {
    "requests": 2.0,
    "prompt_tokens": 2000.0,
    "generation_tokens": 600.0,
    "preemptions": 0,
    "kv_usage_worst": 0.55,
}
FULL = CALM | {
    "kv_usage": 0.98,
    "kv_usage_worst": 0.99,
    "preemptions": 2.0,
    "waiting": 60,
    "demand": 160,
    "running": 100,
}


def recorded(folder: Path, signals: dict[str, Any]) -> str:
    series = {
        k: v if isinstance(v, list) else [[STEP * n, float(v)] for n in range(COUNT)]
        for k, v in signals.items()
    }
    path = folder / "history.json"
    path.write_text(json.dumps({"window_s": STEP * COUNT, "step_s": STEP, "series": series}))
    return str(path)


def advise(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(seawall, ["advise", *args])
    if isinstance(result.exception, SeawallError):
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_full_cache_is_advised_on_and_the_neighbours_are_simulated(tmp_path: Path) -> None:
    history = recorded(tmp_path, FULL)
    code, said = advise(SPEC, "--history", history, "--json", "--what-if", "replicas=2")
    assert code == 0, said
    answer = json.loads(said)
    assert answer["advice"][0]["kind"] in ("up", "out")
    rows = answer["what_if"]["settings"]
    assert rows[0]["setting"] == "today"
    assert rows[0]["replicas"] == 4
    assert rows[-1]["setting"] == "replicas=2"
    assert answer["advice"][0]["replicas"] in {r["replicas"] for r in rows}
    assert len({(r["setting"], r["replicas"]) for r in rows}) == len(rows) >= 4
    for row in rows:
        assert 0 <= row["within_slo"] <= 1
        assert row["gpu_hours"] > 0
        assert row["usd_per_hour"] is None or row["usd_per_hour"] > 0
    same = [
        r for r in rows if r["gpu"] == rows[0]["gpu"] and r["gpus"] / r["replicas"] == rows[0]["gpus"] / 4
    ]
    by_count = sorted(same, key=lambda r: r["replicas"])
    assert [r["gpu_hours"] for r in by_count] == sorted(r["gpu_hours"] for r in by_count)
    code, said = advise(SPEC, "--history", history)
    assert "simulated on the busiest 30 min" in said
    assert "TTFT p95" in said
    assert "USD/h" in said


def test_a_calm_fleet_can_be_asked_what_if(tmp_path: Path) -> None:
    code, said = advise(
        SPEC, "--history", recorded(tmp_path, CALM), "--no-simulate", "--what-if", "gpu=H200,tp=2,replicas=3"
    )
    assert code == 0, said
    assert "gpu=H200,tp=2,replicas=3" in said
    assert "today" not in said


@pytest.mark.parametrize(
    "text", ["", "replicas", "replicas=x", "replicas=0", "cpu=3", "gpu=Abacus", "tp=1,tp=2", "tp=3"]
)
def test_a_what_if_that_is_none_has_a_cure(tmp_path: Path, text: str) -> None:
    code, said = advise(SPEC, "--history", recorded(tmp_path, CALM), "--what-if", text)
    assert code == 2
    assert len(said) > 20


@pytest.mark.parametrize("trouble", ["gone", "nan", "stale", "huge", "negative"])
def test_strange_numbers_are_told_and_never_believed(tmp_path: Path, trouble: str) -> None:
    signals: dict[str, Any] = dict(CALM)
    if trouble == "gone":
        signals = {}
    if trouble == "nan":
        signals["ttft_p95"] = [[STEP * n, float("nan")] for n in range(COUNT)]
    if trouble == "stale":
        signals["running"] = [[0.0, 40.0], [60.0, 40.0]]
    if trouble == "huge":
        signals["requests"] = 1e9
    if trouble == "negative":
        signals["requests"] = -5
    code, said = advise(SPEC, "--history", recorded(tmp_path, signals), "--json")
    assert code == 0, said
    answer = json.loads(said)
    assert answer["advice"][0]["reason"]
    if trouble == "gone":
        assert answer["advice"][0]["kind"] == "fix"
        assert answer["what_if"]["settings"] == []
    if trouble == "stale":
        assert "Too little history" in answer["advice"][0]["reason"]


class Small(BaseHTTPRequestHandler):
    """Answers each known query with its flat series."""

    answers: ClassVar[dict[str, float]]

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        start, end, step = (float(asked[k][0]) for k in ("start", "end", "step"))
        value = self.answers.get(asked["query"][0])
        times = [start + step * n for n in range(int((end - start) / step) + 1)]
        result = [] if value is None else [{"metric": {}, "values": [[t, str(value)] for t in times]}]
        data = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def small() -> Iterator[str]:
    asked = queries("llm", "llama-70b", "llama-70b")

    class Bound(Small):
        answers: ClassVar[dict[str, float]] = {asked[k]: float(v) for k, v in FULL.items()}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_over_http_the_answers_are_kept_and_say_the_same_again(tmp_path: Path, small: str) -> None:
    from seawall.config.load import load_fleets

    fleet = load_fleets(SPEC)[0]
    asked = queries(fleet.metadata.namespace, fleet.served_names[0], fleet.name)
    kept = str(tmp_path / "kept.json")
    code, said = advise(SPEC, "--prometheus", small, "--since", "1h", "--record", kept, "--json")
    assert code == 0, said
    assert set(json.loads(Path(kept).read_text())["series"]) == set(asked)
    assert json.loads(advise(SPEC, "--history", kept, "--json")[1])["advice"] == json.loads(said)["advice"]


def test_through_the_api_servers_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with KubeApi() as api:
        monkeypatch.setenv("KUBECONFIG", api.kubeconfig(tmp_path))
        values = [[time.time() - 60 * n, "3"] for n in range(60, 0, -1)]
        result = [{"metric": {}, "values": values}]
        api.proxies["monitoring/prometheus:9090"] = {
            "status": "success",
            "data": {"resultType": "matrix", "result": result},
        }
        code, said = advise(SPEC, "--service", "monitoring/prometheus:9090", "--since", "1h", "--no-simulate")
        assert code == 0, said
        assert all("/services/prometheus:9090/proxy/api/v1/query_range" in r for r in api.requests)
        code, said = advise(SPEC, "--service", "monitoring/other:9090", "--since", "1h")
        assert code == 3
        assert "services/proxy" in said
        api.let_in = set()
        code, said = advise(SPEC, "--service", "monitoring/prometheus:9090", "--since", "1h")
        assert code == 3
        assert "Log in" in said


def tool(name: str) -> str:
    """Debian's package prometheus, as scripts/test_tools.sh fetches it or as the machine has it."""
    own = ROOT / ".cache" / "tools" / "bin" / name
    found = str(own) if own.exists() else shutil.which(name)
    assert found, f"{name} is missing: run scripts/test_tools.sh"
    return found


def openmetrics(namespace: str, model: str, now: float) -> str:
    """Two hours of two engines whose caches are full, as their /metrics would have been scraped."""
    gauges = {"num_requests_running": 50, "num_requests_waiting": 30, "kv_cache_usage_perc": 0.98}
    rates = {
        "num_preemptions": 1.0,
        "request_success": 1.0,
        "prompt_tokens": 1000.0,
        "generation_tokens": 300.0,
    }
    lines, times = [], [now - 7200 + 60 * n for n in range(120)]

    def labels(pod: int, more: str = "") -> str:
        return f'{{namespace="{namespace}",model_name="{model}",pod="p{pod}",instance="p{pod}:8000",engine="0"{more}}}'

    for name, value in gauges.items():
        lines.append(f"# TYPE vllm:{name} gauge")
        lines += [f"vllm:{name}{labels(p)} {value} {t:.3f}" for p in (0, 1) for t in times]
    for name, rate in rates.items():
        lines.append(f"# TYPE vllm:{name} counter")
        lines += [
            f"vllm:{name}_total{labels(p)} {rate * 60 * n} {t:.3f}"
            for p in (0, 1)
            for n, t in enumerate(times)
        ]
    for name, le in (
        ("time_to_first_token_seconds", "5.0"),
        ("request_time_per_output_token_seconds", "0.05"),
    ):
        lines.append(f"# TYPE vllm:{name} histogram")
        for p in (0, 1):
            for bound, share in (("0.01", 0.1), (le, 1.0), ("+Inf", 1.0)):
                bucket = labels(p, f',le="{bound}"')
                lines += [f"vllm:{name}_bucket{bucket} {60 * n * share} {t:.3f}" for n, t in enumerate(times)]
    return "\n".join([*lines, "# EOF\n"])


@pytest.mark.slow
def test_a_real_prometheus_answers_every_question(tmp_path: Path) -> None:
    from seawall.config.load import load_fleets

    fleet = load_fleets(SPEC)[0]
    (tmp_path / "past").write_text(openmetrics(fleet.metadata.namespace, fleet.served_names[0], time.time()))
    data = tmp_path / "data"
    make = [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "past"), str(data)]
    subprocess.run(make, check=True, capture_output=True)
    (tmp_path / "prometheus.yml").write_text("global: {scrape_interval: 15s}\n")
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    argv = [tool("prometheus"), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={data}"]
    server = subprocess.Popen([*argv, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"])
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        code, said = advise(SPEC, "--prometheus", url, "--since", "110m", "--json")
        assert code == 0, said
        answer = json.loads(said)
        history = answer["history"]
        assert history["replicas"]["p50"] == 2
        assert history["demand"]["p50"] == 160
        assert history["kv_usage"]["p95"] == pytest.approx(0.98)
        assert history["requests"]["p50"] == pytest.approx(2.0, rel=0.05)
        assert 0.01 < history["ttft_p95"]["p50"] <= 5.0
        assert answer["advice"][0]["kind"] in ("up", "out")
        assert len(answer["what_if"]["settings"]) >= 4
    finally:
        server.terminate()
        server.wait(20)
