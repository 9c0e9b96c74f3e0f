"""Scenarios in which the gateway's own processes die under full load: who serves, and who keeps what he would lose.

What clients saw is the verdict's.
"""

from __future__ import annotations

import signal

import psutil

from seawall.domain.labels import KEEPER_CONNECTED
from seawall.load.client import LoadClient
from seawall.prove.stage import Stage

DEATHS = 3


async def _serving(stage: Stage) -> set[int]:
    """Who serves clients: children of the gateway's parent process, or, without a keeper, that process itself."""
    found: set[int] = set()
    for pid in await stage.deployment.gateway_pids():
        try:
            children = {child.pid for child in psutil.Process(pid).children()}
        except psutil.NoSuchProcess:
            continue
        found |= children or {pid}
    return found


async def _answers(stage: Stage) -> bool:
    """A gateway that tells of itself has taken a request; of another one it is enough that it answers."""
    if stage.tells:
        return (await stage.totals()).admitted_total > 0
    client = LoadClient(stage.deployment.gateway_url)
    try:
        return (await client.get("/v1/models", 2.0))[0] < 500
    except (OSError, TimeoutError):
        return False


async def gateway_kill(stage: Stage) -> None:
    """Each death meets streams that the one before had met, too."""
    for _ in range(DEATHS):
        await stage.until_busy("streams in flight")
        killed = await _serving(stage)
        stage.mark("kill -9 the gateway")
        for pid in killed:
            stage.signal(pid, signal.SIGKILL)

        async def another(killed: set[int] = killed) -> bool:
            now = await _serving(stage)
            return bool(now) and not now & killed and await _answers(stage)

        await stage.until("another gateway", another)
        stage.mark("another serves")


async def _handed_over(stage: Stage) -> bool:
    """Whether the gateway has told its keeper everything: two deaths in the same moment are one too many."""
    if not stage.tells:
        return True
    client = LoadClient(stage.deployment.admin_url)
    try:
        _, page = await client.get("/metrics", 2.0)
    except (OSError, TimeoutError):
        return False
    finally:
        client.close()
    return f"{KEEPER_CONNECTED} 1" in page.decode("utf-8", "replace")


async def keeper_kill(stage: Stage) -> None:
    """The keeper dies, and when another one is there the gateway does."""
    await stage.until_busy("streams in flight")
    keeper = (await stage.deployment.control({"do": "status"}, 30.0)).get("keeper")
    if keeper is None:
        stage.mark("there is no keeper")
    else:
        stage.mark("kill -9 the keeper")
        stage.signal(int(keeper["pid"]), signal.SIGKILL)

        async def another() -> bool:
            now = (await stage.deployment.control({"do": "status"}, 30.0)).get("keeper") or {}
            ready = now.get("phase") == "ready" and now.get("pid") != keeper["pid"]
            return ready and await _handed_over(stage)

        await stage.until("another keeper", another)
        stage.mark("another keeper has everything")
    await gateway_kill(stage)
