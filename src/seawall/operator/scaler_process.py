"""The scaler's process: gRPC for KEDA, metrics for Prometheus, a log line for each decision, an event for each change.

Forbidden: what is answered (`scaler.py`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from seawall.decide.scale.record import DecisionRecord
from seawall.domain.labels import DECIDED, FLEET
from seawall.drivers import keda
from seawall.drivers.clock import Clock, SteadyClock
from seawall.drivers.kube import EVENT, Kube
from seawall.errors import InputError, SeawallError
from seawall.operator.scaler import DecidingScaler

log = logging.getLogger("seawall.scaler")
STOP_S = 5.0


class Teller:
    """Says every decision: a line, two numbers, and an event where the count changes."""

    def __init__(self, kube: Kube, clock: Clock, registry: CollectorRegistry) -> None:
        self._kube, self._clock = kube, clock
        self._tasks: set[asyncio.Task[None]] = set()
        labels = ("namespace", "fleet")
        self._decided = Gauge(
            "seawall_scale_decided_replicas", "Replicas decided.", labels, registry=registry
        )
        self._looks = Counter("seawall_scale_decisions", "Decisions taken.", labels, registry=registry)

    def __call__(self, record: DecisionRecord, before: int) -> None:
        log.info("%s", record.line)
        namespace, _, fleet = record.decision.partition("/")
        self._decided.labels(namespace, fleet).set(record.replicas)
        self._looks.labels(namespace, fleet).inc()
        if record.replicas != before:
            task = asyncio.ensure_future(self._event(namespace, fleet, record, before))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def told(self) -> None:
        """Once every event is written, or was refused."""
        await asyncio.gather(*self._tasks)

    async def _event(self, namespace: str, fleet: str, record: DecisionRecord, before: int) -> None:
        now = self._clock.time()
        at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{fleet}.{int(now * 1e6):x}",
                "namespace": namespace,
                "labels": {FLEET: fleet},  # by which `seawall status` finds it
            },
            "involvedObject": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "namespace": namespace,
                "name": record.target or fleet,
            },
            "reason": DECIDED,
            "message": f"{before} -> {record.replicas} replicas: {record.reason}"[:1024],
            "type": "Normal",
            "source": {"component": "seawall-scaler"},
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }
        try:
            await self._kube.request("POST", EVENT.path(namespace), body=body)
        except SeawallError as e:
            log.warning("the event of a decision was not written: %s", e)


async def run_scaler(kube: Kube, listen: str, metrics: str, tls: keda.Tls | None) -> None:
    """Until SIGTERM."""
    clock, registry = SteadyClock(), CollectorRegistry()
    if metrics:
        host, _, port = metrics.rpartition(":")
        if not port.isdigit():
            raise InputError(f"--metrics {metrics!r:.60} is no ADDRESS:PORT.", "Write 0.0.0.0:9090.")
        start_http_server(int(port), host or "0.0.0.0", registry=registry)
    teller = Teller(kube, clock, registry)
    server, port_of = await keda.serve(DecidingScaler(kube, clock, teller), listen, tls)
    log.info("answering KEDA at port %d%s", port_of, " with TLS" if tls else "")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    await stop.wait()
    await server.stop(STOP_S)
    await teller.told()
