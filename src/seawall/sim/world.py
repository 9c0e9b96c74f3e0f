"""The simulation itself: one heap of events; requests, replicas, scaler and cluster in one time.

Deterministic for a seed: ties are broken by the order of scheduling, chance comes from one seeded generator.
Nothing is forgotten: every request is in exactly one of the counts of `Counts`, at any time.
Forbidden here: files, printing, the wall clock (`progress` may look at it).
"""

from __future__ import annotations

import gc
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any

import numpy as np

from seawall.decide.route.admit import Queued, Ticket
from seawall.decide.route.attempt import AwaitVerdict, Fail, Next, Send, Switch
from seawall.decide.route.breaks import Blame, Break
from seawall.decide.route.pick import Ask, Picked, Target
from seawall.decide.route.prefix import ENDS
from seawall.decide.scale import DemandSeen
from seawall.domain.seen import Replica
from seawall.errors import InputError
from seawall.sim import outcome as o
from seawall.sim.cluster import Cluster
from seawall.sim.engine import NEVER, Seq
from seawall.sim.front import Front, OurGateway, PlainService
from seawall.sim.hedges import Hedges
from seawall.sim.pods import Pod
from seawall.sim.scaler import scaler_of
from seawall.sim.setup import BROKEN_SEEN_S, PROOF_MOST_S, PROOF_S, Counts, Setup
from seawall.workload.arrivals import Requests

Progress = Callable[[int, int, float], None]
"""(requests arrived, requests in all, simulated seconds)."""

CHUNK = 65_536
BYTES = 4
"""Of a token of prompt, as the index of prompts takes it before engines have counted."""
SWEEP_S = 0.5
TAIL_S = 7200.0
"""A run ends at the latest so long after the last arrival, whatever is still open."""


class World:
    """One run. `run` may be called once."""

    def __init__(self, setup: Setup, requests: Requests) -> None:
        self.setup = setup
        self.requests = requests
        self.rng = Random(setup.seed)
        self.front: Front = PlainService(self.rng) if setup.recipe == "guide" else OurGateway(setup, self.rng)
        after_s = setup.fleet.spec.gateway.hedge_after
        self.hedges = Hedges(self, after_s) if after_s is not None and setup.recipe != "guide" else None
        self.scaler = scaler_of(setup)
        self.counts = Counts()
        self.heap: list[tuple[float, int, Any, int]] = []
        self.order = 0
        self.events = 0
        count = len(requests)
        self.first = array("d", [float("nan")]) * count
        self.finish = array("d", [float("nan")]) * count
        self.status = array("b", [0]) * count
        self.series = o.Series()
        self.decisions: list[o.LoggedDecision] = []
        self.log: list[tuple[float, str]] = []
        self.peak_queue = 0
        self.arrived_before = 0
        self.looked_at = 0.0
        self.scraped: DemandSeen | None = None
        self.waiting: dict[int, Seq] = {}
        self.by_target: dict[Any, Pod] = {}
        self.patience_s = setup.patience_s
        self.expected = setup.fleet.spec.traffic.output_tokens
        self.over = False
        self.horizon = requests.duration_s
        self.cluster = Cluster(setup, self)

    # -- time ---------------------------------------------------------------------------------------------

    def at(self, t: float, action: Callable[[float], None]) -> None:
        """Runs `action(t)` at `t`."""
        self.order += 1
        heappush(self.heap, (t, self.order, action, -1))

    def wake_at(self, t: float, pod: Pod) -> None:
        engine = pod.engine
        engine.version += 1
        self.order += 1
        heappush(self.heap, (t, self.order, pod, engine.version))

    def run(self, progress: Progress | None = None) -> o.Outcome:
        """Until every request has ended and nothing is left to happen, or TAIL_S after the last arrival."""
        setup = self.setup
        self.cluster.begin()
        self.at(0.0, self._look)
        self.at(0.0, self._sample)
        self.at(SWEEP_S, self._sweep)
        for happening in sorted(setup.happenings, key=lambda h: h.at_s):
            self.at(happening.at_s, partial(self.cluster.happen, happening))
        tracked = gc.isenabled()
        gc.disable()  # no cycles are made per request; the collector would only walk the living
        try:
            end = self._loop(progress)
        finally:
            if tracked:
                gc.enable()
        return self._outcome(end)

    def _loop(self, progress: Progress | None) -> float:
        heap, count = self.heap, len(self.requests)
        last_happening = max((h.at_s for h in self.setup.happenings), default=0.0)
        horizon = max(self.horizon, last_happening)
        done: list[Seq] = []
        now, index, base = 0.0, 0, 0
        times, prompts, outputs = self._chunk(0)
        arrival = times[0] if times else NEVER
        while True:
            if heap and heap[0][0] < arrival:
                now, _, actor, version = heappop(heap)
                self.events += 1
                if version < 0:
                    actor(now)
                elif version == actor.engine.version:
                    self._wake(actor, now, done)
            elif arrival < NEVER:
                now = arrival
                i = index - base
                self._arrive(index, prompts[i], outputs[i], now)
                index += 1
                i += 1
                if i < len(times):
                    arrival = times[i]
                else:
                    base = index
                    times, prompts, outputs = self._chunk(index)
                    arrival = times[0] if times else NEVER
                    if progress is not None:
                        progress(index, count, now)
            else:
                break
            if arrival == NEVER and (
                (not self.counts.in_flight and now >= horizon) or now > horizon + TAIL_S
            ):
                break
        self.events += count
        return max(now, self.horizon)

    def _chunk(self, start: int) -> tuple[list[float], list[int], list[int]]:
        """The next requests as plain Python numbers, which are much faster to touch than numpy's."""
        r, stop = self.requests, start + CHUNK
        return r.arrival[start:stop].tolist(), r.prompt[start:stop].tolist(), r.output[start:stop].tolist()

    # -- requests -----------------------------------------------------------------------------------------

    def _arrive(self, rid: int, prompt: int, output: int, now: float) -> None:
        counts = self.counts
        counts.arrived += 1
        if prompt + output > self.setup.shape.max_model_len:
            counts.refused += 1
            self.status[rid] = o.REFUSED
            return
        blocks: tuple[int, ...] = ()
        size = 0
        group = shared = -1
        if len(self.requests.prefix):
            group = int(self.requests.prefix[rid])
            if group >= 0:
                shared = int(self.requests.shared[rid])
                size = shared * BYTES
                blocks = tuple(i << 32 | group for i in range(max(1, bisect_right(ENDS, size))))
        ask = Ask(prompt + self.expected, None, self.cluster.side(rid), None, blocks, size=size)
        seq = Seq(rid, prompt, output, now)
        seq.patience = patience = now + self.patience_s
        seq.ticket = ticket = Ticket(ask, "", 1.0, 5, patience, rid)
        if group >= 0:
            seq.group, seq.shared = group, shared
        found = self.front.offer(ticket, now)
        if isinstance(found, Picked):
            counts.in_flight += 1
            self.submit(seq, now)
        elif isinstance(found, Queued):
            counts.in_flight += 1
            self.waiting[rid] = seq
            if self.front.queued > self.peak_queue:
                self.peak_queue = self.front.queued
        else:
            lost = self.setup.recipe == "guide"
            self._end_badly(seq, o.LOST if lost else o.REJECTED, found.reason, waiting=False)

    def submit(self, seq: Seq, now: float, target: Target | None = None) -> None:
        """It has a place: at `target`, or at its ticket's."""
        if target is None:
            target = seq.ticket.target
            if self.hedges is not None:
                self.hedges.sent(seq, now)
        pod = self.by_target[target]
        if pod.errors and self.rng.random() < pod.errors:
            self._failed_by(pod, seq, now)
            return
        wake = pod.engine.submit(seq, now)
        if wake != NEVER:
            engine = pod.engine
            engine.version += 1
            self.order += 1
            heappush(self.heap, (wake, self.order, pod, engine.version))

    def _failed_by(self, pod: Pod, seq: Seq, now: float) -> None:
        """The replica answered with an error before any token."""
        trial = self.cluster.trial
        if trial is not None and self.cluster.canary_percent:
            trial.lost(pod.group)
        if self.hedges is not None and seq.race is not None and seq.race.second:
            self.hedges.refused(seq)
            return
        what = self.front.failed(seq, now)
        if what is None:
            self._lost(seq, "the replicas' own errors", now)
        else:
            self._obey(seq, self._broke(seq, what, now), what.reason, now, now)

    def _wake(self, pod: Pod, now: float, done: list[Seq]) -> None:
        engine = pod.engine
        wake = engine.wake(now, done)
        if wake != NEVER:
            engine.version += 1
            self.order += 1
            heappush(self.heap, (wake, self.order, pod, engine.version))
        if engine.begun:
            assert self.hedges is not None
            for seq in engine.begun:
                self.hedges.first_token(seq)
            engine.begun.clear()
        if done:
            front, first, finish, status = self.front, self.first, self.finish, self.status
            for seq in done:
                rid = seq.rid
                first[rid] = seq.first
                finish[rid] = now
                status[rid] = o.DONE
                if seq.group >= 0:
                    front.told(seq)
                front.left(seq.ticket, now)
            if self.cluster.canary_percent:
                self._account(pod, done, now)
            if pod.errors:
                front.served(front.targets()[pod.name])
            self.counts.done += len(done)
            self.counts.in_flight -= len(done)
            done.clear()
            if front.queued:
                self.pump(now)
        if engine.dropped:
            for seq in engine.dropped:
                if self.hedges is not None:
                    self.hedges.gone(seq)
                self.front.left(seq.ticket, now)
                self._end_badly(seq, o.CANCELLED, "the client went away")
            engine.dropped.clear()
        if pod.phase == "draining" and wake == NEVER:
            self.cluster.drained(pod, now)

    def _account(self, pod: Pod, done: list[Seq], now: float) -> None:
        """What the canary's analysis learns from answers."""
        trial, output = self.cluster.trial, self.requests.output
        assert trial is not None
        for seq in done:
            rest = int(output[seq.rid]) - 1
            tpot = (now - seq.first) / rest if rest > 0 else 0.0
            trial.served(pod.group, seq.first - seq.arrived, tpot)

    def pump(self, now: float) -> None:
        """Places for who waits, and an end for who waited too long."""
        tick = self.front.tick(now)
        for placed in tick.placed:
            self.submit(self.waiting.pop(placed.ticket.owner), now)
        for ticket in tick.late:
            seq = self.waiting.pop(ticket.owner)
            if seq.first >= 0:
                self._lost(seq, "no replica took over in time", now)
            else:
                self.front.left(seq.ticket, now)
                gone = now - seq.arrived >= self.patience_s
                self._end_badly(seq, o.CANCELLED if gone else o.EXPIRED, "waited too long")
        for placed in tick.seconds:
            assert self.hedges is not None
            self.hedges.second(placed, now)
        for ticket in tick.verdicts:
            seq = self.waiting.pop(ticket.owner)
            decision = self.front.verdict(seq, now)
            if isinstance(decision, Send):
                self._again(seq, now)
            else:
                self._obey(seq, decision, "", now, now)

    def broken(self, seqs: list[Seq], now: float, seen_in_s: float, why: str) -> None:
        """Their replica is gone. It is noticed at once where its connections ended, and after silence where not."""
        for seq in seqs:
            seq.ticket.awaits = seq.first < 0
        if seen_in_s:
            what = Break("hang", why, Blame.BROKEN)
            self.at(now + seen_in_s, lambda t: self._mend(seqs, what, t))
        else:
            self._mend(seqs, Break("reset", why, Blame.DEATH), now)

    def _mend(self, seqs: list[Seq], what: Break, now: float) -> None:
        for seq in seqs:
            race = seq.race
            if race is not None and race.void:
                continue  # the other attempt has brought a token since
            if race is not None and race.second:
                assert self.hedges is not None
                self.hedges.broke(seq, what, now)
                continue
            decision = self._broke(seq, what, now)
            self._obey(seq, decision, what.reason, now, now + BROKEN_SEEN_S)

    def _broke(self, seq: Seq, what: Break, now: float) -> Next | None:
        target = seq.ticket.target
        broken = self.front.broke(seq, what, now)
        if broken.out:
            self.asks_for_proof(target, now)
        return broken.decision

    def asks_for_proof(self, target: Target, now: float) -> None:
        """It is out of service until it gives a token."""
        self.at(now + PROOF_S, lambda t: self._prove(target, PROOF_S, t))

    def _obey(self, seq: Seq, decision: Next | None, why: str, now: float, then: float) -> None:
        """Does what the attempt says. `then`: when another replica can have it at the earliest."""
        match decision:
            case Send(resumes=resumes):
                self.counts.resumed += resumes
                self.counts.retried += not resumes
                self.at(then, lambda t: self._again(seq, t))
            case AwaitVerdict(seconds=seconds, resumes=resumes):
                self.counts.resumed += resumes
                self.counts.retried += not resumes
                self.waiting[seq.rid] = seq
                self.front.convict(seq.ticket, now + seconds)
            case Switch():
                assert self.hedges is not None
                self.hedges.goes_on(seq)
            case Fail(refusal=refusal):
                self._lost(seq, why if refusal.code == "upstream_lost" else refusal.code, now)
            case None:
                self._lost(seq, why, now)
            case _:
                raise AssertionError(f"the simulator makes no streams that could {decision}")

    def _again(self, seq: Seq, now: float) -> None:
        if self.front.again(seq.ticket, now) is not None:
            self.submit(seq, now)
        else:
            self.waiting[seq.rid] = seq

    def _prove(self, target: Target, pause_s: float, now: float) -> None:
        """A replica that is out is asked for a token."""
        pod = self.by_target.get(target)
        if pod is None or pod.phase != "ready":
            return
        if pod.errors and self.rng.random() < pod.errors:
            pause_s = min(PROOF_MOST_S, pause_s * 1.6)
            self.at(now + pause_s, lambda t: self._prove(target, pause_s, t))
        elif self.front.proven(target, now):
            self.pump(now)

    def _lost(self, seq: Seq, why: str, now: float) -> None:
        self.front.left(seq.ticket, now)
        self._end_badly(seq, o.LOST, why)

    def _end_badly(self, seq: Seq, status: int, why: str, waiting: bool = True) -> None:
        counts = self.counts
        self.status[seq.rid] = status
        if waiting:
            counts.in_flight -= 1
        match status:
            case o.REJECTED:
                counts.rejected += 1
            case o.EXPIRED:
                counts.expired += 1
            case o.CANCELLED:
                counts.cancelled += 1
            case _:
                counts.lost += 1
                counts.reasons[why] = counts.reasons.get(why, 0) + 1

    # -- what returns every so often ------------------------------------------------------------------------

    def _sweep(self, now: float) -> None:
        self.pump(now)
        self.at(now + SWEEP_S, self._sweep)

    def _sample(self, now: float) -> None:
        running, waiting = self.cluster.load()
        s = self.series
        s.t.append(now)
        s.queued.append(self.front.queued)
        s.waiting.append(waiting)
        s.running.append(running)
        s.wanted.append(self.cluster.wanted)
        s.ready.append(self.cluster.ready_count)
        price = self.setup.plan.usd_per_hour or 0.0
        s.usd_per_h.append(price * self.cluster.billed_nodes(now))
        step = self.setup.bucket_s or max(1.0, self.horizon / 240)
        self.at(now + step, self._sample)

    def _observe(self, now: float) -> DemandSeen:
        """What the metrics pipeline shows: of the last scrape, which is up to `scrape_s` old."""
        running, waiting = self.cluster.load()
        since, self.looked_at = now - self.looked_at, now
        rate = (self.counts.arrived - self.arrived_before) / since if since > 0 else None
        self.arrived_before = self.counts.arrived
        return DemandSeen(
            replicas=self.cluster.wanted,
            ready=self.cluster.ready_count,
            there=sum(p.phase not in ("down", "gone") for p in self.cluster.pods),
            running=running,
            waiting=waiting,
            queued=self.front.queued,
            arrivals_per_s=rate,
            kv_usage=self.cluster.kv_usage(),
            kv_used=self.cluster.kv_used(),
            unix_s=self.setup.begins_s + now,
        )

    def _look(self, now: float) -> None:
        scrape_s = self.setup.scrape_s
        if scrape_s:
            if self.scraped is None:
                self._scrape(now)
            seen = self.scraped
            assert seen is not None
            seen = replace(seen, replicas=self.cluster.wanted, unix_s=self.setup.begins_s + now)
        else:
            seen = self._observe(now)
        decision = self.scaler.look(seen, now)
        changed = decision.replicas != self.cluster.wanted
        if changed or self.setup.log_every_look:
            self.decisions.append(o.LoggedDecision(now, "scale", decision.replicas, decision.reason))
        if changed:
            self.log.append(
                (now, f"{self.cluster.wanted} -> {decision.replicas} replicas: {decision.reason}")
            )
            self.cluster.scale(decision.replicas, now)
        self.at(now + max(decision.next_look_s, 0.25), self._look)

    def _scrape(self, now: float) -> None:
        self.scraped = self._observe(now)
        self.at(now + self.setup.scrape_s, self._scrape)

    def discovered(self) -> None:
        """Tells the front what the cluster's endpoints are now."""
        replicas = []
        for pod in self.cluster.pods:
            if pod.phase in ("ready", "draining"):
                replicas.append(
                    Replica(
                        name=pod.name,
                        fleet=self.setup.fleet.name,
                        url=f"http://{pod.name}#{pod.epoch}",
                        draining=pod.phase == "draining",
                        group=pod.group,
                    )
                )
        self.front.discovered(replicas)
        targets = self.front.targets()
        self.by_target = {targets[p.name]: p for p in self.cluster.pods if p.name in targets}

    def _outcome(self, end: float) -> o.Outcome:
        on_demand, spot = self.cluster.nodes.seconds(end)
        ready_s, busy_s, preempted = self.cluster.totals(end)
        self.counts.preempted = preempted
        return o.Outcome(
            setup=self.setup,
            requests=self.requests,
            counts=self.counts,
            first=np.frombuffer(self.first, dtype=np.float64) if len(self.first) else np.zeros(0),
            finish=np.frombuffer(self.finish, dtype=np.float64) if len(self.finish) else np.zeros(0),
            status=np.frombuffer(self.status, dtype=np.int8) if len(self.status) else np.zeros(0, np.int8),
            series=self.series,
            decisions=self.decisions,
            log=self.log,
            end_s=end,
            events=self.events,
            node_hours=(on_demand / 3600, spot / 3600),
            ready_hours=ready_s / 3600,
            busy_hours=busy_s / 3600,
            peak_queue=self.peak_queue,
            canary=None if self.cluster.trial is None else self.cluster.trial.told,
        )


def simulate(setup: Setup, requests: Requests, progress: Progress | None = None) -> o.Outcome:
    """Runs the fleet against the requests."""
    if not setup.plan.fits:
        raise InputError(f"the plan does not fit: {setup.plan.reason}", "See `seawall plan` for what would.")
    return World(setup, requests).run(progress)
