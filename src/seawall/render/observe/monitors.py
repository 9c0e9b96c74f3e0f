"""PodMonitors or ServiceMonitors for engines and the gateway: what Prometheus scrapes, how often."""

from __future__ import annotations

from seawall.domain.labels import COMPONENT, FLEET, GROUP, POOL, PORT
from seawall.render.inputs import Group, Object, Wanted
from seawall.render.names import (
    batch_name,
    batch_selector,
    fleet_meta,
    gateway_selector,
    labels,
    meta,
    selector,
)

INTERVAL = "15s"
"""Scrape interval. Not longer: demand is read from these metrics, so a scale-up waits for a scrape."""


def _endpoint(port: str) -> Object:
    return {"port": port, "path": "/metrics", "interval": INTERVAL, "scrapeTimeout": "10s"}


def engine_monitor(wanted: Wanted) -> Object:
    monitoring = wanted.fleet.spec.monitoring
    metadata = fleet_meta(wanted, wanted.name, "engine")
    metadata["labels"].update(monitoring.labels)
    if monitoring.kind == "pod-monitor":
        spec: Object = {
            "selector": {"matchLabels": selector(wanted)},
            "podTargetLabels": [FLEET, GROUP, POOL],
            "podMetricsEndpoints": [_endpoint("http")],
        }
        return {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": metadata,
            "spec": spec,
        }
    match = {FLEET: wanted.name, COMPONENT: "engine"}
    return _service_monitor(metadata, match, "http")


def gateway_monitor(group: Group) -> Object:
    monitoring = group.first.fleet.spec.monitoring
    metadata = meta(group.gateway, group.namespace, {**labels(group.gateway, "gateway"), **monitoring.labels})
    if monitoring.kind == "pod-monitor":
        spec: Object = {
            "selector": {"matchLabels": gateway_selector(group)},
            "podMetricsEndpoints": [_endpoint("admin")],
        }
        return {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": metadata,
            "spec": spec,
        }
    return _service_monitor(metadata, {**gateway_selector(group), PORT: "admin"}, "admin")


def batch_monitor(group: Group) -> Object:
    """The monitor of the batch lane beside a gateway."""
    monitoring = group.first.fleet.spec.monitoring
    own = {**labels(group.gateway, "batch"), **monitoring.labels}
    metadata = meta(batch_name(group), group.namespace, own)
    if monitoring.kind == "pod-monitor":
        return {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": batch_selector(group)},
                "podMetricsEndpoints": [_endpoint("http")],
            },
        }
    return _service_monitor(metadata, {**labels(group.gateway, "batch")}, "http")


def _service_monitor(metadata: Object, match: dict[str, str], port: str) -> Object:
    spec: Object = {"selector": {"matchLabels": match}, "endpoints": [_endpoint(port)]}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata,
        "spec": spec,
    }
