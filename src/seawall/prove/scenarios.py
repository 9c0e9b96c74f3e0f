"""What can happen to a fleet, one function each. A scenario starts under full load and returns when it is over.

Durations fit the streams of a proof (a few seconds each), so that every change meets streams in flight. A scenario
says what it does (`stage.mark`), never what its clients saw: that is the verdict's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from seawall.domain.told import ReplicaState
from seawall.load.client import ClientPatience
from seawall.prove import batch, deaths, reattach, silence, together, wrong
from seawall.prove.stage import QUEUE_BOUND, Stage
from seawall.prove.verdict import Expectation

Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing that happens, under which settings, and what it may do to clients."""

    name: str
    title: str
    play: Play
    takes_s: float = 12.0
    """About, with its last streams. Of several at once the long ones begin first."""
    replicas: int = 3
    alone: bool = False
    """Real engines too play it on a fleet of its own, with its own `settings`."""
    most: int | None = None
    """scaling.max; None: as many as `replicas`."""
    expectation: Expectation = field(default_factory=Expectation)
    settings: dict[str, Any] = field(default_factory=dict)
    """Dotted Fleet paths -> values, on top of the proof's own."""
    engine_args: tuple[str, ...] = ()
    served_names: tuple[str, ...] = ()
    """Further names of the model."""
    sim_only: bool = True
    """Needs a fault that only a simulated engine can be told to have."""
    load: float = 1.0
    """Times the proof's number of streams."""
    real_load: float | None = None
    """Instead, with real engines: few streams keep a CPU busy."""
    streams: int | None = None
    """Instead of the proof's number of streams, whatever it is."""
    asks: silence.Asks | None = None
    """Requests of its own; None: those that all scenarios have."""
    patience: ClientPatience | None = None
    """Bounds of its clients, instead of the proof's."""
    slow_share: float = 0.0
    leaving_share: float = 0.0
    returning_share: float = 0.0
    knows_answers: bool = False
    """A fingerprint of its engines lies beside its spec (`seawall fingerprint`)."""
    gateways: int = 1
    """More than one: they share a store (prove/tier.py)."""
    mechanisms: tuple[str, ...] = ()
    """What this scenario proves: it is red `--without` any of them."""


async def rolling_update(stage: Stage) -> None:
    before = {r.pid for r in await stage.ready()}
    stage.mark("rollout restart")
    await stage.order(do="restart")

    async def replaced() -> bool:
        now = {r.pid for r in await stage.ready()}
        return len(now) >= len(before) and not now & before

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
    await stage.until_busy("a stream to hang")
    stopped = await stage.victim()
    stage.mark(f"SIGSTOP {stopped.name}")
    stage.signal(stopped.pid, signal.SIGSTOP)
    await asyncio.sleep(stage.stall_s + 4.0)
    if stage.slow:
        stage.signal(stopped.pid, signal.SIGCONT)
        stage.mark("and goes on")
        return
    victim = await stage.victim(but=stopped.name)
    stage.mark(f"{victim.name} hangs while /health says 200")
    await stage.fault(victim, kind="hang", seconds=stage.stall_s + 3.0)
    await asyncio.sleep(stage.stall_s + 3.5)
    stage.signal(stopped.pid, signal.SIGCONT)


async def lying_health(stage: Stage) -> None:
    """Judged by what the gateway has counted, so that no absence is too short to be seen."""

    async def counted() -> ReplicaState:
        return (await stage.gateway_state()).replicas.get(victim.name) or ReplicaState()

    victim, seconds = await stage.victim(), 4.0
    before = await counted()
    stage.mark(f"{victim.name} answers 500 to requests, 200 on /health")
    lies_until_s = time.monotonic() + seconds
    await stage.fault(victim, kind="fail", seconds=seconds)
    came_back = 0
    while time.monotonic() < lies_until_s:
        now = (await counted()).returns - before.returns
        if time.monotonic() < lies_until_s:
            came_back = now
        await asyncio.sleep(0.05)
    stage.mark(f"{victim.name} answers again")
    if not stage.tells:
        return
    if (await counted()).evictions == before.evictions:
        stage.fail(f"{victim.name} was never out of service")
    if came_back:
        stage.fail(f"{victim.name} was given requests again {came_back} times while it failed them")

    async def back() -> bool:
        return (await counted()).returns > before.returns

    await stage.until(f"{victim.name} in service again", back, 10.0)


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
    await stage.fault(victim, kind="black-hole", seconds=stage.stall_s + 6.0)
    await asyncio.sleep(stage.stall_s + 7.0)


async def overload(stage: Stage) -> None:
    before = await _gateway_mib(stage)
    stage.mark("five clients for every place there is")
    deepest = 0
    for _ in range(16):
        await asyncio.sleep(0.5)
        deepest = max(deepest, (await stage.totals()).queued)
    grown = await _gateway_mib(stage) - before
    bound = stage.queue_bound
    stage.notes.append(f"deepest queue {deepest}; the gateway grew by {grown:.0f} MiB")
    if deepest > bound:
        stage.fail(f"{deepest} requests were queued, more than the bound of {bound}")
    if grown > 64:
        stage.fail(f"the gateway grew by {grown:.0f} MiB under overload")


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
    """Beside them, clients that ask for long answers in large events and never read one."""
    before = await _gateway_mib(stage)
    async with contextlib.AsyncExitStack() as held:
        loop = asyncio.get_running_loop()
        at = urllib.parse.urlsplit(stage.deployment.gateway_url)
        for _ in range(STUCK):
            sock = held.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, (at.hostname, at.port))
            body = json.dumps({"model": LONG_NAME, "prompt": "a", "max_tokens": 4000, "temperature": 0,
                               "ignore_eos": True, "stream": True}).encode()  # fmt: skip
            head = (
                f"POST /v1/completions HTTP/1.1\r\nhost: {at.netloc}\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            await loop.sock_sendall(sock, head.encode() + body)
        stage.mark(
            f"{STUCK} clients never read; a third of the others read slowly, a third leave in mid-stream"
        )
        await asyncio.sleep(9.0)
        grown = await _gateway_mib(stage) - before
    stage.notes.append(f"the gateway grew by {grown:.0f} MiB")
    if grown > 40:
        stage.fail(f"the gateway grew by {grown:.0f} MiB for {STUCK} clients that do not read")


async def slow_weights(stage: Stage) -> None:
    stage.mark("scale to 3: the new replicas load for 6 s")
    await stage.order(do="scale", replicas=3)
    await stage.until_ready(3, 60.0)
    stage.mark("3 ready")
    await asyncio.sleep(2.0)


async def scaler_blind(stage: Stage) -> None:
    """The load keeps three replicas busy; the autoscaler, let loose, must not take silence for idleness."""
    count = 3
    await stage.order(do="scale", replicas=count)
    if not await stage.until_ready(count):
        return
    stage.mark("no engine shows its metrics")
    for replica in await stage.ready():
        await stage.fault(replica, kind="blind", seconds=22.0)
    await asyncio.sleep(2.0)
    stage.mark("the autoscaler looks")
    await stage.order(do="scale", replicas=None)
    for _ in range(36):  # longer than the 15 s between two looks of an HPA
        await asyncio.sleep(0.5)
        now = len(await stage.ready())
        if now < count:
            stage.fail(f"{count} replicas became {now} while the scaler was blind")
            break


async def clock_jump(stage: Stage) -> None:
    """Time-outs must neither fire nor wait by the time of day. A supervisor whose clock went back would look again in
    an hour, and write no state till then: its own picture cannot show the successor of a replica that has died."""
    count = len(await stage.ready())
    pid = await stage.deployment.supervisor_pid()
    stage.mark("the supervisor is stopped for 3 s, as with a machine that is suspended")
    stage.signal(pid, signal.SIGSTOP)
    await asyncio.sleep(3.0)
    stage.signal(pid, signal.SIGCONT)
    stage.mark("it goes on; the time of day is an hour fast")
    stage.deployment.set_clock(3600.0)
    await asyncio.sleep(1.5)
    victim = await stage.victim()
    stage.mark(f"the time of day is set back by two hours; kill -9 {victim.name}")
    stage.deployment.set_clock(-3600.0)
    await asyncio.sleep(1.0)
    stage.signal(victim.pid, signal.SIGKILL)

    async def replaced() -> bool:
        now = {r.pid for r in await stage.ready()}
        return len(now) == count and victim.pid not in now

    await stage.until(f"a successor of {victim.name}", replaced, 900.0 if stage.slow else 15.0)
    stage.mark(f"{count} ready again")


async def _gateway_mib(stage: Stage) -> float:
    """Resident memory of the gateway's processes."""
    import psutil

    mib = 0.0
    for pid in await stage.deployment.gateway_pids():
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(pid)  # with a keeper it only waits, and its child serves
            for one in (parent, *parent.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    mib += float(one.memory_info().rss) / 2**20
    return mib


_STALL = Expectation(worst_stall_s=9.0)
_NO_TIMEOUTS: dict[str, Any] = {"gateway.stallTimeout": None, "gateway.firstByteTimeout": None}
"""Settings of a Fleet that says nothing of time-outs: silence is weighed, not timed."""
_ASKED: dict[str, Any] = {"gateway.truthBudget": 0.1}
"""Ten times the default, so that what takes a minute with engines of eight tokens a second fits in seconds."""
PATIENT = ClientPatience(first_s=240, stall_s=240)
STUCK = 10
LONG_NAME = "a-long-name" + "-" * 60_000
"""A model name of 60 kB is in every event of its answers: large events without a large model."""


def healthy_slow(silent_s: float) -> Scenario:
    """Nothing fails, and for so many seconds hardly anything is heard of it."""
    return Scenario(
        name="healthy-slow", title="healthy and slow: nothing may be cut", play=silence.healthy_slow(silent_s),
        asks=silence.slow_requests(silent_s), streams=4, takes_s=2.2 * silent_s, settings=_NO_TIMEOUTS, alone=True,
        engine_args=("--sim-prefill", f"{silent_s / silence.SLOW_PROMPT:.4f}"), patience=PATIENT,
        mechanisms=("patience",),
    )  # fmt: skip


_OVERLOAD_SETTINGS: dict[str, Any] = {
    "engine.maxNumSeqs": 16,
    "gateway.maxInFlight": 16,
    "gateway.maxQueued": QUEUE_BOUND,
}
SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario(
            name="rolling-update", title="rolling update of all replicas", play=rolling_update, sim_only=False,
            takes_s=20.0, mechanisms=("drain",),
        ),
        Scenario(name="scale", title="scale 1 -> 4 -> 1", play=scale, replicas=1, most=4, sim_only=False,
                 mechanisms=("drain",)),
        Scenario(name="kill", title="kill -9 in mid-stream", play=kill, expectation=_STALL, sim_only=False,
                 mechanisms=("resume",)),
        Scenario(name="spot-notice", title="a notice shorter than the streams", play=spot_notice,
                 expectation=_STALL, sim_only=False, mechanisms=("resume",)),
        Scenario(name="hung", title="hung engine, /health 200", play=hung, expectation=_STALL, takes_s=18.0,
                 sim_only=False, mechanisms=("stall-watch",)),
        Scenario(name="lying-health", title="/health 200, requests fail", play=lying_health,
                 mechanisms=("retry", "token-proof")),
        Scenario(name="refused", title="connections refused", play=refused, mechanisms=("retry",)),
        Scenario(name="reset", title="streams reset, cut, aborted", play=reset, expectation=_STALL, takes_s=18.0,
                 mechanisms=("resume",)),
        Scenario(name="black-hole", title="connections black-holed", play=black_hole,
                 expectation=Expectation(worst_stall_s=7.0), mechanisms=("stall-watch",)),
        Scenario(
            name="overload", title="5x overload",
            play=overload, load=2.4, real_load=5.0, replicas=1, settings=_OVERLOAD_SETTINGS, takes_s=22.0,
            expectation=Expectation(may_reject=True, worst_ttft_s=25.0), sim_only=False, mechanisms=("admission",),
        ),
        Scenario(name="gateway-restart", title="rolling restart of the gateway", play=gateway_restart,
                 sim_only=False, mechanisms=("hand-over",)),
        Scenario(name="slow-readers", title="slow readers, clients that leave", play=slow_readers, slow_share=0.33,
                 leaving_share=0.33, takes_s=19.0, served_names=(LONG_NAME,), engine_args=("--sim-step", "0.04"),
                 mechanisms=("back-pressure",)),
        Scenario(name="slow-weights", title="slow weights volume", play=slow_weights, replicas=1, most=3,
                 engine_args=("--sim-load", "6"), mechanisms=("start-proof",)),
        Scenario(name="scaler-blind", title="scaler blind", play=scaler_blind, replicas=1, most=3, takes_s=29.0,
                 settings={"scaling.target": 6, "scaling.downWindow": "0s"}, mechanisms=("scaler-hold",)),
        Scenario(name="long-answer", title="long whole answers, kill -9", play=silence.long_answer,
                 asks=silence.long_answers, streams=18, real_load=0.5, takes_s=30.0,
                 engine_args=("--sim-step", "0.03"),
                 sim_only=False, mechanisms=("assembly", "resume")),
        Scenario(name="long-prefill", title="a prefill that is one silent step", play=silence.long_prefill,
                 asks=silence.long_prompts, streams=3, takes_s=35.0, settings=_NO_TIMEOUTS, alone=True,
                 engine_args=("--sim-prefill", "0.01"), patience=PATIENT, sim_only=False, mechanisms=("patience",)),
        Scenario(name="held-back", title="tokens held back by the engine", play=silence.held_tokens,
                 asks=silence.held_back, streams=18, takes_s=20.0, settings=_NO_TIMEOUTS, replicas=1, alone=True,
                 patience=PATIENT, sim_only=False, mechanisms=("patience",)),
        healthy_slow(32.0),
        Scenario(name="lone-replica", title="kill -9 of the only replica", play=silence.lone_replica, replicas=1,
                 alone=True, streams=18, real_load=0.67, takes_s=25.0, engine_args=("--sim-load", "9"),
                 patience=PATIENT,
                 settings={"gateway.queueTimeout": "2s", "gateway.maxQueued": 100},
                 sim_only=False, mechanisms=("resume", "await-return")),
        Scenario(name="reattach", title="clients that come again", play=reattach.come_again, returning_share=0.5,
                 takes_s=16.0, expectation=_STALL, sim_only=False, mechanisms=("records",)),
        Scenario(name="gateway-kill", title="kill -9 of the gateway", play=deaths.gateway_kill, alone=True,
                 takes_s=20.0, expectation=_STALL, sim_only=False, mechanisms=("keeper",)),
        Scenario(name="keeper-kill", title="kill -9 of the gateway's keeper, then of the gateway", alone=True,
                 play=deaths.keeper_kill, takes_s=25.0, expectation=_STALL, sim_only=False, mechanisms=("keeper",)),
        Scenario(name="batch-kill", title="kill -9 of lane, gateway, replica under a batch", play=batch.kill,
                 alone=True, streams=12, replicas=2, takes_s=40.0, expectation=_STALL,
                 settings={"gateway.batch": {}, "engine.maxNumSeqs": 32, "traffic.slo": {"ttft": "5s", "tpot": "2s"}},
                 mechanisms=("write-ahead",)),
        Scenario(name="batch-beside", title="a batch that would take every place", play=batch.beside, alone=True,
                 streams=8, replicas=1, takes_s=15.0, expectation=Expectation(worst_ttft_s=1.5),
                 settings={"gateway.batch": {}, "engine.maxNumSeqs": 32, "traffic.slo": {"ttft": "1s", "tpot": "2s"}},
                 mechanisms=("spare-control",)),
        Scenario(name="wrong-weights", title="a replica answers from other weights", play=wrong.weights, takes_s=30.0,
                 settings=_ASKED, knows_answers=True, mechanisms=("truth-watch",)),
        Scenario(name="wrong-template", title="a replica has another chat template", play=wrong.template, takes_s=30.0,
                 settings=_ASKED, knows_answers=True, mechanisms=("truth-watch",)),
        Scenario(name="tier-limits", title="one limit at three gateways", play=together.limits, streams=12,
                 gateways=together.GATEWAYS, replicas=2, takes_s=20.0,
                 settings={"gateway.tenants": together.TENANTS}, mechanisms=("store",)),
        Scenario(name="tier-kill", title="kill -9 of each of three gateways", play=together.kill, streams=24,
                 gateways=together.GATEWAYS, replicas=2, takes_s=30.0,
                 settings={"gateway.maxInFlight": together.CAP, "gateway.truthBudget": 0},
                 expectation=Expectation(worst_stall_s=9.0, worst_ttft_s=30.0), mechanisms=("store",)),
        Scenario(name="store-away", title="the store stopped, flushed, killed", play=together.store_away, streams=12,
                 gateways=together.GATEWAYS, replicas=2, takes_s=28.0,
                 settings={"gateway.tenants": together.TENANTS}, mechanisms=("store",)),
        Scenario(name="clock-jump", title="clock jump of the supervisor", play=clock_jump, sim_only=False,
                 mechanisms=("steady-clock",)),
    )
}  # fmt: skip
