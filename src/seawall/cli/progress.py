"""Progress of long work: a bar with rate and ETA on a terminal, a line every few seconds elsewhere. On stderr."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from seawall.domain.units import counted, show_bytes, show_seconds

_EVERY_S = 5.0
STEPS_EVERY_S = 10.0


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


def left(spent_s: float, finished: int, of: int) -> str:
    """`, about 4 min left`, if the rest goes as what is finished did; empty while nobody can tell."""
    if not finished or finished >= of:
        return ""
    rest = spent_s / finished * (of - finished)
    minutes = round(rest / 60)
    return f", about {minutes} min left" if minutes >= 2 else f", about {max(10, round(rest, -1)):.0f} s left"


class Steps:
    """`3/15 scenarios, about 4 min left: kill: running`: one line that is rewritten on a terminal, and elsewhere (a CI
    job's log) a line every ten seconds, so that nobody takes work for a hang. On stderr."""

    def __init__(self, of: int, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._of, self._what, self._clock = of, what, clock
        self._finished, self._text = 0, ""
        self._began = self._said = clock()
        self._terminal = sys.stderr.isatty()
        self._over = threading.Event()

    def __enter__(self) -> Steps:
        if not self._terminal:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._over.set()
        self._wipe()

    def say(self, text: str) -> None:
        """What is being done now."""
        self._text = text
        if self._terminal:
            room = shutil.get_terminal_size().columns - 1
            line = f"  {self.line()} ..."
            sys.stderr.write(f"\r\x1b[K{line if len(line) <= room else line[: room - 1] + '…'}")
            sys.stderr.flush()

    def done(self) -> None:
        """One more is finished."""
        self._finished += 1
        self._wipe()

    def line(self) -> str:
        """The state of the whole, and what is being done."""
        soon = left(self._clock() - self._began, self._finished, self._of)
        counts = f"{self._finished}/{self._of} {self._what}{'' if self._of == 1 else 's'}"
        return f"{counts}{soon}: {self._text}" if self._text else f"{counts}{soon}"

    def _wipe(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _tick(self) -> None:
        while not self._over.wait(STEPS_EVERY_S):
            print(self.line(), file=sys.stderr, flush=True)


class LineProgress:
    """The progress of a batch: a bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, name: str) -> None:
        self._name, self._said, self._status = name, -_EVERY_S, ""
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> LineProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.table import Column

            # The bar has what is left of the width: status, counts, rate and finish stand whole on 80 columns.
            whole = Column(no_wrap=True)
            bar = Progress(
                TextColumn("{task.description}", table_column=whole),
                BarColumn(bar_width=None),
                MofNCompleteColumn(table_column=whole),
                TextColumn("{task.fields[more]}", table_column=whole),
                console=Console(stderr=True),
                expand=True,
            )
            bar.console.print(self._name)
            self._bar, self._task = bar, bar.add_task("asked", total=None, more="")
            bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, batch: dict[str, Any]) -> None:
        """Shows how far a batch is, as the gateway tells it."""
        counts, more = batch["request_counts"], batch.get("seawall") or {}
        done = counts["completed"] + counts["failed"]
        rate, finish = more.get("lines_per_second") or 0.0, more.get("finish_at")
        text = f"{rate:.3g} lines/s{_finish(finish, time.time())}"
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=batch["status"],
                completed=done,
                total=counts["total"] or None,
                more=text,
            )
        elif time.monotonic() - self._said >= _EVERY_S or batch["status"] != self._status:
            self._say(f"{batch['status']}, {done:,} of {counted(counts['total'], 'line')}, {text}")
        self._status = batch["status"]

    def away(self, why: str) -> None:
        """Says that nobody tells just now how far it is."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description="no answer", more="asked again")
        elif time.monotonic() - self._said >= _EVERY_S:
            self._say(f"no answer, it is asked again: {why}")

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)


def _finish(at: float | None, now: float) -> str:
    """How long it still takes, and until when."""
    if at is None:
        return ""
    left = max(0.0, at - now)
    form = "%H:%M" if left < 20 * 3600 else "%a %H:%M" if left < 6 * 86_400 else "%b %d"
    return f", {show_seconds(round(left))} left, done {time.strftime(form, time.localtime(at))}"
