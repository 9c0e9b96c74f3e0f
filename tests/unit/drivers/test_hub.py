"""A hub that is away, busy or not a hub at all: one sentence with a cure, soon, and no traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.weights.hub_double import REVISION, HubDouble

from seawall.drivers import hub
from seawall.errors import InputError, SeawallError, SourceError

FILES = {"config.json": b'{"model_type": "llama"}'}


def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}"


def both(env: dict[str, str], slept: list[float], repo: str = "org/model") -> list[SeawallError]:
    """What listing and reading a small file end with."""
    ends = []
    for ask in (
        lambda: hub.repository(repo, None, env, slept.append),
        lambda: hub.small_file(repo, "config.json", None, env, 2**20, slept.append),
    ):
        with pytest.raises(SeawallError) as e:
            ask()
        assert e.value.cure
        ends.append(e.value)
    return ends


def test_a_hub_that_is_there(tmp_path: Path) -> None:
    with HubDouble(FILES) as there:
        env = {"HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path), "HF_TOKEN": "t"}
        assert hub.repository("org/model", None, env).sha == REVISION
        assert hub.small_file("org/model", "config.json", None, env, 2**20) == FILES["config.json"]
        assert hub.small_file("org/model", "missing.json", None, env, 2**20) is None
        assert there.tokens == {"Bearer t"}


def test_nobody_there_is_said_at_once_and_names_the_host(tmp_path: Path) -> None:
    slept: list[float] = []
    at = nobody()
    for e in both({"HF_ENDPOINT": at, "HF_HOME": str(tmp_path)}, slept):
        assert isinstance(e, SourceError)
        assert (
            f"{at.removeprefix('http://')} cannot be reached for org/model: Connection refused" in e.message
        )
    assert sum(slept) < 3


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("429", "asks to come back later"),
        ("503", "HTTP 503"),
        ("circle", "circle"),
        ("login-page", "not the hub's"),
    ],
)
def test_what_is_no_answer_of_a_hub_has_its_cause(tmp_path: Path, fault: str, says: str) -> None:
    with HubDouble(FILES, [fault], rate=1.0) as there:
        slept: list[float] = []
        with pytest.raises(SourceError, match=says) as e:
            hub.repository(
                "org/model", None, {"HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path)}, slept.append
            )
        assert e.value.cure
        if fault in ("circle", "429", "503"):
            with pytest.raises(SourceError, match=says):
                hub.small_file(
                    "org/model", "config.json", None, {"HF_ENDPOINT": there.url}, 2**20, slept.append
                )


def test_a_busy_hub_is_asked_again(tmp_path: Path) -> None:
    with HubDouble(FILES, ["429", "503"], rate=0.5, seed=3) as there:
        env = {"HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path)}
        for _ in range(5):
            assert hub.repository("org/model", None, env, lambda s: None).sha == REVISION


def test_gated_missing_and_offline(tmp_path: Path) -> None:
    with HubDouble(FILES) as there:
        env = {"HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path)}
        with pytest.raises(SourceError, match="gated"):
            hub.repository("org/gated", None, env)
        with pytest.raises(InputError, match="no revision 'missing'"):
            hub.repository("org/model", "missing", env)
        with pytest.raises(InputError, match="not on the hub"):
            hub.small_file("org/nothing", "config.json", None, env, 2**20)
        for e in both(env | {"HF_HUB_OFFLINE": "1"}, []):
            assert "HF_HUB_OFFLINE is set" in e.message
        assert not any(hub.token({"HF_HOME": str(tmp_path)}) or "" for _ in range(1))


SPEC = """apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: mine}
spec:
  model: {source: "hf://someorg/some-model"}
  hardware: {gpu: cpu}
"""


@pytest.mark.parametrize(
    "args",
    [["pull", "hf://someorg/some-model", "--to", "here"], ["plan", "mine.yaml"],
     ["models", "add", "x", "hf://someorg/some-model", "--to", "here"]],
    ids=lambda a: a[0],
)  # fmt: skip
def test_without_a_hub_every_verb_ends_in_two_lines(tmp_path: Path, args: list[str]) -> None:
    import os

    (tmp_path / "mine.yaml").write_text(SPEC)
    env = {"HF_ENDPOINT": nobody(), "HF_HOME": str(tmp_path), "SEAWALL_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "seawall", *args],
        cwd=tmp_path,
        env=os.environ | env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 2
    assert "cannot be reached for someorg/some-model: Connection refused" in done.stderr
    assert "Check the network" in done.stderr
    assert not (tmp_path / "here").exists()
