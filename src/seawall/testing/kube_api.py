"""A stateful Kubernetes API server in one process, for tests: lists, pages, watches, server-side apply, and the
bad days of a real one (events that never come, 410 Gone, broken connections, conflicts, refusals).

It keeps what it is given and checks nothing of a schema; no controller runs in it. Use from another thread or
process over HTTP, with any client: `with KubeApi() as api: connect(kubeconfig=api.kubeconfig(tmp))`.
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from seawall.testing.kube_apply import Conflict, apply, copied, same, updated
from seawall.testing.kube_problem import ApiProblem
from seawall.testing.kube_quota import COUNTED
from seawall.testing.kube_rbac import Right
from seawall.testing.kube_strict import CUSTOM, admit, charged, establish

Object = dict[str, Any]
WINDOW = 1000
"""Events that a watch may still ask for; older resourceVersions are 410 Gone."""

FOREGROUND = "foregroundDeletion"
"""The finalizer of an object that is deleted after what belongs to it."""
_CORE = "pods nodes:c events namespaces:c services configmaps secrets persistentvolumeclaims serviceaccounts"
_CORE += " resourcequotas limitranges endpoints replicationcontrollers persistentvolumes:c"
SERVED: dict[str, str] = {
    "v1": _CORE,
    "apps/v1": "deployments replicasets statefulsets daemonsets controllerrevisions",
    "batch/v1": "jobs cronjobs",
    "policy/v1": "poddisruptionbudgets",
    "autoscaling/v2": "horizontalpodautoscalers",
    "discovery.k8s.io/v1": "endpointslices",
    "coordination.k8s.io/v1": "leases",
    "networking.k8s.io/v1": "networkpolicies ingresses",
    "rbac.authorization.k8s.io/v1": "roles rolebindings clusterroles:c clusterrolebindings:c",
    "storage.k8s.io/v1": "storageclasses:c",
    "scheduling.k8s.io/v1": "priorityclasses:c",
    "apiextensions.k8s.io/v1": "customresourcedefinitions:c",
    "keda.sh/v1alpha1": "scaledobjects triggerauthentications",
    "monitoring.coreos.com/v1": "podmonitors servicemonitors prometheusrules",
    "gateway.networking.k8s.io/v1": "httproutes gateways",
    "networking.istio.io/v1": "virtualservices destinationrules",
    "inference.networking.k8s.io/v1": "inferencepools",
    "leaderworkerset.x-k8s.io/v1": "leaderworkersets",
    "seawall.dev/v1alpha1": "fleets models",
}
_IRREGULAR = {
    "networkpolicies": "NetworkPolicy", "ingresses": "Ingress", "storageclasses": "StorageClass", "leases": "Lease",
    "priorityclasses": "PriorityClass", "endpoints": "Endpoints", "configmaps": "ConfigMap",
    "replicasets": "ReplicaSet",
    "persistentvolumeclaims": "PersistentVolumeClaim", "serviceaccounts": "ServiceAccount", "limitranges": "LimitRange",
    "resourcequotas": "ResourceQuota", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet", "cronjobs": "CronJob",
    "poddisruptionbudgets": "PodDisruptionBudget", "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "endpointslices": "EndpointSlice", "rolebindings": "RoleBinding", "clusterroles": "ClusterRole",
    "clusterrolebindings": "ClusterRoleBinding", "customresourcedefinitions": "CustomResourceDefinition",
    "scaledobjects": "ScaledObject", "triggerauthentications": "TriggerAuthentication", "podmonitors": "PodMonitor",
    "servicemonitors": "ServiceMonitor", "prometheusrules": "PrometheusRule", "httproutes": "HTTPRoute",
    "virtualservices": "VirtualService", "destinationrules": "DestinationRule", "inferencepools": "InferencePool",
    "leaderworkersets": "LeaderWorkerSet", "replicationcontrollers": "ReplicationController",
    "persistentvolumes": "PersistentVolume", "controllerrevisions": "ControllerRevision",
    "externalsecrets": "ExternalSecret", "sealedsecrets": "SealedSecret",
}  # fmt: skip


def kind_name(plural: str) -> str:
    """`pods` -> `Pod`, as the served table spells them."""
    return _IRREGULAR.get(plural) or plural[:-1].capitalize()


@dataclass
class Faults:
    """What goes wrong, set by a test at any moment."""

    drop_deleted: bool = False
    """DELETED events are never sent."""
    gone: int = 0
    """How many of the next watches are answered with 410."""
    expire_continue: int = 0
    """How many of the next continue tokens are refused with 410."""
    fail: int = 0
    """How many of the next requests are answered with 503."""
    busy: int = 0
    """How many of the next requests are answered with 429, as by a server whose places are all taken."""
    retry_after: str = "1"
    """What such an answer says of when to come again: seconds, or an HTTP date."""
    clock_ahead_s: float = 0.0
    """Seconds by which the server's clock is ahead of this machine's: of its Date and of its stamps."""
    deny: set[str] = field(default_factory=set)
    """`verb plural` pairs that SelfSubjectAccessReview denies, such as `list pods`."""
    forbid: set[str] = field(default_factory=set)
    """`METHOD plural` pairs that are answered with 403, such as `PATCH namespaces`."""
    warn: str = ""
    """A warning that comes with every write."""
    refuse_evictions: bool = False
    """A disruption budget allows nothing: evictions are answered with 429 and a Retry-After of 10 s."""
    conflict: int = 0
    """How many of the next PATCH and PUT requests are answered with 409: somebody else was faster."""
    meanwhile: Callable[[str], None] | None = None
    """Called with `METHOD path` before each request is answered: what happens in the world at that moment."""
    collect_late: bool = False
    """The garbage collector has not come yet: `KubeApi.collect` is its turn."""
    stale: set[str] = field(default_factory=set)
    """API versions whose own server does not answer: 503, and `Stale` where groups are listed."""
    unlisted: set[str] = field(default_factory=set)
    """API versions that are served, and not listed among the groups."""
    down: bool = False
    """Every connection is closed without an answer."""
    cut: int = 0
    """How many of the next requests are closed without an answer: the server restarts."""


class DoubleServer(ThreadingHTTPServer):
    """Takes many connections at once: with the usual backlog of 5 a crowd of clients is reset."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that hangs up is no fault of ours
            super().handle_error(request, client_address)


class KubeApi:
    """`with KubeApi() as api:`; `api.url` is the server. `put` and `remove` act as somebody else would."""

    def __init__(self, tls: ssl.SSLContext | None = None, strict: bool = False) -> None:
        from seawall.testing.kube_http import KubeHandler

        self.faults = Faults()
        self.strict = strict
        """Whether objects are checked and filled in as a real server does: see kube_strict."""
        self.served = {k: v for k, v in SERVED.items() if not (strict and k.startswith(CUSTOM))}
        self.logs: dict[str, str] = {}
        """`namespace/pod/container[/previous]` -> text."""
        self.proxies: dict[str, Object | str] = {}
        """`namespace/pod:port` -> the JSON that its proxy answers, whatever the path; or the address of a server that
        it passes requests on to."""
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        """Headers of every request, with names in lower case."""
        self.rights: frozenset[Right] | None = None
        """What whoever asks may do (kube_rbac.rights_of); None: everything."""
        self.let_in: set[str] | None = None
        """Authorization headers that are let in; None: everybody is."""
        self.bytes_sent = 0
        self.said = threading.local()
        """`warnings` of the request that a thread answers."""
        self.changed = threading.Condition(threading.RLock())
        self._version = 1000
        self._epoch = 0
        self._forgotten = 0
        """A watch from before this resourceVersion is answered with 410."""
        self._store: dict[str, dict[tuple[str, str], Object]] = {}
        self._events: dict[str, list[tuple[int, str, Object]]] = {}
        api = self

        class Bound(KubeHandler):
            pass

        Bound.api = api
        self.server = DoubleServer(("127.0.0.1", 0), Bound)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> KubeApi:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.break_watches()
        self.server.shutdown()
        self.server.server_close()

    def kubeconfig(self, folder: Path, namespace: str = "default") -> str:
        """Writes a kubeconfig for this server; its path."""
        path = folder / "kubeconfig"
        cluster = {"name": "double", "cluster": {"server": self.url}}
        context = {"name": "double", "context": {"cluster": "double", "user": "u", "namespace": namespace}}
        user = {"name": "u", "user": {"token": "not-a-secret"}}
        whole = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "contexts": [context],
            "users": [user],
        }
        path.write_text(json.dumps({**whole, "current-context": "double"}))
        return str(path)

    # What the world does

    def put(self, obj: Object, manager: str = "test") -> Object:
        """Adds or replaces an object, status included, as a controller would."""
        version, kind = obj["apiVersion"], obj["kind"]
        plural = self.plural(version, kind)
        with self.changed:
            return self._write(f"{version}/{plural}", copied(obj), manager)

    def remove(self, api_version: str, plural: str, name: str, namespace: str = "") -> None:
        """Deletes an object at once, finalizers or not."""
        with self.changed:
            self._drop(f"{api_version}/{plural}", (namespace, name))

    def unserve(self, api_version: str) -> str:
        """Deletes its definitions, and all objects of its kinds with them. What `served` held of it, to put back."""
        with self.changed:
            for store in [s for s in self._store if s.startswith(f"{api_version}/")]:
                for key in list(self._store[store]):
                    self._drop(store, key)
            return self.served.pop(api_version)

    def break_watches(self) -> None:
        """Every open watch ends as if the connection had been cut."""
        with self.changed:
            self._epoch += 1
            self.changed.notify_all()

    def forget_history(self) -> None:
        """Every resourceVersion known so far becomes too old (410)."""
        with self.changed:
            self._version += 1
            self._forgotten = self._version
            self._epoch += 1
            self.changed.notify_all()

    def objects(self, api_version: str, plural: str) -> dict[tuple[str, str], Object]:
        """(namespace, name) -> object, as stored."""
        with self.changed:
            return copied(self._store.get(f"{api_version}/{plural}", {}))

    def has(self, store: str, namespace: str, name: str) -> bool:
        with self.changed:
            return (namespace, name) in self._store.get(store, {})

    def next_request(self, seen: int, within_s: float) -> bool:
        """Waits until more than `seen` requests have come; False: none came within so many seconds."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.requests) > seen, within_s)

    def now(self) -> float:
        """Unix time by the server's clock."""
        return time.time() + self.faults.clock_ahead_s

    def stamp(self) -> str:
        """The server's time, as it stands in objects."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now()))

    # What the server answers

    def plural(self, api_version: str, kind: str) -> str:
        for entry in self.served.get(api_version, "").split():
            plural = entry.partition(":")[0]
            if kind_name(plural) == kind:
                return plural
        raise ApiProblem(404, "NotFound", f"the server does not serve {kind} in {api_version}")

    def list_page(self, store: str, namespace: str, query: dict[str, str]) -> Object:
        """One page of a list."""
        with self.changed:
            items = sorted(
                (k, o) for k, o in self._store.get(store, {}).items() if not namespace or k[0] == namespace
            )
            version = self._version
            after = ("", "")
            if token := query.get("continue"):
                if self.faults.expire_continue > 0:
                    self.faults.expire_continue -= 1
                    raise ApiProblem(410, "Expired", "The provided continue parameter is too old")
                decoded = json.loads(base64.b64decode(token))
                version, after = decoded[0], (decoded[1], decoded[2])
            chosen = [(k, o) for k, o in items if k > after and matches(o, query)]
            limit = int(query.get("limit", 0)) or len(chosen)
            meta: Object = {"resourceVersion": str(version)}
            if len(chosen) > limit:
                meta["continue"] = base64.b64encode(
                    json.dumps([version, *chosen[limit - 1][0]]).encode()
                ).decode()
                meta["remainingItemCount"] = len(chosen) - limit
            page = [o for _, o in chosen[:limit]]
        version_name, _, plural = store.rpartition("/")
        if not version_name.startswith(CUSTOM):
            # Of its own kinds the server names the kind of the list, and not of each item.
            page = [{k: v for k, v in o.items() if k not in ("kind", "apiVersion")} for o in page]
        return {
            "kind": f"{kind_name(plural)}List",
            "apiVersion": version_name,
            "metadata": meta,
            "items": page,
        }

    def get(self, store: str, namespace: str, name: str) -> Object:
        with self.changed:
            found = self._store.get(store, {}).get((namespace, name))
            if found is None:
                plural = store.rpartition("/")[2]
                raise ApiProblem(
                    404, "NotFound", f'{plural} "{name}" not found', {"name": name, "kind": plural}
                )
            return copied(found)

    def create(
        self, store: str, namespace: str, obj: Object, manager: str, dry: bool, unknown: str = "Warn"
    ) -> Object:
        name = obj["metadata"].get("name") or obj["metadata"].get("generateName", "") + str(self._version)
        obj["metadata"] |= {"name": name} | ({"namespace": namespace} if namespace else {})
        with self.changed:
            if (namespace, name) in self._store.get(store, {}):
                raise ApiProblem(409, "AlreadyExists", f'"{name}" already exists')
            return self._take(store, namespace, None, obj, manager, dry, unknown)

    def replace(
        self, store: str, namespace: str, name: str, obj: Object, manager: str, unknown: str = "Warn"
    ) -> Object:
        with self.changed:
            old = self.get(store, namespace, name)
            _same_version(obj["metadata"].get("resourceVersion"), old, name)
            return self._take(store, namespace, old, obj, manager, False, unknown)

    def merge(
        self, store: str, namespace: str, name: str, patch: Object, manager: str, unknown: str = "Warn"
    ) -> Object:
        """RFC 7396."""
        with self.changed:
            old = self.get(store, namespace, name)
            return self._take(store, namespace, old, _merged(old, patch), manager, False, unknown)

    def apply(
        self, store: str, namespace: str, name: str, obj: Object, manager: str, force: bool, dry: bool
    ) -> Object:
        """Server-side apply: see kube_apply."""
        with self.changed:
            old = self._store.get(store, {}).get((namespace, name))
            _same_version(obj["metadata"].get("resourceVersion"), old, name)
            obj["metadata"] = {**obj.get("metadata", {}), "name": name} | (
                {"namespace": namespace} if namespace else {}
            )
            try:
                new = apply(copied(old), obj, manager, force)
            except Conflict as e:
                causes = [
                    {"reason": "FieldManagerConflict", "message": f'conflict with "{m}"', "field": f}
                    for f, m in e.fields
                ]
                fields = ", ".join(f"{f} (managed by {m})" for f, m in e.fields)
                message = f"Apply failed with {len(causes)} conflicts: {fields}"
                raise ApiProblem(409, "Conflict", message, {"causes": causes}) from None
            if self.strict:
                admit(self, store, namespace, old, new, "Apply")
            if old is not None and not dry and same(old, new):
                return copied(old)  # a write that changes nothing is none
            return new if dry else self._write(store, new, manager)

    def _take(
        self,
        store: str,
        namespace: str,
        old: Object | None,
        new: Object,
        manager: str,
        dry: bool,
        unknown: str,
    ) -> Object:
        """A write that is no apply: its fields belong to the manager's updates."""
        if self.strict:
            new = copied(new)
            self.said.warnings = admit(self, store, namespace, old, new, unknown)
            updated(old, new, manager)
        return new if dry else self._write(store, new, manager)

    def delete(
        self,
        store: str,
        namespace: str,
        name: str,
        at_once: bool = False,
        grace_s: int | None = None,
        dry: bool = False,
        foreground: bool = False,
        version: str | None = None,
    ) -> Object:
        """A Pod on a node is only marked: its kubelet deletes it with a grace period of 0 when it has ended. Deleted in
        the `foreground` an object stays until what it blocks on is gone."""
        with self.changed:
            obj = self.get(store, namespace, name)
            _same_version(version, obj, name)
            if dry:
                return obj
            spec = obj.get("spec") or {}
            runs = spec.get("nodeName") and spec.get("terminationGracePeriodSeconds") and not at_once
            if foreground:
                held = obj["metadata"].setdefault("finalizers", [])
                held += [FOREGROUND] if FOREGROUND not in held else []
            if obj["metadata"].get("finalizers") or runs:
                obj["metadata"].setdefault("deletionTimestamp", self.stamp())
                if runs:
                    own = int(spec["terminationGracePeriodSeconds"])
                    obj["metadata"]["deletionGracePeriodSeconds"] = own if grace_s is None else grace_s
                marked = self._write(store, obj, "")
                if foreground and self.strict and not self.faults.collect_late:
                    self.collect()
                return marked
            self._drop(store, (namespace, name))
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def events_after(
        self, store: str, version: int, epoch: int, wait_s: float
    ) -> list[tuple[int, str, Object]] | None:
        """New events (waits for them), or None when the watch must break. Problem 410 when too old."""
        with self.changed:
            events = self._events.setdefault(store, [])
            oldest = max(self._forgotten, events[0][0] - 1 if len(events) >= WINDOW else 0)
            if version < oldest:
                raise ApiProblem(410, "Expired", f"too old resource version: {version} ({oldest})")
            if self._epoch != epoch:
                return None
            fresh = [e for e in events if e[0] > version]
            if not fresh:
                self.changed.wait(wait_s)
                if self._epoch != epoch:
                    return None
                fresh = [e for e in events if e[0] > version]
            return fresh

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def version(self) -> int:
        return self._version

    def _write(self, store: str, obj: Object, manager: str) -> Object:
        meta = obj.setdefault("metadata", {})
        key = (meta.get("namespace") or "", meta["name"])
        kept = self._store.setdefault(store, {})
        old = kept.get(key)
        running = store == "v1/pods" and obj.get("spec", {}).get("nodeName")
        if meta.get("deletionTimestamp") and not meta.get("finalizers") and not running:
            self._drop(store, key)
            return obj
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        meta["uid"] = (old or obj)["metadata"].get("uid") or f"uid-{self._version}"
        meta.setdefault("creationTimestamp", self.stamp())
        same_spec = old is not None and old.get("spec") == obj.get("spec")
        meta["generation"] = (old or {}).get("metadata", {}).get("generation", 0) + (0 if same_spec else 1)
        kept[key] = obj
        self._emit(store, "ADDED" if old is None else "MODIFIED", obj)
        self._charge(store, key[0])
        if self.strict and old is None and store.endswith("/customresourcedefinitions"):
            threading.Timer(0.3, establish, (self, copied(obj))).start()
        return copied(obj)

    def _drop(self, store: str, key: tuple[str, str]) -> None:
        if self._forget(store, key) and self.strict and not self.faults.collect_late:
            self.collect()

    def _forget(self, store: str, key: tuple[str, str]) -> bool:
        obj = self._store.get(store, {}).pop(key, None)
        if obj is None:
            return False
        self._version += 1
        self._charge(store, key[0])
        if not self.faults.drop_deleted:
            self._emit(store, "DELETED", obj)
        return True

    def _charge(self, store: str, namespace: str) -> None:
        """The quota controller's turn: what is used of each quota of a namespace, now that an object came or went."""
        if not self.strict or store not in (*COUNTED, "v1/resourcequotas"):
            return
        quotas = [q for (ns, _), q in self._store.get("v1/resourcequotas", {}).items() if ns == namespace]
        if quotas:
            there = {
                s: [o for (ns, _), o in self._store.get(s, {}).items() if ns == namespace] for s in COUNTED
            }
            for quota in quotas:
                quota["status"] = charged(quota, there)["status"]

    def collect(self) -> None:
        """The garbage collector's turn: what has owners of which none is there goes, and what it owned with it; of
        several owners those that are gone are forgotten. An owner is told by its uid, in the object's own namespace."""
        with self.changed:
            while self._collected() or self._led_away():
                pass

    def _led_away(self) -> bool:
        """One step of the foreground deletions: what belongs to an object that waits is told to go, and the object goes
        when none is left that blocks it (`blockOwnerDeletion`)."""
        stored = [(store, key, o) for store, kept in self._store.items() for key, o in kept.items()]
        for store, _, obj in stored:
            meta = obj["metadata"]
            if FOREGROUND not in (meta.get("finalizers") or []):
                continue
            blocking = [(s, k, o) for s, k, o in stored if _blocks(o, meta.get("uid"))]
            if not blocking:
                meta["finalizers"] = [f for f in meta["finalizers"] if f != FOREGROUND]
                self._write(store, obj, "")
                return True
            for s, (namespace, name), o in blocking:
                if not o["metadata"].get("deletionTimestamp"):
                    # What has something of its own is deleted in the foreground, too; else its owner would not wait.
                    more = any(_owned_by(x, o["metadata"].get("uid")) for _, _, x in stored)
                    self.delete(s, namespace, name, foreground=more)
                    return True
        return False

    def _collected(self) -> bool:
        stored = [(store, key, o) for store, kept in self._store.items() for key, o in kept.items()]
        there = {(o["metadata"].get("uid"), key[0]) for _, key, o in stored}
        more = False
        for store, key, obj in stored:
            owners = obj["metadata"].get("ownerReferences") or []
            left = [o for o in owners if there & {(o.get("uid"), key[0]), (o.get("uid"), "")}]
            if owners and not left:
                more |= self._forget(store, key)
            elif len(left) < len(owners):
                obj["metadata"]["ownerReferences"] = left
        return more

    def orphan(self, uid: str) -> None:
        """What belongs to an object is let go of before it is deleted with `propagationPolicy=Orphan`."""
        with self.changed:
            for store, kept in self._store.items():
                for obj in list(kept.values()):
                    owners = obj["metadata"].get("ownerReferences") or []
                    if any(o.get("uid") == uid for o in owners):
                        left = [o for o in owners if o.get("uid") != uid]
                        self._write(
                            store, {**obj, "metadata": {**obj["metadata"], "ownerReferences": left}}, ""
                        )

    def _emit(self, store: str, what: str, obj: Object) -> None:
        events = self._events.setdefault(store, [])
        events.append((self._version, what, copied(obj)))
        del events[:-WINDOW]
        self.changed.notify_all()


def _same_version(asked: str | None, there: Object | None, name: str) -> None:
    """Who names a version writes over that version, or not at all."""
    if asked and (there is None or asked != there["metadata"]["resourceVersion"]):
        text = "the object has been modified; please apply your changes to the latest version and try again"
        raise ApiProblem(409, "Conflict", f'Operation cannot be fulfilled on "{name}": {text}')


def _owned_by(obj: Object, uid: str | None) -> bool:
    return any(o.get("uid") == uid for o in obj["metadata"].get("ownerReferences") or [])


def _blocks(obj: Object, uid: str | None) -> bool:
    owners = obj["metadata"].get("ownerReferences") or []
    return any(o.get("uid") == uid and o.get("blockOwnerDeletion") for o in owners)


def matches(obj: Object, query: dict[str, str]) -> bool:
    """labelSelector (=, !=, in, exists) and fieldSelector (=, !=) of a query."""
    labels = obj.get("metadata", {}).get("labels") or {}
    return all(_label(labels, t) for t in _terms(query.get("labelSelector", ""))) and all(
        _field(obj, t) for t in query.get("fieldSelector", "").split(",") if t
    )


def _terms(selector: str) -> list[str]:
    terms, depth, current = [], 0, ""
    for c in selector + ",":
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            terms.append(current.strip())
            current = ""
        else:
            current += c
    return [t for t in terms if t]


def _label(labels: dict[str, str], term: str) -> bool:
    for word, wanted in ((" notin ", False), (" in ", True)):
        if word in term:
            key, _, values = term.partition(word)
            allowed = [v.strip() for v in values.strip().strip("()").split(",")]
            return (labels.get(key.strip()) in allowed) == wanted
    if "!=" in term:
        key, _, value = term.partition("!=")
        return labels.get(key) != value
    if "=" in term:
        key, _, value = term.replace("==", "=").partition("=")
        return labels.get(key) == value
    return (term[1:] not in labels) if term.startswith("!") else term in labels


def _field(obj: Object, term: str) -> bool:
    negated = "!=" in term
    path, _, wanted = term.partition("!=" if negated else "=")
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    value = str(value).lower() if isinstance(value, bool) else value
    return (str(value or "") == wanted.removeprefix("=")) != negated


def _merged(base: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    out = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = _merged(out.get(key), value)
    return out
