"""The guardian: a small process between the supervisor and one engine, so that nothing is ever orphaned.

    supervisor --pipe--> guardian --fork--> anchor (leads the process group)
                            |-----fork----> engine leader (vllm serve), in the anchor's group, with its children

- The supervisor dies (kill -9): the guardian reads EOF on its pipe and kills the group.
- The engine's leader dies: its children (EngineCore, Worker) are adopted by the guardian, a subreaper, and killed.
- The guardian dies: the kernel kills the leader (PDEATHSIG) and the anchor reads EOF and kills the group.
The anchor also keeps the group's id from being reused. The engine's output goes through the guardian into a
log of bounded size.

It runs with `python -I -S`, so only the standard library is here, and it starts in about 20 ms. Commands on
standard input, one a line: `term`, `kill`. It ends with the engine's exit code, or 128 + its signal. Nothing
of Seawall is imported here.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import sys
import time
from typing import Any, BinaryIO

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ORPHAN_GRACE_S = 1.0
"""After the leader has gone, its children get so long to go by themselves."""
LOG_BYTES = 16 * 2**20
"""A log is turned over (to NAME.1) at this size, so two files bound it."""
UNUSABLE = 127

_libc: Any = ctypes.CDLL(None, use_errno=True)


class Log:
    """An append-only file that turns over at a size. This user's alone: what engines say may be a prompt."""

    def __init__(self, path: str, limit: int = LOG_BYTES) -> None:
        self._path, self._limit = path, limit
        self._file: BinaryIO = _private(path)
        self._size = os.fstat(self._file.fileno()).st_size

    def write(self, data: bytes) -> None:
        """Appends to the log; never raises: a full disk costs log lines, not the engine."""
        with contextlib.suppress(OSError):
            if self._size + len(data) > self._limit:
                self._file.close()
                os.replace(self._path, self._path + ".1")
                self._file = _private(self._path)
                self._size = 0
            self._file.write(data)
            self._size += len(data)


def _private(path: str) -> BinaryIO:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with contextlib.suppress(OSError):  # somebody else's file, or a pipe
        os.fchmod(file, 0o600)
    return open(file, "ab", buffering=0)


def anchor(lifeline: int) -> int:
    """Forks the process that leads the group and kills it when the guardian is gone; returns its pid."""
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    os.setpgid(0, 0)
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    # Above all the write end of its own lifeline: holding that, it would never read EOF.
    for fd in list(map(int, os.listdir("/proc/self/fd"))):
        if fd != lifeline:
            with contextlib.suppress(OSError):
                os.close(fd)
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)
    os._exit(0)


def launch(
    argv: list[str], env: dict[str, str], group: int, output: int, oom_score: int, cgroups: list[str]
) -> int:
    """Forks and execs the engine in the anchor's group; returns its pid."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, group)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(UNUSABLE)
        for folder in cgroups:
            with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs"), "w") as f:
                f.write("0")
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as f:
            f.write(str(oom_score))
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 256)
        os.execve(argv[0], argv, env)
    except OSError as e:
        os.write(2, f"guardian: cannot run {argv[0]}: {e.strerror}\n".encode())
    os._exit(UNUSABLE)


def children() -> list[int]:
    """Pids whose parent is this process, orphans that it adopted among them."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as f:
        return [int(p) for p in f.read().split()]
    return []


class Guardian:
    """One engine, from fork to the last of its descendants."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._log = Log(order["log"])
        self._lifeline_r, self._lifeline_w = os.pipe()
        self._out_r, out_w = os.pipe()
        self._anchor = anchor(self._lifeline_r)
        self.leader = launch(
            order["argv"], order["env"], self._anchor, out_w, int(order["oom_score"]), list(order["cgroups"])
        )
        os.close(out_w)
        os.close(self._lifeline_r)
        self._code: int | None = None
        self._gone_at: float | None = None

    def kill_all(self, sig: int) -> None:
        """Signals the whole group, or (to stop gently) its leader alone, which tells its own children."""
        with contextlib.suppress(OSError):
            if sig == signal.SIGTERM:
                if self._code is None:
                    os.kill(self.leader, sig)
            else:
                os.killpg(self._anchor, sig)

    def reap(self) -> None:
        """Collects whatever has died; remembers the leader's code."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.leader:
                code = os.waitstatus_to_exitcode(status)
                self._code = code if code >= 0 else 128 - code
                self._gone_at = time.monotonic()

    def run(self) -> int:
        """Relays output and commands until the leader and all its descendants are gone; its exit code."""
        wake_r, wake_w = os.pipe()
        for fd in (wake_r, wake_w, 0, self._out_r):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(sig, lambda *_: self.kill_all(signal.SIGTERM))
        selector = selectors.DefaultSelector()
        for fd in (0, self._out_r, wake_r):
            selector.register(fd, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(timeout=0.2 if self._code is not None else None):
                self._read(int(key.fd), selector)
            self.reap()
            if self._finished():
                self._drain_output()
                return self._code or 0

    def _finished(self) -> bool:
        if self._code is None:
            return False
        others = [p for p in children() if p != self._anchor]
        if others and time.monotonic() - (self._gone_at or 0.0) < ORPHAN_GRACE_S:
            return False
        self.kill_all(signal.SIGKILL)
        for _ in range(100):
            for pid in children():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            if not children():
                return True
            time.sleep(0.02)
        return True

    def _read(self, fd: int, selector: selectors.BaseSelector) -> None:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        if fd == self._out_r:
            if data:
                self._log.write(data)
            else:
                selector.unregister(fd)
        elif fd == 0:
            if not data:
                selector.unregister(fd)
                self._log.write(b"guardian: the supervisor is gone; killing the engine\n")
                self.kill_all(signal.SIGKILL)
            for word in data.split():
                self.kill_all(signal.SIGTERM if word == b"term" else signal.SIGKILL)

    def _drain_output(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._out_r, 65536):
                self._log.write(data)


def main() -> int:
    """The order (one line of JSON: argv, env, log, oom_score, cgroups) comes first on standard input; the
    engine's pid goes back as one line on standard output."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guardian = Guardian(json.loads(first_line()))
    os.write(1, json.dumps({"pid": guardian.leader}).encode() + b"\n")
    os.close(1)
    return guardian.run()


def first_line() -> bytes:
    """The first line, read byte by byte, so that no command behind it is lost in a buffer."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(UNUSABLE)
        line += byte
    return bytes(line)


if __name__ == "__main__":
    sys.exit(main())
