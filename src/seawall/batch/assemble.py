"""The output and the error file of a batch: every result of the store, in the order of its lines, each of them once.

Their ids follow from the batch's, and they are in place at once or not at all. So it can be killed at any line and
begun again. Forbidden here: results that are not in the store.
"""

from __future__ import annotations

from contextlib import ExitStack

from seawall.batch.blobs import Blobs, FilePart
from seawall.batch.store import BatchStore
from seawall.batch.words import BatchRecord, BatchStatus, StoredFile


def assemble(
    store: BatchStore, blobs: Blobs, batch: BatchRecord, status: BatchStatus, now: float, kept_s: int
) -> None:
    """Ends a batch with `status`: its files are written, and then the store says so. Called again, it does the same."""
    names = {True: f"file-out-{batch.id}", False: f"file-err-{batch.id}"}
    sizes = {True: 0, False: 0}
    outs: dict[bool, FilePart] = {}
    with ExitStack() as stack:
        for _, good, text in store.results(batch.id):
            if good not in outs:
                outs[good] = stack.enter_context(blobs.new(names[good]))
            sizes[good] += outs[good].write(text) + outs[good].write(b"\n")
    expires = int(now) + (batch.output_lives_s or kept_s)
    files = {
        good: StoredFile(
            id=names[good], tenant=batch.tenant, name=f"{batch.id}_{'output' if good else 'error'}.jsonl",
            purpose="batch_output", size=sizes[good], created=int(now), expires=expires,
        )
        for good in outs
    }  # fmt: skip
    store.finish(batch.id, status, now, files.get(True), files.get(False))
