"""`seawall up` on the simulated engine: one supervisor, real processes, everything dies once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from tests.e2e.local.up_process import Load, Up, fleet_file, seawall_up


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    with seawall_up(folder, fleet_file(folder, low=2, high=3, load=0.5)) as up:
        up.settled()
        yield up


def seawall(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seawall", *args], capture_output=True, text=True, timeout=120
    )


def test_it_serves_and_says_so_loudly(up: Up) -> None:
    up.settled()
    assert up.chat().json()["choices"][0]["finish_reason"] == "length"
    said = up.output.read_text()
    assert "SIMULATED ENGINE" in said
    assert "curl -sN" in said
    assert "OpenAI(base_url=" in said


def test_status_from_a_second_shell(up: Up) -> None:
    up.settled()
    text = seawall("status", "--state-dir", str(up.state_dir)).stdout
    assert "tiny: 2/2 ready" in text
    data = json.loads(seawall("status", "--json", "--state-dir", str(up.state_dir)).stdout)
    assert {r["phase"] for r in data["replicas"]} == {"ready"}
    state = json.loads((up.state_dir / "state.json").read_text())
    assert state["gateway"]["admin_url"] == data["gateway"]["admin_url"]


@pytest.mark.parametrize("index", [0, 1])
def test_a_killed_replica_comes_back_and_nobody_notices(up: Up, index: int) -> None:
    before = up.settled()
    victim = up.replica(index)
    with Load(up) as load:
        os.kill(victim["pid"], signal.SIGKILL)
        up.until(
            lambda s: any(r["name"] == victim["name"] and r["pid"] != victim["pid"] for r in s["replicas"])
        )
        up.settled()
    assert load.good > 0
    assert load.bad == []
    assert before["fleets"][0]["wanted"] == 2
    killed = [e["text"] for e in up.status()["events"] if e["subject"] == victim["name"]]
    assert "failed: killed by signal 9" in killed


def test_a_disk_that_takes_nothing_costs_no_request(up: Up) -> None:
    """No file of the supervisor may grow, its own output included: it serves on, and catches up afterwards."""
    up.settled()
    victim, supervisor = up.replica(0), psutil.Process(up.process.pid)
    _, hard = supervisor.rlimit(psutil.RLIMIT_FSIZE)
    supervisor.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
    with Load(up) as load:
        os.kill(victim["pid"], signal.SIGKILL)
        up.until(
            lambda s: (
                any(r["name"] == victim["name"] and r["phase"] == "ready" for r in s["replicas"])
                and victim["pid"] not in {r["pid"] for r in s["replicas"]}
            )
        )
        supervisor.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))
        up.settled()
    assert load.good > 0
    assert load.bad == []
    said = [e["text"] for e in up.status()["events"] if e["subject"] == "seawall"]
    for file in ("discovery.json", "state.json"):
        assert said.count(f"{file} cannot be replaced: File too large") == 1
        assert said.count(f"{file} can be replaced again") == 1


def test_a_replica_killed_while_it_loads_is_started_again(up: Up) -> None:
    up.settled()
    victim = up.replica(0)
    os.kill(victim["pid"], signal.SIGKILL)

    def loading(s: dict[str, Any]) -> int | None:
        return next(
            (
                r["pid"]
                for r in s["replicas"]
                if r["phase"] == "starting" and r["name"] == victim["name"] and r["pid"]
            ),
            None,
        )

    again = up.until(loading)
    os.kill(again, signal.SIGKILL)
    after = up.settled()
    assert {r["pid"] for r in after["replicas"]}.isdisjoint({victim["pid"], again})


def test_a_rolling_restart_under_load_loses_nothing(up: Up) -> None:
    before = {r["pid"] for r in up.settled()["replicas"]}
    with Load(up) as load:
        done = seawall("rollout", "restart", "--state-dir", str(up.state_dir), "--timeout", "90")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "done: 2 of 2 ready" in done.stdout
    assert load.good > 0
    assert load.bad == []
    assert before.isdisjoint({r["pid"] for r in up.settled()["replicas"]})


def test_the_gateway_is_kept_too(up: Up) -> None:
    up.settled()
    url, pid = up.url, up.status()["gateway"]["pid"]
    os.kill(pid, signal.SIGKILL)
    up.until(lambda s: s["gateway"]["phase"] == "ready" and s["gateway"]["pid"] != pid)
    up.settled()
    assert up.url == url
    assert up.chat().status_code == 200


def test_a_gateway_is_replaced_without_closing_the_port(up: Up) -> None:
    pid = up.settled()["gateway"]["pid"]
    stream = httpx2.stream(
        "POST", f"{up.url}/v1/completions", timeout=60, trust_env=False,
        json={"model": "tiny", "prompt": "a", "max_tokens": 200, "stream": True, "ignore_eos": True},
    )  # fmt: skip
    with Load(up) as load, stream as answer:
        lines = answer.iter_lines()
        next(lines)
        assert seawall("rollout", "gateway", "--state-dir", str(up.state_dir)).returncode == 0
        up.until(lambda s: s["gateway"]["pid"] != pid and s["gateway"]["phase"] == "ready")
        assert [line for line in lines if line][-1] == "data: [DONE]"
        before = load.good
        up.until(lambda s: load.good > before + 2)
    assert load.bad == []


def test_demand_starts_another_replica_within_the_bounds(up: Up) -> None:
    """Twelve long streams over two replicas with a target of 2 ask for six; the maximum is three."""
    up.settled()
    threads = [
        threading.Thread(target=up.chat, kwargs={"max_tokens": 1200, "ignore_eos": True}, daemon=True)
        for _ in range(12)
    ]
    for t in threads:
        t.start()
    up.until(lambda s: s["fleets"][0]["wanted"] == 3 and s["fleets"][0]["ready"] == 3, 60)
    reason = [e["text"] for e in up.status()["events"] if e["subject"] == "tiny" and "->" in e["text"]]
    assert reason
    assert reason[-1].startswith("2 -> 3 replicas: ")


def test_scaled_by_hand_and_back(up: Up) -> None:
    done = seawall("rollout", "scale", "1", "--state-dir", str(up.state_dir), "--timeout", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(up.status()["replicas"]) == 1
    assert seawall("rollout", "scale", "auto", "--state-dir", str(up.state_dir)).returncode == 0
    up.until(lambda s: s["fleets"][0]["wanted"] == 2)
    up.settled()


def test_nonsense_on_the_control_socket_is_answered(up: Up) -> None:
    from seawall.local.control import socket_path

    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(socket_path(up.state_dir)))
        lines = s.makefile("rwb")
        for nonsense in (
            b"{",
            b"[]",
            b'{"do": "dance"}',
            b'{"do": "scale", "replicas": -1}',
            b'{"do": "restart", "fleet": 7}',
        ):
            lines.write(nonsense + b"\n")
            lines.flush()
            answer = json.loads(lines.readline())
            assert answer["ok"] is False
            assert answer["cure"]
    assert oct(socket_path(up.state_dir).stat().st_mode)[-3:] == "600"


def test_a_second_one_and_a_taken_port_are_refused_with_a_cure(up: Up, tmp_path: Path) -> None:
    second = seawall("up", "--engine", "sim", "--state-dir", str(up.state_dir), "--port", "0")
    assert second.returncode == 2
    assert f"running already (pid {up.process.pid})" in second.stderr
    port = up.url.rsplit(":", 1)[1]
    taken = seawall("up", "--engine", "sim", "--state-dir", str(tmp_path), "--port", port)
    assert taken.returncode == 2
    assert f"port {port} is taken by" in taken.stderr
    assert f"(pid {up.status()['gateway']['pid']})" in taken.stderr


def test_logs(up: Up) -> None:
    up.settled()
    listed = seawall("logs", "--state-dir", str(up.state_dir)).stdout
    assert "gateway" in listed
    assert seawall("logs", "gateway", "--state-dir", str(up.state_dir)).returncode == 0
    unknown = seawall("logs", "nobody", "--state-dir", str(up.state_dir))
    assert unknown.returncode == 2
    assert "There are:" in unknown.stderr and "gateway" in unknown.stderr


def test_ctrl_c_finishes_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    with seawall_up(tmp_path, fleet_file(tmp_path)) as up:
        up.settled()
        answers: list[httpx2.Response] = []
        stream = threading.Thread(target=lambda: answers.append(up.chat(max_tokens=100, ignore_eos=True)))
        stream.start()
        up.until(lambda s: s["fleets"][0]["in_flight"])
        up.note_family()
        up.process.send_signal(signal.SIGINT)
        stream.join(60)
        assert up.process.wait(60) == 0
        assert answers[0].json()["usage"]["completion_tokens"] == 100
        assert up.survivors() == []
    assert json.loads((up.state_dir / "state.json").read_text())["ended"] is True
    assert seawall("status", "--state-dir", str(up.state_dir)).returncode == 2


def test_ctrl_c_twice_does_not_wait(tmp_path: Path) -> None:
    with seawall_up(tmp_path, fleet_file(tmp_path)) as up:
        up.settled()
        threading.Thread(target=lambda: _ignore(up), daemon=True).start()
        up.until(lambda s: s["fleets"][0]["in_flight"])
        up.note_family()
        up.process.send_signal(signal.SIGINT)
        up.until(lambda s: s["stopping"])
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(15) == 0
        assert up.survivors() == []


def _ignore(up: Up) -> None:
    try:
        up.chat(max_tokens=1500, ignore_eos=True)
    except httpx2.HTTPError:
        return


def test_kill_9_of_the_supervisor_leaves_nothing(tmp_path: Path) -> None:
    with seawall_up(tmp_path, fleet_file(tmp_path, low=2, high=2)) as up:
        up.settled()
        up.note_family()
        assert len(up.family) >= 9
        up.process.kill()
        up.process.wait(10)
        assert up.survivors() == []
    with seawall_up(tmp_path, fleet_file(tmp_path)) as again:
        again.settled()
        assert again.chat().status_code == 200
