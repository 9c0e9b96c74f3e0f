"""`seawall rollout` with two fleets: it asks which, takes them one way, and a change outlives who watches it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.e2e.local.terminal import in_terminal
from tests.e2e.local.up_process import Up, fleet_file, seawall_up
from tests.unit.cli.test_output import completed

from seawall.drivers.process import free_port


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("two")
    files = [fleet_file(folder, name=n, low=1, high=2) for n in ("one", "two")]
    with seawall_up(folder, *files) as up:
        up.settled()
        yield up


def rollout(up: Up, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "seawall", "rollout", *args, "--state-dir", str(up.state_dir)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("args", [("restart",), ("scale", "2"), ("scale", "auto")])
def test_with_several_fleets_it_asks_which(up: Up, args: tuple[str, ...]) -> None:
    done = rollout(up, *args)
    assert done.returncode == 2
    assert "2 fleets run here: one, two" in done.stderr
    cure = f"Say which: seawall rollout {args[0]} one{''.join(f' {a}' for a in args[1:])}"
    assert cure in done.stderr.splitlines()[1]
    assert "None" not in done.stderr


@pytest.mark.parametrize("args", [("scale", "two", "2"), ("scale", "2", "--fleet", "two")])
def test_a_fleet_is_named_by_a_word_or_an_option(up: Up, args: tuple[str, ...]) -> None:
    done = rollout(up, *args)
    assert done.returncode == 0, done.stderr
    assert "two: 2 replicas wanted" in done.stdout
    assert rollout(up, "scale", "two", "auto").returncode == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("scale", "one", "99"), "99 is not a number of replicas. Name 0 to 64, or `auto`"),
        (
            ("scale", "one", "5"),
            "5 replicas are more than the spec of one allows (2). Raise spec.scaling.max",
        ),
        (
            ("scale", "one", "many"),
            "'many' is not a number of replicas. Write a number, or `auto`; for example: seawall rollout scale one 2",
        ),
        (("scale", "one"), "for example: seawall rollout scale one 2"),
        (("scale", "a", "b", "2"), "too many words"),
        (("scale", "one", "2", "--fleet", "two"), "two fleets are named: one and two"),
        (("restart", "three"), "there is no fleet 'three'. Running here: one, two"),
    ],
)
def test_what_cannot_be_has_its_words(up: Up, args: tuple[str, ...], says: str) -> None:
    done = rollout(up, *args)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert "null" not in done.stderr


def test_the_gateways_turn_is_data_too(up: Up) -> None:
    done = rollout(up, "gateway", "-o", "json")
    assert json.loads(done.stdout) == {"gateway": "replaced"}
    up.settled()


def test_who_stops_watching_is_told_that_it_goes_on(up: Up) -> None:
    args = ["rollout", "restart", "one", "--state-dir", str(up.state_dir)]
    with in_terminal(args, columns=80) as terminal:
        terminal.until("rolling restart")
        terminal.until("one-")  # it watches: Python loses a signal that falls into an import
        terminal.types(b"\x03")
        said = " ".join(terminal.rest().split())
    assert "the restart of one goes on by itself" in said
    assert "seawall status one" in said
    assert terminal.process.returncode == 130
    up.until(lambda s: all(f["settled"] for f in s["fleets"]) and s["fleets"][0]["generation"] >= 1)


def test_status_of_one_fleet_shows_no_other(up: Up) -> None:
    argv = [sys.executable, "-m", "seawall", "status", "two", "--state-dir", str(up.state_dir)]
    text = subprocess.run(argv, capture_output=True, text=True).stdout
    assert "two-0" in text
    assert "one-0" not in text
    data = json.loads(subprocess.run([*argv, "-o", "json"], capture_output=True, text=True).stdout)
    assert {f["name"] for f in data["fleets"]} == {"two"}
    argv[4] = "three"
    assert subprocess.run(argv, capture_output=True, text=True).returncode == 2


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("seawall status ", ["one", "two"]),
        ("seawall status t", ["two"]),
        ("seawall rollout restart ", ["one", "two"]),
        ("seawall rollout scale o", ["one"]),
        ("seawall rollout scale one ", ["auto"]),
        ("seawall chat tw", ["two"]),
        ("seawall logs two", ["two-0", "two-1"]),
    ],
)
def test_the_tab_key_offers_what_runs_here(up: Up, typed: str, offered: list[str]) -> None:
    found = completed(typed, {"SEAWALL_STATE": str(up.state_dir)})
    assert found == offered or (typed == "seawall logs two" and found == offered[:1])  # as many as run now


def test_the_admin_port_that_was_named_stays_whichever_gateway_serves(tmp_path: Path) -> None:
    port = free_port()
    with seawall_up(tmp_path, fleet_file(tmp_path), "--admin-port", str(port)) as up:
        first = up.settled()["gateway"]
        assert first["admin_url"] == f"http://127.0.0.1:{port}"

        def served() -> list[int]:
            pages = ("/metrics", "/debug/state", "/console")
            with httpx2.Client(base_url=first["admin_url"], trust_env=False, timeout=10) as client:
                return [client.get(page).status_code for page in (*pages, *pages)]

        assert served() == [200] * 6
        assert rollout(up, "gateway").returncode == 0
        second = up.until(lambda s: s["gateway"] if s["gateway"]["pid"] != first["pid"] else None)
        assert second["admin_url"] == first["admin_url"]
        assert served() == [200] * 6
        os.kill(second["pid"], signal.SIGKILL)
        up.until(lambda s: s["gateway"]["phase"] == "ready" and s["gateway"]["pid"] != second["pid"])
        assert served() == [200] * 6
    assert not up.survivors()
