"""`seawall bench` as a process: the capacity it finds is that of the engine's flags, what it writes is read, and
whatever a stranger does to it ends in one line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine_metrics import until
from tests.within import within

from seawall.drivers.process import free_port

FLEET = "examples/smollm2.yaml"
STEP_S, SEQS, TOKENS = 0.01, 16, 20
CAPACITY = SEQS / (TOKENS * STEP_S)
"""Requests a second: so many at a time, each so many steps."""

WARMING = 10
"""More than the requests that a bench asks before it measures."""


class Engine:
    """A simulated engine whose every step takes the same time."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process, self.url = process, url


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    argv = ["-m", "seawall", "engine", "sim", "--port", "0", "--model-name", "sim", "--sim-step", str(STEP_S)]
    argv += ["--max-num-seqs", str(SEQS)]
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = (await within(process.stdout.readline(), 90)).decode()
    yield Engine(process, line.split()[-1])
    if process.returncode is None:
        process.kill()
    await process.wait()


async def start(*argv: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "seawall", *argv,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def seawall(*argv: str) -> tuple[int, str, str]:
    child = await start(*argv)
    out, said = await within(child.communicate(), 100)
    return child.returncode or 0, out.decode(), said.decode()


async def flat_out(engine: Engine) -> float:
    """Requests a second that the engine really ends on this machine now, with twice as many clients as places."""
    flags = (
        "--concurrency",
        str(2 * SEQS),
        "--requests",
        "160",
        "--prompt-tokens",
        "8",
        "--output-tokens",
        str(TOKENS),
    )
    code, out, said = await seawall("bench", engine.url, *flags, "--ignore-eos", "--json")
    assert code == 0, said
    return float(json.loads(out)["finished_rps"])


@pytest.mark.slow
async def test_the_capacity_is_found_and_plan_and_simulate_read_the_file(
    engine: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "calibration.json"
    before = await flat_out(engine)
    code, out, said = await seawall(
        "bench", engine.url, "--find-capacity", "--calibrate", str(file), "--json", "--duration", "2s",
        "--prompt-tokens", "8", "--output-tokens", str(TOKENS), "--ignore-eos", "--ttft", "500ms", "--tpot", "100ms",
    )  # fmt: skip
    print(said)
    assert code == 0, said
    found = json.loads(out)["capacity_rps"]
    slowest = min(before, await flat_out(engine))
    assert 0.6 * slowest <= found <= 1.15 * CAPACITY
    written = json.loads(file.read_text())
    assert written["capacity_rps"] == found
    assert 0.9 * STEP_S <= written["base_s"] + written["weight_read_s"] <= 1.5 * STEP_S * CAPACITY / slowest
    code, out, said = await seawall("plan", FLEET, "--calibration", str(file), "--json")
    assert code == 0, said
    assert "seawall bench --calibrate" in out
    code, out, said = await seawall(
        "simulate", FLEET, "--calibration", str(file), "--rate", "2/s for 1m", "--json"
    )
    assert code == 0, said
    tpot_ms = written["measured"]["alone_tpot_s"] * 1000
    print(
        f"capacity {found:.1f}/s of {CAPACITY:.1f}/s; lone token {tpot_ms:.2f} ms of {STEP_S * 1000:.0f} ms"
    )


async def test_ctrl_c_in_the_middle_gives_what_was_seen(engine: Engine, tmp_path: Path) -> None:
    report = tmp_path / "bench.html"
    flags = ("--rate", "20/s for 60s", "--output-tokens", "8", "--json", "--html", str(report))
    child = await start("bench", engine.url, *flags)
    await until(engine.url, "request_success_total", 6 + WARMING)
    child.send_signal(signal.SIGINT)
    out, said = await within(child.communicate(), 30)
    assert child.returncode == 130, said
    seen = json.loads(out)
    assert seen["interrupted"] is True
    assert seen["finished"] > 5
    assert "<circle" in report.read_text()
    assert "interrupted" in said.decode()
    assert "Traceback" not in said.decode()


async def test_a_server_that_dies_in_the_middle_is_counted(engine: Engine) -> None:
    child = await start("bench", engine.url, "--rate", "20/s for 15s", "--output-tokens", "8", "--json")
    await until(engine.url, "request_success_total", 1 + WARMING)
    engine.process.kill()
    out, said = await within(child.communicate(), 30)
    seen = json.loads(out)
    assert child.returncode == 0, said
    assert 0 < seen["finished"] < seen["requests"]
    assert seen["errors"]["refused"] > 0
    assert "the first " in said.decode()


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("http://127.0.0.1:{port}",), 3, "does not answer"),
        (("http://no-such-host.invalid",), 3, "does not answer"),
        (("ftp://127.0.0.1",), 2, "is not an http(s) URL"),
        (("no-such-fleet.yaml",), 2, "no-such-fleet.yaml"),
        (("http://127.0.0.1:{port}", "--model", "m", "--rate", "fast"), 2, "fast"),
        (("http://127.0.0.1:{port}", "--model", "m", "--ttft", "soon"), 2, "soon"),
        (
            ("http://127.0.0.1:{port}", "--model", "m", "--conversations", "README.md"),
            2,
            "entry 0 is not JSON",
        ),
        (("http://127.0.0.1:{port}", "--model", "m", "--rate", "2/s for 1s"), 1, "no request finished"),
    ],
)
async def test_what_cannot_work_says_so_in_a_line(argv: tuple[str, ...], code: int, words: str) -> None:
    port = free_port()
    found, out, said = await seawall("bench", *(a.format(port=port) for a in argv))
    assert (found, words in said) == (code, True), (out, said)
    assert "Traceback" not in said


async def test_a_reader_that_has_gone_is_no_crash(engine: Engine) -> None:
    read, write = os.pipe()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "seawall", "bench", engine.url, "--requests", "4", "--concurrency", "2", "--json",
        "--output-tokens", "4", stdout=write, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(read)
    os.close(write)
    _, said = await within(child.communicate(), 30)
    assert b"Traceback" not in said
