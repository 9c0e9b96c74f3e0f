"""The creation of a batch: it is written down, looked through, and then begins, fails, or is refused.

A batch whose look was interrupted by a kill is looked through again by the worker. Forbidden here: HTTP.
"""

from __future__ import annotations

import asyncio

from seawall.batch.lane import LEASE_S, BatchLane, new_id
from seawall.batch.lines import Checked, LineRules, check
from seawall.batch.outlook import Outlook
from seawall.batch.requests import BatchAsk, NotDone
from seawall.batch.words import BatchRecord, LineError, StoredFile


async def create(
    lane: BatchLane,
    outlook: Outlook,
    asked: BatchAsk,
    file: StoredFile,
    only: frozenset[str],
    again_key: str | None,
) -> BatchRecord:
    """The batch, in progress, or failed with what is wrong with its lines. NotDone is raised where its window cannot be
    met, or its tenant has too many."""
    if file.purpose != "batch":
        message = f"{file.id} is a file of results. Upload one with purpose=batch."
        raise NotDone(400, "invalid_input_file", message, "input_file_id")
    batch = BatchRecord(
        id=new_id("batch_", lane.now()),
        tenant=file.tenant,
        endpoint=asked.endpoint,
        input_file=file.id,
        window_s=asked.window_s,
        window=asked.window,
        created=int(lane.now()),
        metadata=asked.metadata,
        output_lives_s=asked.output_lives_s,
    )
    lane.looking.add(batch.id)
    try:
        until, most = lane.now() + LEASE_S, lane.rules.spec.batches
        kept = await lane.call(lane.store.add_batch, batch, again_key, lane.owner, until, most)
        if kept is None:
            message = f"You have {most} batches that are not over, as many as may be. Wait for one."
            raise NotDone(429, "too_many_batches", message, retry_after_s=60)
        if kept.id != batch.id:
            return kept
        await lane.note(
            "batch.created",
            batch.tenant,
            batch.id,
            input_file_id=file.id,
            endpoint=batch.endpoint,
            window=batch.window,
        )
        return await look_through(lane, outlook, batch, only, refuse=True)
    finally:
        lane.looking.discard(batch.id)


async def look_through(
    lane: BatchLane, outlook: Outlook, batch: BatchRecord, only: frozenset[str], refuse: bool
) -> BatchRecord:
    """The batch after its input was looked through. `refuse`: its owner still waits for the answer."""
    rules = LineRules(
        endpoint=batch.endpoint,
        models=lane.rules.models(batch.tenant, only),
        most=lane.rules.spec.max_lines,
        longest=lane.rules.longest,
    )
    try:
        found = await asyncio.to_thread(lambda: check(lane.blobs.here(batch.input_file), rules))
    except OSError as e:
        found = Checked(
            errors=[LineError(code="file_unreadable", message=f"The input cannot be read: {e.strerror}.")]
        )
    if found.errors:
        await lane.call(lane.store.failed_input, batch.id, tuple(found.errors), lane.now())
    else:
        late = outlook.refuses(batch, found, lane.now())
        if late is not None and refuse:
            await lane.call(lane.store.drop_batch, batch.id)
            await lane.note("batch.over", batch.tenant, batch.id, status="refused", why=late)
            raise NotDone(400, "window_cannot_be_met", late, "completion_window")
        if late is not None:
            error = LineError(code="window_cannot_be_met", message=late, param="completion_window")
            await lane.call(lane.store.failed_input, batch.id, (error,), lane.now())
        else:
            await lane.call(lane.store.start, batch.id, found, lane.now())
    lane.changed.set()
    kept = await lane.call(lane.store.batch, batch.id)
    if kept is not None and kept.status == "failed":
        await lane.note("batch.over", batch.tenant, batch.id, status="failed", why=kept.errors[0].message)
    assert kept is not None  # it is dropped only above, or after the retention
    return kept
