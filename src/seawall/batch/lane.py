"""What the lane's surface and its worker have in common: the store, in a thread of its own, the files, the rules.

Forbidden here: HTTP, and what is decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import time
from typing import IO, TypeVar

from seawall.batch.audit import Action, ActionLog
from seawall.batch.blobs import Blobs
from seawall.batch.buckets import FileBucket
from seawall.batch.database import open_database
from seawall.batch.lines import LineSource
from seawall.batch.store import BatchStore
from seawall.batch.words import BatchRecord
from seawall.decide.batch.rules import LaneRules
from seawall.errors import InputError, SourceError

T = TypeVar("T")
LEASE_S = 15.0
"""A batch is its worker's for so long after the last word of it."""


def new_id(prefix: str, now: float) -> str:
    """An id that sorts behind those that were made a millisecond before: lists are in the order of creation."""
    return f"{prefix}{int(now * 1000):012x}{secrets.token_hex(6)}"


class BatchLane:
    """See the module. `now`: Unix seconds."""

    def __init__(
        self,
        folder: Path,
        address: str | None,
        rules: LaneRules,
        now: Callable[[], float] = time,
        lazy: bool = False,
        bucket: FileBucket | None = None,
        audit: ActionLog | None = None,
    ) -> None:
        """`lazy`: what is written is durable some time later (a proof's)."""
        self._audit = audit
        self.rules = rules
        self.now = now
        self.blobs = Blobs(folder / "files", bucket)
        self._address = address or str(folder / "batches.db")
        self._lock = None if address else _alone(folder)
        """The lock of a folder that nobody else works on."""
        self.store = BatchStore(open_database(self._address, lazy))
        self.owner = secrets.token_hex(8) if address else "alone"
        """Who this process is to others that work on the same store. Who works alone goes on at once after a kill."""
        self.looking: set[str] = set()
        """Batches whose input is being looked through here."""
        self.changed = asyncio.Event()
        """Something was created or cancelled: the worker looks at once."""
        self._thread = ThreadPoolExecutor(1, "batch-store")
        """The one user of the store's connection."""

    async def call(self, work: Callable[..., T], *arguments: object) -> T:
        """The answer of a call to the store."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*arguments))

    async def note(self, action: Action, tenant: str, what: str, **more: object) -> None:
        """Writes down that something was done, where such a log is kept."""
        audit = self._audit
        if audit is not None:
            await asyncio.to_thread(lambda: audit.note(self.now(), action, tenant, what, **more))

    def another(self) -> BatchStore:
        """The same store for another thread, over a connection of its own: close it."""
        return BatchStore(open_database(self._address))

    async def source(self, batch: BatchRecord) -> LineSource:
        """The lines of a batch that have no result."""
        store, blobs, longest = self.store, self.blobs, self.rules.longest
        return await asyncio.to_thread(
            lambda: LineSource(
                blobs.here(batch.input_file), longest, lambda first, last: store.done(batch.id, first, last)
            )
        )

    async def clean(self) -> None:
        """Removes what has had its time: files, rows of lines whose batch is over, old batches."""
        now = self.now()
        for file in await self.call(self.store.expired_files, now):
            if await self.forget(file.id) is None:
                await self.note("file.expired", file.tenant, file.id)
        for batch in await self.call(self.store.old_batches, now - self.rules.spec.retention):
            await self.call(self.store.drop_batch, batch.id)
            await self.note("batch.forgotten", batch.tenant, batch.id)
        await asyncio.to_thread(self.blobs.trim, now)
        while await self.call(self.store.sweep_lines):
            await self.call(self.store.database.tidy)

    async def forget(self, file: str) -> str | None:
        """None, and the file is gone; or the batch that still needs it."""
        needed = await self.call(self.store.forget_file, file)
        if needed is None:
            with contextlib.suppress(OSError, SourceError):
                await asyncio.to_thread(self.blobs.forget, file)
        return needed

    async def close(self) -> None:
        """Others may go on with what was this process's."""
        await self.call(self.store.let_go, self.owner)
        await self.call(self.store.close)
        self._thread.shutdown()
        if self._lock is not None:
            self._lock.close()


def _alone(folder: Path) -> IO[str]:
    """The lock of a folder, which the kernel takes back when this process dies. InputError when another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise InputError(
            f"another batch worker has {folder}.",
            "Stop it, or name another --folder, or a --store that is shared.",
        ) from None
    return lock
