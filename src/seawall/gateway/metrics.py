"""What the gateway shows of itself: Prometheus text and `/debug/state`. Reads counters; changes nothing.

Text format 0.0.4, made by hand: a scrape of 400 replicas must not stall the loop that relays streams.
docs/reference/gateway.md has the table of metrics.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from seawall import __version__
from seawall.domain.told import FleetState, GatewayState, ReplicaState, ShadowState, SideState
from seawall.gateway import compiled
from seawall.gateway.stats import BUCKETS_S, FleetStats, Histogram

if TYPE_CHECKING:
    from seawall.gateway.app import App

METRICS: dict[str, tuple[str, str]] = {
    "seawall_pending_requests": ("gauge", "Accepted and not yet finished: queued plus in flight."),
    "seawall_queued_requests": ("gauge", "Accepted, waiting for a replica."),
    "seawall_queued_tokens": ("gauge", "Estimated tokens of the requests that wait."),
    "seawall_in_flight_requests": ("gauge", "At a replica."),
    "seawall_requests_admitted_total": ("counter", "Accepted: finished + failed + cancelled + pending."),
    "seawall_requests_finished_total": ("counter", "Answered whole, engine errors of the 4xx kind included."),
    "seawall_requests_failed_total": ("counter", "Accepted and not answered whole."),
    "seawall_requests_cancelled_total": ("counter", "The client left before the end."),
    "seawall_requests_rejected_total": ("counter", "Refused at the door with 429, by reason."),
    "seawall_retries_total": ("counter", "Sent again before the first byte, by what was seen."),
    "seawall_resumed_streams_total": ("counter", "Broken streams that were continued elsewhere."),
    "seawall_hedges_total": ("counter", "Second attempts at a late first token, by result: won, lost."),
    "seawall_poison_requests_total": ("counter", "Requests that alone were on two replicas as they died."),
    "seawall_shadow_requests_total": ("counter", "Copies sent to the canary."),
    "seawall_shadow_compared_total": ("counter", "Copies at temperature 0, by result: same, differs."),
    "seawall_tokens_total": ("counter", "Tokens the engines counted, by kind (prompt, completion)."),
    "seawall_time_to_first_token_seconds": ("histogram", "From a request's arrival to its first byte out."),
    "seawall_request_duration_seconds": ("histogram", "From arrival to the end."),
    "seawall_queue_wait_seconds": ("histogram", "Of those that had to wait."),
    "seawall_drain_rate": (
        "gauge",
        "Requests leaving replicas per second, smoothed; Retry-After comes from it.",
    ),
    "seawall_replica_up": (
        "gauge",
        "1: takes requests. State in the label: ready, draining, evicted, probing.",
    ),
    "seawall_replica_in_flight": ("gauge", "Requests of this gateway at the replica."),
    "seawall_refusals_total": ("counter", "Answers the gateway gave itself, by code."),
    "seawall_client_connections": ("gauge", "Open connections of clients."),
    "seawall_discovery_errors_total": ("counter", "Discovery documents that could not be read."),
    "seawall_config_errors_total": ("counter", "Specs or key files that could not be read on reload."),
    "seawall_audit_dropped_total": ("counter", "Audit lines lost because their reader was too slow."),
    "seawall_tenant_requests_total": ("counter", "Requests per tenant, by outcome."),
    "seawall_tenant_tokens_total": ("counter", "Tokens per tenant, by kind."),
    "seawall_tenant_cost_usd_total": ("counter", "Tokens per tenant times the fleet's price."),
    "process_cpu_seconds_total": ("counter", "User and system CPU time."),
    "process_resident_memory_bytes": ("gauge", "Resident memory."),
    "seawall_build_info": (
        "gauge",
        "1, with the version, and the form (compiled or plain Python), in labels.",
    ),
}
Line = tuple[str, dict[str, str], float]


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
        for bound, count in zip((*map(number, BUCKETS_S), "+Inf"), h.counts, strict=True):
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
        page.add("seawall_pending_requests", runtime.stats.pending, fleet=name)
        page.add("seawall_queued_requests", runtime.admission.queued, fleet=name)
        page.add("seawall_queued_tokens", runtime.admission.queued_tokens, fleet=name)
        page.add("seawall_in_flight_requests", runtime.router.in_flight, fleet=name)
        page.add("seawall_drain_rate", round(runtime.admission.rate, 3), fleet=name)
        for t in runtime.targets:
            labels = {"fleet": name, "replica": t.name}
            page.add("seawall_replica_up", int(t.state == "ready"), **labels, state=t.state)
            page.add("seawall_replica_in_flight", t.in_flight, **labels)
        for tenant in runtime.tenants.all():
            who = {"fleet": name, "tenant": tenant.name}
            for outcome, count in tenant.outcomes.items():
                page.add("seawall_tenant_requests_total", count, **who, outcome=outcome)
            page.add("seawall_tenant_tokens_total", tenant.prompt, **who, kind="prompt")
            page.add("seawall_tenant_tokens_total", tenant.completion, **who, kind="completion")
            page.add("seawall_tenant_cost_usd_total", round(tenant.cost_usd, 6), **who)
    for code, count in app.refusals.items():
        page.add("seawall_refusals_total", count, code=code)
    page.add("seawall_client_connections", len(app.clients))
    for metric, labels, value in more:
        page.add(metric, value, **labels)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    page.add("process_cpu_seconds_total", round(usage.ru_utime + usage.ru_stime, 3))
    page.add("process_resident_memory_bytes", resident_bytes())
    form = "compiled" if compiled.active() else "plain"
    page.add("seawall_build_info", 1, version=__version__, form=form)
    return page.text()


def _fleet(page: Page, name: str, s: FleetStats) -> None:
    page.add("seawall_requests_admitted_total", s.admitted, fleet=name)
    page.add("seawall_requests_finished_total", s.finished, fleet=name)
    page.add("seawall_requests_failed_total", s.failed, fleet=name)
    page.add("seawall_requests_cancelled_total", s.cancelled, fleet=name)
    for reason, count in (s.rejected or {"queue_full": 0}).items():
        page.add("seawall_requests_rejected_total", count, fleet=name, reason=reason)
    for reason, count in (s.retried or {"reset": 0}).items():
        page.add("seawall_retries_total", count, fleet=name, reason=reason)
    page.add("seawall_resumed_streams_total", s.resumed, fleet=name)
    page.add("seawall_hedges_total", s.hedges_won, fleet=name, result="won")
    page.add("seawall_hedges_total", s.hedges_lost, fleet=name, result="lost")
    page.add("seawall_poison_requests_total", s.poison, fleet=name)
    page.add("seawall_shadow_requests_total", s.shadowed, fleet=name)
    page.add("seawall_shadow_compared_total", s.shadow_same, fleet=name, result="same")
    page.add("seawall_shadow_compared_total", s.shadow_differed, fleet=name, result="differs")
    page.add("seawall_tokens_total", s.tokens_in, fleet=name, kind="prompt")
    page.add("seawall_tokens_total", s.tokens_out, fleet=name, kind="completion")
    page.histogram("seawall_time_to_first_token_seconds", s.ttft, fleet=name)
    page.histogram("seawall_request_duration_seconds", s.duration, fleet=name)
    page.histogram("seawall_queue_wait_seconds", s.queue_wait, fleet=name)


def resident_bytes() -> int:
    """Resident memory of this process."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def state(app: App) -> GatewayState:
    """What `/debug/state` shows."""
    return GatewayState(
        draining=app.closing,
        fleets={
            name: FleetState(
                queued=f.admission.queued,
                in_flight=f.router.in_flight,
                pending=f.stats.pending,
                admitted_total=f.stats.admitted,
                finished_total=f.stats.finished,
                rejected_total=sum(f.stats.rejected.values()),
                failed_total=f.stats.failed,
                cancelled_total=f.stats.cancelled,
                resumed_total=f.stats.resumed,
                retried_total=sum(f.stats.retried.values()),
                ttft_p50_s=f.stats.quantile(0.5),
                ttft_p95_s=f.stats.quantile(0.95),
                queue_limit=f.admission.limit(),
                drain_rate=round(f.admission.rate, 3),
                canary_percent=f.canary_percent,
                shadow=ShadowState(same=f.stats.shadow_same, differs=f.stats.shadow_differed),
                sides={
                    side: msgspec.convert(s, SideState, from_attributes=True)
                    for side, s in f.stats.sides.items()
                },
            )
            for name, f in app.fleets.items()
        },
        replicas={
            t.name: ReplicaState(
                fleet=name,
                state=t.state,
                reason=t.reason,
                in_flight=t.in_flight,
                evictions=t.evictions,
                returns=t.returns,
                group=t.replica.group,
                url=t.replica.url,
            )
            for name, f in app.fleets.items()
            for t in f.targets
        },
    )
