"""A pseudo-terminal of a given width with a program in it: what a person sees, byte for byte, and types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[()][A-Z0-9]")


class Terminal:
    """A program's terminal. `text` is all that it has written, without colours and cursor moves."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process, self._master = process, master
        self._raw = b""

    @property
    def text(self) -> str:
        plain = ESCAPES.sub("", self._raw.decode("utf-8", "replace"))
        return plain.replace("\r\n", "\n").replace("\r", "")

    def _read(self, seconds: float) -> bool:
        """Takes what has come; False when the program has closed its terminal."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return True
        try:
            part = os.read(self._master, 65536)
        except OSError:
            return False
        self._raw += part
        return bool(part)

    def until(self, what: str, seconds: float = 120.0, times: int = 1) -> str:
        """Reads until `what` stands there, as often as `times`; all that was written so far."""
        end = time.monotonic() + seconds
        while self.text.count(what) < times:
            left = end - time.monotonic()
            if left <= 0 or not self._read(min(left, 1.0)):
                raise AssertionError(f"{what!r} never came:\n{self.text}")
        return self.text

    def answers(self, line: str, *words: str, prompt: str = "\n> ") -> None:
        """Types a line, reads until all `words` stand there and the program asks for the next line.

        Only then does a control key mean anything: one that comes earlier reaches the program as a byte 0.
        """
        asked = self.text.count(prompt)
        self.types(line.encode() + b"\n")
        for word in words:
            self.until(word)
        self.until(prompt, times=asked + 1)

    def rest(self, seconds: float = 120.0) -> str:
        """Reads until the program has ended; all that it wrote."""
        end = time.monotonic() + seconds
        while self._read(0.2) and time.monotonic() < end:
            pass
        self.process.wait(max(1.0, end - time.monotonic()))
        return self.text

    def types(self, keys: bytes) -> None:
        os.write(self._master, keys)


@contextlib.contextmanager
def in_terminal(
    args: Sequence[str],
    columns: int,
    rows: int = 24,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Terminal]:
    """Starts `seawall ARGS` in a terminal of its own; ends it, whatever happens."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    own = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "seawall", *args], stdin=slave, stdout=slave, stderr=slave, cwd=cwd,
        env=own | {"TERM": "xterm-256color"} | (env or {}), start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        for sig, patience in ((signal.SIGINT, 40.0), (signal.SIGKILL, 10.0)):
            if process.poll() is None:
                process.send_signal(sig)
                with contextlib.suppress(subprocess.TimeoutExpired, AssertionError):
                    terminal.rest(patience)
        os.close(master)
