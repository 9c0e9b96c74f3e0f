"""What the lane shows Prometheus. Reads; changes nothing."""

from __future__ import annotations

import resource
from pathlib import Path

from seawall.batch.lane import BatchLane
from seawall.batch.outlook import Outlook
from seawall.batch.worker import LineWorker
from seawall.domain import labels as names

METRICS: dict[str, tuple[str, str]] = {
    names.BATCH_LINES: ("result", "Lines with a durable result, by result."),
    names.BATCH_LINES_AGAIN: ("", "Lines that may have run more than once."),
    names.BATCH_LINES_UNDER_WAY: ("fleet", "Lines at the gateway now."),
    names.BATCH_LINES_LIMIT: ("fleet", "Lines that may be there."),
    names.BATCH_LINES_PER_SECOND: ("fleet", "Lines done per second, smoothed."),
    names.BATCH_LINES_LEFT: ("tenant", "Lines without a result, of batches that run."),
    names.BATCH_DEADLINE_SECONDS: ("tenant", "Until the end of the window that ends next."),
    names.BATCH_LATE_SECONDS: (
        "tenant",
        "By how much the latest batch is expected to miss its window; 0: none does.",
    ),
    names.BATCH_TOKENS: ("tenant", "Tokens of lines, asked and answered."),
    names.BATCH_GPU_SECONDS: (
        "tenant",
        "GPU-seconds of lines: a replica's are shared among all that runs there.",
    ),
    names.BATCH_COST_USD: ("tenant", "What lines cost, at the lane's price."),
}
"""Name -> its label, if it has one, and its meaning."""
COUNTERS = (
    names.BATCH_LINES,
    names.BATCH_LINES_AGAIN,
    names.BATCH_TOKENS,
    names.BATCH_GPU_SECONDS,
    names.BATCH_COST_USD,
)


async def exposition(lane: BatchLane, outlook: Outlook, worker: LineWorker) -> str:
    """The whole page, text format 0.0.4."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

    registry = CollectorRegistry()
    made: dict[str, Counter | Gauge] = {}
    for name, (label, meaning) in METRICS.items():
        kind = Counter if name in COUNTERS else Gauge
        made[name] = kind(name, meaning, [label] if label else [], registry=registry)

    def add(name: str, value: float, label: str = "") -> None:
        (made[name].labels(label) if label or METRICS[name][0] else made[name]).inc(value)

    for fleet in (f.name for f in lane.rules.fleets):
        add(names.BATCH_LINES_UNDER_WAY, worker.running(fleet), fleet)
        add(names.BATCH_LINES_LIMIT, worker.spare[fleet].limit if fleet in worker.spare else 0, fleet)
        units, lines = worker.work_left(fleet)
        add(
            names.BATCH_LINES_PER_SECOND,
            outlook.pace(fleet).per_s * lines / units if units > 0 else 0.0,
            fleet,
        )
    nearest: dict[str, float] = {}
    late: dict[str, float] = {}
    for under in worker.batches.values():
        tenant = under.batch.tenant
        add(names.BATCH_LINES_LEFT, under.left, tenant)
        nearest[tenant] = min(nearest.get(tenant, 1e18), under.batch.deadline - lane.now())
        finish = outlook.finish(under.batch.id, lane.now()) or 0.0
        late[tenant] = max(late.get(tenant, 0.0), finish - under.batch.deadline)
    for tenant, seconds in nearest.items():
        add(names.BATCH_DEADLINE_SECONDS, round(seconds), tenant)
    for tenant, seconds in late.items():
        add(names.BATCH_LATE_SECONDS, round(seconds), tenant)
    for tenant, spent in worker.spent.items():
        add(names.BATCH_TOKENS, spent.tokens, tenant)
        add(names.BATCH_GPU_SECONDS, spent.gpu_s, tenant)
        add(names.BATCH_COST_USD, spent.usd, tenant)
    for result, count in worker.lines.items():
        add(names.BATCH_LINES, count, result)
    add(names.BATCH_LINES_AGAIN, worker.again)
    memory = Gauge("process_resident_memory_bytes", "Resident memory.", registry=registry)
    memory.set(resident_bytes())
    return generate_latest(registry).decode()


def resident_bytes() -> int:
    """Resident memory of this process."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
