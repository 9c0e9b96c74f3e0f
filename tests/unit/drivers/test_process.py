"""Whatever dies, nothing is left behind. Real processes; each story counts the survivors."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests import processes

from seawall.drivers.guardian import Log
from seawall.drivers.process import Child, ProcessLimits, free_port, port_holder, resident_bytes
from seawall.errors import EngineError

# An engine of three generations, like vLLM's: the server, its core, the core's worker. Each ignores SIGTERM but
# the first, and writes its pid.
ENGINE = """
import os, sys, time, signal
pids = sys.argv[1]
def note():
    open(pids, "a").write(f"{os.getpid()}\\n")
note()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note()
    if os.fork() == 0:
        note()
    time.sleep(600)
print("up", flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
time.sleep(600)
"""
ENV = {"PATH": os.environ["PATH"]}


def engine(tmp_path: Path) -> list[str]:
    return [sys.executable, "-c", ENGINE, str(tmp_path / "pids")]


async def three_pids(tmp_path: Path) -> list[int]:
    for _ in range(600):
        file = tmp_path / "pids"
        pids = [int(p) for p in file.read_text().split()] if file.exists() else []
        if len(pids) == 3:
            return pids
        await asyncio.sleep(0.05)
    raise AssertionError("the engine did not start")


def alive(pid: int) -> bool:
    try:
        return processes.alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


async def all_gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not any(map(alive, pids)):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_kill_takes_the_whole_family(tmp_path: Path) -> None:
    child = await Child.start(engine(tmp_path), ENV, tmp_path / "log")
    pids = await three_pids(tmp_path)
    assert child.pid == pids[0]
    child.kill()
    assert await child.wait() == 128 + signal.SIGKILL
    assert await all_gone(pids)


async def test_term_reaches_the_leader_and_its_leftovers_are_swept(tmp_path: Path) -> None:
    child = await Child.start(engine(tmp_path), ENV, tmp_path / "log")
    pids = await three_pids(tmp_path)
    child.terminate()
    assert await child.wait() == 7
    assert await all_gone(pids)
    assert "up" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_kill_9_of_any_of_the_three(tmp_path: Path, victim: int) -> None:
    """vLLM's API server killed by -9 leaves its core orphaned; here the guardian adopts and kills it."""
    child = await Child.start(engine(tmp_path), ENV, tmp_path / "log")
    pids = await three_pids(tmp_path)
    os.kill(pids[victim], signal.SIGKILL)
    if victim == 0:
        assert await child.wait() == 128 + signal.SIGKILL
    else:
        child.kill()
        await child.wait()
    assert await all_gone(pids)


async def test_kill_9_of_the_guardian(tmp_path: Path) -> None:
    child = await Child.start(engine(tmp_path), ENV, tmp_path / "log")
    pids = await three_pids(tmp_path)
    os.kill(child.guardian_pid, signal.SIGKILL)
    await child.wait()
    assert child.exit_code == 128 + signal.SIGKILL
    assert await all_gone(pids)


SUPERVISOR = """
import asyncio, json, os, sys, time
from pathlib import Path
from seawall.drivers.process import Child
async def main():
    argv, log = json.loads(sys.argv[1]), Path(sys.argv[2])
    child = await Child.start(argv, dict(os.environ), log)
    print(child.guardian_pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.parametrize("also_guardian", [False, True])
async def test_kill_9_of_the_supervisor(tmp_path: Path, also_guardian: bool) -> None:
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, json.dumps(engine(tmp_path)), str(tmp_path / "log"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert supervisor.stdout
    guardian = int(await supervisor.stdout.readline())
    pids = await three_pids(tmp_path)
    if also_guardian:
        os.kill(supervisor.pid, signal.SIGSTOP)
        os.kill(guardian, signal.SIGKILL)
    supervisor.kill()
    await supervisor.wait()
    assert await all_gone([*pids, guardian])


async def test_a_command_that_does_not_exist_ends_with_127(tmp_path: Path) -> None:
    child = await Child.start(["/no/such/engine"], ENV, tmp_path / "log")
    assert await child.wait() == 127
    assert "No such file" in (tmp_path / "log").read_text()


async def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="could not be started"):
        await Child.start([sys.executable], ENV, tmp_path / "missing" / "log")


async def test_the_family_s_memory_is_summed(tmp_path: Path) -> None:
    child = await Child.start(
        engine(tmp_path), ENV, tmp_path / "log", ProcessLimits(memory_bytes=2**30, cpu_cores=1)
    )
    pids = await three_pids(tmp_path)
    assert resident_bytes(child.pid) > psutil.Process(pids[0]).memory_info().rss
    child.kill()
    await child.wait()


def test_a_log_turns_over_and_stays_bounded(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), limit=1000)
    for n in range(100):
        log.write(f"{n:099d}\n".encode())
    sizes = [f.stat().st_size for f in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 1000
    assert (tmp_path / "log").read_text().endswith("99\n")


def test_the_holder_of_a_port_is_named() -> None:
    import socket

    port = free_port()
    assert port_holder(port) is None
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
        assert f"pid {os.getpid()}" in (port_holder(port) or "")


def test_a_port_that_is_kept_for_long_is_none_that_outgoing_connections_get() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [free_port() for _ in range(20)]
    assert max(ports) < first or first <= 20_000
    assert len(set(ports)) > 10, "two who ask at once seldom get the same one"
