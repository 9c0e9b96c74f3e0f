"""From a model's name to an answer and back to nothing: `up MODEL`, `chat`, `down`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.local.terminal import in_terminal
from tests.e2e.local.up_process import Up, fleet_file, seawall_up


def seawall(*args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "seawall", *args]
    return subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=120, env=os.environ | env
    )


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("model")
    with seawall_up(folder, "Qwen/Qwen3-0.6B", "--engine", "sim", "--replicas", "2") as up:
        up.settled()
        yield up


def test_a_model_is_served_under_both_its_names(up: Up) -> None:
    status = up.status()
    assert status["fleets"][0]["models"] == ["qwen3-0-6b", "Qwen/Qwen3-0.6B"]
    assert len(status["replicas"]) == 2
    assert up.chat(model="Qwen/Qwen3-0.6B").status_code == 200
    spec = up.state_dir / "models" / "qwen3-0-6b.yaml"
    assert f"the spec: {spec}" in up.output.read_text()


def test_a_second_up_changes_nothing_of_the_first(up: Up) -> None:
    files = {p: p.read_bytes() for p in (up.state_dir / "models").iterdir()}
    args = ["Qwen/Qwen3-0.6B", "--engine", "sim", "--context", "4k", "--api-key"]
    done = seawall("up", *args, "--state-dir", str(up.state_dir), "--port", "0")
    assert done.returncode == 2
    assert "is running already" in done.stderr
    assert {p: p.read_bytes() for p in (up.state_dir / "models").iterdir()} == files


def test_a_question_through_a_pipe_gives_its_answer_and_nothing_else(up: Up) -> None:
    done = seawall("chat", "--state-dir", str(up.state_dir), "--max-tokens", "5", stdin="Hello?\n")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 1
    assert "TTFT" not in done.stdout
    assert "stdin" not in done.stderr
    empty = seawall("chat", "--state-dir", str(up.state_dir))
    assert empty.returncode == 2
    unknown = seawall("chat", "qwen3-0-6", "--state-dir", str(up.state_dir), stdin="x")
    assert unknown.returncode == 2
    assert "Did you mean qwen3-0-6b?" in unknown.stderr


def test_who_names_no_gateway_means_the_one_that_runs_here(up: Up) -> None:
    here = {"SEAWALL_STATE": str(up.state_dir)}
    assert (
        f"{up.url}/v1/models"
        in seawall("keys", "add", "me", "--file", str(up.state_dir / "k.json"), **here).stdout
    )
    assert "No fleet here has the batch lane" in seawall("batch", "list", **here).stderr
    assert seawall("chat", "--max-tokens", "3", stdin="x", **here).returncode == 0
    nowhere = seawall(
        "batch", "list", SEAWALL_STATE=str(up.state_dir / "none"), SEAWALL_URL="http://127.0.0.1:9"
    )
    assert "http://127.0.0.1:9 does not answer" in nowhere.stderr


def test_a_conversation_in_a_terminal(up: Up, tmp_path: Path) -> None:
    args = ["chat", "--state-dir", str(up.state_dir), "--max-tokens", "6"]
    with in_terminal(args, columns=80, env={"SEAWALL_CACHE": str(tmp_path)}) as terminal:
        terminal.until("> ")
        terminal.answers("Hello?", "TTFT", "tokens")
        terminal.answers("/model", "* qwen3-0-6b")
        terminal.answers("/system Be short.", "from the next answer on")
        terminal.answers("/model Qwen/Qwen3-0.6B", "* Qwen/Qwen3-0.6B")
        terminal.answers("/nonsense", "/quit")
        terminal.types(b"\x04")
        terminal.rest()
    assert terminal.process.returncode == 0
    assert "Hello?" in (tmp_path / "chat_history").read_text()


def test_an_answer_that_was_resumed_says_so(tmp_path: Path) -> None:
    spec = Path(fleet_file(tmp_path, low=2, high=2))
    spec.write_text(spec.read_text().replace('"--sim-load"', '"--sim-step", "0.8", "--sim-load"'))
    with seawall_up(tmp_path, str(spec)) as up:
        up.settled()
        args = ["chat", "--state-dir", str(up.state_dir), "--max-tokens", "300", "--temperature", "0"]
        with in_terminal(args, columns=80, env={"SEAWALL_CACHE": str(tmp_path)}) as terminal:
            terminal.until("> ")
            terminal.types(b"Tell me a story.\n")
            terminal.until(
                "Tell me a story.\n "
            )  # its first token: from here on a stream is resumed, not begun anew
            busy = up.until(
                lambda s: next((r for r in s["replicas"] if r["in_flight"] or r["running"]), None)
            )
            os.kill(busy["pid"], 9)
            terminal.until("tokens/s")
            terminal.types(b"/quit\n")
            said = " ".join(terminal.rest().split())
    assert "a replica failed meanwhile, another continued 1 stream" in said


def test_down_ends_it_and_says_when_nothing_is_left(tmp_path: Path) -> None:
    with seawall_up(tmp_path, "Qwen/Qwen3-0.6B", "--engine", "sim", "--api-key") as up:
        up.settled()
        up.until(lambda _: "SEAWALL_API_KEY" in up.output.read_text())
        said = up.output.read_text()
        key = next(line for line in said.splitlines() if line.startswith("sk-sw-"))
        assert up.chat().status_code == 401
        answered = seawall(
            "chat", "--state-dir", str(up.state_dir), "--max-tokens", "3", stdin="x", SEAWALL_API_KEY=key
        )
        assert answered.returncode == 0, answered.stderr
        refused = seawall("chat", "--state-dir", str(up.state_dir), stdin="x", SEAWALL_API_KEY="")
        assert refused.returncode == 2
        assert "SEAWALL_API_KEY" in refused.stderr
        up.note_family()
        done = seawall("down", "--state-dir", str(up.state_dir), "-o", "json")
        assert json.loads(done.stdout)["stopped"] is True
        up.process.wait(20)
        assert up.survivors() == []
    again = seawall("down", "--state-dir", str(up.state_dir))
    assert again.returncode == 2
    assert "Start one: seawall up" in again.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [(["fleet.yaml", "--context", "4k"], "--context goes with a MODEL"), (["qwen"], "neither a model nor a Fleet"),
     (["./nowhere"], "no such file or folder"), (["a/b", "--gpus", "2"], "no GPU is visible here")],
)  # fmt: skip
def test_what_cannot_be_served_is_told_before_anything_starts(
    tmp_path: Path, args: list[str], says: str
) -> None:
    done = seawall("up", *args, "--state-dir", str(tmp_path), "--port", "0", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [("file:///nowhere/at/all", 2, "has no config.json"), ("hf://a/b", 3, "127.0.0.1:9 cannot be reached")],
)
def test_a_model_that_cannot_be_had_costs_no_engine(
    tmp_path: Path, source: str, code: int, says: str
) -> None:
    spec = tmp_path / "mine.yaml"
    spec.write_text(
        "apiVersion: seawall.dev/v1alpha1\nkind: Fleet\nmetadata: {name: mine}\n"
        f'spec: {{model: {{source: "{source}"}}, hardware: {{gpu: cpu, cloud: local}}}}\n'
    )
    cache = tmp_path / "cache"
    env = {"SEAWALL_CACHE": str(cache), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = seawall("up", str(spec), "--port", "0", **env)
    assert done.returncode == code
    assert says in done.stderr
    assert "installing" not in done.stdout
    assert not (cache / "engines").exists()


def test_a_model_that_this_machine_cannot_hold_is_not_fetched(tmp_path: Path) -> None:
    env = {"SEAWALL_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = seawall("up", "Qwen/Qwen3-235B-A22B", "--gpus", "0", "--port", "0", **env)
    assert done.returncode == 3
    assert "the fewest replicas need about" in done.stderr
    assert "pulling" not in done.stdout
