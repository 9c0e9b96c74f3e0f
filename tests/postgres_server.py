"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, on a socket there, for as long as a test."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


def _user() -> str | None:
    """Who runs it: PostgreSQL refuses root. None: whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


class PostgresServer:
    """A cluster in a folder, which can be killed and started again."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self.address = f"postgresql:///postgres?host={folder}&user=seawall"
        self._folder, self._programs, self._user = folder, programs, user
        self._data = folder / "data"
        self._up = False
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "seawall", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        """Returns when it answers."""
        self._up = True
        folder = self._folder
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c shared_buffers=16MB"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        if self._up:
            self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """SIGKILL of the server and of all its processes; returns when they are gone."""
        self._up = False
        server = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        gone = [server, *map(int, children)]
        for pid in gone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(_runs(pid) for pid in gone):
            time.sleep(0.02)
        # Where nobody collects orphans, the next server would take the entry that is left for one that runs.
        (self._data / "postmaster.pid").unlink()
        for lock in self._folder.glob(".s.PGSQL.*"):
            lock.unlink()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True, user=self._user, cwd=self._folder, capture_output=True, timeout=100,
        )  # fmt: skip


def _runs(pid: int) -> bool:
    """Whether a process is there, and is more than an entry that nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def killable_postgres() -> Iterator[PostgresServer]:
    """A server that runs."""
    programs, user = _programs(), _user()
    if programs is None:
        why = "PostgreSQL is missing: scripts/test_tools.sh installs Debian's package postgresql"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:
        if user is not None:
            shutil.chown(folder, user)
        server = PostgresServer(Path(folder), programs, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Its address."""
    with killable_postgres() as server:
        yield server.address
