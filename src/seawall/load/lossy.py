"""A client that loses its connection in mid-answer and comes again: same key, behind the last event that it has.

Whatever it was given, in however many parts, must be the one answer.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import Any

from seawall.load.client import ClientPatience, LoadClient, RequestOutcome

LOSSES = 2
"""Connections that such a client loses, at most, in one answer."""


async def lossy_request(
    client: LoadClient,
    path: str,
    payload: dict[str, Any],
    outcome: RequestOutcome,
    patience: ClientPatience,
    rng: random.Random,
    starts_anew: bool = False,
) -> None:
    """One request over connections that break: a stream after some events, a whole answer before it comes.

    `starts_anew`: what was given without an event's `id` cannot be continued, so it is let go. Otherwise it is kept,
    whatever the server makes of the next request: that shows a server that promised and does not keep it."""
    headers = {"Idempotency-Key": str(uuid.UUID(int=rng.getrandbits(128)))}
    for _ in range(rng.randint(1, LOSSES)):
        if payload.get("stream"):
            events = len(outcome.event_s) + rng.randint(1, 8)
            await client.request(
                path, payload, outcome=outcome, patience=patience, stop_after=events, headers=headers
            )
            if outcome.error != "cancelled":
                return
            outcome.error, outcome.detail = None, ""
        else:
            attempt = client.request(path, payload, patience=patience, headers=headers)
            try:
                async with asyncio.timeout(rng.uniform(0.1, 0.4)):
                    await attempt
            except TimeoutError:
                outcome.stale += 1
        await asyncio.sleep(rng.uniform(0.0, 0.6))
        if outcome.last_id:
            headers["Last-Event-ID"] = outcome.last_id
        elif starts_anew:
            for part in (outcome.text, outcome.ids, outcome.event_s, outcome.event_tokens):
                part.clear()
            outcome.finish_reason = None
    await client.request(path, payload, outcome=outcome, patience=patience, headers=headers)
