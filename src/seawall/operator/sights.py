"""A cluster as the console sees it: Pods with phase, reason and age, what each namespace's gateways tell, and the last
words of scalers and rollouts; and the server of its page. Reads only, but for what is said in its playground.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import count

import msgspec

from seawall.console import assets
from seawall.console.console import Console
from seawall.console.serve import MAX_HEAD, ConsoleServer
from seawall.console.sight import SERVING, ConsoleFleet, ConsoleReplica, ConsoleSight
from seawall.domain.told import FleetState, GatewayState, ReplicaState
from seawall.drivers import kube_gateways
from seawall.drivers.clock import Clock, SteadyClock
from seawall.drivers.kube import Kube, Refused
from seawall.drivers.kube_gateways import Answers
from seawall.errors import ClusterError, InputError
from seawall.operator.playground import Playground
from seawall.operator.status import FleetView, ReplicaLine, heed, look

EVERYTHING = "debug/console"
BUSY_S = 2.0
IDLE_S = 10.0
STEP_S = 0.5
_CLOCK = SteadyClock()


async def sight_of(kube: Kube, namespace: str | None, playground: Playground | None = None) -> ConsoleSight:
    """All fleets of a namespace; with None, of the cluster, named `namespace/fleet`. The playground is told which
    gateways serve what."""
    views = await look(kube, namespace, ask_gateways=False, shown=None)
    answers, silent = await _answers(kube, namespace)
    if playground is not None:
        playground.states = answers.states
    fleets: list[ConsoleFleet] = []
    replicas: list[ConsoleReplica] = []
    for view in views:
        state = answers.of(view.namespace)
        mute = next(
            (f"{pod}: {why}" for (ns, pod), why in answers.silent.items() if ns == view.namespace), ""
        )
        silent = silent or (mute and f"a gateway could not be asked ({mute})")
        lines = list(view.replicas)
        heed(view, state, silent)
        name = view.name if namespace else f"{view.namespace}/{view.name}"
        fleets.append(_fleet(name, view, state))
        told = state.of(view.name)
        seen = [replica(name, line, told.get(line.name)) for line in lines]
        replicas += [_with(r, since=r.since - kube.ahead_s) if r.since else r for r in seen]
    return ConsoleSight(fleets=tuple(fleets), replicas=tuple(replicas), silent=silent)


async def _answers(kube: Kube, namespace: str | None) -> tuple[Answers, str]:
    """What all gateways tell, and why nothing could be asked. An older gateway tells its state alone."""
    try:
        answers = await kube_gateways.ask(kube, namespace, page=EVERYTHING)
        if answers.silent:
            older = await kube_gateways.ask(kube, namespace)
            answers = Answers({**older.states, **answers.states}, older.silent)
    except Refused as e:
        return Answers(), e.message
    return answers, ""


def _fleet(name: str, view: FleetView, state: GatewayState) -> ConsoleFleet:
    told = state.fleets.get(view.name, FleetState())
    canary = f"canary: {told.canary_percent}% of the requests" if told.canary_percent else ""
    return ConsoleFleet(
        name=name,
        wanted=view.desired,
        ready=view.ready if view.usable is None else view.usable,
        scale=view.scaler,
        models=tuple(told.models),
        rollout="; ".join(part for part in (view.rollout, canary) if part),
        told=told,
    )


def replica(fleet: str, line: ReplicaLine, told: ReplicaState | None) -> ConsoleReplica:
    """A Pod's own word, unless its gateways know worse of one that is ready."""
    own = ConsoleReplica(
        name=line.name if "/" not in fleet else f"{fleet.partition('/')[0]}/{line.name}",
        fleet=fleet,
        phase=line.phase,
        reason=line.reason,
        since=_unix(line.since),
        group=line.group,
        where=line.node,
    )
    if told is None:
        return own
    more: Mapping[str, object] = {
        "in_flight": told.in_flight,
        "waiting": told.waiting,
        "kv_use": told.kv_use,
        "evictions": told.evictions,
        "returns": told.returns,
    }
    if line.phase == SERVING and (told.suspect or told.state not in (SERVING, "")):
        worse = "suspect" if told.state == SERVING else told.state
        return _with(own, **more, phase=worse, reason=told.suspect or told.reason, since=None)
    return _with(own, **more)


def _with(one: ConsoleReplica, **changed: object) -> ConsoleReplica:
    return msgspec.structs.replace(one, **changed)


def _unix(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


async def serve(
    kube: Kube,
    namespace: str | None,
    port: int,
    ready: Callable[[str], None],
    rounds: Iterable[int] = count(),
    clock: Clock = _CLOCK,
) -> None:
    """Serves the console of a cluster on a loopback address until it is cancelled: a look every BUSY_S while somebody
    watches, every IDLE_S while nobody does, so that there is a past to show. `ready` is told the address."""
    console, playground = Console(place=kube.context or "the cluster"), Playground(kube)
    pages = ConsoleServer(console, loopback=True, plays=playground.answer)
    try:
        server = await asyncio.start_server(pages.connection, "127.0.0.1", port, limit=MAX_HEAD)
    except OSError as e:
        raise InputError(f"cannot listen on port {port}: {e.strerror}.", "Name another: --port 0.") from None
    async with server:
        ready(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{assets.ROOT}")
        for _ in rounds:
            try:
                sight = await sight_of(kube, namespace, playground)
            except ClusterError as e:
                sight = replace(console.sight, silent=e.message)
            console.look(sight, clock.time())
            waited = 0.0
            while waited < IDLE_S and not (console.pages and waited >= BUSY_S):
                await clock.sleep(STEP_S)
                waited += STEP_S
