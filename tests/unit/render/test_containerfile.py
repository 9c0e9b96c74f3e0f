"""The Containerfile, as far as a machine without a registry can judge: its text, and its steps run here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.gateway import compiled
from seawall.render.images import seawall_image
from seawall.render.security import pod_context

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "Containerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", "\n".join(x for x in TEXT.splitlines() if not x.startswith("#")))
    return [(a, b) for a, _, b in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def test_the_base_is_pinned_by_digest_and_stages_share_it() -> None:
    args = dict(b.split("=", 1) for a, b in instructions() if a == "ARG" and "=" in b)
    assert re.fullmatch(r"[a-z0-9./:-]+@sha256:[0-9a-f]{64}", args["BASE"])
    assert [b for a, b in instructions() if a == "FROM"] == ["${BASE} AS build", "${BASE}"]


def test_it_runs_as_a_numbered_user_and_installs_only_what_is_hashed() -> None:
    (user,) = [b for a, b in instructions() if a == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    installs = [b for a, b in instructions() if a == "RUN" and "pip install" in b]
    assert all(
        "--require-hashes" in part or "--no-deps" in part
        for b in installs
        for part in re.split("&&", b)
        if " install " in part
    )
    assert any("compile_gateway.py" in b for a, b in instructions() if a == "RUN")
    assert "vllm" not in (ROOT / "requirements" / "image.txt").read_text()


def test_its_bill_is_written_last_and_knows_the_base() -> None:
    said = [(a, b) for a, b in instructions() if a in ("ARG", "COPY", "RUN", "FROM")]
    assert said[-1][0] == "RUN" and '--base "$BASE"' in said[-1][1] and "bill.cdx.json" in said[-1][1]
    assert ("ARG", "BASE") in said[said.index(("FROM", "${BASE}")) :], (
        "a stage sees no argument unless it asks"
    )


def test_what_it_copies_is_there_and_not_ignored() -> None:
    kept = {x[1:] for x in (ROOT / ".containerignore").read_text().splitlines() if x.startswith("!")}
    for _, arguments in [i for i in instructions() if i[0] == "COPY" and "--from" not in i[1]]:
        for source in arguments.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in kept, source


def test_the_image_has_every_extra_that_its_commands_import() -> None:
    pins = (ROOT / "requirements" / "image.txt").read_text()
    for package in ("boto3", "google-cloud-storage", "httpx2", "httptools"):
        assert re.search(rf"^{package}==", pins, re.MULTILINE), package
    assert seawall_image.__doc__ and pod_context()["runAsNonRoot"]


@pytest.mark.slow
def test_its_steps_give_a_seawall_that_needs_no_writable_place(tmp_path: Path) -> None:
    """The build stage's steps with this machine's Python, then the result without any writable folder."""
    uv, env = ROOT / ".venv/bin/uv", {**os.environ, "UV_LINK_MODE": "hardlink"}
    venv = tmp_path / "opt"
    steps = [
        [uv, "venv", "--quiet", "--python", sys.executable, venv],
        [
            uv,
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "--python",
            venv / "bin/python",
            "-r",
            ROOT / "requirements/image.txt",
        ],
        [uv, "build", "--quiet", "--offline", "--wheel", "--out-dir", tmp_path / "wheels", ROOT],
    ]
    for step in steps:
        subprocess.run([str(s) for s in step], env=env, check=True, timeout=300, cwd=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--python",
        venv / "bin/python",
        wheel,
    ]
    subprocess.run([str(s) for s in install], env=env, check=True, timeout=100)
    where = [
        str(venv / "bin/python"),
        "-c",
        "from seawall.gateway import compiled; print(compiled.folder().name)",
    ]
    key = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert key == compiled.folder().name, (
        "what the build stage compiles from src is not what the wheel looks for"
    )
    spec = ROOT / "examples" / "llama-70b-4xh100.yaml"
    bare = {"PATH": f"{venv}/bin:/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    for args in (["--version"], ["render", str(spec)], ["gateway", "--help"], ["pull", "--help"]):
        done = subprocess.run(
            [str(venv / "bin/seawall"), *args], env=bare, cwd="/", capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
