"""Progress of long work: a bar with rate and ETA on a terminal, a line every few seconds elsewhere. On stderr."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any

from seawall.domain.units import show_bytes, show_seconds

_EVERY_S = 5.0


class PullProgress:
    """A `weights.fetch.Watcher` for people. Thread-safe."""

    def __init__(self, verb: str, total: int | None) -> None:
        self._verb, self._total, self._done = verb, total, 0
        self._lock = threading.Lock()
        self._start = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> PullProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
            self._bar = Bar(
                *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)
            )
            self._task = self._bar.add_task(self._verb, total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def total(self, count: int) -> None:
        """Sets how many bytes there are in all."""
        self._total = count
        self._start = self._said = time.monotonic()
        if self._bar:
            self._bar.update(self._task, total=count)

    def bytes_done(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._bar:
                self._bar.advance(self._task, count)
                return
            now = time.monotonic()
            if now - self._said < _EVERY_S or self._done <= 0:
                return
            self._said = now
        rate = self._done / max(1e-9, now - self._start)
        left = f", {show_seconds((self._total - self._done) / rate)} left" if self._total and rate else ""
        of = f" of {show_bytes(self._total)}" if self._total else ""
        print(
            f"{self._verb}: {show_bytes(self._done)}{of}, {show_bytes(rate)}/s{left}",
            file=sys.stderr,
            flush=True,
        )

    def note(self, text: str) -> None:
        if self._bar:
            self._bar.console.print(text)
        else:
            print(f"{self._verb}: {text}", file=sys.stderr, flush=True)
