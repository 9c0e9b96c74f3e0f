"""curl and the official OpenAI client in front of simulated engines, TLS, and a kill in mid-stream."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  gateway: {stallTimeout: 5s}
"""


async def sim(port: int = 0, *flags: str) -> tuple[asyncio.subprocess.Process, str]:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        port = s.getsockname()[1]
    argv = [sys.executable, "-m", "seawall", "engine", "sim", "--port", str(port), "--served-model-name", "m"]
    p = await asyncio.create_subprocess_exec(
        *argv, *flags, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    for _ in range(300):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return p, f"http://127.0.0.1:{port}"
        except OSError:
            await asyncio.sleep(0.1)
    raise AssertionError("the simulated engine did not start")


@pytest.fixture
async def engines() -> AsyncIterator[list[tuple[asyncio.subprocess.Process, str]]]:
    both = list(await asyncio.gather(sim(0, "--sim-step", "0.01"), sim(0, "--sim-step", "0.01")))
    yield both
    for p, _ in both:
        if p.returncode is None:
            p.kill()
        await p.wait()


async def test_openai_client_sees_whole_streams_through_a_kill(start: Any, engines: Any) -> None:
    import openai

    gateway = await start(*(url for _, url in engines), spec=SPEC)
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=30)

    seen: dict[int, int] = {}

    async def ask(i: int, stream: bool) -> tuple[str, int]:
        messages: Any = [{"role": "user", "content": f"count {i}"}]
        if not stream:
            r = await client.chat.completions.create(
                model="m", messages=messages, max_tokens=200, temperature=0
            )
            return r.choices[0].message.content or "", r.usage.completion_tokens if r.usage else 0
        text, used = "", 0
        async for c in await client.chat.completions.create(
            model="m",
            messages=messages,
            max_tokens=200,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        ):
            text += (c.choices[0].delta.content or "") if c.choices else ""
            seen[i] = len(text)
            used = c.usage.completion_tokens if c.usage else used
        return text, used

    wanted = await asyncio.gather(*(ask(i, False) for i in range(8)))
    running = [asyncio.ensure_future(ask(i, True)) for i in range(8)]
    while len(seen) < 8 or min(seen.values()) < 5:
        await asyncio.sleep(0.01)
    engines[0][0].kill()
    assert list(await asyncio.gather(*running)) == list(wanted)
    f = await gateway.reconciled()
    assert f["finished_total"] == 16 and f["failed_total"] == 0 and f["resumed_total"] >= 1
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])
    assert [m.id async for m in client.models.list()] == ["m"]
    ask_it: Any = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 40,
        "temperature": 0,
    }
    raw = await client.chat.completions.with_raw_response.create(**ask_it)
    assert raw.request_id and raw.parse().choices[0].message.content
    async with client.chat.completions.with_streaming_response.create(stream=True, **ask_it) as response:
        assert [line async for line in response.iter_lines() if line][-1] == "data: [DONE]"
    parsed = await client.chat.completions.parse(response_format=City, **ask_it)
    assert isinstance(parsed.choices[0].message.parsed, City)
    async with client.responses.stream(model="m", input="x", max_output_tokens=4, temperature=0) as events:
        kinds = [event.type async for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    await client.close()


class City(BaseModel):
    city: str


async def curl(*args: str) -> tuple[int, str]:
    p = await asyncio.create_subprocess_exec(
        "curl",
        "-sS",
        "--max-time",
        "20",
        *args,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, _ = await p.communicate()
    return p.returncode or 0, out.decode()


async def test_curl_over_tls_with_a_large_body_and_a_broken_stream(
    start: Any, engine: Any, spec: str, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    gateway = await start(engine, spec=spec, tls_cert=cert, tls_key=key)
    url = f"https://localhost:{gateway.port}"
    assert gateway.url.startswith("https://")
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"model": "m", "prompt": "x" * 2_000_000}))
    tls = ("--cacert", str(cert), "--resolve", f"localhost:{gateway.port}:127.0.0.1")
    code, out = await curl(
        *tls, f"{url}/v1/completions", "-d", f"@{body}", "-H", "Content-Type: application/json"
    )
    assert code == 0 and json.loads(out)["choices"][0]["text"] == "hello"
    assert len(engine.log[-1][2]["prompt"]) == 2_000_000
    engine.faults = ["cut_after_2"]
    code, out = await curl(*tls, f"{url}/v1/completions", "-d", '{"model":"m","prompt":"x","stream":true}')
    assert code != 0, "curl, too, sees that the stream is not whole"
    assert '"error"' in out and "[DONE]" not in out


async def test_curl_speaks_whatever_it_likes(start: Any, engine: Any) -> None:
    """HTTP/1.0, an offer of HTTP/2, a body in chunks, an expectation, HEAD: the same answers as from the engine."""
    gateway = await start(engine)
    url = f"{gateway.url}/v1/completions"
    whole = ("-d", '{"model":"m","prompt":"x"}', "-H", "Content-Type: application/json")
    stream = ("-d", '{"model":"m","prompt":"x","stream":true}', "-H", "Content-Type: application/json")
    asked = {
        ("-0", *whole): "hello",
        ("-0", *stream): "[DONE]",
        ("--http2", *whole): "hello",
        ("--http2", *stream): "[DONE]",
        ("-H", "Transfer-Encoding: chunked", *whole): "hello",
        ("-H", "Expect: 100-continue", *whole): "hello",
        ("--compressed", *stream): "[DONE]",
        (url, *whole): "hello",
        ("-I", f"{gateway.url}/v1/models"): "200 OK",
        ("-F", "model=m"): "invalid_json",
        ("--request-target", url, *whole): "hello",
    }
    answers = await asyncio.gather(*(curl(url, *args) for args in asked))
    for (args, wanted), (code, out) in zip(asked.items(), answers, strict=True):
        assert code == 0 and wanted in out, args
