"""The only Kubernetes client. `kube_config` finds the cluster and says who asks; plain JSON travels here.

Objects stay plain dicts (typed models of 10,000 Pods cost seconds and hundreds of MB); whoever lists many
passes `keep`, which takes from each object what is needed before the next page is read. Every list is paged
and selected by the server. A watch relists after every break and every `span_s` seconds, so that an event
that the server never sent is healed within one span. No decision is taken here, and no object is logged.
"""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx2

from seawall.domain.catalog.providers import cure_of
from seawall.drivers.clock import Clock, SteadyClock
from seawall.drivers.kube_config import IN_CLUSTER, client_of, find_access
from seawall.drivers.kube_pauses import BUSY_S, ahead_s, pause_s, retry_after_s
from seawall.drivers.kube_refusal import Away, refused, warnings_of
from seawall.drivers.kube_refusal import Refused as Refused
from seawall.errors import ClusterError, InputError, of_kind

log = logging.getLogger("seawall.kube")
FIELD_MANAGER = "seawall"
"""The field manager of a person's verbs."""
OPERATOR_MANAGER = "seawall-operator"
"""The field manager of the operator. Under one name the later silently takes fields away from the earlier."""
PAGE = 500
MOST_BYTES = 256 * 2**20
"""Largest answer that is read: a page of 500 objects of the largest size that etcd stores is below it in practice."""
NEAR_S = 2.0
PATIENCE_S = 60.0
"""Patience of a person's verbs: an API server that restarts, or a load balancer that changes over, is back by then."""
MOST_PAUSE_S = 3.2
MOST_WARNINGS = 100
"""Warnings that are kept: some name the object, and an operator lives for months."""
HELD_S = 5.0
"""Seconds after which a watch counts as one that worked, whatever ended it."""
MAX_LINE = 8 * 2**20
"""A watch line longer than this is no Kubernetes object (etcd stores at most 1.5 MiB)."""

Object = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class ObjectKind:
    """A kind of object as the API serves it. `Kube.kind_of` finds those of custom resources."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
        """URL path of a collection, an object or a subresource."""
        base = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        parts = [base]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{quote(namespace, safe='')}")
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        return "/".join(parts) + (f"/{sub}" if sub else "")


POD = ObjectKind("v1", "Pod", "pods")
NODE = ObjectKind("v1", "Node", "nodes", namespaced=False)
EVENT = ObjectKind("v1", "Event", "events")
NAMESPACE = ObjectKind("v1", "Namespace", "namespaces", namespaced=False)
SERVICE = ObjectKind("v1", "Service", "services")
CONFIG_MAP = ObjectKind("v1", "ConfigMap", "configmaps")
CLAIM = ObjectKind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
QUOTA = ObjectKind("v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGE = ObjectKind("v1", "LimitRange", "limitranges")
DEPLOYMENT = ObjectKind("apps/v1", "Deployment", "deployments")
REPLICA_SET = ObjectKind("apps/v1", "ReplicaSet", "replicasets")
JOB = ObjectKind("batch/v1", "Job", "jobs")
BUDGET = ObjectKind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
AUTOSCALER = ObjectKind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SCALED_OBJECT = ObjectKind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
ENDPOINT_SLICE = ObjectKind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
STORAGE_CLASS = ObjectKind("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)
CRD = ObjectKind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
ACCESS_REVIEW = ObjectKind(
    "authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)
_KNOWN = {
    (k.api_version, k.name): k
    for k in list(globals().values())
    if isinstance(k, ObjectKind) and k is not SCALED_OBJECT
}
"""What every API server serves; all else is asked for."""


@dataclass(frozen=True)
class Synced(Generic[T]):
    """A complete list: what is not in it does not exist any more."""

    items: dict[tuple[str, str], T]
    """(namespace, name) -> what `keep` made of the object."""


@dataclass(frozen=True)
class Changed(Generic[T]):
    """One object was added or changed (`item`), or is gone (None)."""

    key: tuple[str, str]
    item: T | None


@dataclass(frozen=True)
class Select:
    """What to list or watch: one kind, in a namespace (None: all), narrowed by the server."""

    kind: ObjectKind
    namespace: str | None = None
    labels: str | None = None
    fields: str | None = None

    def __str__(self) -> str:
        return f"{self.kind.plural} of {self.namespace or 'all namespaces'}"

    def params(self) -> dict[str, str]:
        chosen = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {k: v for k, v in chosen.items() if v}


def connect(
    context: str | None = None,
    kubeconfig: str | None = None,
    manager: str = FIELD_MANAGER,
    patience_s: float = 0.0,
) -> Kube:
    """The cluster of a kubeconfig context, or the one this Pod runs in. InputError when there is none."""
    access = find_access(kubeconfig, context, os.environ)
    http = client_of(access, httpx2.Timeout(30.0, connect=10.0))
    kube = Kube(http, access.namespace, access.context, manager)
    kube.patience_s = patience_s
    return kube


class Kube:
    """One cluster. Use as `async with`; safe for concurrent tasks."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        namespace: str = "default",
        context: str = "",
        manager: str = FIELD_MANAGER,
        clock: Clock | None = None,
    ) -> None:
        self.http, self.namespace, self.context, self.manager = http, namespace, context, manager
        self.clock = clock or SteadyClock()
        """The clock by which it waits between two tries."""
        self._found: dict[str, dict[str, ObjectKind]] = {}
        self._near: httpx2.AsyncClient | None = None
        self.patience_s = 0.0
        """Seconds that a server which has answered before may be away (it restarts), beyond a few quick tries."""
        self._reached = False
        self._away_since: float | None = None
        self._busy_told = False
        self.ahead_s = 0.0
        """Seconds by which the server's clock is ahead of ours, as its last answer said."""
        self.requests = 0
        """Requests made so far: benchmarks and tests look at it."""
        self.warnings: dict[str, None] = {}
        """What the server warned of, each once (pod security, deprecated versions): shown to the user."""

    async def __aenter__(self) -> Kube:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.http.aclose()
        if self._near is not None:
            await self._near.aclose()

    async def request(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None = None,
        body: Any = None,
        kind: str = "application/json",
        most: int = MOST_BYTES,
        tries: int = 4,
        again: bool | None = None,
    ) -> Any:
        """One call, retried while the server is busy, for BUSY_S at most. JSON is decoded, plain text is text. Raises
        Refused when the server says no, ClusterError when it is away, sends something else, or more than `most` bytes.
        `again`: whether it may be sent twice; None: where it is no POST."""
        content = None if body is None else json.dumps(body)
        headers = {"content-type": kind, "accept": "application/json, */*"}
        repeatable = method != "POST" if again is None else again
        attempt, waited_s = 0, 0.0
        # What stands behind a proxy may want to be left alone for longer than a person waits for one line of many.
        most_s = NEAR_S if "/proxy" in path else max(BUSY_S, self.patience_s)
        while True:
            self.requests += 1
            try:
                request = self.http.build_request(
                    method, path, params=params, content=content, headers=headers
                )
                answer = await self.http.send(request, stream=True)
                try:
                    data = await _read(answer, most)
                finally:
                    await answer.aclose()
            except (httpx2.HTTPError, OSError) as e:  # TLS alerts of a read come as they are
                if "CERTIFICATE" in str(e) or not repeatable or not self._goes_on(attempt, tries):
                    raise _away(e) from None
                await self.clock.sleep(min(MOST_PAUSE_S, 0.2 * 2**attempt))
                attempt += 1
                continue
            self._heed(answer.headers)
            if answer.status_code < 500:
                self._reached, self._away_since = True, None
            if answer.status_code < 400:
                return _decoded(answer, data)
            wait_s = pause_s(answer.status_code, answer.headers, data, (method, path), min(attempt, 4))
            again_at_s = waited_s + (wait_s or 0.0)
            if wait_s is None or again_at_s > most_s or not self._waits(answer.status_code, attempt, tries):
                raise refused(answer.status_code, data, retry_after_s(answer.headers))
            self._tell_busy(answer.status_code, again_at_s)
            await self.clock.sleep(wait_s)
            attempt, waited_s = attempt + 1, again_at_s

    def server_time(self) -> float:
        """Unix time by the server's clock: to be compared with what stands in its objects."""
        return self.clock.time() + self.ahead_s

    def _heed(self, headers: httpx2.Headers) -> None:
        """What every answer says beside its content."""
        for text in warnings_of(headers.get_list("warning")) if len(self.warnings) < MOST_WARNINGS else ():
            self.warnings[text] = None
        ahead = ahead_s(headers, self.clock.time())
        self.ahead_s = self.ahead_s if ahead is None else ahead

    def _waits(self, code: int, attempt: int, tries: int) -> bool:
        """Whether a call that was refused is made once more. A busy server's word counts for more than the number of
        tries, but for one who asks once."""
        if code >= 500:
            return self._goes_on(attempt, tries)
        return attempt < tries - 1 or (code == 429 and tries > 1)

    def _tell_busy(self, code: int, whole_s: float) -> None:
        if code == 429 and whole_s > NEAR_S and not self._busy_told:
            self._busy_told = True
            log.warning("the Kubernetes API is busy and asks for pauses: this takes longer")

    def _goes_on(self, attempt: int, tries: int) -> bool:
        """Whether a server that is away is asked again."""
        if attempt < tries - 1:
            return True
        now = self.clock.now()
        if not self._reached or not self.patience_s:
            return False
        if self._away_since is None:
            self._away_since = now
            log.warning("the Kubernetes API does not answer; trying again for %.0f s", self.patience_s)
        return now - self._away_since < self.patience_s

    async def get(self, kind: ObjectKind, namespace: str | None, name: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            found: Object = await self.request("GET", kind.path(namespace, name))
            return found
        except Refused as e:
            if e.code == 404:
                return None
            raise

    async def list(self, select: Select, keep: Callable[[Object], T]) -> dict[tuple[str, str], T]:
        """(namespace, name) -> `keep(object)` of everything selected."""
        return (await self._picture(select, keep))[0]

    async def _picture(
        self, select: Select, keep: Callable[[Object], T]
    ) -> tuple[dict[tuple[str, str], T], str]:
        """Everything selected and its resourceVersion, page by page; a continue token that has expired (410)
        starts over from nothing, so that no object deleted meanwhile stays in the picture."""
        path, token, restarts = select.kind.path(select.namespace), "", 0
        kept: dict[tuple[str, str], T] = {}
        while True:
            params = {**select.params(), "limit": str(PAGE)} | ({"continue": token} if token else {})
            try:
                page = await self.request("GET", path, params)
            except Refused as e:
                if e.code != 410 or restarts >= 3:
                    raise
                kept, token, restarts = {}, "", restarts + 1
                continue
            kept.update((key_of(o), keep(o)) for o in page.get("items") or [])
            meta = page.get("metadata") or {}
            token = meta.get("continue") or ""
            if not token:
                return kept, str(meta.get("resourceVersion", ""))

    async def apply(
        self, obj: Object, force: bool = False, dry_run: bool = False, manager: str | None = None
    ) -> Object:
        """Server-side apply. Refused with code 409 names the fields that somebody else manages. `manager`: for whom,
        where it is not the one who asks."""
        kind = await self.kind_of(obj)
        namespace, name = key_of(obj)
        params = {"fieldManager": manager or self.manager, "force": str(force).lower()} | (
            {"dryRun": "All"} if dry_run else {}
        )
        path = kind.path(namespace or self.namespace, name)
        try:
            done: Object = await self.request("PATCH", path, params, obj, "application/apply-patch+yaml")
        except Refused as e:
            if e.unserved:
                self._found.pop(kind.api_version, None)
                await self.kind_of(obj)  # says that it is served no more, unless it is back by now
            raise
        return done

    async def create(self, obj: Object, manager: str | None = None) -> Object:
        """A new object. Refused with code 409 when there is one of its name."""
        kind, namespace = await self.kind_of(obj), key_of(obj)[0]
        params = {"fieldManager": manager or self.manager}
        done: Object = await self.request("POST", kind.path(namespace or self.namespace), params, obj)
        return done

    async def patch(
        self, kind: ObjectKind, namespace: str | None, name: str, body: Object, sub: str | None = None
    ) -> Object:
        """JSON merge patch of an object or a subresource."""
        params = {"fieldManager": self.manager}
        done: Object = await self.request(
            "PATCH", kind.path(namespace, name, sub), params, body, "application/merge-patch+json"
        )
        return done

    async def delete(
        self,
        kind: ObjectKind,
        namespace: str | None,
        name: str,
        grace_s: int | None = None,
        dry_run: bool = False,
        version: str | None = None,
    ) -> bool:
        """False when it was not there. `grace_s` 1 kills a Pod soon; 0 forgets it at once while it runs on for its own
        grace period; None: its own grace period. `version`: its resourceVersion, and no other (409)."""
        params = {"propagationPolicy": "Background"}
        if grace_s is not None:
            params["gracePeriodSeconds"] = str(grace_s)
        if dry_run:
            params["dryRun"] = "All"
        try:
            only = None if version is None else {"preconditions": {"resourceVersion": version}}
            await self.request("DELETE", kind.path(namespace, name), params, only)
            return True
        except Refused as e:
            if e.code == 404:
                return False
            raise

    async def evict(self, namespace: str, pod: str) -> bool:
        """Asks the API server to evict a Pod; False when a disruption budget forbids it now."""
        meta = {"name": pod, "namespace": namespace}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
        try:
            # A refusal is an answer, not a busy server, though it is a 429 too, at times with a Retry-After of 10 s:
            # to wait here would hold up the other replicas of a node that is about to go.
            await self.request("POST", POD.path(namespace, pod, "eviction"), body=body, tries=1)
            return True
        except Refused as e:
            if e.code in (404, 429):
                return e.code == 404
            raise

    async def logs(
        self, namespace: str, pod: str, container: str, previous: bool = False, lines: int = 200
    ) -> str:
        """The container's last lines; empty when there are none to be had."""
        params = {"container": container, "tailLines": str(lines), "limitBytes": str(256 * 1024)}
        try:
            text = await self.request(
                "GET", POD.path(namespace, pod, "log"), params | ({"previous": "true"} if previous else {})
            )
            return text if isinstance(text, str) else ""
        except Refused:
            return ""

    async def page(self, namespace: str, pod: str, address: str, port: int, path: str) -> Any:
        """JSON of a Pod's own page. Inside the cluster the Pod at `address` is asked, as its NetworkPolicy lets the
        operator do, and nobody else: for the API server to pass the question on would take a right over every Pod.
        From outside it does, from an address that no policy can name. ClusterError; from outside as `request`."""
        if self.context != IN_CLUSTER:
            return await self.request("GET", POD.path(namespace, f"{pod}:{port}", f"proxy/{path}"))
        host = f"[{address}]" if ":" in address else address
        self._near = self._near or httpx2.AsyncClient(trust_env=False, timeout=NEAR_S)
        try:
            if not address:
                raise ClusterError(
                    f"{namespace}/{pod} has no address yet.", f"kubectl get pod {pod} -n {namespace}"
                )
            answer = await self._near.get(f"http://{host}:{port}/{path}")
            answer.raise_for_status()
            return answer.json()
        except (httpx2.HTTPError, OSError, ValueError) as e:
            raise ClusterError(
                f"{namespace}/{pod} does not answer at port {port}: {str(e) or of_kind(e)}.",
                "Does a NetworkPolicy keep the operator out? seawall diagnose",
            ) from None

    async def may(self, verb: str, kind: ObjectKind, namespace: str | None, sub: str | None = None) -> bool:
        """Whether the caller may do `verb` on `kind` or its subresource (SelfSubjectAccessReview)."""
        group = kind.api_version.partition("/")[0] if "/" in kind.api_version else ""
        wanted = {"verb": verb, "group": group, "resource": kind.plural, "namespace": namespace or ""}
        wanted["subresource"] = sub or ""
        body = {
            "apiVersion": ACCESS_REVIEW.api_version,
            "kind": ACCESS_REVIEW.name,
            "spec": {"resourceAttributes": {k: v for k, v in wanted.items() if v}},
        }
        answer = await self.request("POST", ACCESS_REVIEW.path(None), body=body, again=True)
        return bool(answer.get("status", {}).get("allowed"))

    async def kind_of(self, obj: Object) -> ObjectKind:
        """The ObjectKind of any object, by discovery. InputError when the cluster does not serve it."""
        version, name = str(obj.get("apiVersion")), str(obj.get("kind"))
        if (version, name) in _KNOWN:
            return _KNOWN[version, name]
        kind = (self._found.get(version) or await self.kinds(version)).get(name)
        if kind is None:
            self._found.pop(version, None)
            raise InputError(
                f"the cluster does not serve {name} ({version}).",
                cure_of(version),
            )
        return kind

    async def kinds(self, version: str) -> dict[str, ObjectKind]:
        """Every kind of an API version (`keda.sh/v1alpha1`) that is served now, asked anew; none where it is not."""
        path = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        try:
            resources = (await self.request("GET", path)).get("resources") or []
        except Refused as e:
            if e.code != 404:
                raise
            resources = []
        self._found[version] = {
            r["kind"]: ObjectKind(version, r["kind"], r["name"], bool(r.get("namespaced")))
            for r in resources
            if "/" not in r["name"]
        }
        return self._found[version]

    async def watch(
        self,
        select: Select,
        keep: Callable[[Object], T],
        span_s: float = 240.0,
        rng: random.Random | None = None,
    ) -> AsyncIterator[Synced[T] | Changed[T]]:
        """Lists, then follows changes, for ever. Begins with a Synced, and sends another after every break of
        the watch (an error, 410 Gone, the end of a span): the picture heals whatever events were lost.

        While the API server is away nothing is sent: the last picture stays good. Back-off 0.2 s to 10 s.
        """
        rng = rng or random.Random()
        clock = self.clock.now
        failures, told, began, asked_s = 0, "", clock(), 0.0
        while True:
            try:
                picture, version = await self._picture(select, keep)
                yield Synced(picture)
                began = clock()
                async for kind, obj in self._events(select, version, span_s * rng.uniform(0.8, 1.0)):
                    failures = 0
                    yield Changed(key_of(obj), None if kind == "DELETED" else keep(obj))
                failures, told = 0, ""
            except (ClusterError, httpx2.HTTPError, OSError, ValueError) as e:
                # A list that succeeds proves nothing of the watch: where only that is refused, or cut at once, listing
                # everything without a pause would be the load that a server in trouble needs least.
                failures = 1 if clock() - began > HELD_S else failures + 1
                asked_s = min(BUSY_S, (isinstance(e, Refused) and e.retry_after_s) or 0.0)
                why = str(e) or of_kind(e)
                if failures > 2 and why != told:
                    log.warning("%s cannot be watched: %s", select, why)
                    told = why
            if failures:
                usual = min(10.0, 0.2 * 2.0 ** min(failures, 8)) * rng.uniform(0.5, 1.0)
                await self.clock.sleep(max(usual, asked_s * rng.uniform(1.0, 1.2)))

    async def _events(self, select: Select, version: str, span_s: float) -> AsyncIterator[tuple[str, Object]]:
        params = {
            **select.params(),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, round(span_s))),
        }
        self.requests += 1
        timeout = httpx2.Timeout(10.0, read=span_s + 15.0)
        path = select.kind.path(select.namespace)
        async with self.http.stream("GET", path, params=params, timeout=timeout) as answer:
            if answer.status_code != 200:
                raise refused(
                    answer.status_code, await _read(answer, MAX_LINE), retry_after_s(answer.headers)
                )
            buffer = bytearray()
            async for chunk in answer.aiter_bytes():
                buffer += chunk
                *lines, rest = buffer.split(b"\n")
                buffer = bytearray(rest)
                if len(buffer) > MAX_LINE:
                    raise ClusterError(f"a watch line of over {MAX_LINE} bytes.", "Is a proxy in between?")
                for line in filter(None, lines):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise Refused(
                            int(status.get("code", 500)),
                            str(status.get("reason")),
                            str(status.get("message")),
                        )
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]


def address_of(pod: Object) -> str:
    """A Pod's IP; empty while it has none."""
    return str((pod.get("status") or {}).get("podIP") or "")


def key_of(obj: Object) -> tuple[str, str]:
    """(namespace, name); the namespace of a cluster-wide object is empty."""
    meta = obj.get("metadata") or {}
    return str(meta.get("namespace") or ""), str(meta.get("name") or "")


async def _read(answer: httpx2.Response, most: int) -> bytes:
    data = bytearray()
    async for chunk in answer.aiter_bytes():
        data += chunk
        if len(data) > most:
            raise ClusterError(
                f"an answer of more than {most >> 20} MiB.", "Is a proxy in between? Check --context."
            )
    return bytes(data)


def _decoded(answer: httpx2.Response, data: bytes) -> Any:
    if answer.headers.get("content-type", "").startswith("text/plain"):
        return data.decode(errors="replace")
    try:
        return json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise ClusterError(
            "the answer is no JSON: this is not a Kubernetes API.",
            "Check the server in the kubeconfig (a login page or a proxy?).",
        ) from None


def _away(e: Exception) -> ClusterError:
    if "CERTIFICATE_VERIFY_FAILED" in str(e):
        return ClusterError(
            "the API server's certificate is not signed by the kubeconfig's CA.",
            "Make the kubeconfig anew; behind a proxy that re-signs TLS, give its CA as certificate-authority.",
        )
    if "ALERT_CERTIFICATE" in str(e) or "ALERT_BAD_CERTIFICATE" in str(e):
        return ClusterError(
            "the API server does not answer without a client certificate that it knows.", "Log in again."
        )
    return Away(
        f"the Kubernetes API does not answer ({of_kind(e)}).",
        "Check `kubectl cluster-info`, VPN and --context.",
    )
