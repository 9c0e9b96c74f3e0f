"""Files that others read: replaced whole, or, where there is no room, written over in place."""

from __future__ import annotations

import fcntl
import json
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seawall.drivers.cache import locked, write_atomic, write_in_place


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_replacement_that_fails_leaves_the_old_file_and_no_scratch(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    write_atomic(path, '{"a": 1}')
    with no_file_larger_than(3), pytest.raises(OSError, match="File too large"):
        write_atomic(path, '{"a": 2}')
    assert [p.name for p in tmp_path.iterdir()] == ["it.json"]
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("new", [{"a": 2}, {"a": [1, 2, 3]}, {}])
def test_what_is_written_in_place_is_read_back(tmp_path: Path, new: object) -> None:
    path = tmp_path / "it.json"
    path.write_text('{"a": 1}')
    inode = path.stat().st_ino
    write_in_place(path, json.dumps(new))
    assert json.loads(path.read_text()) == new
    assert path.stat().st_ino == inode


def test_what_does_not_fit_in_place_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    path.write_text('{"a": 1}')
    with no_file_larger_than(10):
        write_in_place(path, '{"a": 22}')
        with pytest.raises(OSError, match="No space left"):
            write_in_place(path, '{"a": 333333}')
    with pytest.raises(FileNotFoundError):
        write_in_place(tmp_path / "new.json", "{}")


def test_a_program_that_outlives_us_holds_the_lock_that_it_was_started_with(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with locked(lock) as held:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(held,))
    with lock.open("a") as f, pytest.raises(BlockingIOError):
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    child.communicate()
    with lock.open("a") as f:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
