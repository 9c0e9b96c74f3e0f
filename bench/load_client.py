"""Is the load client the bottleneck? Its CPU per request and per token, beside a peer's, on one simulated server.

    python bench/load_client.py [--quick] [--json]

The peer is httpx with an SSE reader (what scripts usually are); `--peer aiperf|guidellm` runs a published tool from
its own cached environment on the same server (installed once, from the package index that pip is configured with).
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


async def ours(url: str, requests: int, concurrency: int) -> int:
    from seawall.load.client import Client

    client, left, tokens = Client(url), iter(range(requests)), 0

    async def lane() -> None:
        nonlocal tokens
        for i in left:
            outcome = await client.request("/v1/chat/completions", body(i))
            assert outcome.ok, outcome
            tokens += outcome.tokens

    await asyncio.gather(*(lane() for _ in range(concurrency)))
    return tokens


async def httpx_peer(url: str, requests: int, concurrency: int) -> int:
    import httpx

    left, tokens = iter(range(requests)), 0
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as client:

        async def lane() -> None:
            nonlocal tokens
            for i in left:
                async with client.stream("POST", "/v1/chat/completions", json=body(i)) as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("data: {"):
                            event = json.loads(line[6:])
                            tokens += bool(event["choices"] and event["choices"][0]["delta"].get("content"))

        await asyncio.gather(*(lane() for _ in range(concurrency)))
    return tokens


CLIENTS = {"seawall": ours, "httpx": httpx_peer}


def child(name: str, url: str, requests: int, concurrency: int) -> None:
    """One client in a process of its own, so that its CPU is its own."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.monotonic()
    tokens = asyncio.run(CLIENTS[name](url, requests, concurrency))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"client": name, "requests": requests, "tokens": tokens, "cpu_s": cpu,
                      "seconds": time.monotonic() - start}))  # fmt: skip


def published(tool: str, url: str, requests: int, concurrency: int) -> dict[str, Any]:
    """aiperf or guidellm, from its own environment; its whole process tree's CPU."""
    folder = CACHE / tool
    program = folder / "bin" / tool
    if not program.exists():
        subprocess.run([sys.executable, "-m", "uv", "venv", "-q", str(folder)], check=True)
        install = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "-q",
            "--python",
            str(folder / "bin/python"),
            tool,
        ]
        subprocess.run(install, check=True)
    if tool == "aiperf":
        argv = ["profile", "--model", "sim", "--url", url, "--endpoint-type", "chat", "--streaming", "--tokenizer",
                "builtin", "--request-count", str(requests), "--concurrency", str(concurrency), "--ui", "none",
                "--output-tokens-mean", str(TOKENS), "--extra-inputs", "ignore_eos:true"]  # fmt: skip
    else:
        argv = ["benchmark", "--target", url, "--model", "sim", "--rate-type", "concurrent", "--rate",
                str(concurrency), "--max-requests", str(requests), "--data",
                f"prompt_tokens=16,output_tokens={TOKENS}"]  # fmt: skip
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [str(program), *argv], capture_output=True, text=True, cwd=folder, timeout=300, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    row: dict[str, Any] = {"client": tool, "requests": requests, "tokens": requests * TOKENS, "cpu_s": cpu,
                           "seconds": time.monotonic() - start}  # fmt: skip
    return row | ({"failed": (done.stderr or done.stdout)[-300:]} if done.returncode else {})


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--json", action="store_true")
    p.add_argument("--peer", choices=["aiperf", "guidellm"], action="append", default=[])
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
    )
    for row in rows:
        if "failed" in row:
            print(f"{row['client']:<10}  failed: {row['failed']}")
            continue
        ratio = row["cpu_s"] / rows[0]["cpu_s"]
        print(
            f"{row['client']:<10}{row['cpu_ms_per_request']:>16.2f}{row['cpu_us_per_token']:>14.1f}"
            f"{row['bottleneck_at_rps']:>16.0f} r/s{ratio:>13.2f}"
        )


if __name__ == "__main__":
    main()
