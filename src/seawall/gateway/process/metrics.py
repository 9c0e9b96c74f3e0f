"""What the gateway shows of itself: Prometheus text and `/debug/state`. Reads counters; changes nothing.

Text format 0.0.4, made by hand: a scrape of 400 replicas must not stall the loop that relays streams.
docs/reference/gateway.md has the table of metrics.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import msgspec

from seawall import __version__
from seawall.decide.route.pick import Target
from seawall.domain import labels as names
from seawall.domain.told import (
    STREAMS_TOLD,
    FleetState,
    GatewayState,
    ReplicaState,
    ShadowState,
    SideState,
    StreamState,
    TenantState,
)
from seawall.gateway import compiled
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.intake.app import App
from seawall.gateway.tell.stats import FleetStats, Histogram

METRICS: dict[str, tuple[str, str]] = {
    names.PENDING_REQUESTS: ("gauge", "Accepted and not yet finished: queued plus in flight."),
    names.QUEUED_REQUESTS: ("gauge", "Accepted, waiting for a replica."),
    names.QUEUED_TOKENS: ("gauge", "Estimated tokens of the requests that wait."),
    names.IN_FLIGHT_REQUESTS: ("gauge", "At a replica."),
    names.REQUESTS_ADMITTED_TOTAL: (
        "counter",
        "Accepted: finished + failed + cancelled + pending, and lines of batches that run on what others leave.",
    ),
    names.REQUESTS_FINISHED_TOTAL: ("counter", "Answered whole, engine errors of the 4xx kind included."),
    names.REQUESTS_FAILED_TOTAL: ("counter", "Accepted and not answered whole."),
    names.REQUESTS_CANCELLED_TOTAL: ("counter", "The client left before the end."),
    names.REQUESTS_REJECTED_TOTAL: ("counter", "Refused at the door with 429, by reason."),
    names.RETRIES_TOTAL: ("counter", "Sent again before the first byte, by what was seen."),
    names.RESUMED_STREAMS_TOTAL: ("counter", "Broken streams that were continued elsewhere."),
    names.REATTACHED_TOTAL: (
        "counter",
        "Requests that came again and joined the one that they are a copy of.",
    ),
    names.KEPT_BYTES: ("gauge", "Memory of the answers that are kept for clients that come again."),
    names.WASTED_TOKENS_TOTAL: (
        "counter",
        "Tokens that breaks made engines compute again, or lost, by kind.",
    ),
    names.WASTED_GPU_SECONDS_TOTAL: ("counter", "GPU time of attempts that broke and were not continued."),
    names.HEDGES_TOTAL: ("counter", "Second attempts at a late first token, by result: won, lost."),
    names.POISON_REQUESTS_TOTAL: ("counter", "Requests that alone were on two replicas as they died."),
    names.SHADOW_REQUESTS_TOTAL: ("counter", "Copies sent to the canary."),
    names.SHADOW_COMPARED_TOTAL: ("counter", "Copies at temperature 0, by result: same, differs."),
    names.TOKENS_TOTAL: ("counter", "Tokens the engines counted, by kind (prompt, completion)."),
    names.PREFIX_TOKENS_TOTAL: (
        "counter",
        "Prompt tokens in engines' caches, by what is said of them: expected (by the gateway), cached (by the engine).",
    ),
    names.PREFIX_ERROR: (
        "gauge",
        "By what share the two differ, the median of the last 512 prompts; 0 until there is one.",
    ),
    names.STORE_UP: ("gauge", "1: the shared store answers. Without a store there is no such line."),
    names.STORE_ALONE_SECONDS_TOTAL: ("counter", "Time in which this gateway went by its own share alone."),
    names.STORE_ROUND_SECONDS: ("gauge", "Time that the last round of telling and hearing took."),
    names.STORE_TAKEN_OVER_TOTAL: ("counter", "Kept answers of gateways that were gone, gone on with here."),
    names.STORE_GATEWAYS: ("gauge", "Gateways that share the store, this one counted in."),
    names.TIME_TO_FIRST_TOKEN_SECONDS: ("histogram", "From a request's arrival to its first byte out."),
    names.TIME_PER_OUTPUT_TOKEN_SECONDS: (
        "histogram",
        "Of streams: from the first byte to the end, per token.",
    ),
    names.REQUEST_DURATION_SECONDS: ("histogram", "From arrival to the end."),
    names.QUEUE_WAIT_SECONDS: ("histogram", "Of those that had to wait."),
    names.DRAIN_RATE: (
        "gauge",
        "Requests leaving replicas per second, smoothed; Retry-After comes from it.",
    ),
    names.REPLICA_UP: (
        "gauge",
        "1: takes requests. State in the label: ready, draining, evicted, probing.",
    ),
    names.REPLICA_IN_FLIGHT: ("gauge", "Requests of this gateway at the replica."),
    names.REFUSALS_TOTAL: ("counter", "Answers the gateway gave itself, by code."),
    names.CLIENT_CONNECTIONS: ("gauge", "Open connections of clients."),
    names.MEMORY_HELD_BYTES: (
        "gauge",
        "Held for clients: bodies, records of streams, answers not taken yet.",
    ),
    names.MEMORY_BOUND_BYTES: (
        "gauge",
        "Most that may be held; over it large bodies get 503 (gateway.memory).",
    ),
    names.LOOP_LAG_SECONDS: ("histogram", "By how much the loop was late, 20 times a second."),
    names.WORKERS: ("gauge", "Processes that serve."),
    names.DISCOVERY_ERRORS_TOTAL: ("counter", "Discovery documents that could not be read."),
    names.CONFIG_ERRORS_TOTAL: ("counter", "Specs or key files that could not be read on reload."),
    names.AUDIT_DROPPED_TOTAL: (
        "counter",
        "Audit lines lost: a full disk, a reader that is gone or too slow.",
    ),
    names.COUNTED_SINCE: (
        "gauge",
        "Unix time since which the counters count: when the first of the processes began that took over in turn.",
    ),
    names.KEEPER_CONNECTED: ("gauge", "1: a keeper holds what this process would lose with its life."),
    names.UNKEPT_TOTAL: (
        "counter",
        "Connections that end with this process, by why: tls, http2, batch, full.",
    ),
    names.CARRIED_TOTAL: (
        "counter",
        "What goes on of a process that died: connections, by what was going on (stream, request, idle), and answers "
        "that belong to none (kept).",
    ),
    names.CARRIED_LOST_TOTAL: ("counter", "Connections of a process that died that could not go on, by why."),
    names.TRUTH_ASKS_TOTAL: ("counter", "Prompts with known answers, by what came: same, moved, none."),
    names.TRUTH_SECONDS_TOTAL: ("counter", "Time in which replicas answered them."),
    names.TRUTH_KNOWN: ("gauge", "1: there are known answers; by source: given (a file), learned."),
    names.TRUTH_DISAGREE: ("gauge", "1: replicas answer differently, and nothing says which is right."),
    names.REPLICA_ANSWERS_WRONGLY: ("gauge", "1: by its answers, with the kind of what is wrong."),
    names.TENANT_REQUESTS_TOTAL: ("counter", "Requests per tenant, by outcome."),
    names.TENANT_TOKENS_TOTAL: ("counter", "Tokens per tenant, by kind."),
    names.TENANT_COST_USD_TOTAL: ("counter", "Tokens per tenant times the fleet's price."),
    "process_cpu_seconds_total": ("counter", "User and system CPU time."),
    "process_resident_memory_bytes": ("gauge", "Resident memory."),
    names.BUILD_INFO: (
        "gauge",
        "1, with the version, and the form (compiled or plain Python), in labels.",
    ),
}
Line = tuple[str, dict[str, str], float]
REPORT_S = 30.0
"""What a replica said of its own load is told for so long."""


def label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


class Page:
    """Collects samples by metric and prints them grouped, as the format demands."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, value: float, **labels: str) -> None:
        self._sample(name, name, value, labels)

    def histogram(self, name: str, h: Histogram, **labels: str) -> None:
        running = 0
        for bound, count in zip((*map(number, h.bounds), "+Inf"), h.counts, strict=True):
            running += count
            self._sample(name, f"{name}_bucket", running, {**labels, "le": bound})
        self._sample(name, f"{name}_sum", h.total, labels)
        self._sample(name, f"{name}_count", running, labels)

    def _sample(self, family: str, name: str, value: float, labels: dict[str, str]) -> None:
        inside = ",".join(f'{k}="{label(v)}"' for k, v in labels.items())
        line = f"{name}{{{inside}}} {number(value)}" if inside else f"{name} {number(value)}"
        self._lines.setdefault(family, []).append(line)

    def text(self) -> bytes:
        out: list[str] = []
        for name, (kind, meaning) in METRICS.items():
            if name in self._lines:
                out += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *self._lines[name]]
        return ("\n".join(out) + "\n").encode()


def exposition(app: App, more: Iterable[Line] = ()) -> bytes:
    """The whole `/metrics` page."""
    page = Page()
    for name, runtime in app.fleets.items():
        _fleet(page, name, runtime.stats)
        page.add(names.PENDING_REQUESTS, runtime.stats.pending, fleet=name)
        page.add(names.QUEUED_REQUESTS, runtime.admission.queued, fleet=name)
        page.add(names.QUEUED_TOKENS, runtime.admission.queued_tokens, fleet=name)
        page.add(names.IN_FLIGHT_REQUESTS, runtime.router.in_flight, fleet=name)
        page.add(names.KEPT_BYTES, runtime.kept.held, fleet=name)
        page.add(names.DRAIN_RATE, round(runtime.admission.rate, 3), fleet=name)
        for t in runtime.targets:
            labels = {"fleet": name, "replica": t.name}
            page.add(names.REPLICA_UP, int(t.state == "ready"), **labels, state=t.state)
            page.add(names.REPLICA_IN_FLIGHT, t.in_flight, **labels)
        for tenant in runtime.tenants.all():
            who = {"fleet": name, "tenant": tenant.name}
            for outcome, count in tenant.outcomes.items():
                page.add(names.TENANT_REQUESTS_TOTAL, count, **who, outcome=outcome)
            page.add(names.TENANT_TOKENS_TOTAL, tenant.prompt, **who, kind="prompt")
            page.add(names.TENANT_TOKENS_TOTAL, tenant.completion, **who, kind="completion")
            page.add(names.TENANT_COST_USD_TOTAL, round(tenant.cost_usd, 6), **who)
    for code, count in app.refusals.items():
        page.add(names.REFUSALS_TOTAL, count, code=code)
    page.add(names.CLIENT_CONNECTIONS, len(app.clients))
    page.add(names.MEMORY_HELD_BYTES, app.memory.held)
    page.add(names.MEMORY_BOUND_BYTES, app.memory.bound)
    page.histogram(names.LOOP_LAG_SECONDS, app.lag)
    page.add(names.WORKERS, 1)
    for metric, labels, value in more:
        page.add(metric, value, **labels)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    page.add("process_cpu_seconds_total", round(usage.ru_utime + usage.ru_stime, 3))
    page.add("process_resident_memory_bytes", resident_bytes())
    form = "compiled" if compiled.active() else "plain"
    page.add(names.BUILD_INFO, 1, version=__version__, form=form)
    return page.text()


def _fleet(page: Page, name: str, s: FleetStats) -> None:
    page.add(names.REQUESTS_ADMITTED_TOTAL, s.admitted, fleet=name)
    page.add(names.REQUESTS_FINISHED_TOTAL, s.finished, fleet=name)
    page.add(names.REQUESTS_FAILED_TOTAL, s.failed, fleet=name)
    page.add(names.REQUESTS_CANCELLED_TOTAL, s.cancelled, fleet=name)
    for reason, count in (s.rejected or {"queue_full": 0}).items():
        page.add(names.REQUESTS_REJECTED_TOTAL, count, fleet=name, reason=reason)
    for reason, count in (s.retried or {"reset": 0}).items():
        page.add(names.RETRIES_TOTAL, count, fleet=name, reason=reason)
    page.add(names.RESUMED_STREAMS_TOTAL, s.resumed, fleet=name)
    page.add(names.REATTACHED_TOTAL, s.reattached, fleet=name)
    page.add(names.WASTED_TOKENS_TOTAL, s.wasted_prompt, fleet=name, kind="prompt")
    page.add(names.WASTED_TOKENS_TOTAL, s.wasted_completion, fleet=name, kind="completion")
    page.add(names.WASTED_GPU_SECONDS_TOTAL, round(s.wasted_gpu_s, 3), fleet=name)
    page.add(names.HEDGES_TOTAL, s.hedges_won, fleet=name, result="won")
    page.add(names.HEDGES_TOTAL, s.hedges_lost, fleet=name, result="lost")
    page.add(names.POISON_REQUESTS_TOTAL, s.poison, fleet=name)
    page.add(names.SHADOW_REQUESTS_TOTAL, s.shadowed, fleet=name)
    page.add(names.SHADOW_COMPARED_TOTAL, s.shadow_same, fleet=name, result="same")
    page.add(names.SHADOW_COMPARED_TOTAL, s.shadow_differed, fleet=name, result="differs")
    page.add(names.TOKENS_TOTAL, s.tokens_in, fleet=name, kind="prompt")
    page.add(names.TOKENS_TOTAL, s.tokens_out, fleet=name, kind="completion")
    page.add(names.PREFIX_TOKENS_TOTAL, s.expected_tokens, fleet=name, kind="expected")
    page.add(names.PREFIX_TOKENS_TOTAL, s.cached_tokens, fleet=name, kind="cached")
    page.add(names.PREFIX_ERROR, round(s.cached_error() or 0.0, 4), fleet=name)
    page.histogram(names.TIME_TO_FIRST_TOKEN_SECONDS, s.ttft, fleet=name)
    page.histogram(names.TIME_PER_OUTPUT_TOKEN_SECONDS, s.tpot, fleet=name)
    page.histogram(names.REQUEST_DURATION_SECONDS, s.duration, fleet=name)
    page.histogram(names.QUEUE_WAIT_SECONDS, s.queue_wait, fleet=name)


def resident_bytes() -> int:
    """Resident memory of this process."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def state(app: App, everything: bool = False) -> GatewayState:
    """What `/debug/state` shows; with `everything`, what `/debug/console` shows."""
    now = app.now()
    fleets = {name: _told(f) for name, f in app.fleets.items()}
    for name, others in app.means.tallies.items():
        if name in fleets:
            fleets[name] = replace(fleets[name], elsewhere=dict(others))
    if everything:
        models: dict[str, list[str]] = {}
        for name, served in app.models.items():
            models.setdefault(served.fleet.name, []).append(name)
        for name, f in app.fleets.items():
            more = (models.get(name, []), _tenants(f), _resumed(f, now) if f.stats.resumed else [])
            fleets[name] = replace(fleets[name], models=more[0], tenants=more[1], streams=more[2])
    return GatewayState(
        draining=app.closing,
        gateways=[app.means.name] if app.means.name else [],
        store=app.means.store() if app.means.store is not None else None,
        fleets=fleets,
        replicas={t.name: _replica(name, t, now) for name, f in app.fleets.items() for t in f.targets},
    )


def _told(f: FleetLane) -> FleetState:
    s = f.stats
    return FleetState(
        queued=f.admission.queued,
        queued_due=f.admission.due,
        in_flight=f.router.in_flight,
        pending=s.pending,
        spare=s.spare,
        admitted_total=s.admitted,
        spare_total=s.spare_admitted,
        finished_total=s.finished,
        rejected_total=sum(s.rejected.values()),
        failed_total=s.failed,
        cancelled_total=s.cancelled,
        resumed_total=s.resumed,
        retried_total=sum(s.retried.values()),
        wasted_prompt_tokens_total=s.wasted_prompt,
        wasted_completion_tokens_total=s.wasted_completion,
        wasted_gpu_seconds_total=round(s.wasted_gpu_s, 3),
        ttft_p50_s=s.quantile(0.5),
        ttft_p95_s=s.quantile(0.95),
        queue_limit=f.admission.limit(),
        drain_rate=round(f.admission.rate, 3),
        canary_percent=f.canary_percent,
        shadow=ShadowState(same=s.shadow_same, differs=s.shadow_differed),
        sides={side: msgspec.convert(n, SideState, from_attributes=True) for side, n in s.sides.items()},
        tokens_out_total=s.tokens_out,
        ttft_counts=list(s.ttft.counts),
        tpot_counts=list(s.tpot.counts),
    )


def _replica(fleet: str, t: Target, now: float) -> ReplicaState:
    fresh = now - t.reported_at < REPORT_S
    return ReplicaState(
        fleet=fleet,
        state=t.state,
        reason=t.reason,
        in_flight=t.in_flight,
        cap=t.cap,
        evictions=t.evictions,
        returns=t.returns,
        group=t.replica.group,
        url=t.replica.url,
        suspect=t.suspect,
        waiting=int(t.waiting) if fresh else None,
        kv_use=t.kv_use if fresh else None,
    )


def _tenants(f: FleetLane) -> dict[str, TenantState]:
    return {
        t.name: TenantState(
            outcomes=dict(t.outcomes),
            tokens_in=t.prompt,
            tokens_out=t.completion,
            cost_usd=round(t.cost_usd, 6),
        )
        for t in f.tenants.all()
    }


def _resumed(f: FleetLane, now: float) -> list[StreamState]:
    """Requests that run and were continued on another replica, the oldest first."""
    found = [t.owner for t in f.desk.tickets if t.owner.attempt.resumed]
    found.sort(key=lambda e: e.started)
    return [
        StreamState(
            id=e.request.id.decode(),
            model=e.request.model,
            tenant=e.request.tenant.name,
            replica=e.replica,
            resumed=e.attempt.resumed,
            for_s=round(now - e.started, 1),
        )
        for e in found[:STREAMS_TOLD]
    ]
