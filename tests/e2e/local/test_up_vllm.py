"""`seawall up` on real vLLM and a real model: one story, because starting vLLM costs a minute of CPU.

Two replicas start; one is killed while idle, comes back; a rolling restart replaces both while one of the new is
killed as it loads; light load runs all the time and no request fails.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.e2e.local.up_process import Load, Up, seawall_up

START_S = 900.0
FLEET = (
    Path("examples/smollm2.yaml")
    .read_text("utf-8")
    .replace(
        "scaling: {min: 1, max: 2, target: 12}",
        "scaling: {min: 2, max: 2, target: 12}\n  rollout: {maxSurge: 2, drain: 60s, preStop: 10s}",
    )
)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("vllm")
    spec = folder / "smollm2.yaml"
    assert "min: 2" in FLEET
    spec.write_text(FLEET, "utf-8")
    with seawall_up(folder, str(spec)) as up:
        up.until(lambda s: any(r["phase"] == "ready" for r in s["replicas"]), START_S)
        yield up


def client(up: Up) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{up.url}/v1", api_key="none", http_client=httpx2.Client(trust_env=False))


@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_the_official_client_streams_the_capital_of_france(up: Up) -> None:
    stream = client(up).chat.completions.create(
        model="smollm2", temperature=0, max_tokens=20, stream=True,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
    )  # fmt: skip
    chunks = list(stream)
    assert "Paris" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert "smollm2" in [m.id for m in client(up).models.list()]
    assert up.status()["engine"] == "vllm"
    assert "SIMULATED" not in up.output.read_text()


@pytest.mark.engine
@pytest.mark.timeout(3000)
def test_kills_and_a_rolling_restart_lose_no_request(up: Up) -> None:
    up.until(lambda s: s["fleets"][0]["ready"] == 2, START_S)
    first = {r["pid"] for r in up.settled(120)["replicas"]}
    with Load(up, pause_s=0.5) as load:
        victim = up.replica(0)
        os.kill(victim["pid"], signal.SIGKILL)

        def started_again(s: dict[str, Any]) -> int | None:
            return next(
                (
                    r["pid"]
                    for r in s["replicas"]
                    if r["name"] == victim["name"] and r["pid"] not in (None, *first)
                ),
                None,
            )

        assert up.until(started_again, 60)
        up.ask(do="restart", fleet="smollm2")

        def loading(s: dict[str, Any]) -> int | None:
            return next((r["pid"] for r in s["replicas"] if r["generation"] == 1 and r["pid"]), None)

        os.kill(up.until(loading, 120), signal.SIGKILL)
        after = up.settled(2 * START_S)
    assert load.bad == []
    assert load.good >= 10
    assert first.isdisjoint({r["pid"] for r in after["replicas"]})
    assert {r["generation"] for r in after["replicas"]} == {1}


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_ctrl_c_finishes_the_stream_and_leaves_no_process(up: Up) -> None:
    """Last: the engine's core and worker, which vLLM itself would orphan, are counted too."""
    stream = client(up).completions.create(
        model="smollm2", prompt="Once upon a time", max_tokens=60, temperature=0, stream=True,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    chunks = iter(stream)
    first = next(chunks)
    up.note_family()
    assert len(up.family) >= 10
    up.process.send_signal(signal.SIGINT)
    assert [first, *chunks][-1].choices[0].finish_reason == "length"
    assert up.process.wait(120) == 0
    assert up.survivors() == []
