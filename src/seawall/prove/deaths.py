"""Scenarios in which the gateway's own processes die under full load: who serves, and who keeps what he would lose.

What clients saw is the verdict's.
"""

from __future__ import annotations

import signal

import psutil

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


async def _busy(stage: Stage) -> None:
    async def streams() -> bool:
        return (await stage.totals()).in_flight > 0

    await stage.until("streams in flight", streams)


async def gateway_kill(stage: Stage) -> None:
    """Each death meets streams that the one before had met, too."""
    for _ in range(DEATHS):
        await _busy(stage)
        killed = await _serving(stage)
        stage.mark("kill -9 the gateway")
        for pid in killed:
            stage.signal(pid, signal.SIGKILL)

        async def another(killed: set[int] = killed) -> bool:
            now = await _serving(stage)
            return bool(now) and not now & killed and (await stage.totals()).admitted_total > 0

        await stage.until("another gateway", another)
        stage.mark("another serves")


async def keeper_kill(stage: Stage) -> None:
    """The keeper dies, and when another one is there the gateway does."""
    await _busy(stage)
    keeper = (await stage.deployment.control({"do": "status"}, 30.0)).get("keeper")
    if keeper is None:
        stage.mark("there is no keeper")
    else:
        stage.mark("kill -9 the keeper")
        stage.signal(int(keeper["pid"]), signal.SIGKILL)

        async def another() -> bool:
            now = (await stage.deployment.control({"do": "status"}, 30.0)).get("keeper") or {}
            return now.get("phase") == "ready" and now.get("pid") != keeper["pid"]

        await stage.until("another keeper", another)
        stage.mark("another keeper has everything")
    await gateway_kill(stage)
