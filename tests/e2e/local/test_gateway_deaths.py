"""The gateway of a `seawall up` dies again and again, and so does its keeper; clients as they come see none of it."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import psutil
from tests.e2e.local.up_process import Up, seawall_up

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: "hf://example/tiny"}
  engine: {kind: sim, maxNumSeqs: 64, extraArgs: ["--sim-step", "0.03"]}
  hardware: {gpu: cpu, cloud: local}
  traffic: {maxContext: 2k}
  scaling: {min: 2, max: 2}
  gateway: {keeper: KEEPER}
"""
STREAMS = 40


def serving(up: Up) -> psutil.Process:
    """Who serves now: the child of the gateway's parent process."""
    found = up.until(lambda s: s["gateway"]["pid"] and psutil.Process(s["gateway"]["pid"]).children())
    child: psutil.Process = found[0]
    return child


def knows_its_keeper(status: Any) -> bool:
    """The gateway has handed everything over to the keeper that is there now: two deaths at once are one too many."""
    try:
        with urllib.request.urlopen(f"{status['gateway']['admin_url']}/metrics", timeout=5) as page:
            return b"\nseawall_keeper_connected 1" in page.read()
    except OSError:
        return False


class Told:
    """All that a client got of one answer."""

    def __init__(self, prompt: int) -> None:
        self.prompt, self.text, self.finish, self.error = prompt, "", "", ""
        self.ids: set[str] = set()


async def ask(client: openai.AsyncOpenAI, prompt: int, moved: asyncio.Event) -> Told:
    told = Told(prompt)
    try:
        stream = await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": f"Wall {prompt}."}],
            stream=True,
            temperature=0,
            max_tokens=100,
        )
        async for chunk in stream:
            told.ids.add(chunk.id)
            for choice in chunk.choices:
                told.text += choice.delta.content or ""
                told.finish = choice.finish_reason or told.finish
            moved.set()
    except openai.OpenAIError as e:
        told.error = repr(e)
    return told


async def through(up: Up, deaths: list[Callable[[], None]]) -> tuple[list[Told], list[Told]]:
    """(what each prompt is answered when nothing happens, all that clients were told while all this did)."""
    moved, over = asyncio.Event(), asyncio.Event()
    told: list[Told] = []

    async def again_and_again(client: openai.AsyncOpenAI, i: int) -> None:
        while not over.is_set():
            told.append(await ask(client, i % 4, moved))

    async with openai.AsyncOpenAI(base_url=f"{up.url}/v1", api_key="x", max_retries=0, timeout=100) as client:
        alone = [await ask(client, i, moved) for i in range(4)]
        async with asyncio.TaskGroup() as group:
            for i in range(STREAMS):
                group.create_task(again_and_again(client, i))
            for death in deaths:
                moved.clear()
                await moved.wait()
                await asyncio.to_thread(death)
            over.set()
    return alone, told


def bad(alone: list[Told], told: list[Told]) -> list[str]:
    """What clients were told that is not the whole answer, once."""
    found = [t.error for t in told if t.error]
    for t in told:
        same = (t.text, t.finish) == (alone[t.prompt].text, alone[t.prompt].finish)
        if not t.error and not (same and len(t.ids) == 1):
            found.append(f"{t.text!r} {t.finish} {t.ids}")
    return found


def test_no_stream_is_lost_wrong_or_doubled(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(FLEET.replace("KEEPER", "on"))
    with seawall_up(tmp_path, str(tmp_path / "f.yaml")) as up:
        up.settled()

        def serving_dies() -> None:
            old = serving(up)
            old.kill()
            # Until the next one has what the keeper holds, a death of the keeper would be that of both.
            up.until(lambda s: serving(up).pid != old.pid)
            up.until(knows_its_keeper)

        def keeper_dies() -> None:
            old = up.status()["keeper"]["pid"]
            os.kill(old, signal.SIGKILL)
            up.until(lambda s: s["keeper"]["phase"] == "ready" and s["keeper"]["pid"] != old)
            up.until(knows_its_keeper)

        def both_processes_of_the_gateway_die() -> None:
            old = up.status()["gateway"]["pid"]
            os.kill(old, signal.SIGKILL)
            up.until(lambda s: s["gateway"]["phase"] == "ready" and s["gateway"]["pid"] != old)

        deaths = [serving_dies, keeper_dies, serving_dies, both_processes_of_the_gateway_die]
        assert bad(*asyncio.run(through(up, deaths))) == []


def test_without_a_keeper_streams_die_with_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(FLEET.replace("KEEPER", "off"))
    with seawall_up(tmp_path, str(tmp_path / "f.yaml")) as up:
        assert up.settled()["keeper"] is None
        assert bad(
            *asyncio.run(through(up, [lambda: os.kill(up.status()["gateway"]["pid"], signal.SIGKILL)]))
        )
