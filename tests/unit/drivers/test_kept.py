"""What the cache holds, and what may go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from seawall.drivers.kept import in_use, remove, things


def make(root: Path, name: str, size: int, days: float) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(b"x" * size)
    then = time.time() - days * 86400
    os.utime(folder / "data", (then, then))
    return folder


def test_things_are_listed_largest_first_and_state_is_none_of_them(tmp_path: Path) -> None:
    make(tmp_path, "weights/small", 5_000, 1)
    make(tmp_path, "engines/large", 900_000, 40)
    make(tmp_path, "up/logs", 5_000, 90)
    (tmp_path / "weights" / "small.lock").write_text("")
    found = things(tmp_path)
    assert [t.name for t in found] == ["engines/large", "weights/small"]
    assert found[0].size >= 900_000
    assert 39 < (time.time() - found[0].used) / 86400 < 41


def test_what_a_process_has_mapped_is_in_use(tmp_path: Path) -> None:
    folder = make(tmp_path, "weights/m", 8192, 99)
    code = (
        "import mmap, sys\nf = open(sys.argv[1], 'rb')\nm = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n"
        "print('up', flush=True)\nsys.stdin.read()"
    )
    (thing,) = things(tmp_path)
    link = tmp_path / "elsewhere"
    link.symlink_to(folder / "data")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(link)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        assert in_use(thing)
        child.communicate("")
    assert not in_use(thing)
    assert remove(thing)
    assert not list((tmp_path / "weights").iterdir())


def test_prune_says_first_and_does_then(tmp_path: Path) -> None:
    make(tmp_path, "weights/old", 5_000, 40)
    make(tmp_path, "weights/new", 5_000, 1)
    env = os.environ | {"SEAWALL_CACHE": str(tmp_path)}

    def seawall(*args: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "seawall", "cache", *args]
        return subprocess.run(argv, env=env, capture_output=True, text=True)

    assert "would remove  weights/old" in seawall("prune").stdout
    assert (tmp_path / "weights" / "old").exists()
    assert "removed  weights/old" in seawall("prune", "--yes").stdout
    assert [t["name"] for t in json.loads(seawall("ls", "-o", "json").stdout)["things"]] == ["weights/new"]
    assert "nothing in" in seawall("prune").stdout
    assert seawall("prune", "--unused", "soon").returncode == 2
