"""Processes that cannot be orphaned: the supervisor's side of the guardian.

`Child.start` runs a command under a guardian (see `guardian.py`) in a session of its own, so a Ctrl-C in the
terminal reaches only the supervisor. Signals go through the guardian's pipe: no pid is ever signalled that
could have been reused. Nothing here knows what an engine is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seawall.drivers import guardian
from seawall.errors import EngineError

OOM_SCORE = 300
"""Adjustment by which the kernel, short of memory, kills an engine before the supervisor."""
SPAWN_S = 30.0


@dataclass(frozen=True)
class ProcessLimits:
    """What one child with all its descendants may use. None: no limit."""

    memory_bytes: int | None = None
    cpu_cores: float | None = None


class Child:
    """One command under a guardian. Make it with `start`; `await wait()` gives its exit code."""

    def __init__(self, process: asyncio.subprocess.Process, pid: int, cgroups: list[Path]) -> None:
        self._process = process
        self._cgroups = cgroups
        self.pid = pid
        """The command's own pid (the group's leader is the guardian's anchor)."""
        self.limited_by = "cgroup" if any(map(_bounds_memory, cgroups)) else "nothing"
        """Who enforces the memory limit."""

    @classmethod
    async def start(
        cls, argv: Sequence[str], env: Mapping[str, str], log: Path, limits: ProcessLimits | None = None
    ) -> Child:
        """Runs `argv` (absolute path first) with `env`, output appended to `log`. EngineError if it cannot."""
        limits = limits or ProcessLimits()
        cgroups = _cgroups(f"seawall-{os.getpid()}-{log.stem}-{time.monotonic_ns()}", limits)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(guardian.__file__),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
            env={"PATH": os.environ.get("PATH", "")},
        )  # fmt: skip
        order = {
            "argv": list(argv), "env": dict(env), "log": str(log), "oom_score": OOM_SCORE,
            "cgroups": [str(c) for c in cgroups],
        }  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            await process.stdin.drain()
            async with asyncio.timeout(SPAWN_S):
                line = await process.stdout.readline()
            pid = int(json.loads(line)["pid"])
        except (TimeoutError, ValueError, KeyError, OSError):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise EngineError(
                f"{argv[0]} could not be started.", f"See {log} and the memory that is free."
            ) from None
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        return cls(process, pid, cgroups)

    @property
    def guardian_pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while anything of it lives; else the command's code, 128 + signal when it was killed."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    def terminate(self) -> None:
        """SIGTERM to the command alone: vLLM then drains."""
        self._tell(b"term\n")

    def kill(self) -> None:
        """SIGKILL to the command and all its descendants."""
        self._tell(b"kill\n")

    async def wait(self) -> int:
        """Until the command and all its descendants are gone."""
        await self._process.wait()
        if self.exit_code == 128 + signal.SIGKILL:
            # Perhaps the guardian itself was killed; its anchor then kills the group within a moment.
            await asyncio.sleep(0)
        for folder in self._cgroups:
            with contextlib.suppress(OSError):
                folder.rmdir()
        return self.exit_code or 0

    def _tell(self, word: bytes) -> None:
        stdin = self._process.stdin
        if self._process.returncode is None and stdin is not None and not stdin.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                stdin.write(word)


LOWEST_PORT, TRIES = 20_000, 64
"""Where ports are looked for first, and how often."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on now. Another process may take it first: its user must cope with that. It is not one that
    the kernel gives to outgoing connections, if that can be: such a one is gone by the time a process starts again."""
    end = _first_outgoing_port()
    for _ in range(TRIES if end > LOWEST_PORT else 0):
        port = LOWEST_PORT + secrets.randbelow(end - LOWEST_PORT)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind((host, port))
            return port
    with socket.socket() as s:
        s.bind((host, 0))
        return int(s.getsockname()[1])


def _first_outgoing_port() -> int:
    """Where the range of ports for outgoing connections begins; 0: not known."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


NOT_ALLOWED = "ports below 1024 need root here"
"""What `port_holder` says where nobody may hold the port but root."""


def port_holder(port: int) -> str | None:
    """Who listens on a TCP port: `python3 (pid 4121)`, `another process` when it may not be seen, None when free."""
    import psutil

    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
            return None
        except PermissionError:
            return NOT_ALLOWED
        except OSError:
            pass
    with contextlib.suppress(psutil.Error, OSError):
        for c in psutil.net_connections("tcp"):
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(c.pid)
                    parent = process.parent()
                    if parent is not None and parent.cmdline() == process.cmdline():
                        process = parent  # a fork, which would only be started again
                    return f"{process.name()} (pid {process.pid})"
    return "another process"


def _cgroups(name: str, limits: ProcessLimits) -> list[Path]:
    """Makes a control group per limit where this user may (v2 delegated, or v1 as root); [] where not."""
    root = Path("/sys/fs/cgroup")
    made: list[Path] = []
    wanted: list[tuple[Path, str, str]] = []
    quota = f"{round((limits.cpu_cores or 0) * 100_000)}"
    if (root / "cgroup.controllers").exists():
        own = root / _own_cgroup("0").lstrip("/")
        if limits.memory_bytes:
            wanted.append((own, "memory.max", str(limits.memory_bytes)))
        if limits.cpu_cores:
            wanted.append((own, "cpu.max", f"{quota} 100000"))
    else:
        if limits.memory_bytes:
            wanted.append((_v1(root, "memory"), "memory.limit_in_bytes", str(limits.memory_bytes)))
        if limits.cpu_cores:
            wanted.append((_v1(root, "cpu"), "cpu.cfs_quota_us", quota))
    for parent, file, value in wanted:
        folder = parent / name
        try:
            folder.mkdir(exist_ok=True)
            if folder not in made:
                made.append(folder)
            (folder / file).write_text(value)
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            made = [m for m in made if m != folder]
    return made


def _bounds_memory(folder: Path) -> bool:
    """A group of ours with a memory limit in force."""
    for file in ("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int((folder / file).read_text()) < 2**62
    return False


def _v1(root: Path, controller: str) -> Path:
    """Below our own group, so that no limit that holds for us is escaped; a container sees its group as the root."""
    own = root / controller / _own_cgroup(controller).lstrip("/")
    return own if own.is_dir() else root / controller


def _own_cgroup(hierarchy: str) -> str:
    """Our path in one hierarchy: a controller's name (v1), or `0` for v2."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if hierarchy == number or hierarchy in controllers.split(","):
                return path
    return "/"


def computing_cpu_s(pid: int) -> float | None:
    """CPU time of a process's descendants, without its own: of what computes, not of what answers HTTP, which our own
    looks keep busy. None: it has no descendants, or they cannot be seen."""
    import psutil

    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return None
    used = []
    for child in children:
        with contextlib.suppress(psutil.Error):
            times = child.cpu_times()
            used.append(times.user + times.system)
    return sum(used) if used else None


def own_cpu_s(pid: int) -> float | None:
    """CPU time of a process without its descendants. None: it is gone, or cannot be seen."""
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants (shared pages counted for each)."""
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for p in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += p.memory_info().rss
    return total
