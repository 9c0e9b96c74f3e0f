"""The console's libraries: what is fetched is what the lock names, or nothing is used; without npm that is said."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from seawall.console import assets

ROOT = Path(__file__).parents[3]
TOOLS = ("sh", "dirname", "cmp", "mktemp", "mkdir", "tail", "sha256sum", "cut", "basename", "tar", "gzip", "cp", "rm",
         "mv", "chmod", "grep", "cat")  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with the script alone, and a PATH that has what it needs but npm."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "src/seawall/console/static").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "scripts/console_libs.sh", tmp_path / "scripts")
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None, tool
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def npm(clone: Path, content: bytes) -> str:
    """An npm that packs one library -> the SHA-256 of its archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in (("package/dist/lib.mjs", content), ("package/LICENSE", b"MIT")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    (clone / "archive.tgz").write_bytes(out.getvalue())
    fake = clone / "bin/npm"
    fake.write_text(f"#!/bin/sh\ncp {clone}/archive.tgz lib-1.0.0.tgz\necho lib-1.0.0.tgz\n")
    fake.chmod(0o755)
    return hashlib.sha256(out.getvalue()).hexdigest()


def fetch(clone: Path, digest: str = "0" * 64) -> subprocess.CompletedProcess[str]:
    lock = f"# a lock\nlib 1.0.0 {digest} dist/lib.mjs LICENSE\n"
    (clone / "requirements/console-libs.txt").write_text(lock)
    env = {**os.environ, "PATH": str(clone / "bin")}
    return subprocess.run(
        [clone / "scripts/console_libs.sh"], env=env, capture_output=True, text=True, timeout=30
    )


def test_what_the_lock_names_is_kept_and_not_fetched_twice(clone: Path) -> None:
    digest = npm(clone, b"export const here = 1;")
    lib = clone / "src/seawall/console/static/lib"
    assert fetch(clone, digest).returncode == 0
    assert (lib / "lib.mjs").read_bytes() == b"export const here = 1;"
    assert (lib / "LICENSE.lib").read_text() == "MIT"
    (clone / "bin/npm").unlink()
    again = fetch(clone, digest)
    assert (again.returncode, again.stdout) == (0, "")


def test_another_archive_is_refused_and_nothing_of_it_is_used(clone: Path) -> None:
    npm(clone, b"steal();")
    refused = fetch(clone)
    assert refused.returncode == 1
    assert "SHA-256 is not the one in requirements/console-libs.txt" in refused.stderr
    assert not (clone / "src/seawall/console/static/lib").exists()


def test_without_npm_or_a_network_it_is_said_and_no_failure(clone: Path) -> None:
    without = fetch(clone)
    assert without.returncode == 0
    assert "plain tables" in without.stdout
    npm(clone, b"")
    (clone / "bin/npm").write_text("#!/bin/sh\necho 'npm error network' >&2\nexit 1\n")
    offline = fetch(clone)
    assert offline.returncode == 0
    assert "npm could not fetch lib 1.0.0 (npm error network)" in offline.stdout


def test_the_page_knows_which_libraries_there_are() -> None:
    there = [name for name, file in assets.LIBRARIES.items() if (assets.STATIC / file).exists()]
    assert assets.libraries() == there
    lock = (ROOT / "requirements/console-libs.txt").read_text()
    for file in assets.LIBRARIES.values():
        assert f"dist/{Path(file).name}" in lock
