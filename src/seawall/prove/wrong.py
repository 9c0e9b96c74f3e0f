"""Scenarios in which a replica goes on answering, and wrongly: other weights, another template.

Streams that such a replica is given before it is found are wrong, and nobody can take back what a client has. So the
promise is about time: it is out within FOUND_S, and whatever is asked later is answered rightly. What this proves is
the gateway's; of one that tells nothing of its replicas only what its clients get counts.
"""

from __future__ import annotations

import asyncio
import time

from seawall.decide.truth.standing import WRONG
from seawall.domain.told import ReplicaState
from seawall.prove.stage import Seen, Stage

FOUND_S = 30.0
"""Seconds from the damage until the replica gets nothing new."""
AFTERWARDS_S = 4.0
"""Seconds of load without it."""


async def weights(stage: Stage) -> None:
    await _goes_wrong(stage, "wrong-weights", "answers from other weights")


async def template(stage: Stage) -> None:
    await _goes_wrong(stage, "wrong-template", "makes other prompts of chats")


async def _goes_wrong(stage: Stage, fault: str, what: str) -> None:
    victim = await stage.victim()
    began_s = time.monotonic()
    stage.mark(f"{victim.name} {what}; /health says 200")
    await stage.fault(victim, kind=fault)
    found = False
    if stage.tells:
        found = await stage.until(f"{victim.name} to be taken out", lambda: _out(stage, victim), FOUND_S)
    else:
        await asyncio.sleep(FOUND_S)
    found_s = time.monotonic()
    # A request that was on its way when the replica was taken out had been given to it before.
    stage.excused.append((began_s, found_s + 0.5))
    if found:
        stage.notes.append(f"found after {found_s - began_s:.1f} s: {(await _told(stage, victim)).reason}")
        stage.mark(f"{victim.name} is out")
    await asyncio.sleep(AFTERWARDS_S)
    for name, replica in (await stage.gateway_state()).replicas.items():
        if name != victim.name and (WRONG in replica.reason or WRONG in replica.suspect):
            stage.fail(f"{name} answers rightly, and was doubted: {replica.reason or replica.suspect}")
    if not stage.tells:
        return
    if not await _out(stage, victim):
        stage.fail(f"{victim.name} is in service, and answers wrongly")
    stage.mark(f"{victim.name} answers rightly again")
    await stage.fault(victim, kind="clear")

    async def back() -> bool:
        return (await _told(stage, victim)).state == "ready"

    await stage.until(f"{victim.name} in service again", back, FOUND_S)


async def _told(stage: Stage, victim: Seen) -> ReplicaState:
    return (await stage.gateway_state()).replicas.get(victim.name) or ReplicaState()


async def _out(stage: Stage, victim: Seen) -> bool:
    told = await _told(stage, victim)
    return told.state in ("evicted", "probing") and WRONG in told.reason
