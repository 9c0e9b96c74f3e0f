"""Audit lines on a full disk, into a pipe that is closed, and through a rotation: whole, or counted as lost."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seawall.errors import InputError
from seawall.gateway.tell.audit import Audit
from seawall.gateway.tell.ended import Ended
from seawall.gateway.tell.tenants import ANYONE


def ended(n: int) -> Ended:
    return Ended(
        b"id-%d" % n, b"/v1/completions", "m", ANYONE, None, {}, "m", "finished", 200, "", "r", 1.0, 0.0, 1, 2,
        0.0, 0, 0, False, 3,
    )  # fmt: skip


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, was)


async def written(audit: Audit) -> None:
    """Everything noted so far has been written, or lost."""
    loop = asyncio.get_running_loop()
    for _ in range(2):
        audit.flush(loop)
        if audit._writing is not None:
            await audit._writing
    audit.flush(loop)


async def test_a_full_disk_loses_whole_lines_and_says_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "audit"
    audit = Audit(str(file))
    for n in range(10):
        audit.note(ended(n))
    await written(audit)
    with disk_of(file.stat().st_size + 300), caplog.at_level(logging.ERROR):
        for n in range(10, 20):
            audit.note(ended(n))
        await written(audit)
        for n in range(20, 25):
            audit.note(ended(n))
        await written(audit)
    assert "audit lines are lost" in caplog.text
    audit.note(ended(99))
    await audit.close()
    kept = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert kept[:10] == [f"id-{n}" for n in range(10)] and kept[-1] == "id-99"
    assert len(kept) + audit.lost == 26, "every line is there whole, or counted"
    assert audit.lost >= 12
    os.close(audit._fd)


async def test_lines_of_several_writers_of_one_full_file_stay_whole(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    audits = [Audit(str(file)) for _ in range(3)]
    with disk_of(2000):
        for n in range(30):
            for audit in audits:
                audit.note(ended(n))
            await asyncio.gather(*map(written, audits))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) + sum(a.lost for a in audits) == 90 and lines
    for audit in audits:
        await audit.close()
        os.close(audit._fd)


async def test_what_a_pipe_took_of_a_line_is_completed_before_any_other(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    audit = Audit(str(pipe))
    os.set_blocking(audit._fd, False)
    for n in range(2000):
        audit.note(ended(n))
    await written(audit)
    got = os.read(reader, 1 << 20)
    audit.note(ended(7777))
    await written(audit)
    got += os.read(reader, 1 << 20)
    lines = [json.loads(line)["id"] for line in got.decode().splitlines()]
    assert lines[-1] == "id-7777" and len(lines) + audit.lost == 2001
    os.close(reader)
    audit.note(ended(8))
    await written(audit)
    assert len(lines) + audit.lost == 2002, "nobody reads any more: lost, and no traceback"
    os.close(audit._fd)


async def test_a_rotation_waits_for_the_write_that_is_under_way(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    audit = Audit(str(file))
    audit.note(ended(1))
    audit.flush(asyncio.get_running_loop())
    file.rename(tmp_path / "audit.1")
    audit.reopen()
    audit.note(ended(2))
    await audit.close()
    audit.flush(asyncio.get_running_loop())
    both = (tmp_path / "audit.1").read_text() + (file.read_text() if file.exists() else "")
    assert [json.loads(x)["id"] for x in both.splitlines()] == ["id-1", "id-2"]
    os.close(audit._fd)


def test_a_pipe_that_nobody_reads_is_told_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "audit"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"--audit .*No such device"):
        Audit(str(pipe))
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert os.get_blocking(Audit(str(pipe))._fd), (
            "lines are written beside the loop, and wait for their reader"
        )
    finally:
        os.close(reader)
