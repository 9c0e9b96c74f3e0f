"""Thousands of requests through replicas that die and come back: every one answered, nothing left behind."""

from __future__ import annotations

import asyncio
import json
import time
from random import Random
from typing import Any

import pytest

from seawall.decide.route.admit import Admission, Admitted, Bounds, Ticket
from seawall.decide.route.pick import Ask, Router
from seawall.domain.seen import Replica


@pytest.mark.slow
async def test_every_request_is_answered_while_replicas_die_and_return(
    start: Any, engine: Any, other: Any
) -> None:
    rng, engines = Random(4), [engine, other]
    gateway = await start(engine, other)
    left, answered, bad = 3000, 0, []
    body = b'{"model":"m","prompt":"x"}'
    ask = b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def client() -> None:
        nonlocal left, answered
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        while left > 0:
            left -= 1
            writer.write(ask)
            top = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = int(top.partition("content-length: ")[2].split("\r\n")[0])
            doc = json.loads(await reader.readexactly(size))
            answered += 1
            if not top.startswith("http/1.1 200"):
                bad.append(doc)
        writer.close()

    clients = [asyncio.ensure_future(client()) for _ in range(24)]
    while not all(c.done() for c in clients):
        victim = rng.choice(engines)
        await victim.kill()
        await asyncio.sleep(rng.uniform(0.05, 0.3))
        await victim.start()
        await asyncio.sleep(0.5)
    await asyncio.gather(*clients)
    assert answered == 3000 and not bad, bad[:3]
    f = await gateway.reconciled()
    assert f["finished_total"] == 3000 and f["retried_total"] > 0 and f["in_flight"] == f["queued"] == 0
    app = gateway.server.app
    assert not app.fleets["m"].active and not app.fleets["m"].admission._wheel


def seconds_per_pick(replicas: int, waiting: int) -> float:
    """CPU of admission and picking with so many replicas and so many requests in the waiting room, best of 9."""
    router, admission = Router(1000, Random(1)), Admission(Bounds(requests=100_000))
    router.update([Replica(name=f"r{i}", fleet="m", url=f"http://r{i}:1") for i in range(replicas)])
    ask = Ask(tokens=100)
    for _ in range(waiting):
        admission.offer(Ticket(ask), False, 0.0)
    best = 1e9
    for _ in range(9):
        began = time.process_time()
        for _ in range(2000):
            ticket = Ticket(ask)
            if not isinstance(admission.offer(ticket, True, 0.0), Admitted):
                admission.next()
            picked = router.pick(ask, 100.0)
            assert picked is not None
            router.start(picked.target, ask)
            router.end(picked.target, ask)
        best = min(best, (time.process_time() - began) / 2000)
    return best


@pytest.mark.slow
def test_the_work_per_request_does_not_grow_with_replicas_or_with_the_queue() -> None:
    """Bounds are generous: a loaded machine must not break them; a walk over all replicas (100x) would."""
    few = seconds_per_pick(4, 0)
    assert seconds_per_pick(400, 0) < 5 * few
    short = seconds_per_pick(4, 10)
    assert seconds_per_pick(4, 20_000) < 5 * short
