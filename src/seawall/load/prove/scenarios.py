"""What can happen to a fleet, one function each. A scenario starts under full load and returns when it is over.

Durations fit the streams of a proof (a few seconds each), so that every change meets streams in flight. A scenario
says what it does (`stage.mark`), never what its clients saw: that is the verdict's.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from seawall.load.prove.stage import Stage
from seawall.load.prove.verdict import Expectation

Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing that happens, under which settings, and what it may do to clients."""

    name: str
    title: str
    play: Play
    replicas: int = 3
    most: int | None = None
    """scaling.max; None: as many as `replicas`."""
    expectation: Expectation = field(default_factory=Expectation)
    settings: dict[str, Any] = field(default_factory=dict)
    """Dotted Fleet paths -> values, on top of the proof's own."""
    engine_args: tuple[str, ...] = ()
    sim_only: bool = True
    """Needs a fault that only a simulated engine can be told to have."""
    load: float = 1.0
    """Times the proof's number of streams."""
    slow_share: float = 0.0
    leaving_share: float = 0.0
    mechanisms: tuple[str, ...] = ()
    """What this scenario proves: it is red `--without` any of them."""


async def rolling_update(stage: Stage) -> None:
    before = {r.pid for r in await stage.ready()}
    stage.mark("rollout restart")
    await stage.order(do="restart")

    async def replaced() -> bool:
        now = {r.pid for r in await stage.ready()}
        return len(now) == len(before) and not now & before

    await stage.until("every replica replaced", replaced, 1200.0 if stage.slow else 120.0)
    stage.mark("all replaced")


async def scale(stage: Stage) -> None:
    for count in (4, 1):
        stage.mark(f"scale to {count}")
        await stage.order(do="scale", replicas=count)
        await stage.until_ready(count, 90.0)
        stage.mark(f"{count} ready")
        await asyncio.sleep(2.0)


async def kill(stage: Stage) -> None:
    count = len(await stage.ready())
    for _ in range(count - 1):
        victim = await stage.victim()
        stage.mark(f"kill -9 {victim.name}")
        stage.signal(victim.pid, signal.SIGKILL)
        await asyncio.sleep(3.0)
    if not stage.slow:
        await stage.until_ready(count, 30.0)
        stage.mark(f"{count} ready again")


async def spot_notice(stage: Stage, notice_s: float = 1.5) -> None:
    """The cloud's notice: SIGTERM, then the node is gone, sooner than the streams end."""
    victim = await stage.victim()
    stage.mark(f"notice for {victim.name}: {notice_s} s")
    stage.signal(victim.pid, signal.SIGTERM)
    await asyncio.sleep(notice_s)
    stage.signal(victim.pid, signal.SIGKILL)
    stage.mark(f"{victim.name} is gone")
    await asyncio.sleep(1.0)
    if not stage.slow:
        await stage.until_ready(3)


async def hung(stage: Stage) -> None:
    victim = await stage.victim()
    stage.mark(f"SIGSTOP {victim.name}")
    stage.signal(victim.pid, signal.SIGSTOP)
    await asyncio.sleep(6.0)
    victim = await stage.victim()
    stage.mark(f"{victim.name} hangs while /health says 200")
    await stage.fault(victim, kind="hang")
    await asyncio.sleep(6.0)


async def lying_health(stage: Stage) -> None:
    victim = await stage.victim()
    stage.mark(f"{victim.name} answers 500 to requests, 200 on /health")
    await stage.fault(victim, kind="fail", seconds=5.0)
    await asyncio.sleep(6.0)


async def refused(stage: Stage) -> None:
    victim = await stage.victim()
    stage.mark(f"{victim.name} refuses connections")
    await stage.fault(victim, kind="refuse", seconds=4.0)
    await asyncio.sleep(5.0)


async def reset(stage: Stage) -> None:
    for kind in ("reset", "eof", "error", "done-only", "abort"):
        victim = await stage.victim()
        stage.mark(f"{victim.name}: {kind} on every open stream")
        await stage.fault(victim, kind=kind)
        await asyncio.sleep(1.5)
        await stage.fault(victim, kind=kind, after_tokens=7, count=5)
        await asyncio.sleep(0.5)


async def black_hole(stage: Stage) -> None:
    victim = await stage.victim()
    stage.mark(f"{victim.name} takes connections and never answers")
    await stage.fault(victim, kind="black-hole", seconds=8.0)
    await asyncio.sleep(9.0)


async def overload(stage: Stage) -> None:
    pids = await stage.deployment.gateway_pids()
    before = sum(_resident_mib(p) for p in pids)
    stage.mark("five clients for every place there is")
    deepest = 0.0
    for _ in range(16):
        await asyncio.sleep(0.5)
        deepest = max(deepest, (await stage.totals()).get("queued", 0.0))
    after = sum(_resident_mib(p) for p in await stage.deployment.gateway_pids())
    stage.notes.append(f"deepest queue {deepest:.0f}; the gateway grew by {after - before:.0f} MiB")
    if after - before > 64:
        stage.fail(f"the gateway grew by {after - before:.0f} MiB under overload")


async def gateway_restart(stage: Stage) -> None:
    before = set(await stage.deployment.gateway_pids())
    stage.mark("restart the gateway")
    await stage.order(do="restart-gateway")

    async def replaced() -> bool:
        now = set(await stage.deployment.gateway_pids())
        return bool(now) and not now & before

    await stage.until("a new gateway", replaced)
    stage.mark("new gateway")
    await asyncio.sleep(3.0)


async def slow_readers(stage: Stage) -> None:
    stage.mark("a third of the clients read slowly, a third leave in mid-stream")
    await asyncio.sleep(8.0)


async def slow_weights(stage: Stage) -> None:
    stage.mark("scale to 3: the new replicas load for 6 s")
    await stage.order(do="scale", replicas=3)
    await stage.until_ready(3, 60.0)
    stage.mark("3 ready")
    await asyncio.sleep(2.0)


async def scaler_blind(stage: Stage) -> None:
    count = len(await stage.ready())
    stage.mark("no engine shows its metrics")
    for replica in await stage.ready():
        await stage.fault(replica, kind="blind", seconds=6.0)
    for _ in range(12):
        await asyncio.sleep(0.5)
        now = len(await stage.ready())
        if now < count:
            stage.fail(f"{count} replicas became {now} while the scaler was blind")
            break


async def clock_jump(stage: Stage) -> None:
    pid = await stage.deployment.supervisor_pid()
    stage.mark("the supervisor's time jumps 5 s (SIGSTOP, as a suspended machine)")
    stage.signal(pid, signal.SIGSTOP)
    await asyncio.sleep(5.0)
    stage.signal(pid, signal.SIGCONT)
    stage.mark("and goes on")
    await asyncio.sleep(3.0)
    await stage.until_ready(3)


def _resident_mib(pid: int) -> float:
    import psutil

    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.Error:
        return 0.0


_STALL = Expectation(worst_stall_s=12.0)
_OVERLOAD_SETTINGS: dict[str, Any] = {
    "engine.maxNumSeqs": 16,
    "gateway.maxInFlight": 16,
    "gateway.maxQueued": 32,
}
SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario(
            name="rolling-update", title="rolling update of 3 replicas", play=rolling_update, sim_only=False,
            mechanisms=("drain",),
        ),
        Scenario(name="scale", title="scale 1 -> 4 -> 1", play=scale, replicas=1, most=4, sim_only=False,
                 mechanisms=("drain",)),
        Scenario(name="kill", title="kill -9 in mid-stream", play=kill, expectation=_STALL, sim_only=False,
                 mechanisms=("resume",)),
        Scenario(name="spot-notice", title="a notice shorter than the streams", play=spot_notice,
                 expectation=_STALL, sim_only=False, mechanisms=("resume",)),
        Scenario(name="hung", title="hung engine, /health 200", play=hung, expectation=_STALL,
                 mechanisms=("stall-watch", "resume")),
        Scenario(name="lying-health", title="/health 200, requests fail", play=lying_health, mechanisms=("retry",)),
        Scenario(name="refused", title="connections refused", play=refused, mechanisms=("retry",)),
        Scenario(name="reset", title="streams reset, cut, aborted", play=reset, expectation=_STALL,
                 mechanisms=("resume",)),
        Scenario(name="black-hole", title="connections black-holed", play=black_hole, mechanisms=("stall-watch",)),
        Scenario(
            name="overload", title="5x overload", play=overload, load=2.4, replicas=1, settings=_OVERLOAD_SETTINGS,
            expectation=Expectation(may_reject=True, worst_ttft_s=25.0), sim_only=False, mechanisms=("admission",),
        ),
        Scenario(name="gateway-restart", title="rolling restart of the gateway", play=gateway_restart,
                 sim_only=False),
        Scenario(name="slow-readers", title="slow readers, clients that leave", play=slow_readers, slow_share=0.33,
                 leaving_share=0.33, sim_only=False),
        Scenario(name="slow-weights", title="slow weights volume", play=slow_weights, replicas=1, most=3,
                 engine_args=("--sim-load", "6")),
        Scenario(name="scaler-blind", title="scaler blind", play=scaler_blind, most=4),
        Scenario(name="clock-jump", title="clock jump of the supervisor", play=clock_jump, sim_only=False),
    )
}  # fmt: skip

WITHOUT: dict[str, dict[str, Any]] = {
    "resume": {"gateway.resume": "off"},
    "retry": {"gateway.retries": 0},
    "drain": {"rollout.drain": "0s", "rollout.preStop": "0s", "gateway.resume": "off"},
    "stall-watch": {"gateway.stallTimeout": "10m", "gateway.firstByteTimeout": "10m"},
    "admission": {"gateway.maxQueued": 1_000_000, "gateway.queueTimeout": "10m"},
}
"""What `--without` changes in the Fleet. Without a drain, resume would hide what the drain is for."""
