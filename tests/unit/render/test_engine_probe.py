"""The probe script, run as the kubelet runs it, against the simulated engine: what dies, what must not die."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine_metrics import wait_until

from seawall.engines.vllm import metrics
from seawall.render.replica import engine_probe, probe_config

SCRIPT = Path(engine_probe.__file__)


class Engine:
    """A simulated vLLM in its own process."""

    def __init__(self, *flags: str) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "seawall", "engine", "sim", "--port", str(self.port)]
        command += ["--served-model-name", "m", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def until_up(self) -> None:
        for _ in range(400):
            try:
                urllib.request.urlopen(self.url + "/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the simulated engine did not start")

    def post(self, path: str, body: dict[str, Any], timeout_s: float = 60) -> None:
        data = json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        urllib.request.urlopen(asked, timeout=timeout_s).read()

    def fault(self, kind: str, **more: Any) -> None:
        self.post("/sim/fault", {"kind": kind, **more})

    def generate(self, tokens: int) -> threading.Thread:
        """A request that runs in the background, whatever becomes of it."""

        def ask() -> None:
            body = {"model": "m", "prompt": "x", "max_tokens": tokens, "ignore_eos": True}
            try:
                self.post("/v1/completions", body)
            except OSError:
                return

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def engine() -> Iterator[Callable[..., Engine]]:
    started: list[Engine] = []

    def start(*flags: str) -> Engine:
        started.append(Engine(*flags))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


class Probe:
    def __init__(self, url: str, state: Path, boot: str = "1", **more: str) -> None:
        self.env = {
            **os.environ,
            "SEAWALL_ENGINE_URL": url,
            "SEAWALL_STATE_DIR": str(state),
            "SEAWALL_ENGINE_BOOT": boot,
            "SEAWALL_MODEL": "m",
            "SEAWALL_PROBE_QUIET_S": "0.5",
            "SEAWALL_PROBE_STILL_S": "1",
            "SEAWALL_PROBE_TOKEN_S": "1",
            "SEAWALL_PROBE_HTTP_S": "5",
            "SEAWALL_PROMPT_TOKEN_S": "1e-6",
            "SEAWALL_ENGINE_PID": "99999999",
            **more,
        }

    def __call__(self, *what: str) -> tuple[bool, str]:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *what], env=self.env, capture_output=True, text=True, timeout=60
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode == 0, done.stdout

    def until_no(self, what: str, *others: str) -> str:
        """What it says when it no longer says yes; `others` run beside it, as with the kubelet."""
        end = time.monotonic() + 60
        while (answer := self(what))[0]:
            assert time.monotonic() < end, f"{what} still says yes"
            for other in others:
                self(other)
        return answer[1]


def test_a_replica_becomes_ready_by_generating_a_token(engine: Callable[..., Engine], tmp_path: Path) -> None:
    sim = engine()
    probe = Probe(sim.url, tmp_path)
    sim.until_up()
    assert probe("readiness") == (False, "this engine has not generated a token yet\n")
    assert probe("startup") == (True, "")
    assert probe("readiness") == (True, "")
    assert probe("liveness") == (True, "")
    # The container restarts; its emptyDir stays. The new engine has proved nothing.
    again = Probe(sim.url, tmp_path, boot="2")
    assert not again("readiness")[0]


def test_while_it_loads_the_probe_says_so(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        ok, said = Probe(f"http://127.0.0.1:{s.getsockname()[1]}", tmp_path)("startup")
    assert not ok
    assert said.startswith("still loading")


def test_health_is_not_proof_a_failing_generation_is_no_start(
    engine: Callable[..., Engine], tmp_path: Path
) -> None:
    sim = engine()
    sim.until_up()
    sim.fault("fail")
    assert Probe(sim.url, tmp_path)("startup") == (False, "HTTP 500 to a request for one token\n")


def test_an_idle_engine_that_hangs_is_found_by_asking_for_a_token(
    engine: Callable[..., Engine], tmp_path: Path
) -> None:
    sim = engine()
    probe = Probe(sim.url, tmp_path)
    sim.until_up()
    assert probe("startup")[0]
    assert probe("liveness")[0]
    sim.fault("hang")
    urllib.request.urlopen(sim.url + "/health", timeout=5).close()  # 200, as vLLM's
    said = probe.until_no("liveness")
    assert "for one token unanswered; its work explains 2 s" in said
    assert not probe("liveness")[0], "and it stays dead until it is started again or shows a sign"
    sim.fault("clear")
    assert probe("liveness")[0]


def test_an_engine_that_hangs_with_work_gets_no_new_requests(
    engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """Suspect comes before dead: not ready, but not killed yet."""
    sim = engine("--sim-step", "0.01")
    probe = Probe(sim.url, tmp_path, SEAWALL_PROBE_STILL_S="2")
    sim.until_up()
    assert probe("startup")[0]
    sim.generate(2000)
    sim.fault("hang")
    assert probe("readiness")[0]  # too early to tell
    assert "its work explains 4 s" in probe.until_no("readiness", "liveness")


def test_our_own_asks_that_we_give_up_are_no_signs_of_life(
    engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """On a real cluster aborted asks renewed the record for ever, and a hung engine stayed Ready."""
    sim = engine()
    probe = Probe(sim.url, tmp_path)
    sim.until_up()
    assert probe("startup")[0]
    sim.fault("hang")
    stop = threading.Event()

    def others() -> None:
        body = {"model": "m", "prompt": "x", "max_tokens": 1}
        while not stop.is_set():
            with contextlib.suppress(OSError):
                sim.post("/v1/completions", body, timeout_s=0.2)

    asking = threading.Thread(target=others)
    asking.start()
    try:
        probe.until_no("liveness", "readiness")
    finally:
        stop.set()
        asking.join()


def test_a_prefill_that_shows_nothing_for_as_long_as_it_was_planned_to_take_is_left_alone(
    engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """One step of four seconds: no counter moves, the token that is asked for waits behind it."""
    sim = engine("--sim-step", "4")
    planned = Probe(sim.url, tmp_path, SEAWALL_PROMPT_TOKEN_S="0.001")
    sim.until_up()
    asked = sim.generate(1)
    (tmp_path / "probe.json").write_text(json.dumps({"boot": "1", "proved_at": 1.0}))
    while asked.is_alive():
        assert planned("liveness")[0]
        assert planned("readiness")[0]


def test_a_saturated_engine_is_left_alone(engine: Callable[..., Engine], tmp_path: Path) -> None:
    """Two slots, twenty long requests: a token asked for now would wait for all of them. It is not asked for."""
    sim = engine("--max-num-seqs", "2", "--sim-step", "0.02")
    probe = Probe(sim.url, tmp_path)
    sim.until_up()
    assert probe("startup")[0]
    for _ in range(20):
        sim.generate(1000)
    wait_until(sim.url, "num_requests_waiting", 18)
    for _ in range(3):
        assert probe("liveness") == (True, "")
        assert probe("readiness") == (True, "")
        time.sleep(0.6)


def test_an_engine_whose_metrics_break_lives_as_long_as_it_generates(
    engine: Callable[..., Engine], tmp_path: Path
) -> None:
    sim = engine()
    probe = Probe(sim.url, tmp_path)
    sim.until_up()
    assert probe("startup")[0]
    sim.fault("blind")
    for _ in range(4):
        assert probe("liveness")[0]
        assert probe("readiness")[0]
    sim.fault("hang")
    probe.until_no("liveness")


def test_a_dead_engine_is_neither_ready_nor_alive(engine: Callable[..., Engine], tmp_path: Path) -> None:
    sim = engine()
    probe = Probe(sim.url, tmp_path)
    sim.until_up()
    assert probe("startup")[0]
    sim.process.kill()
    sim.process.wait()
    assert not probe("readiness")[0]
    assert not probe("liveness")[0]


def test_the_script_in_a_pod_runs_without_this_package(engine: Callable[..., Engine], tmp_path: Path) -> None:
    """The ConfigMap's two files, and a Python that has nothing of ours."""
    sim = engine()
    (tmp_path / "probe.py").write_text(probe_config.script())
    (tmp_path / "evidence.py").write_text(probe_config.decision())
    sim.until_up()
    probe = Probe(sim.url, tmp_path)
    for what in ("startup", "readiness", "liveness"):
        argv = [sys.executable, "-S", "-P", str(tmp_path / "probe.py"), what]
        env = {**probe.env, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_script_reads_the_same_signs_as_the_supervisor() -> None:
    assert engine_probe.MARKS == metrics.MARKS


def test_a_half_written_state_file_is_no_proof(engine: Callable[..., Engine], tmp_path: Path) -> None:
    sim = engine()
    probe = Probe(sim.url, tmp_path)
    sim.until_up()
    (tmp_path / "probe.json").write_text('{"boot": "1", "proved_')
    assert not probe("readiness")[0]
    assert probe("startup")[0]
    assert probe("readiness")[0]


def test_weights_are_waited_for_until_every_file_has_its_size(tmp_path: Path) -> None:
    folder, lock = tmp_path / "m", tmp_path / "seawall.lock"
    missing = engine_probe.missing_weights
    assert "does the loader Job run" in str(missing(folder, lock))
    folder.mkdir()
    assert "not complete yet" in str(missing(folder, lock))
    files = [
        {"path": "config.json", "size": 2, "sha256": "0"},
        {"path": "a/w.safetensors", "size": 4, "sha256": "0"},
    ]
    lock.write_text(json.dumps({"files": files}))
    assert missing(folder, lock) == "config.json is not there in full (2 bytes)"
    (folder / "config.json").write_text("{}")
    (folder / "a").mkdir()
    (folder / "a/w.safetensors").write_text("abc")
    assert missing(folder, lock) == "a/w.safetensors is not there in full (4 bytes)"
    (folder / "a/w.safetensors").write_text("abcd")
    assert missing(folder, lock) is None
    assert Probe("http://127.0.0.1:1", tmp_path)("wait", str(folder), str(lock)) == (True, "")
    lock.write_text("{half")
    assert "cannot be read" in str(missing(folder, lock))


def test_without_a_lockfile_the_loaders_marker_counts(tmp_path: Path) -> None:
    (tmp_path / ".seawall").mkdir()
    nothing = tmp_path / "none"
    assert engine_probe.missing_weights(tmp_path, nothing) is not None
    (tmp_path / ".seawall/complete.json").write_text("{}")
    assert engine_probe.missing_weights(tmp_path, nothing) is None
