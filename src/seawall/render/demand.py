"""The PromQL that scalers and alerts are made of. Names of the gateway's metrics stand here and nowhere else.

Demand of a fleet = requests in the engines (running + waiting) + requests that the gateway holds back
(queued). A request is in one of the two, so nothing is counted twice. When no engine is scraped, because none
runs or Prometheus lost them, the gateway's own count of what it has sent out stands in for the engines': a
blind scraper must not look like an idle fleet. When the gateway is not scraped either, the query has no
result, and that is an error on purpose (`ignoreNullValues: "false"`).

Where a fleet has a batch lane, demand is the gateway's number alone: engines cannot tell a line of a batch, which lives
on what others leave, from a request, and a difference of two scrapes would be wrong whenever one of them is older.
"""

from __future__ import annotations

from seawall.domain.labels import IN_FLIGHT_REQUESTS, PENDING_REQUESTS, QUEUED_REQUESTS
from seawall.engines.vllm import metrics as vllm
from seawall.render.inputs import Wanted
from seawall.render.names import short


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def engine_labels(wanted: Wanted, pods: str = "") -> str:
    """Pins namespace and model; `pods`: a regular expression for the Pods of one workload."""
    out = f"namespace={quoted(wanted.namespace)},model_name={quoted(wanted.fleet.served_names[0])}"
    return out + (f",pod=~{quoted(pods)}" if pods else "")


def gateway_labels(wanted: Wanted) -> str:
    return f"namespace={quoted(wanted.namespace)},fleet={quoted(wanted.name)}"


def queued(wanted: Wanted) -> str:
    return f"sum({QUEUED_REQUESTS}{{{gateway_labels(wanted)}}})"


def in_engines(wanted: Wanted) -> str:
    tags = engine_labels(wanted)
    engines = f"sum({vllm.RUNNING}{{{tags}}}) + sum({vllm.WAITING}{{{tags}}})"
    return f"({engines} or sum({IN_FLIGHT_REQUESTS}{{{gateway_labels(wanted)}}}))"


def demand(wanted: Wanted, floor_capacity: float = 0.0) -> str:
    """Requests in the system. `floor_capacity`: what the on-demand floor of a spot fleet takes off it."""
    query = f"{queued(wanted)} + {in_engines(wanted)}"
    if wanted.fleet.spec.gateway.batch is not None:
        query = f"sum({PENDING_REQUESTS}{{{gateway_labels(wanted)}}})"
    if floor_capacity > 0:
        return f"clamp_min({query} - {floor_capacity:g}, 0)"
    return query


def scaled_pods(wanted: Wanted, half_name: str) -> str:
    """A regular expression for the Pods of the scaled half of a spot fleet; empty when all Pods are meant."""
    return f"{half_name}-.+" if half_name != wanted.name else ""


def waiting(wanted: Wanted, half_name: str) -> str:
    """Requests that wait inside engines; 0 when no engine runs: this guard has then no opinion."""
    tags = engine_labels(wanted, scaled_pods(wanted, half_name))
    return f"sum({vllm.WAITING}{{{tags}}}) or vector(0)"


def kv_usage(wanted: Wanted, half_name: str) -> str:
    """Sum over replicas of the used share of the KV cache: divided by replicas, it is the mean. A replica of several
    engines (data parallel) counts once, by its fullest."""
    tags = engine_labels(wanted, scaled_pods(wanted, half_name))
    return f"sum(max by (pod) ({vllm.KV_USAGE}{{{tags}}})) or vector(0)"


def admin_host(gateway: str, namespace: str) -> str:
    """Two labels before the first dot of the rest: KEDA reads Service and namespace from them."""
    return f"{short(gateway, '-admin')}.{namespace}.svc"
