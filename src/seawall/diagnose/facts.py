"""What a diagnosis looks at: a cluster's (or a machine's) recorded facts. Plain data; nothing is fetched here.

The JSON that `seawall diagnose --facts FILE` reads and that a collector writes:

    {"taken_at": "2026-11-23T14:10:00Z", "namespace": "llm", "fleet": "llama-70b",
     "pods": [Pod, ...], "events": [Event, ...], "nodes": [Node, ...], "claims": [PersistentVolumeClaim, ...],
     "budgets": [PodDisruptionBudget, ...], "quotas": [ResourceQuota, ...], "deployments": [Deployment, ...],
     "replicasets": [...], "hpas": [...], "scaledobjects": [...], "services": [...], "endpointslices": [...],
     "jobs": [...], "logs": {"POD/CONTAINER": "text", "POD/CONTAINER/previous": "text"},
     "metrics": {"vllm:num_requests_waiting": {"POD": 7}}, "metrics_before": {...}, "metrics_apart_s": 5,
     "gateway": {/debug/state},
     "gateways": {"POD": {/debug/state}}, "silent_gateways": {"POD": "why it told nothing"},
     "unread": {"nodes": "403"}}

Every list holds plain API objects, as `kubectl get -o json` prints them. A key that is missing or null could
not be read: the rules say less, never something wrong. Logs need only their last 200 lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from seawall.errors import InputError, in_words

Object = dict[str, Any]
LISTS = (
    "pods", "events", "nodes", "claims", "budgets", "quotas", "deployments", "replicasets", "hpas", "scaledobjects",
    "services", "endpointslices", "jobs",
)  # fmt: skip
MAX_LOG = 256 * 1024
_EXCUSE = re.compile(
    r"\s*(unable to retrieve container logs|failed to try resolving symlinks in path|Error from server|"
    r"previous terminated container \S+ in pod)",
    re.I,
)
"""What the kubelet answers, with status 200, for a log that is gone: it says nothing of the container."""
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,12}[A-Za-z]")
"""A terminal's colours, which vLLM and others write into logs."""


@dataclass(frozen=True)
class Facts:
    """Everything that was recorded at one moment."""

    taken_at: str = ""
    namespace: str = ""
    fleet: str = ""
    pods: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    nodes: list[Object] = field(default_factory=list)
    claims: list[Object] = field(default_factory=list)
    budgets: list[Object] = field(default_factory=list)
    quotas: list[Object] = field(default_factory=list)
    deployments: list[Object] = field(default_factory=list)
    replicasets: list[Object] = field(default_factory=list)
    hpas: list[Object] = field(default_factory=list)
    scaledobjects: list[Object] = field(default_factory=list)
    services: list[Object] = field(default_factory=list)
    endpointslices: list[Object] = field(default_factory=list)
    jobs: list[Object] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """Series name -> Pod -> value."""
    metrics_before: dict[str, dict[str, float]] = field(default_factory=dict)
    """The same a while earlier, to see what does not move."""
    metrics_apart_s: float = 15.0
    """Seconds between the two."""
    gateway: Object = field(default_factory=dict)
    """The gateways' /debug/state, as one; empty when none could be asked."""
    gateways: dict[str, Object] = field(default_factory=dict)
    """Gateway Pod -> its own /debug/state."""
    silent_gateways: dict[str, str] = field(default_factory=dict)
    """Gateway Pod -> why it told nothing."""
    unread: dict[str, str] = field(default_factory=dict)
    """Kind -> how the cluster refused to have it read: what is not seen of it may be there."""

    def __post_init__(self) -> None:
        # Frozen for its readers; what events.k8s.io/v1 words otherwise is brought into one form, once.
        object.__setattr__(self, "events", [_core(e) for e in self.events])
        logs = {k: _COLOUR.sub("", v) for k, v in self.logs.items() if not _EXCUSE.match(v)}
        object.__setattr__(self, "logs", logs)

    def events_of(self, obj: Object, *reasons: str) -> Iterator[Object]:
        """Events about an object, newest first, of these reasons (all when none is given)."""
        uid, kind, name = meta(obj).get("uid"), obj.get("kind"), name_of(obj)
        mine = []
        for event in self.events:
            about = part(event, "involvedObject") or part(event, "regarding")
            same = about.get("uid") == uid if uid and about.get("uid") else about.get("name") == name
            if same and (not kind or not about.get("kind") or about["kind"] == kind):
                mine.append(event)
        mine.sort(key=when, reverse=True)
        return (e for e in mine if not reasons or e.get("reason") in reasons)

    def log(self, pod: Object, container: str) -> str:
        """The last log that says why a container died: the previous one, if there is one."""
        key = f"{name_of(pod)}/{container}"
        return (self.logs.get(f"{key}/previous") or self.logs.get(key) or "")[-MAX_LOG:]


def parse_facts(text: str, name: str = "facts.json") -> Facts:
    """Facts from JSON. Unknown keys are left aside (a newer collector), wrong shapes are refused with their path."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise InputError(
            f"{name}: is not JSON: {in_words(e)}.", "docs/how-to/diagnose.md shows how to record it."
        ) from None
    if not isinstance(data, dict):
        raise InputError(f"{name}: is not an object.", "See docs/how-to/diagnose.md for its form.")
    known: dict[str, Any] = {k: str(data.get(k) or "")[:300] for k in ("taken_at", "namespace", "fleet")}
    for key in LISTS:
        items = data.get(key) or []
        if isinstance(items, dict):
            items = items.get("items") or []
        if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
            raise InputError(
                f"{name}: {key} is not a list of objects.", "Write what `kubectl get -o json` prints."
            )
        known[key] = items
    for key in ("logs", "metrics", "metrics_before", "gateway", "gateways", "silent_gateways", "unread"):
        value = {} if data.get(key) is None else data[key]
        if not isinstance(value, dict):
            raise InputError(f"{name}: {key} is not an object.", "See docs/how-to/diagnose.md for its form.")
        known[key] = value
    for key in ("logs", "silent_gateways", "unread"):
        known[key] = {str(k): str(v) for k, v in known[key].items()}
    known["gateways"] = {str(k): v for k, v in known["gateways"].items() if isinstance(v, dict)}
    for key in ("metrics", "metrics_before"):
        known[key] = {
            str(m): {str(p): float(v) for p, v in pods.items() if isinstance(v, (int, float))}
            for m, pods in known[key].items()
            if isinstance(pods, dict)
        }
    apart = data.get("metrics_apart_s")
    if isinstance(apart, int | float) and not isinstance(apart, bool) and 0 < apart < 86_400:
        known["metrics_apart_s"] = float(apart)
    return Facts(**known)


def _core(event: Object) -> Object:
    """An Event of events.k8s.io/v1 in the words of core/v1."""
    if "note" not in event and "regarding" not in event:
        return event
    series = part(event, "series")
    seen = event.get("deprecatedLastTimestamp") or series.get("lastObservedTime") or event.get("eventTime")
    return {
        **event,
        "message": event.get("note") or event.get("message") or "",
        "involvedObject": part(event, "regarding") or part(event, "involvedObject"),
        "lastTimestamp": event.get("lastTimestamp") or seen,
        "count": event.get("count") or event.get("deprecatedCount") or series.get("count"),
    }


def meta(obj: Object) -> Object:
    value = obj.get("metadata")
    return value if isinstance(value, dict) else {}


def name_of(obj: Object) -> str:
    return str(meta(obj).get("name") or "")


def part(obj: Object, *path: str) -> Object:
    """A mapping below; empty when any step is missing."""
    at: Any = obj
    for key in path:
        at = at.get(key) if isinstance(at, dict) else None
    return at if isinstance(at, dict) else {}


def items(obj: Object, *path: str) -> list[Object]:
    """A list of mappings below; empty when it is missing."""
    value = part(obj, *path[:-1]).get(path[-1])
    return [i for i in value if isinstance(i, dict)] if isinstance(value, list) else []


def condition(obj: Object, kind: str) -> Object:
    return next((c for c in items(obj, "status", "conditions") if c.get("type") == kind), {})


def when(event: Object) -> str:
    """An event's last time (ISO text sorts)."""
    series = part(event, "series")
    return str(event.get("lastTimestamp") or series.get("lastObservedTime") or event.get("eventTime") or "")


def count(event: Object) -> int:
    value = event.get("count") or part(event, "series").get("count") or 1
    return value if isinstance(value, int) else 1


def whole(value: object, default: int = 0) -> int:
    """A count that an object holds; `default` for anything that is none."""
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def shown(event: Object) -> str:
    """`FailedScheduling 14:02:11 (x37): message`."""
    clock = re.search(r"T(\d\d:\d\d:\d\d)", when(event))
    times = f" (x{count(event)})" if count(event) > 1 else ""
    at = f" {clock[1]}" if clock else ""
    return (
        f"{event.get('reason', 'Event')}{at}{times}: {' '.join(str(event.get('message', '')).split())[:240]}"
    )


def seconds_between(start: object, end: object) -> float | None:
    """Seconds from one ISO time to another; None when either is missing."""
    try:
        a, b = (datetime.fromisoformat(str(t).replace("Z", "+00:00")) for t in (start, end))
        return (b - a).total_seconds()
    except (ValueError, TypeError):
        return None


def matches(selector: Object, labels: Object) -> bool:
    """matchLabels and matchExpressions of a selector against labels; an empty selector selects nothing here."""
    wanted = part(selector, "matchLabels")
    rules = items(selector, "matchExpressions")
    if not wanted and not rules:
        return False
    if any(labels.get(k) != v for k, v in wanted.items()):
        return False
    for rule in rules:
        value, values = labels.get(str(rule.get("key"))), rule.get("values") or []
        ok = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not ok.get(str(rule.get("operator")), True):
            return False
    return True
