"""What is delivered works where nothing of the clone is: a wheel in an empty environment serves from there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parents[2]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist") / "out"
    argv = [sys.executable, str(ROOT / "scripts" / "dist.py"), "--out", str(out), "--python", sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that holds the compiled wheel and what it depends on."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    (wheel,) = dist.glob(f"*{TAG}*.whl")
    env = os.environ | {"VIRTUAL_ENV": str(venv)}
    locked = ["pip", "sync", "--require-hashes", str(ROOT / "requirements" / "run.txt")]
    for args in (
        ["venv", "--python", sys.executable, str(venv)],
        locked,
        ["pip", "install", "--no-deps", str(wheel)],
    ):
        subprocess.run([uv.find_uv_bin(), "--quiet", *args], env=env, check=True)
    return venv / "bin"


def test_wheels_carry_all_that_the_clone_has(dist: Path) -> None:
    (pure,) = dist.glob("*none-any.whl")
    (own,) = dist.glob(f"*{TAG}*manylinux*.whl")
    names = {path: set(zipfile.ZipFile(path).namelist()) for path in (pure, own)}
    sources = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src" / "seawall").rglob("*.py")}
    assert sources <= names[pure]
    assert "seawall/examples/canary.yaml" in names[pure]
    compiled = {name for name in names[own] if name.endswith(".so")}
    assert len(compiled) > 20
    assert names[pure] <= names[own]
    assert {name for name in names[own] - names[pure] if "_compiled" not in name} == set()
    assert (dist / f"{pure.name.removesuffix('-py3-none-any.whl')}.tar.gz").is_file()


def test_the_bill_of_materials_is_the_lock(dist: Path) -> None:
    (path,) = dist.glob("*.cdx.json")
    bill = json.loads(path.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    locked = {
        line.split("==")[0]
        for line in (ROOT / "requirements" / "run.txt").read_text().splitlines()
        if "==" in line and not line.startswith(" ")
    }
    assert {component["name"] for component in bill["components"]} == locked
    assert bill["metadata"]["component"]["name"] == "seawall"


@contextlib.contextmanager
def serving(installed: Path, folder: Path) -> Iterator[str]:
    """`seawall up` of the installed package on simulated engines; -> its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"PATH": f"{installed}:/usr/bin:/bin", "HOME": str(folder)}
    argv = [
        installed / "seawall",
        "up",
        "--engine",
        "sim",
        "--port",
        str(port),
        "--state-dir",
        folder / "state",
        "--plain",
        "--admin-port",
        "0",
    ]
    with (folder / "up.log").open("wb") as log:
        up = subprocess.Popen(argv, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)
    assert up.returncode == 0, (folder / "up.log").read_text()


def test_the_installed_package_serves_in_its_compiled_form(installed: Path, tmp_path: Path) -> None:
    code = """
from seawall.gateway import compiled
assert compiled.use()
import seawall.gateway.exchange.exchange as exchange
print(exchange.__file__)
"""
    where = subprocess.run(
        [installed / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "/_compiled/" in where.stdout
    with serving(installed, tmp_path) as url:
        body = json.dumps(
            {
                "model": "smollm2",
                "messages": [{"role": "user", "content": "Hello"}],
                "max_tokens": 4,
                "temperature": 0,
            }
        )
        ask = urllib.request.Request(
            f"{url}/v1/chat/completions", body.encode(), {"Content-Type": "application/json"}
        )
        end = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(ask, timeout=60) as answer:
                    told = json.load(answer)
                break
            except OSError:
                assert time.monotonic() < end, (tmp_path / "up.log").read_text()
                time.sleep(0.2)
        assert told["choices"][0]["message"]["content"]


def test_a_python_behind_a_shim_that_refuses_it_is_found_and_one_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyenv's shims refuse versions that are not chosen, though they are installed."""
    shim, behind = tmp_path / "shims/python3.99", tmp_path / "versions/3.99.1/bin/python3.99"
    for path in (shim, behind):
        path.parent.mkdir(parents=True)
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    behind.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(shim.parent), prepend=":")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import dist as script

    assert script.runs("3.99") == str(behind) and script.runs(sys.executable) == sys.executable
    with pytest.raises(SystemExit, match=r"--python 3\.98: no such Python runs here"):
        script.interpreter("3.98")
